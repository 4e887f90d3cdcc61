// Package router is the network between the pods of a local mesh and the way
// out of it.
//
// It owns the network namespace of the supervisor. There is no bridge: every
// pod hangs on a veth pair of its own and is reached by host routes, so all
// traffic between pods passes this namespace's conntrack, where ClusterIPs are
// translated (also back to the pod that asked). The pod networks are
// unreachable routes underneath, so the address of a pod that has gone leads
// nowhere at once, because its own route went with its veth: TCP is refused,
// new connections and old ones, other protocols hear "no route to host". All of
// the service network is local to the router, so a ClusterIP port that no
// endpoint serves refuses connections at once, too.
//
// TCP connections to anything else are accepted here and spliced to a
// connection that the broker (package broker) dials in the host's network;
// 10.96.255.254, host.malla.internal, is the host's loopback. Of UDP, only DNS
// leaves, answered by the mesh's name server through the broker.
//
// Which services and names exist is told by local/pods with [Router.SetServices]
// and [Router.SetNames]; pods are attached by local/sandbox.
package router

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/mallamesh/malla/local/broker"
)

// Addresses of every local mesh.
var (
	PodCIDR4     = netip.MustParsePrefix("10.244.0.0/16")
	PodCIDR6     = netip.MustParsePrefix("fd00:6d61:6c6c:1::/64")
	ServiceCIDR4 = netip.MustParsePrefix("10.96.0.0/16")
	ServiceCIDR6 = netip.MustParsePrefix("fd00:6d61:6c6c:2::/108")

	// KubernetesIPs are kubernetes.default's. The supervisor may listen on them.
	KubernetesIPs = []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00:6d61:6c6c:2::1")}
	// DNSIPs are kube-dns.kube-system's; the router answers there on port 53.
	DNSIPs = []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:6d61:6c6c:2::a")}
	// HostIPs are host.malla.internal: the loopback of the machine.
	HostIPs = []netip.Addr{netip.MustParseAddr("10.96.255.254"), netip.MustParseAddr("fd00:6d61:6c6c:2::f:fffe")}
)

// Names that every mesh has.
const (
	ClusterDomain = "cluster.local"
	HostName      = "host.malla.internal"
)

// A Config is what New needs.
type Config struct {
	// Broker dials and resolves in the host's network; nil: there is no way out.
	Broker *broker.Client
	Log    *slog.Logger
	// IdleTimeout ends a connection to the outside on which neither side has
	// sent anything; default 1 h.
	IdleTimeout time.Duration
	// MaxOutside bounds the connections to the outside; default 8192.
	MaxOutside int
	// MaxOutsidePod bounds those of one pod; default MaxOutside/8.
	MaxOutsidePod int
}

// A Service is what ClusterIPs mean. Headless services are names only (SetNames).
type Service struct {
	Namespace, Name string
	ClusterIPs      []netip.Addr // at most one of each family, from the service CIDRs
	Ports           []ServicePort
}

// A ServicePort is one port of a service.
type ServicePort struct {
	Protocol string // "TCP" (or "") or "UDP"
	Port     uint16
	// Endpoints are the ready ones, of both families; a ClusterIP is translated
	// to those of its family, each equally likely. None: connections are refused.
	Endpoints []netip.AddrPort
}
