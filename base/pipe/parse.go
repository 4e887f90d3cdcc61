package pipe

import "net/netip"

// ParseAddrPort reads what somebody else says is an address and a port. It is never that of a socket, or inside of the proxy: the
// words of a client are not to lead to what only configuration may name.
func ParseAddrPort(text string) (netip.AddrPort, bool) {
	a, err := netip.ParseAddrPort(text)
	if _, ours := Path(a); err != nil || ours {
		return netip.AddrPort{}, false
	}
	return a, true
}

// ParseAddr is ParseAddrPort for an address alone.
func ParseAddr(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if _, ours := Path(netip.AddrPortFrom(a, 0)); err != nil || ours {
		return netip.Addr{}, false
	}
	return a, true
}
