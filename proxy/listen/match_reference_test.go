package listen

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// slowMatch is Envoy's rule as its documentation tells it, without an index: step by step, of the
// chains still in play those stay that name the most specific value that the connection has.
func slowMatch(chains []*Chain, fallback *Chain, s *Subject) *Chain {
	type step func(c *Chain) int // how well the chain fits: -1 not at all, 0 it does not say
	nets := func(list []netip.Prefix, a netip.Addr) int {
		best := -1
		for _, p := range list {
			if p.Contains(a) {
				best = max(best, p.Bits()+1)
			}
		}
		if len(list) == 0 {
			return 0
		}
		return best
	}
	kind := ExternalSource
	if Loopback(s.Source.Addr()) || s.Source.Addr() == s.Destination.Addr() {
		kind = SameIPOrLoopback
	}
	steps := []step{
		func(c *Chain) int {
			return says(c.Match.DestinationPort != 0, c.Match.DestinationPort == s.Destination.Port())
		},
		func(c *Chain) int { return nets(c.Match.Destinations, s.Destination.Addr()) },
		func(c *Chain) int { return nameFits(c.Match.ServerNames, s.SNI) },
		func(c *Chain) int { return says(c.Match.Transport != "", c.Match.Transport == s.Transport) },
		func(c *Chain) int { // the client's first protocol that some chain names
			best := says(len(c.Match.ALPN) > 0, false)
			for i, p := range s.ALPN {
				if slices.Contains(c.Match.ALPN, p) {
					best = max(best, len(s.ALPN)-i)
				}
			}
			return best
		},
		func(c *Chain) int { return nets(c.Match.DirectSources, s.DirectSource) },
		func(c *Chain) int { return says(c.Match.SourceType != AnySource, c.Match.SourceType == kind) },
		func(c *Chain) int { return nets(c.Match.Sources, s.Source.Addr()) },
		func(c *Chain) int {
			return says(len(c.Match.SourcePorts) > 0, slices.Contains(c.Match.SourcePorts, s.Source.Port()))
		},
	}
	in := chains
	for _, fit := range steps {
		best := -1
		for _, c := range in {
			best = max(best, fit(c))
		}
		if best < 0 {
			return fallback
		}
		var stay []*Chain
		for _, c := range in {
			if fit(c) == best {
				stay = append(stay, c)
			}
		}
		in = stay
	}
	return in[0]
}

func says(named, fits bool) int {
	switch {
	case !named:
		return 0
	case fits:
		return 1
	}
	return -1
}

func nameFits(names []string, sni string) int {
	if len(names) == 0 {
		return 0
	}
	best := -1
	for _, n := range names {
		suffix, wild := strings.CutPrefix(n, "*")
		switch {
		case n == sni:
			best = max(best, 1000)
		case wild && len(sni) > len(suffix) && strings.HasSuffix(sni, suffix):
			best = max(best, len(suffix))
		}
	}
	return best
}

// some returns up to two of a list's values.
func some[T any](r *rand.Rand, list []T) (out []T) {
	for range r.IntN(6) / 2 {
		out = append(out, list[r.IntN(len(list))])
	}
	return out
}

// TestMatchAgainstReference compares random sets of chains with the slow reading of the rule.
func TestMatchAgainstReference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	networks := prefixes("10.0.0.0/8", "10.1.0.0/16", "10.1.1.1/32", "0.0.0.0/0", "127.0.0.0/8", "::/0", "fd00::/8")
	addrs := []netip.Addr{netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("192.0.2.1")}
	names := []string{"a.b.example", "*.b.example", "*.example", "b.example", "other"}
	protocols := []string{"h2", "http/1.1", "istio"}
	matched := 0
	for round := range 4000 {
		var chains []*Chain
		for i := range 1 + r.IntN(8) {
			chains = append(chains, &Chain{Name: fmt.Sprint(i), Match: Match{
				DestinationPort: uint16(r.IntN(3)), Destinations: some(r, networks), ServerNames: some(r, names),
				Transport: []string{"", RawBuffer, TLS}[r.IntN(3)], ALPN: some(r, protocols), DirectSources: some(r, networks),
				SourceType: SourceType(r.IntN(3)), Sources: some(r, networks), SourcePorts: some(r, []uint16{1, 2}),
			}})
			if r.IntN(2) == 0 { // chains that say little meet more often
				m := &chains[i].Match
				m.DirectSources, m.Sources, m.ALPN, m.SourcePorts = nil, nil, nil, nil
			}
		}
		fallback := &Chain{Name: "default"}
		m, err := NewMatcher(chains, fallback)
		if err != nil {
			continue // two that match the same
		}
		for range 20 {
			s := Subject{
				Destination: netip.AddrPortFrom(addrs[r.IntN(len(addrs))], uint16(r.IntN(3))), SNI: []string{"", "a.b.example", "c.b.example", "b.example", "x.example", "none"}[r.IntN(6)],
				Transport: []string{RawBuffer, TLS}[r.IntN(2)], ALPN: some(r, protocols), DirectSource: addrs[r.IntN(len(addrs))],
				Source: netip.AddrPortFrom(addrs[r.IntN(len(addrs))], uint16(r.IntN(3))),
			}
			got, want := m.Match(&s), slowMatch(chains, fallback, &s)
			if want != fallback {
				matched++
			}
			if got != want {
				for _, c := range chains {
					t.Logf("chain %s: %+v", c.Name, c.Match)
				}
				t.Fatalf("round %d: %+v goes to chain %s, want %s", round, s, got.Name, want.Name)
			}
		}
	}
	if matched < 2000 {
		t.Errorf("only %d connections matched a chain: the sets are too narrow to show anything", matched)
	}
}
