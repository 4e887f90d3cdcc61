package healthcheck

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/proxyproto"
	"github.com/mallamesh/malla/proxy/route"
)

// A Config says how the hosts of a cluster are checked. It does not change once in use.
type Config struct {
	Timeout  time.Duration // of one check, connecting included
	Interval time.Duration // between the end of one and the next

	UnhealthyInterval, UnhealthyEdgeInterval, HealthyEdgeInterval time.Duration // 0: Interval, UnhealthyInterval, Interval
	// NoTrafficInterval is used until the cluster has had a connection, so that
	// clusters that nobody uses cost little; 0: 60 s. NoTrafficHealthyInterval is for hosts that pass; 0: NoTrafficInterval.
	NoTrafficInterval, NoTrafficHealthyInterval time.Duration
	InitialJitter, IntervalJitter               time.Duration // a random part of it is added
	JitterPercent                               uint32        // of the interval; a random part of it is added

	UnhealthyThreshold, HealthyThreshold uint32 // results in a row that make a host change sides; at least 1
	NoReuse                              bool   // a connection for each check (reuse_connection: false)
	ALPN                                 []string
	Transport                            *cluster.Transport // in place of the host's; nil: that

	LogFailures, LogSuccesses bool              // every one, not only changes
	Events                    []cluster.Journal // where changes are told

	Probe Probe

	// Uneject lets a host back in that passes although outlier detection has taken it out.
	Uneject bool
}

// A Probe is what a check asks: *HTTP, *GRPC or *TCP.
type Probe interface{ kind() string }

// HTTP asks with a request, and looks at the status.
type HTTP struct {
	Host   string // empty: the name of the host's endpoint, else the cluster's
	Path   string
	Method string           // empty: GET
	Add    *route.Mutations // nil: none
	Remove []string
	Send   []byte // the body; nil: there is none
	// Expected and Retriable are ranges of statuses, the end excluded. An empty Expected is 200. A status in neither
	// makes a host unhealthy at once, one of Retriable by the threshold.
	Expected, Retriable []Range
	Receive             [][]byte // found in the body in this order
	BodyLimit           int      // of what is looked at
	HTTP2               bool
	ByALPN              bool // what the host chooses in the TLS handshake, if it does, in place of HTTP2
	// Service must match x-envoy-upstream-healthchecked-cluster; nil: not looked at.
	Service func(string) bool
}

// A Range is numbers from Start up to but not including End.
type Range struct{ Start, End int64 }

func within(ranges []Range, status int) bool {
	for _, r := range ranges {
		if int64(status) >= r.Start && int64(status) < r.End {
			return true
		}
	}
	return false
}

// GRPC calls grpc.health.v1.Health/Check.
type GRPC struct {
	Service   string // empty: the server as a whole
	Authority string // empty: the name of the host's endpoint, else the cluster's
	Add       *route.Mutations
}

// TCP connects, and if Send or Receive say so, talks.
type TCP struct {
	Send    []byte
	Receive [][]byte           // found in what comes, in this order
	Proxy   proxyproto.Version // whose header goes first; 0: none
}

func (*HTTP) kind() string { return "HTTP" }
func (*GRPC) kind() string { return "GRPC" }
func (*TCP) kind() string  { return "TCP" }

// apply makes the changes that are configured for a request.
func apply(m *header.Map, add *route.Mutations, remove []string) {
	for _, name := range remove {
		m.RemoveName([]byte(name))
	}
	if add != nil {
		add.Apply(m, &access.Record{})
	}
}
