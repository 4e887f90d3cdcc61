// Package matcher decides by xDS matchers (xds.type.matcher.v3): trees of conditions on texts that are taken out of
// something, a connection for example, with an action at each leaf.
//
// What a tree looks at (D) and what it decides (A) is its user's. Trees are built once and never change. What has no
// text for an input fits no condition on that input. A branch that ends without an action is left
// again: the next condition that fits has its turn, and at last what the matcher says of what does not match.
package matcher

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// An Input takes a text out of what is matched, and reports whether there is one.
//
// The text is looked at before another one is taken out, and not kept.
type Input[D any] func(D) ([]byte, bool)

// A Tree finds an action, and reports whether it has found one.
type Tree[D, A any] interface {
	Match(D) (A, bool)
}

// A Then is what follows when something matches. nil is nothing.
type Then[D, A any] struct {
	Action A
	Tree   Tree[D, A] // if not nil, it decides
}

func (t *Then[D, A]) match(d D) (a A, ok bool) {
	switch {
	case t == nil:
		return a, false
	case t.Tree != nil:
		return t.Tree.Match(d)
	}
	return t.Action, true
}

// A Predicate is a condition.
type Predicate[D any] func(D) bool

// Text is the condition that an input's text fits.
func Text[D any](in Input[D], fits func([]byte) bool) Predicate[D] {
	return func(d D) bool {
		s, ok := in(d)
		return ok && fits(s)
	}
}

// All is the condition that all of a list hold.
func All[D any](list []Predicate[D]) Predicate[D] {
	return func(d D) bool {
		return !slices.ContainsFunc(list, func(p Predicate[D]) bool { return !p(d) })
	}
}

// Any is the condition that one of a list holds.
func Any[D any](list []Predicate[D]) Predicate[D] {
	return func(d D) bool {
		return slices.ContainsFunc(list, func(p Predicate[D]) bool { return p(d) })
	}
}

// Not is the condition that another does not hold.
func Not[D any](p Predicate[D]) Predicate[D] { return func(d D) bool { return !p(d) } }

// A List has conditions that are tried in order.
type List[D, A any] struct {
	Rules []Rule[D, A]
	Else  *Then[D, A]
}

// A Rule is one entry of a list.
type Rule[D, A any] struct {
	If   Predicate[D]
	Then *Then[D, A]
}

// Match finds the first rule that leads to an action.
func (l *List[D, A]) Match(d D) (A, bool) {
	for i := range l.Rules {
		if r := &l.Rules[i]; r.If(d) {
			if a, ok := r.Then.match(d); ok {
				return a, true
			}
		}
	}
	return l.Else.match(d)
}

// An Exact looks a text up.
type Exact[D, A any] struct {
	Input Input[D]
	Map   map[string]*Then[D, A]
	Else  *Then[D, A]
}

// Match looks the text up.
func (e *Exact[D, A]) Match(d D) (A, bool) {
	if s, ok := e.Input(d); ok {
		if a, ok := e.Map[string(s)].match(d); ok {
			return a, true
		}
	}
	return e.Else.match(d)
}

// A Prefix looks up what a text begins with.
type Prefix[D, A any] struct {
	Input   Input[D]
	Map     map[string]*Then[D, A]
	Lengths []int // that keys have, the longest first, as NewPrefix has found them
	Else    *Then[D, A]
}

// NewPrefix finds the lengths of prefixes: texts come from strangers, and what one costs is bounded by what there is to look up.
func NewPrefix[D, A any](in Input[D], branches map[string]*Then[D, A], otherwise *Then[D, A]) *Prefix[D, A] {
	return &Prefix[D, A]{in, branches, lengthsOf(branches), otherwise}
}

// Match finds the longest prefix that leads to an action.
func (p *Prefix[D, A]) Match(d D) (A, bool) {
	if s, ok := p.Input(d); ok {
		for _, n := range p.Lengths {
			if n > len(s) {
				continue
			}
			if a, ok := p.Map[string(s[:n])].match(d); ok {
				return a, true
			}
		}
	}
	return p.Else.match(d)
}

// A Networks looks up the networks of an address.
type Networks[D, A any] struct {
	Input  Input[D]
	Ranges []Range[D, A] // as NewNetworks has sorted them
	Else   *Then[D, A]
}

// A Range is one network.
type Range[D, A any] struct {
	Network   netip.Prefix
	Then      *Then[D, A]
	Exclusive bool // it counts only if there is no longer one
}

// NewNetworks sorts networks: the longest is first, and among equal ones that which was declared first.
func NewNetworks[D, A any](in Input[D], ranges []Range[D, A], otherwise *Then[D, A]) *Networks[D, A] {
	ranges = slices.Clone(ranges)
	slices.SortStableFunc(ranges, func(a, b Range[D, A]) int { return b.Network.Bits() - a.Network.Bits() })
	return &Networks[D, A]{in, ranges, otherwise}
}

// Match finds the longest network that leads to an action.
func (n *Networks[D, A]) Match(d D) (A, bool) {
	s, _ := n.Input(d)
	if addr, err := netip.ParseAddr(string(s)); err == nil {
		longer := false
		for i := range n.Ranges {
			r := &n.Ranges[i]
			if !r.Network.Contains(addr.Unmap()) || longer && r.Exclusive {
				continue
			}
			if a, ok := r.Then.match(d); ok {
				return a, true
			}
			longer = true
		}
	}
	return n.Else.match(d)
}

// A Names looks up host names and wildcards (*.example.com, *), as NewNames has sorted them.
type Names[D, A any] struct {
	input   Input[D]
	exact   map[string]*Then[D, A] // in lower case
	wild    map[string]*Then[D, A] // what stands behind the star
	lengths []int                  // that these have, the longest first
	all     *Then[D, A]            // of the star alone
	then    *Then[D, A]
}

// NewNames sorts names, which are in lower case. As with prefixes, what a stranger's name costs is bounded by what there is to look up.
func NewNames[D, A any](in Input[D], branches map[string]*Then[D, A], otherwise *Then[D, A]) *Names[D, A] {
	n := &Names[D, A]{input: in, exact: map[string]*Then[D, A]{}, wild: map[string]*Then[D, A]{}, all: branches["*"], then: otherwise}
	for name, then := range branches {
		switch suffix, wild := strings.CutPrefix(name, "*"); {
		case !wild:
			n.exact[name] = then
		case suffix != "":
			n.wild[suffix] = then
		}
	}
	n.lengths = lengthsOf(n.wild)
	return n
}

// lengthsOf are the lengths of a map's keys, the longest first.
func lengthsOf[V any](m map[string]V) []int {
	lengths := map[int]bool{}
	for key := range m {
		lengths[len(key)] = true
	}
	return slices.SortedFunc(maps.Keys(lengths), func(a, b int) int { return b - a })
}

// Match finds the name, or the longest wildcard, that leads to an action.
func (n *Names[D, A]) Match(d D) (A, bool) {
	if text, ok := n.input(d); ok {
		s := strings.ToLower(string(text))
		if a, ok := n.exact[s].match(d); ok {
			return a, true
		}
		for _, l := range n.lengths {
			if l > len(s) {
				continue
			}
			if a, ok := n.wild[s[len(s)-l:]].match(d); ok {
				return a, true
			}
		}
		if a, ok := n.all.match(d); ok {
			return a, true
		}
	}
	return n.then.match(d)
}
