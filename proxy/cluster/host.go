package cluster

import (
	"net/netip"
	"sync/atomic"

	"github.com/mallamesh/malla/proxy/lb"
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
type Locality struct{ Region, Zone, SubZone string }

// Metadata is what the control plane says of an endpoint beside its address. It is immutable.
type Metadata struct {
	Match map[string]string // envoy.transport_socket_match: chooses the transport
	Peer  *stats.Peer       // from Istio's "name;namespace;canonical;revision;cluster", for a host that does not say it itself; nil: unknown
	Other any               // opaque here
}

// An Endpoint is one address of a cluster as configuration names it.
type Endpoint struct {
	Addr     netip.AddrPort // invalid if Name must be resolved
	Name     string         // host name of a DNS cluster's endpoint; or a host name for auto_host_rewrite
	Port     uint16         // with Name
	Weight   uint32         // 0 counts as 1
	Priority uint32
	Locality Locality
	Health   Health
	Metadata *Metadata
}

// A Host is one address that a cluster may send to. It is immutable; what changes is
// in State.
type Host struct {
	Addr      netip.AddrPort
	Name      string // host name, empty for a plain address
	Weight    uint32
	Priority  uint32
	Locality  Locality
	Health    Health
	Metadata  *Metadata   // never nil
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

	CxTotal, CxConnectFail                 stats.Counter
	RqTotal, RqSuccess, RqError, RqTimeout stats.Counter

	ejected atomic.Bool
	recent  atomic.Bool // picked since the last sweep; original destinations only
	outlier outlierState
}

// Ejected reports whether outlier detection has taken the host out.
func (s *State) Ejected() bool { return s.ejected.Load() }

// Usable reports whether the host counts as healthy.
func (h *Host) Usable() bool {
	switch h.Health {
	case Unhealthy, Draining, HealthTimeout:
		return false
	}
	return !h.Ejected()
}

// A HostSet is the hosts of a cluster at one time. It is immutable.
type HostSet struct {
	All    []*Host
	Levels []*Level // by priority, 0 first; at least one
}

// A Level is the hosts of one priority.
type Level struct {
	Hosts, Healthy []*Host
	Panic          bool   // too few are healthy: all are used
	Load           uint32 // percent of the requests

	using    []*Host // Healthy, or Hosts in panic
	balancer lb.Balancer
}

// Find returns the host with an address, or nil.
func (s *HostSet) Find(addr netip.AddrPort) *Host {
	for _, h := range s.All {
		if h.Addr == addr {
			return h
		}
	}
	return nil
}
