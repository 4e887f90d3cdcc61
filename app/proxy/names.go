package proxy

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
)

// names looks host names up by the system's resolver configuration.
type names struct{ resolver *net.Resolver }

func newNames(d *net.Dialer) *names {
	return &names{&net.Resolver{PreferGo: true, Dial: d.DialContext}}
}

// Resolve returns the addresses of a name that a cluster of the family uses. The
// time to live is not known to Go's resolver.
func (n *names) Resolve(ctx context.Context, name string, family cluster.Family) ([]netip.Addr, time.Duration, error) {
	network := "ip"
	switch family {
	case cluster.V4Only:
		network = "ip4"
	case cluster.V6Only:
		network = "ip6"
	}
	all, err := n.resolver.LookupNetIP(ctx, network, name)
	if err != nil {
		return nil, 0, err
	}
	for i := range all {
		all[i] = all[i].Unmap()
	}
	return choose(all, family), 0, nil
}

// choose keeps the addresses that a family means.
func choose(all []netip.Addr, family cluster.Family) []netip.Addr {
	only := func(four bool) []netip.Addr {
		return slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return a.Is4() != four })
	}
	order := map[cluster.Family][]bool{cluster.Auto: {false, true}, cluster.V4Preferred: {true, false}, cluster.V4Only: {true}, cluster.V6Only: {false}}[family]
	for _, four := range order {
		if some := only(four); len(some) > 0 {
			return some
		}
	}
	if order != nil {
		return nil
	}
	return all
}
