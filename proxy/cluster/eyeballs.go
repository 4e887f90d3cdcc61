package cluster

import (
	"net/netip"
	"slices"
)

// Eyeballs says in which order the addresses of a host are tried (happy_eyeballs_config; RFC 8305,
// section 4): so many of one family, then one of the other, and so on.
type Eyeballs struct {
	First Family // V4Only or V6Only; else the family of the host's first address
	Count uint32 // of First before one of the other family; 0: 1
}

// Sort puts addresses in the order in which they are tried. Within a family they keep their own.
func (e Eyeballs) Sort(addrs []netip.AddrPort) []netip.AddrPort {
	if len(addrs) < 2 {
		return addrs
	}
	v4 := addrs[0].Addr().Unmap().Is4()
	if e.First == V4Only || e.First == V6Only {
		v4 = e.First == V4Only
	}
	var first, other []netip.AddrPort
	for _, a := range addrs {
		if a.Addr().Unmap().Is4() == v4 {
			first = append(first, a)
		} else {
			other = append(other, a)
		}
	}
	out := make([]netip.AddrPort, 0, len(addrs))
	for len(first)+len(other) > 0 {
		n := min(max(int(e.Count), 1), len(first))
		out, first = append(out, first[:n]...), first[n:]
		n = min(1, len(other))
		out, other = append(out, other[:n]...), other[n:]
	}
	return out
}

// order is the addresses of an endpoint as they are tried; nil: it has but one.
func (c *Cluster) order(e *Endpoint) []netip.AddrPort {
	if len(e.More) == 0 {
		return nil
	}
	return c.Eyeballs.Sort(append([]netip.AddrPort{e.Addr}, e.More...))
}

// Addresses is how many addresses the host has.
func (h *Host) Addresses() int { return max(1, len(h.tried)) }

// Address is the host's i-th address, in the order in which they are tried. Addr, by which the
// host is known, is among them, and not always the first.
func (h *Host) Address(i int) netip.AddrPort {
	if len(h.tried) == 0 {
		return h.Addr
	}
	return h.tried[i]
}

// beside are the other addresses of a name whose host is at addr.
func beside(addr netip.AddrPort, all []netip.Addr) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range all {
		if a != addr.Addr() {
			out = append(out, netip.AddrPortFrom(a, addr.Port()))
		}
	}
	return out
}

// sameAddresses reports whether two hosts are tried at the same addresses.
func sameAddresses(a, b *Host) bool { return slices.Equal(a.tried, b.tried) }
