package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/mallamesh/malla/proxy/metadata"
)

// A Value is a value of a host's metadata, in a form that can be compared.
type Value struct {
	Text  string   // canonical JSON
	Items []string // of a list, each in the same form
}

func (v Value) same(o Value) bool { return v.Text == o.Text && slices.Equal(v.Items, o.Items) }

// is reports whether a value, or an item of it where lists count as any of their items, is text.
func (v Value) is(text string, listAsAny bool) bool {
	return v.Text == text || listAsAny && slices.Contains(v.Items, text)
}

// A Has asks for a value under a name.
type Has struct{ Name, Text string }

func (m *Metadata) hasAll(list []Has) bool { return m.matches(list, true) }

func (m *Metadata) matches(list []Has, listAsAny bool) bool {
	for _, h := range list {
		if v, ok := m.LB[h.Name]; !ok || !v.is(h.Text, listAsAny) {
			return false
		}
	}
	return true
}

// Criteria are what a route asks of hosts, by name. They are immutable.
type Criteria struct{ list []Has }

// NewCriteria sorts what is asked. What stands later in the list replaces what has the same name.
func NewCriteria(list []Has) *Criteria {
	if len(list) == 0 {
		return nil
	}
	c := &Criteria{}
	for i, h := range list {
		later := slices.ContainsFunc(list[i+1:], func(o Has) bool { return o.Name == h.Name })
		if !later {
			c.list = append(c.list, h)
		}
	}
	slices.SortFunc(c.list, func(a, b Has) int { return strings.Compare(a.Name, b.Name) })
	return c
}

// With returns criteria that hold those of more too, which win. Either may be nil.
func (c *Criteria) With(more *Criteria) *Criteria {
	switch {
	case c == nil:
		return more
	case more == nil:
		return c
	}
	return NewCriteria(slices.Concat(c.list, more.list))
}

// WithValues returns criteria that ask for some values of metadata too, which win.
func (c *Criteria) WithValues(values metadata.Struct) *Criteria {
	list := make([]Has, 0, len(values))
	for name, v := range values {
		list = append(list, Has{name, Canonical(v)})
	}
	return c.With(NewCriteria(list))
}

// Canonical writes a value such that equal values are equal texts.
func Canonical(v any) string {
	text, err := json.Marshal(v) // sorts by key
	if err != nil {
		return fmt.Sprint(v) // a number that JSON does not have
	}
	return string(text)
}

// A Fallback says where a request goes for which there is no subset.
type Fallback uint8

// The fallbacks.
const (
	NoFallback Fallback = iota
	AnyEndpoint
	DefaultSubset
	KeysSubset // look again with fewer names; of selectors only
	Undefined  // of selectors only: the cluster's own fallback
)

// Subsets divides the hosts of a cluster by their metadata.
type Subsets struct {
	Fallback            Fallback
	Default             []Has // what a host of the default subset has; all hosts if empty
	Selectors           []Selector
	LocalityWeightAware bool
	ScaleLocalityWeight bool
	PanicModeAny        bool // any host where there is neither a subset nor a fallback
	ListAsAny           bool // a host whose value is a list is in the subset of each item
}

// A Selector makes a subset of every combination of values of some names.
type Selector struct {
	Keys         []string // sorted
	Single       bool     // single_host_per_subset
	Fallback     Fallback
	FallbackKeys []string // sorted
}

// subsets are the subsets of one HostSet.
type subsets struct {
	of      []map[string]Levels // by selector, then by the values joined
	byEmpty Levels              // the default subset, nil if it is not wanted or empty
}

// end ends a value in a key: it cannot be part of one in JSON.
const end = '\x00'

// divide makes the subsets of a set, taking over from old what is as it was.
func (c *Cluster) divide(set *HostSet, old *subsets) *subsets {
	if old == nil {
		old = &subsets{of: make([]map[string]Levels, len(c.Subsets.Selectors))}
	}
	out := &subsets{of: make([]map[string]Levels, len(c.Subsets.Selectors))}
	active, before := 0, 0
	duplicates := int64(0)
	for i := range c.Subsets.Selectors {
		s := &c.Subsets.Selectors[i]
		members := map[string][]*Host{}
		for _, h := range set.All {
			s.each(h.Metadata, c.Subsets.ListAsAny, func(key []byte) {
				if list := members[string(key)]; s.Single && len(list) > 0 {
					duplicates++
				} else {
					members[string(key)] = append(list, h)
				}
			})
		}
		out.of[i] = make(map[string]Levels, len(members))
		for key, hosts := range members {
			was := old.of[i][key]
			if was == nil {
				c.Stats.LBSubsetsCreated.Inc()
			}
			out.of[i][key] = c.subset(set, hosts, was)
		}
		for key := range old.of[i] {
			if members[key] == nil {
				c.Stats.LBSubsetsRemoved.Inc()
			}
		}
		active += len(members)
		before += len(old.of[i])
	}
	c.Stats.LBSubsetsActive.Set(int64(active))
	c.Stats.LBSubsetsSingleHostDuplicate.Set(duplicates)
	if c.wantsDefault() {
		var hosts []*Host
		for _, h := range set.All {
			if h.Metadata.matches(c.Subsets.Default, c.Subsets.ListAsAny) {
				hosts = append(hosts, h)
			}
		}
		if len(hosts) > 0 {
			out.byEmpty = c.subset(set, hosts, old.byEmpty)
		}
	}
	return out
}

func (c *Cluster) wantsDefault() bool {
	return c.Subsets.Fallback == DefaultSubset || slices.ContainsFunc(c.Subsets.Selectors, func(s Selector) bool { return s.Fallback == DefaultSubset })
}

// subset makes the levels of some hosts. Where localities' weights count in subsets, they may be scaled
// by the part of a locality's hosts that is in the subset.
func (c *Cluster) subset(set *HostSet, hosts []*Host, old Levels) Levels {
	if c.Subsets.LocalityWeightAware && c.Subsets.ScaleLocalityWeight && c.Localities.Weighted {
		hosts = scaled(set.All, hosts)
		old = nil // hosts are copies
	}
	return c.levels(hosts, old, c.Subsets.LocalityWeightAware)
}

// scaled returns copies of hosts with the weights of their localities scaled.
func scaled(all, hosts []*Host) []*Host {
	type where struct {
		priority uint32
		locality Locality
	}
	count := func(list []*Host) map[where]uint64 {
		n := map[where]uint64{}
		for _, h := range list {
			n[where{h.Priority, h.Locality}]++
		}
		return n
	}
	of, in := count(all), count(hosts)
	out := make([]*Host, len(hosts))
	for i, h := range hosts {
		at := where{h.Priority, h.Locality}
		copied := *h
		copied.LocalityWeight = uint32((uint64(h.LocalityWeight)*in[at] + of[at]/2) / of[at]) // rounded
		out[i] = &copied
	}
	return out
}

// each calls f with the key of every subset that a host is in: none if it lacks a name, several if a value is a list.
func (s *Selector) each(m *Metadata, listAsAny bool, f func(key []byte)) {
	var visit func(i int, key []byte)
	visit = func(i int, key []byte) {
		if i == len(s.Keys) {
			f(key)
			return
		}
		v, ok := m.LB[s.Keys[i]]
		switch {
		case !ok:
		case listAsAny && v.Items != nil:
			for _, item := range v.Items {
				visit(i+1, append(append(slices.Clip(key), item...), end))
			}
		default:
			visit(i+1, append(append(slices.Clip(key), v.Text...), end))
		}
	}
	visit(0, nil)
}

// pickSubset chooses a host of the subset that a request asks for, or of what stands in for it.
func (c *Cluster) pickSubset(set *HostSet, p *Pick) *Host {
	if p.Criteria != nil {
		asked := p.Criteria.list
		var names [16]Has
		var key [256]byte
		for range len(c.Subsets.Selectors) + 1 { // each step has fewer names
			i := c.selector(asked)
			if i < 0 {
				break
			}
			if levels := set.subsets.of[i][string(appendKey(key[:0], asked))]; levels != nil {
				c.Stats.LBSubsetsSelected.Inc()
				return c.pick(levels, p)
			}
			switch s := &c.Subsets.Selectors[i]; s.Fallback {
			case NoFallback:
				return nil
			case AnyEndpoint:
				return c.pick(set.Levels, p)
			case DefaultSubset:
				if set.subsets.byEmpty == nil {
					return nil
				}
				return c.pick(set.subsets.byEmpty, p)
			case KeysSubset:
				asked = only(names[:0], asked, s.FallbackKeys)
				continue
			}
			break
		}
	}
	var levels Levels
	switch c.Subsets.Fallback {
	case AnyEndpoint:
		levels = set.Levels
	case DefaultSubset:
		levels = set.subsets.byEmpty
	}
	if levels != nil {
		if h := c.pick(levels, p); h != nil {
			c.Stats.LBSubsetsFallback.Inc()
			return h
		}
	}
	if c.Subsets.PanicModeAny {
		if h := c.pick(set.Levels, p); h != nil {
			c.Stats.LBSubsetsFallbackPanic.Inc()
			return h
		}
	}
	return nil
}

// appendKey appends the key of the subset of what is asked for.
func appendKey(dst []byte, asked []Has) []byte {
	for i := range asked {
		dst = append(append(dst, asked[i].Text...), end)
	}
	return dst
}

// only appends those of what is asked for whose names are among keys.
func only(dst, asked []Has, keys []string) []Has {
	for i := range asked {
		if slices.Contains(keys, asked[i].Name) {
			dst = append(dst, asked[i])
		}
	}
	return dst
}

// selector returns the one whose names are just those that are asked for, or -1.
func (c *Cluster) selector(asked []Has) int {
	for i := range c.Subsets.Selectors {
		keys := c.Subsets.Selectors[i].Keys
		if slices.EqualFunc(keys, asked, func(k string, h Has) bool { return k == h.Name }) {
			return i
		}
	}
	return -1
}
