package tap

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
)

// A Predicate says which streams are meant. It must not change. Exactly one of its fields is set; all nil means every stream.
type Predicate struct {
	Or, And []*Predicate
	Not     *Predicate

	RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers *Fields
	RequestBody, ResponseBody                                          *Search
}

// Fields are conditions for header fields or trailers.
type Fields struct{ Conditions route.HeaderMatchers }

// A Search matches a body that holds all patterns in its first Limit bytes, 0 for anywhere.
type Search struct {
	Patterns [][]byte
	Limit    int
}

// A part of a message that predicates are about.
type part uint8

const (
	requestHeaders part = iota
	requestTrailers
	responseHeaders
	responseTrailers
	requestBody
	responseBody
)

// A Match is what is known of one stream and a predicate: a node for each of the predicate's.
type Match struct {
	nodes []node
	root  int
}

// A node's value can change as long as it is open.
type node struct {
	of       *Predicate
	children []int
	value    bool
	open     bool

	found []bool // patterns of a body
	tail  []byte // what a pattern may have begun in
	seen  int    // bytes of the body
}

// Start makes m a match of a predicate with a new stream.
func (m *Match) Start(p *Predicate) {
	m.nodes = m.nodes[:0]
	m.root = m.add(p)
	m.settle(m.root)
}

func (m *Match) add(p *Predicate) int {
	n := node{of: p, open: true}
	for _, list := range [][]*Predicate{p.Or, p.And} {
		for _, c := range list {
			n.children = append(n.children, m.add(c))
		}
	}
	switch {
	case p.Not != nil:
		n.children = append(n.children, m.add(p.Not))
	case p.RequestBody != nil:
		n.found = make([]bool, len(p.RequestBody.Patterns))
	case p.ResponseBody != nil:
		n.found = make([]bool, len(p.ResponseBody.Patterns))
	case len(n.children) == 0 && p.fields(requestHeaders) == nil && p.fields(requestTrailers) == nil && p.fields(responseHeaders) == nil && p.fields(responseTrailers) == nil:
		n.value, n.open = true, false // any
	}
	m.nodes = append(m.nodes, n)
	return len(m.nodes) - 1
}

// Matches reports whether the stream is meant, as far as is known.
func (m *Match) Matches() bool { return m.nodes[m.root].value }

// Open reports whether that can change.
func (m *Match) Open() bool { return m.nodes[m.root].open }

func (p *Predicate) fields(of part) *Fields {
	return [...]*Fields{p.RequestHeaders, p.RequestTrailers, p.ResponseHeaders, p.ResponseTrailers}[of]
}

func (m *Match) see(of part, fields *header.Map) {
	for i := range m.nodes {
		if n := &m.nodes[i]; n.open {
			if f := n.of.fields(of); f != nil {
				if n.open = false; of == requestHeaders {
					n.value = f.Conditions.OfRequest(fields)
				} else {
					n.value = f.Conditions.OfResponse(fields)
				}
			}
		}
	}
	m.settle(m.root)
}

func (m *Match) body(of part, b []byte) {
	for i := range m.nodes {
		n := &m.nodes[i]
		text := n.of.RequestBody
		if of == responseBody {
			text = n.of.ResponseBody
		}
		if n.open && text != nil {
			n.search(text, b)
		}
	}
	m.settle(m.root)
}

// search looks for patterns in a piece of a body, and across the end of what came before.
func (n *node) search(t *Search, b []byte) {
	if t.Limit > 0 {
		b = b[:min(len(b), t.Limit-n.seen)]
	}
	n.seen += len(b)
	joined := append(n.tail, b...)
	all, longest := true, 0
	for i, p := range t.Patterns {
		if !n.found[i] {
			n.found[i] = bytes.Contains(joined, p)
		}
		if !n.found[i] {
			all, longest = false, max(longest, len(p))
		}
	}
	switch {
	case all:
		n.value, n.open, n.tail = true, false, nil
	case t.Limit > 0 && n.seen >= t.Limit:
		n.open, n.tail = false, nil
	default:
		n.tail = append([]byte(nil), joined[max(0, len(joined)-longest+1):]...)
	}
}

// settle gives node i, which has others below it, its value.
func (m *Match) settle(i int) {
	n := &m.nodes[i]
	if len(n.children) == 0 {
		return
	}
	any, all, open := false, true, false
	for _, c := range n.children {
		m.settle(c)
		any, all, open = any || m.nodes[c].value, all && m.nodes[c].value, open || m.nodes[c].open
	}
	n = &m.nodes[i]
	n.open = open
	switch {
	case n.of.Not != nil:
		n.value = !any
	case n.of.And != nil:
		n.value = all
	default:
		n.value = any
	}
}
