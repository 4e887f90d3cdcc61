package cluster

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/proxyproto"
	"github.com/mallamesh/malla/proxy/stats"
)

// A Health is what the control plane says of an endpoint (EDS health_status).
type Health uint8

// The states of health. Unknown counts as healthy, Timeout as unhealthy.
const (
	HealthUnknown Health = iota
	Healthy
	Unhealthy
	Draining
	HealthTimeout
	Degraded
)

var healthNames = [...]string{"UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED"}

// String returns Envoy's name.
func (h Health) String() string { return healthNames[h] }

// A Locality is where an endpoint runs.
type Locality = access.Locality

// Metadata is what the control plane says of an endpoint beside its address. It is immutable.
type Metadata struct {
	Match map[string]string // envoy.transport_socket_match: chooses the transport
	Peer  *stats.Peer       // from Istio's "name;namespace;canonical;revision;cluster", for a host that does not say it itself; nil: unknown
	LB    map[string]Value  // envoy.lb: what subsets are made of
	// HashKey is what ring hash and Maglev know the host by, in place of its address
	// (envoy.lb, hash_key).
	HashKey string
	Canary  bool // envoy.lb, canary: retries may avoid it
	// TLVs are what it is told in the PROXY protocol's header beside what all of the cluster are (envoy.transport_sockets.proxy_protocol).
	TLVs []proxyproto.TLV

	Around *metadata.Set // of its locality

	All *metadata.Set // of every namespace, shared by endpoints with the same; for logs and header operations
}

// An Endpoint is one address of a cluster as configuration names it.
type Endpoint struct {
	Addr     netip.AddrPort   // invalid if Name must be resolved
	More     []netip.AddrPort // other addresses of the same host, the better ones first
	Name     string           // of a DNS cluster's endpoint: what to resolve
	Port     uint16           // with Name
	Hostname string           // what the host is called, wherever it is; empty: by Name
	Weight   uint32           // 0 counts as 1
	Priority uint32
	Locality Locality
	Health   Health
	Metadata *Metadata

	LocalityWeight uint32 // of its locality at its priority; 0: it gets nothing where these count

	Check *CheckTarget // where health checks go, if not to the endpoint; nil: there
}

// A Host is one address that a cluster may send to. It is immutable; what changes is
// in State.
type Host struct {
	Addr     netip.AddrPort
	Name     string // what it is called, empty for a plain address
	Weight   uint32 // by configuration, or by what the hosts report
	Priority uint32
	Locality Locality
	Health   Health
	Metadata *Metadata // never nil

	LocalityWeight uint32
	Target         *CheckTarget // of health checks; nil: the host itself

	given uint32           // the weight by configuration
	tried []netip.AddrPort // all addresses, in the order in which they are tried; nil: Addr is the only one
	named []netip.Addr     // of a DynamicForward cluster: all addresses of the name

	Transport *Transport  // how to talk to it; never nil once it is in a HostSet
	Peer      *stats.Peer // what Istio's metrics say about it if it does not say it itself; nil: unknown
	Dest      *stats.Destination

	*State
}

// A State is what is known of an address for as long as the cluster has it, through
// all changes of weight, health and metadata. All shards write it.
type State struct {
	Active      atomic.Int32 // requests in flight (TCP: connections)
	Connections stats.Gauge  // cx_active
	Pending     stats.Gauge  // requests that wait for a connection

	CxTotal, CxConnectFail                 stats.Counter
	RqTotal, RqSuccess, RqError, RqTimeout stats.Counter

	Idle IdleLimit // of connections of HTTP/1.1

	ejected    atomic.Bool
	failures   atomic.Uint32 // how often it was ejected or has begun to fail its checks
	lastResort atomic.Bool   // outlier detection has found it degraded
	check      atomic.Uint32 // a Check
	recent     atomic.Bool   // picked since the last sweep; original destinations only
	outlier    outlierState
	reported   reportedWeight
	since      atomic.Int64 // when it was first balanced to; slow start only
	mourners   mourners
}

// Ejected reports whether outlier detection has taken the host out.
func (s *State) Ejected() bool { return s.ejected.Load() }

// Failures is how often the host has been found to be of no use: connections from before that are not worth keeping.
func (s *State) Failures() uint32 { return s.failures.Load() }

// Usable reports whether the host counts as healthy.
func (h *Host) Usable() bool {
	switch h.Health {
	case Unhealthy, Draining, HealthTimeout:
		return false
	}
	return !h.Ejected() && h.Check()&CheckFailed == 0
}

// degraded reports whether the host is used only where healthy ones do not suffice.
func (h *Host) degraded() bool {
	return (h.Health == Degraded || h.Check()&CheckDegraded != 0 || h.FoundDegraded()) && h.Usable()
}

// Well reports whether the host is healthy and not degraded.
func (h *Host) Well() bool { return h.Usable() && !h.degraded() }

// key is what ring hash and Maglev know the host by.
func (h *Host) key(byName bool) string {
	switch {
	case h.Metadata.HashKey != "":
		return h.Metadata.HashKey
	case byName && h.Name != "":
		return h.Name
	}
	return pipe.String(h.Addr)
}

// A HostSet is the hosts of a cluster at one time. It is immutable.
type HostSet struct {
	All    []*Host
	Levels Levels // by priority, 0 first; at least one

	// Change numbers what connections may have to end for: sets that differ only in the weights that hosts have reported have the same one.
	Change uint64

	factor  uint32   // overprovisioning
	subsets *subsets // nil: none
	index   sync.Once
	byAddr  map[netip.AddrPort]*Host // made at the first use
}

// Find returns the host with an address, or nil.
func (s *HostSet) Find(addr netip.AddrPort) *Host {
	s.index.Do(func() {
		s.byAddr = make(map[netip.AddrPort]*Host, len(s.All))
		for _, h := range s.All {
			s.byAddr[h.Addr] = h
		}
	})
	return s.byAddr[addr]
}
