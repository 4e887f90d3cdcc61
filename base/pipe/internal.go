package pipe

import (
	"net/netip"
	"strings"
)

// scheme begins the name of a listener inside of the proxy, as Envoy writes it; paths of sockets begin with / or @.
const scheme = "envoy://"

// Client is the address of whoever connects to a listener inside of the proxy.
var Client = Internal("internal_client_address", "")

// Internal returns the address that stands for a listener inside of the proxy, and for one of those who are reached through it;
// endpoint may be empty.
func Internal(listener, endpoint string) netip.AddrPort {
	return Addr(scheme + listener + "/" + endpoint)
}

// Inside returns the listener inside of the proxy that an address stands for and the endpoint behind it, and whether it does.
func Inside(a netip.AddrPort) (listener, endpoint string, ok bool) {
	name, ok := Path(a)
	if ok {
		name, ok = strings.CutPrefix(name, scheme)
	}
	if !ok {
		return "", "", false
	}
	listener, endpoint, _ = strings.Cut(name, "/")
	return listener, endpoint, true
}
