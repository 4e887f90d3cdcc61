package cluster

import (
	"net/netip"
	"time"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/h1"
	"github.com/mallamesh/malla/proxy/h2"
	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/matcher"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/proxyproto"
	"github.com/mallamesh/malla/proxy/stats"
)

// A Kind says where the hosts of a cluster come from.
type Kind uint8

// The kinds.
const (
	Static Kind = iota
	EDS
	StrictDNS
	LogicalDNS
	OriginalDst
	DynamicForward // to the host that a request names
)

var kindNames = [...]string{"STATIC", "EDS", "STRICT_DNS", "LOGICAL_DNS", "ORIGINAL_DST", "envoy.clusters.dynamic_forward_proxy"}

// String returns Envoy's name.
func (k Kind) String() string { return kindNames[k] }

// A Transport says how to talk to hosts.
type Transport struct {
	Name   string
	Match  map[string]string  // endpoints whose Metadata.Match holds all of these use it; empty matches all
	Socket any                // *tls.Client configuration of proxy/tls; nil: plain text
	Proxy  *proxyproto.Sender // of the PROXY protocol's header before that; nil: none
	Passed *Passed            // what listeners inside of the proxy are told; nil: nothing
}

// A Config describes a cluster. It is immutable once it is given to New.
type Config struct {
	Name     string
	StatName string // alt_stat_name; empty: Name
	EDSName  string // service_name of EDS; empty: Name
	Kind     Kind
	Added    bool // came from CDS, not from the bootstrap

	ConnectTimeout time.Duration // 0: 5 s
	Policy         lb.Policy
	Reported       *Reported // hosts report their weights, which RoundRobin goes by; nil: configuration says them
	Panic          *float64  // healthy_panic_threshold in percent; nil: 50
	FailOnPanic    bool      // fail_traffic_on_panic
	Localities     Localities
	Subsets        *Subsets // nil: none
	HashByName     bool     // use_hostname_for_hashing
	// OverrideHealth are the states of health in which a host may be asked for by name
	// (override_host_status), as a set of 1 << Health; 0: UNKNOWN, HEALTHY and DEGRADED.
	OverrideHealth uint8
	Breakers       [2]Limits
	Outlier        *OutlierConfig // nil: off
	Maintenance    uint32         // percent of requests that are told that the cluster is being worked on
	OutlierLog     Journal        // where ejections are told; nil: nowhere
	Check          *CheckPolicy   // of active health checks; nil: there are none
	Transports     []Transport    // transport_socket_matches in order, the default last; empty: plain text
	// Transport finds one of Transports by what is said of a host, the last where it finds none (transport_socket_matcher); nil: their
	// Match does.
	Transport matcher.Tree[*Metadata, int]
	Eyeballs  Eyeballs     // the order of a host's addresses
	DNS       DNSConfig    // for StrictDNS and LogicalDNS
	Override  OverrideHost // for OriginalDst
	Names     *NameCache   // for DynamicForward
	Naming    *Naming      // override_host: requests may name the hosts that they want; nil: they may not

	CloseOnChange              bool           // close_connections_on_host_set_change: none outlives the set of hosts that it was made for
	CloseOnFailure             bool           // close_connections_on_host_health_failure: TCP sessions end with their host's health
	Preconnect                 float64        // per_upstream_preconnect_ratio; 0: 1
	TrackBudget, TrackSizes    bool           // of track_cluster_stats
	PreconnectNext             float64        // predictive_preconnect_ratio; 0: 1
	MaxRequestsPerConnection   uint32         // 0: any number
	IdleTimeout                *time.Duration // of connections; nil: 1 h; 0: none
	MaxConnectionDuration      time.Duration  // 0: none
	HTTP2                      bool           // speaks HTTP/2 to its hosts
	ALPN                       bool           // speaks what a host chooses in the TLS handshake (auto_config)
	HTTP2Options               h2.Options
	SameProtocol               bool                 // use_downstream_protocol
	AutoSNI, AutoSANValidation bool                 // SNI and expected name follow the request's host
	SNIHeader                  string               // or this header, where a request has it; empty: none
	BufferLimit                uint32               // per_connection_buffer_limit_bytes; 0: 1 MiB
	Bind                       netip.Addr           // upstream_bind_config source address
	BindV6                     netip.Addr           // extra source address for v6 hosts
	SocketOptions              []drive.SocketOption // of connections to hosts
	Trailers                   bool                 // requests to HTTP/1.1 servers may carry trailers, and their answers
	AbsoluteURL                bool                 // targets are in absolute form: the hosts are proxies
	Spelling                   h1.Spelling
	ProperCase                 bool // names of headers are written with capitals over HTTP/1.1

	Policies          any           // *route.Policies of proxy/route: what goes before those of routes; nil: nothing
	MaxStreamDuration time.Duration // of a try; 0: any

	HTTPFilters any // *upstream.Chain of proxy/filter/upstream: what requests pass on their way; nil: the router says

	Destination *stats.Destination // Istio's cluster metadata: the service behind it; nil: unknown
	Metadata    *metadata.Set      // for logs and header operations
}

// OverrideHost says which other sources than the socket may name an original destination.
type OverrideHost struct {
	Header    string // x-envoy-original-dst-host by default if UseHeader
	UseHeader bool
	Port      uint16        // upstream_port_override, 0: none
	Metadata  *metadata.Key // of the request's own; nil: none
}

// Matches reports whether an endpoint with these labels uses it.
func (t *Transport) Matches(labels map[string]string) bool {
	for k, v := range t.Match {
		if labels[k] != v {
			return false
		}
	}
	return true
}
