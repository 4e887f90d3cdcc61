// Package capture redirects the TCP connections of one network namespace to the
// sidecar in it, by nftables over netlink.
//
// The rules mean what istio-iptables' REDIRECT mode means, for IPv4 and IPv6,
// with one difference: the sidecar is known by the mark on its sockets
// (SO_MARK) and not by its user id, because in a user namespace with one user
// all processes have the same. Setting a mark needs CAP_NET_ADMIN, which only
// the sidecar has.
//
// Only TCP is redirected, and what is asked of the name servers that are named; other UDP goes its way.
//
// By TPROXY ([Config.Transparent]) a connection keeps the addresses that its client gave it, and the sidecar's own
// connection to the application has the client's address as its source. What leaves the pod is redirected
// all the same, as in Istio.
package capture

import "net/netip"

// Istio's ports, and the mark of our sidecar.
const (
	DefaultInboundPort  = 15006
	DefaultOutboundPort = 15001
	DefaultMark         = 1337
	DefaultDNSPort      = 15053
)

// A Config says which connections are redirected, and where to. The zero value
// redirects all of them to Istio's ports.
type Config struct {
	InboundPort  uint16 // default 15006
	OutboundPort uint16 // default 15001
	Mark         uint32 // the sidecar's own sockets; default 1337
	Transparent  bool   // what comes in goes to the sidecar by TPROXY

	// ExcludeInbound are local ports that peers reach without the sidecar.
	// nil means DefaultExcludeInbound; empty excludes none.
	ExcludeInbound []uint16
	// IncludeInbound, if not empty, are the only ports that are redirected.
	IncludeInbound []uint16

	// ExcludeOutbound are destination ports that applications reach without the
	// sidecar. IncludeOutbound are redirected even where the address is not
	// (traffic.sidecar.istio.io/includeOutboundPorts).
	ExcludeOutbound []uint16
	IncludeOutbound []uint16
	// ExcludeOutboundCIDRs win over IncludeOutboundCIDRs. An empty
	// IncludeOutboundCIDRs means every address; NoOutbound means none.
	ExcludeOutboundCIDRs []netip.Prefix
	IncludeOutboundCIDRs []netip.Prefix
	NoOutbound           bool

	// DNSServers are the name servers whose questions the sidecar answers, on DNSPort (default 15053).
	DNSServers []netip.Addr
	DNSPort    uint16
}

// DefaultExcludeInbound are the sidecar's own ports.
var DefaultExcludeInbound = []uint16{15008, 15020, 15021, 15090}

func (c Config) withDefaults() Config {
	if c.InboundPort == 0 {
		c.InboundPort = DefaultInboundPort
	}
	if c.OutboundPort == 0 {
		c.OutboundPort = DefaultOutboundPort
	}
	if c.Mark == 0 {
		c.Mark = DefaultMark
	}
	if c.DNSPort == 0 {
		c.DNSPort = DefaultDNSPort
	}
	if c.ExcludeInbound == nil {
		c.ExcludeInbound = DefaultExcludeInbound
	}
	return c
}
