package route

import (
	"fmt"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
)

// A Mutation is one change of header fields (envoy.config.common.mutation_rules). One of its parts is set.
type Mutation struct {
	Remove        string
	Any           bool // Remove may be what a message cannot do without: who sends it looks for that
	Append        *HeaderValue
	RemoveOnMatch *StringMatch // of names
}

// Mutations are changes that are made one after the other, each seeing what the earlier did; the header
// operations of routes (HeadersConfig) have another order.
type Mutations struct{ list []compiledMutation }

type compiledMutation struct {
	remove []byte
	match  *matcher
	add    addition
}

// NewMutations compiles a list. Errors begin with the place of the wrong one.
func NewMutations(list []Mutation) (*Mutations, error) {
	out := &Mutations{}
	for i, m := range list {
		c, err := newMutationOf(&m)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		out.list = append(out.list, c)
	}
	return out, nil
}

func newMutationOf(m *Mutation) (c compiledMutation, err error) {
	switch {
	case m.Append != nil:
		c.add, err = newAddition(m.Append)
	case m.RemoveOnMatch != nil:
		var match matcher
		match, err = newMatcher(*m.RemoveOnMatch)
		c.match = &match
	case !m.Any && !modifiable(m.Remove):
		err = fmt.Errorf("remove: %q, want a name other than host that does not begin with a colon", m.Remove)
	default:
		c.remove = []byte(lower(m.Remove))
	}
	return c, err
}

// Apply makes the changes. Values are borrowed from the mutations or put into the map's memory.
func (l *Mutations) Apply(m *header.Map, rec *access.Record) {
	if l == nil {
		return
	}
	for i := range l.list {
		c := &l.list[i]
		switch {
		case c.remove != nil:
			m.RemoveName(c.remove)
		case c.match != nil:
			c.removeMatching(m)
		default:
			if v, ok := c.add.formatted(m, rec); ok {
				c.add.put(m, v)
			}
		}
	}
}

// removeMatching removes the fields whose name matches, but not those that no message can do without.
func (c *compiledMutation) removeMatching(m *header.Map) {
	for i := 0; i < m.Len(); {
		f := m.At(i)
		if f.Token.Pseudo() || f.Token == header.Host || !c.match.match(f.Name) {
			i++
			continue
		}
		m.RemoveName(f.Name)
	}
}
