package model

import (
	"cmp"
	"time"
)

// A DestinationRule is what clients keep to when they call a host. The
// compiler has merged the rules that one namespace has for one host.
type DestinationRule struct {
	From     Ref // the oldest of those merged
	Created  time.Time
	Host     string // full name, maybe a wildcard
	ExportTo ExportTo
	Workload map[string]string // workloadSelector, nil: all
	Policy   TrafficPolicy
	Subsets  []Subset // in the order of declaration
	Merged   []Ref    // all rules merged, oldest first
}

// A Subset is the endpoints of a service that carry some labels.
type Subset struct {
	Name   string
	Labels map[string]string
	Policy TrafficPolicy // what it says itself; see [TrafficPolicy.On]
}

// Subset returns the subset called name.
func (d *DestinationRule) Subset(name string) (Subset, bool) {
	if d == nil {
		return Subset{}, false
	}
	for _, s := range d.Subsets {
		if s.Name == name {
			return s, true
		}
	}
	return Subset{}, false
}

// A TrafficPolicy is what a client does with one destination. Nil blocks are
// not said; blocks are replaced whole.
type TrafficPolicy struct {
	LB      *LoadBalancer
	Pool    *ConnectionPool
	Outlier *OutlierDetection
	TLS     *ClientTLS
	Budget  *RetryBudget
	Tunnel  *Tunnel
	Proxy   ProxyHeader
	Ports   []PortPolicy // sorted by port
}

// A PortPolicy replaces these blocks for one port: what it leaves out has its
// default there, not the value of the policy around it. The others hold on all ports.
type PortPolicy struct {
	Port    uint16
	LB      *LoadBalancer
	Pool    *ConnectionPool
	Outlier *OutlierDetection
	TLS     *ClientTLS
}

// On returns what holds on one port where p is laid over base, which is what
// holds there without p: p's settings for the port replace everything, else
// each block that p has replaces base's.
func (p TrafficPolicy) On(port uint16, base TrafficPolicy) TrafficPolicy {
	for _, s := range p.Ports {
		if s.Port == port {
			return TrafficPolicy{LB: s.LB, Pool: s.Pool, Outlier: s.Outlier, TLS: s.TLS, Budget: cmp.Or(p.Budget, base.Budget),
				Tunnel: cmp.Or(p.Tunnel, base.Tunnel), Proxy: cmp.Or(p.Proxy, base.Proxy)}
		}
	}
	return TrafficPolicy{
		LB: cmp.Or(p.LB, base.LB), Pool: cmp.Or(p.Pool, base.Pool), Outlier: cmp.Or(p.Outlier, base.Outlier), TLS: cmp.Or(p.TLS, base.TLS),
		Budget: cmp.Or(p.Budget, base.Budget), Tunnel: cmp.Or(p.Tunnel, base.Tunnel), Proxy: cmp.Or(p.Proxy, base.Proxy),
	}
}

// A Tunnel asks the service, which is a proxy, to carry bytes on to another host.
type Tunnel struct {
	Post   bool   // by POST, not by CONNECT
	Target string // host:port
}

// A ProxyHeader says in which version of the PROXY protocol servers are told who the client is.
type ProxyHeader uint8

const (
	NoProxyHeader ProxyHeader = iota
	ProxyHeaderV1
	ProxyHeaderV2
)

// A Balance is how an endpoint is chosen.
type Balance uint8

const (
	LeastRequest Balance = iota // the default
	RoundRobin
	Random
	Direct // PASSTHROUGH: wherever the client dialled
)

// A LoadBalancer is how endpoints are chosen.
type LoadBalancer struct {
	Balance  Balance
	Hash     *ConsistentHash // decides instead of Balance
	Warmup   *Warmup
	Locality *LocalityLB // nil: the service's, or the mesh's
	Zone     *ZoneAware  // nil: the mesh's; counts before Locality
}

// A HashSource says what of a request is hashed.
type HashSource uint8

const (
	HashHeader HashSource = iota
	HashCookie
	HashQuery
	HashSourceIP
)

// A ConsistentHash sends equal requests to one endpoint.
type ConsistentHash struct {
	Of         HashSource
	Name       string // of the header, cookie or query parameter
	Path       string // of the cookie
	TTL        *time.Duration
	Attributes []Header // of the cookie
	Maglev     bool     // else a ring
	Size       uint64   // of the ring at least, or of Maglev's table; 0: the default
}

// A Warmup gives new endpoints less at first. Zero values are the defaults.
type Warmup struct {
	Window         time.Duration
	MinimumPercent *float64
	Aggression     *float64
}

// A LocalityLB prefers endpoints that are near. Localities are region/zone/subzone.
type LocalityLB struct {
	Off        bool
	Distribute []Distribution
	Failover   []Failover
	Priority   []string // labels, or label=value, that near endpoints share with the client; the first counts most
}

// A ZoneAware has each zone serve itself as far as its share of the endpoints is as large as its share of the clients.
type ZoneAware struct {
	Off      bool
	Failover []Failover
	Priority []string // as in LocalityLB
	Least    uint64   // endpoints, below which zones do not count; 0: the default
}

// A Distribution shares the requests of clients in some localities out.
type Distribution struct {
	From string
	To   []LocalityWeight // the most specific first
}

// A LocalityWeight is the share of a locality.
type LocalityWeight struct {
	Locality string
	Weight   uint32
}

// A Failover names the region that takes over from another.
type Failover struct{ From, To string }

// A RetryBudget limits retries by a share of the requests under way.
type RetryBudget struct {
	Percent        *float64
	MinConcurrency uint32        // 0: the default
	Interval       time.Duration // of those that began in the last so long; 0: of those under way
}

// A ConnectionPool limits what one proxy does to one destination. Zero means
// no limit, or the default.
type ConnectionPool struct {
	MaxConnections    uint32
	ConnectTimeout    time.Duration
	Keepalive         *Keepalive
	MaxDuration       time.Duration // of a connection
	TCPIdleTimeout    time.Duration
	MaxPending        uint32
	MaxRequests       uint32
	MaxPerConnection  uint32
	MaxRetries        uint32
	HTTPIdleTimeout   time.Duration
	Upgrade           H2Upgrade
	UseClientProtocol bool
	MaxStreams        uint32 // concurrent, per connection
	Ping              *Ping  // nil: never
}

// A Ping asks idle HTTP/2 connections for a sign of life. Zero values are the defaults.
type Ping struct{ Interval, Timeout time.Duration }

// A Keepalive probes idle TCP connections. Zero values are the system's.
type Keepalive struct {
	Probes         uint32
	Time, Interval time.Duration
}

// An H2Upgrade says whether HTTP/1.1 is carried over HTTP/2 to the destination.
type H2Upgrade uint8

const (
	H2Default H2Upgrade = iota
	H2Never
	H2Always
)

// OutlierDetection takes failing endpoints out for a while. Nil means Envoy's
// default for the value.
type OutlierDetection struct {
	Consecutive5xx         *uint32 // 0: off
	ConsecutiveGateway     *uint32 // 0 or nil: off
	SplitLocalOrigin       bool
	ConsecutiveLocalOrigin *uint32
	Interval               time.Duration // 0: 10 s
	BaseEjection           time.Duration // 0: 30 s
	MaxEjectionPercent     *uint32
	MinHealthPercent       uint32
	ErrorCodes             []uint32 // in place of 5xx
}

// A TLSMode is how a client secures a connection.
type TLSMode uint8

const (
	TLSDisable TLSMode = iota
	TLSSimple
	TLSMutual
	TLSIstioMutual
)

// ClientTLS is what a client does about TLS towards a destination.
type ClientTLS struct {
	Mode                TLSMode
	ClientCert, Key, CA string        // files in the proxy
	CRL                 string        // file in the proxy
	Credential          *SecretSource // in place of the files
	Roots               *SecretSource // in place of what of Credential, or of the files, servers are verified by
	Presents            bool          // of a BackendTLSPolicy: a gateway shows its [Gateway.ClientCert]; applications that speak TLS are left alone
	SANs                []string
	SkipVerify          bool // take any certificate
	SNI                 string
}
