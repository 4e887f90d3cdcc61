package route

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
)

// A Request is what matching looks at. Authority and Path are as received; the path
// may carry a query.
type Request struct {
	Method, Scheme, Authority, Path []byte
	Headers                         *header.Map
	SNI                             string
	Random                          uint64 // decides fractions, weights and mirrors of this request
}

// A Table picks routes. It is immutable and shared by all shards.
type Table struct {
	Name string
}

// NewTable compiles a configuration. The error names the path of the field that is wrong.
func NewTable(c Config) (*Table, error) {
	return &Table{Name: c.Name}, nil
}

// Match returns the route of a request, or nil if there is none.
func (t *Table) Match(r *Request) *Route { return nil }

// VirtualHost returns the virtual host of a request, or nil if there is none.
func (t *Table) VirtualHost(authority []byte) *VirtualHost { return nil }

// A VirtualHost is a set of domains with their routes.
type VirtualHost struct {
	Name                   string
	TLS                    TLSRequirement
	AttemptCountInRequest  bool
	AttemptCountInResponse bool
}

// A Route says what happens to the requests it matches. Exactly one of Forward,
// Redirect and Direct is set.
type Route struct {
	Name      string
	VHost     *VirtualHost
	Forward   *Forward
	Redirect  *Redirect
	Direct    *Direct
	Decorator string
	Metadata  any
	StatName  string
}

// FilterConfig returns the most specific configuration of a filter for this route (of
// the chosen cluster if there are several), or nil.
func (r *Route) FilterConfig(filter string, w *WeightedCluster) any { return nil }

// FinalizeRequest applies, in Envoy's order, the header operations of the route's
// levels, then the rewrites of host and path. w is what PickCluster chose. If
// originalPath is set, a rewritten path is kept in x-envoy-original-path.
func (r *Route) FinalizeRequest(m *header.Map, rec *access.Record, w *WeightedCluster, originalPath bool) {
}

// FinalizeResponse applies the header operations for responses, local replies included.
func (r *Route) FinalizeResponse(m *header.Map, rec *access.Record, w *WeightedCluster) {}

// AppendPath appends the path that goes upstream (with its query), and reports
// whether it differs from the one given.
func (r *Route) AppendPath(dst, path []byte) ([]byte, bool) { return append(dst, path...), false }

// A Forward sends requests to a cluster.
type Forward struct {
	Cluster       string // the only one; empty if there are several or a header names it
	Weighted      []WeightedCluster
	ClusterHeader string
	NotFound      uint16

	Timeout       time.Duration // of the whole response; 0: none
	IdleTimeout   *time.Duration
	MaxStream     *MaxStream
	Retry         *RetryPolicy // nil: none
	Mirrors       []Mirror
	HashPolicies  []HashPolicy
	HighPriority  bool
	AutoHost      bool // the router sets :authority to the endpoint's host name
	Upgrades      map[string]bool
	MetadataMatch any
}

// A WeightedCluster is one destination of several.
type WeightedCluster struct {
	Cluster       string
	Weight        uint32
	MetadataMatch any
}

// PickCluster returns the name of the cluster for a request and, if there are several, the
// one that random chose. An empty name means that the header which should name it is missing.
func (f *Forward) PickCluster(r *Request) (string, *WeightedCluster) { return f.Cluster, nil }

// A Mirror sends copies of requests to a cluster.
type Mirror struct {
	Cluster       string
	ClusterHeader string
	Fraction      Fraction
	ShadowSuffix  bool // "-shadow" is appended to the copy's host
}

// Hit decides whether this request is mirrored. i is the mirror's place in its route, so that several
// mirrors decide independently.
func (m *Mirror) Hit(random uint64, i int) bool { return false }

// A Redirect answers with a Location.
type Redirect struct {
	Code uint16
}

// AppendLocation appends the value of the Location field.
func (d *Redirect) AppendLocation(dst []byte, r *Request) []byte { return dst }
