package cluster

import (
	"net/netip"
	"strings"
	"testing"
)

// list reads addresses of letters: A, B, ... are of IPv4, a, b, ... of IPv6.
func list(letters string) (out []netip.AddrPort) {
	for _, c := range letters {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(c)})
		if c >= 'a' {
			a = netip.AddrFrom16([16]byte{0xfd, 15: byte(c)})
		}
		out = append(out, netip.AddrPortFrom(a, 80))
	}
	return out
}

func letters(addrs []netip.AddrPort) string {
	var b strings.Builder
	for _, a := range addrs {
		text := a.Addr().AsSlice()
		b.WriteByte(text[len(text)-1])
	}
	return b.String()
}

func TestAddressesAreTriedInTurnsOfFamilies(t *testing.T) {
	for _, test := range []struct {
		how      Eyeballs
		in, want string
	}{
		{Eyeballs{}, "A", "A"},
		{Eyeballs{}, "AB", "AB"},                                  // one family: in its own order
		{Eyeballs{}, "ABab", "AaBb"},                              // the first address's family begins
		{Eyeballs{}, "abAB", "aAbB"},                              //
		{Eyeballs{}, "aABCD", "aABCD"},                            // what is left of the other follows
		{Eyeballs{First: V6Only}, "ABab", "aAbB"},                 // unless another shall
		{Eyeballs{First: V4Only, Count: 2}, "abcABCD", "ABaCDbc"}, // so many of it at a time
		{Eyeballs{First: V6Only}, "AB", "AB"},                     // of which there are none
		{Eyeballs{First: V4Only, Count: 9}, "aA", "Aa"},           // or fewer
	} {
		if got := letters(test.how.Sort(list(test.in))); got != test.want {
			t.Errorf("%+v: %s is tried as %s, want %s", test.how, test.in, got, test.want)
		}
	}
}
