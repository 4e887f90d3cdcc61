// Package pipe names Unix sockets, and listeners inside of the proxy, where addresses are wanted.
//
// What knows hosts by their addresses (tables, pools, logs) need not know that some are on a
// socket of this machine, or are the proxy itself: the name is the zone of an address that can have none.
package pipe

import "net/netip"

// Addr returns the address that stands for the socket of a path, which begins with / or, in the
// abstract namespace, with @.
func Addr(path string) netip.AddrPort {
	return netip.AddrPortFrom(netip.IPv6Unspecified().WithZone(path), 0)
}

// Path returns the path of the socket that an address stands for, or the name of the listener inside of the proxy, and whether it does.
func Path(a netip.AddrPort) (string, bool) {
	zone := a.Addr().Zone()
	return zone, zone != "" && a.Addr().WithZone("") == netip.IPv6Unspecified()
}

// String returns the address as people write it: the path of a socket or a name, else address and port.
func String(a netip.AddrPort) string {
	if path, ok := Path(a); ok {
		return path
	}
	return a.String()
}
