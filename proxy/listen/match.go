package listen

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Matcher finds the chain of a connection. It is immutable.
//
// Envoy's rule is a decision in eight steps: at each the most specific value
// that some chain (among those still in play) names and the connection has wins, and all chains with
// other values are out, for good. So it is a tree of maps, built once.
type Matcher struct {
	ports    map[uint16]*byDestination // 0: chains without a port
	tree     Tree                      // if not nil, it names the chain
	named    map[string]*Chain
	fallback *Chain
}

// A Subject is what of a connection is matched.
type Subject struct {
	Destination  netip.AddrPort // original destination
	SNI          string
	Transport    string // RawBuffer or TLS
	ALPN         []string
	DirectSource netip.Addr // the socket's peer
	Source       netip.AddrPort
}

// FromHere reports whether the connection comes from this machine.
func (s *Subject) FromHere() bool {
	src := s.Source.Addr().Unmap()
	return Loopback(src) || src == s.Destination.Addr().Unmap()
}

// Loopback reports whether an address is what Envoy takes for the loopback: 127.0.0.1 or ::1, and no other of 127.0.0.0/8.
func Loopback(a netip.Addr) bool {
	return a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback()
}

type (
	byDestination struct{ nets []network[*byName] }
	byName        struct {
		exact  map[string]*byTransport
		suffix map[string]*byTransport // ".example.com", with the dot
		any    *byTransport
	}
	byTransport struct{ m map[string]*byALPN }
	byALPN      struct{ m map[string]*bySource }
	bySource    struct{ nets []network[*byType] }
	byType      struct{ types [3]*bySourceIP }
	bySourceIP  struct{ nets []network[*byPort] }
	byPort      struct{ ports map[uint16]*Chain }
)

// A network is a prefix with what belongs to it; lists of them are sorted, longest first.
type network[T any] struct {
	prefix netip.Prefix // invalid: any address
	value  T
}

func lookup[T any](nets []network[T], a netip.Addr) (v T, ok bool) {
	for i := range nets {
		if p := nets[i].prefix; !p.IsValid() || p.Contains(a) {
			return nets[i].value, true
		}
	}
	return v, false
}

func insert[T any](nets *[]network[T], p netip.Prefix, make func() T) T {
	for i := range *nets {
		if (*nets)[i].prefix == p {
			return (*nets)[i].value
		}
	}
	v := make()
	*nets = append(*nets, network[T]{p, v})
	slices.SortStableFunc(*nets, func(a, b network[T]) int { return cmp.Compare(b.prefix.Bits(), a.prefix.Bits()) })
	return v
}

func child[K comparable, T any](m map[K]*T, k K, make func() *T) *T {
	v := m[k]
	if v == nil {
		v = make()
		m[k] = v
	}
	return v
}

// orAny stands for a list's values, or for "any" if it is empty.
func orAny[T any](list []T) []T {
	if len(list) == 0 {
		return make([]T, 1)
	}
	return list
}

// NewMatcher builds the matcher of a listener's chains. Two chains that match the
// same connections are an error, as in Envoy.
func NewMatcher(chains []*Chain, fallback *Chain) (*Matcher, error) {
	m := &Matcher{ports: map[uint16]*byDestination{}, fallback: fallback}
	var errs []error
	for _, c := range chains {
		if err := m.add(c); err != nil {
			errs = append(errs, fmt.Errorf("filter chain %q: %w", c.Name, err))
		}
	}
	return m, errors.Join(errs...)
}

// NewNamed builds the matcher of chains that a tree chooses by their names. A name that no chain has is
// no chain, and not the fallback, as in Envoy.
func NewNamed(tree Tree, chains []*Chain, fallback *Chain) (*Matcher, error) {
	m := &Matcher{tree: tree, named: map[string]*Chain{}, fallback: fallback}
	var errs []error
	for i, c := range chains {
		switch {
		case c.Name == "":
			errs = append(errs, fmt.Errorf("filter chain %d: has no name, want one for the filter_chain_matcher", i))
		case m.named[c.Name] != nil:
			errs = append(errs, fmt.Errorf("filter chain %q: has the name of another", c.Name))
		}
		m.named[c.Name] = c
	}
	return m, errors.Join(errs...)
}

func (m *Matcher) add(c *Chain) error {
	dest := child(m.ports, c.Match.DestinationPort, func() *byDestination { return &byDestination{} })
	for _, p := range orAny(c.Match.Destinations) {
		names := insert(&dest.nets, p.Masked(), func() *byName {
			return &byName{exact: map[string]*byTransport{}, suffix: map[string]*byTransport{}}
		})
		for _, name := range orAny(c.Match.ServerNames) {
			t, err := names.child(name)
			if err != nil {
				return err
			}
			if err := t.add(c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *byName) child(name string) (*byTransport, error) {
	fresh := func() *byTransport { return &byTransport{m: map[string]*byALPN{}} }
	name = strings.ToLower(name)
	switch suffix, wild := strings.CutPrefix(name, "*"); {
	case name == "" || name == "*":
		if n.any == nil {
			n.any = fresh()
		}
		return n.any, nil
	case wild && strings.HasPrefix(suffix, ".") && !strings.Contains(suffix, "*"):
		return child(n.suffix, suffix, fresh), nil
	case strings.Contains(name, "*"):
		return nil, fmt.Errorf("server_names: found %q, want a name or a name that begins with \"*.\"", name)
	}
	return child(n.exact, name, fresh), nil
}

func (t *byTransport) add(c *Chain) error {
	a := child(t.m, c.Match.Transport, func() *byALPN { return &byALPN{m: map[string]*bySource{}} })
	for _, alpn := range orAny(c.Match.ALPN) {
		s := child(a.m, alpn, func() *bySource { return &bySource{} })
		for _, direct := range orAny(c.Match.DirectSources) {
			types := insert(&s.nets, direct.Masked(), func() *byType { return &byType{} })
			if types.types[c.Match.SourceType] == nil {
				types.types[c.Match.SourceType] = &bySourceIP{}
			}
			ips := types.types[c.Match.SourceType]
			for _, source := range orAny(c.Match.Sources) {
				ports := insert(&ips.nets, source.Masked(), func() *byPort { return &byPort{ports: map[uint16]*Chain{}} })
				for _, port := range orAny(c.Match.SourcePorts) {
					if other := ports.ports[port]; other != nil {
						return fmt.Errorf("has the same matching rules as filter chain %q", other.Name)
					}
					ports.ports[port] = c
				}
			}
		}
	}
	return nil
}

// Match returns the chain for a connection, or nil.
func (m *Matcher) Match(s *Subject) *Chain {
	if m.tree != nil {
		if name, ok := m.tree.Match(s); ok {
			return m.named[name]
		}
		return m.fallback
	}
	if c := m.match(s); c != nil {
		return c
	}
	return m.fallback
}

func (m *Matcher) match(s *Subject) *Chain {
	dest := m.ports[s.Destination.Port()]
	if dest == nil {
		if dest = m.ports[0]; dest == nil {
			return nil
		}
	}
	names, ok := lookup(dest.nets, s.Destination.Addr().Unmap())
	if !ok {
		return nil
	}
	t := names.find(s.SNI)
	if t == nil {
		return nil
	}
	a := t.m[s.Transport]
	if a == nil {
		if a = t.m[""]; a == nil {
			return nil
		}
	}
	return a.find(s)
}

func (n *byName) find(sni string) *byTransport {
	if sni != "" {
		if t := n.exact[sni]; t != nil {
			return t
		}
		for i := 0; i < len(sni) && len(n.suffix) > 0; i++ { // the longest suffix first
			if sni[i] == '.' && i > 0 {
				if t := n.suffix[sni[i:]]; t != nil {
					return t
				}
			}
		}
	}
	return n.any
}

func (a *byALPN) find(s *Subject) *Chain {
	var source *bySource
	for _, p := range s.ALPN {
		if source = a.m[p]; source != nil {
			break
		}
	}
	if source == nil {
		if source = a.m[""]; source == nil {
			return nil
		}
	}
	types, ok := lookup(source.nets, s.DirectSource.Unmap())
	if !ok {
		return nil
	}
	return types.find(s)
}

func (t *byType) find(s *Subject) *Chain {
	kind := ExternalSource
	if s.FromHere() {
		kind = SameIPOrLoopback
	}
	ips := t.types[kind]
	if ips == nil {
		if ips = t.types[AnySource]; ips == nil {
			return nil
		}
	}
	ports, ok := lookup(ips.nets, s.Source.Addr().Unmap())
	if !ok {
		return nil
	}
	if c := ports.ports[s.Source.Port()]; c != nil {
		return c
	}
	return ports.ports[0]
}
