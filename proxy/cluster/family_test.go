package cluster

import (
	"net/netip"
	"slices"
	"testing"
)

// A cluster of names uses the addresses that its family means.
func TestFamilies(t *testing.T) {
	four, six := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for _, test := range []struct {
		family Family
		all    []netip.Addr
		want   []netip.Addr
	}{
		{Auto, []netip.Addr{four, six}, []netip.Addr{six}},
		{Auto, []netip.Addr{four}, []netip.Addr{four}},
		{V4Preferred, []netip.Addr{six, four}, []netip.Addr{four}},
		{V4Only, []netip.Addr{six}, nil},
		{V6Only, []netip.Addr{four, six}, []netip.Addr{six}},
		{All, []netip.Addr{four, six}, []netip.Addr{six, four}},
	} {
		if got := test.family.Choose(test.all); !slices.Equal(got, test.want) {
			t.Errorf("family %d of %v: %v, want %v", test.family, test.all, got, test.want)
		}
	}
}
