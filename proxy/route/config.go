package route

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	matching "github.com/mallamesh/malla/proxy/matcher"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/stats"
)

// A Config describes a route table. NewTable compiles it and keeps no part that the
// caller may still write.
type Config struct {
	Name         string
	VirtualHosts []VirtualHostConfig
	IgnorePort   bool // the port in a request's host is not part of its name
	Headers      HeadersConfig

	// MostSpecificWins applies header operations table first, route last; Envoy's
	// default is the other way round, so that the table has the last word.
	MostSpecificWins bool

	// HostHeader is the field that stands for the host in choosing the virtual host (vhost_header).
	HostHeader string

	// IgnorePathParameters leaves out what follows a semicolon in a path that is matched.
	IgnorePathParameters bool

	// InternalOnly are fields that only clients inside of the mesh may send; lower case.
	InternalOnly []string

	OnDemand  bool           // there may be virtual hosts that have to be asked for
	Mirrors   []MirrorConfig // of routes that have none, nor their virtual host
	PerFilter map[string]any // by filter name; what the filter made of its typed_per_filter_config, or Off
}

// Off in place of a filter's configuration says that the filter is off.
type Off struct{}

// On in place of a filter's configuration says that the filter is on, with what the levels above say to it.
type On struct{}

// A VirtualHostConfig describes the routes of a set of domains.
type VirtualHostConfig struct {
	Name      string
	Domains   []string
	Routes    []RouteConfig
	Matcher   matching.Tree[*Request, int] // finds one of Choices, in place of Routes; nil: there is none
	Choices   [][]RouteConfig
	Headers   HeadersConfig
	Retry     *RetryPolicy   // for routes that have none
	Hedge     *bool          // for routes that say nothing of it
	Mirrors   []MirrorConfig // for routes that have none
	PerFilter map[string]any
	TLS       TLSRequirement

	AttemptCountInRequest  bool // include_request_attempt_count: x-envoy-attempt-count to the upstream
	AttemptCountInResponse bool // include_attempt_count_in_response
	TimeoutRetryInRequest  bool // include_is_timeout_retry_header: x-envoy-is-timeout-retry to the upstream

	RateLimits any // what requests are counted by; opaque here
	Metadata   *metadata.Set
	Buffer     Buffer // of routes that say nothing of it

	Clusters []VirtualClusterConfig // the first that matches counts a request
}

// A Buffer says how much of a request's body may be kept, for another try or a mirror.
type Buffer struct {
	Body   *int // nil: as much as a connection may
	AtMost *int // less than that; nil: no less
}

// A VirtualClusterConfig describes requests that are counted under a name.
type VirtualClusterConfig struct {
	Name    string
	Headers []HeaderMatch // all must match; none: every request
	Stats   *stats.VirtualClusterUse
}

// A TLSRequirement says whether a virtual host redirects plain requests to https.
type TLSRequirement uint8

// The requirements.
const (
	TLSNone TLSRequirement = iota
	TLSExternalOnly
	TLSAll
)

// A RouteConfig describes one route. One of Forward, Redirect and Direct is set.
type RouteConfig struct {
	Name      string
	Match     Match
	Forward   *ForwardConfig
	Redirect  *RedirectConfig
	Direct    *Direct
	Headers   HeadersConfig
	PerFilter map[string]any
	Decorator string // operation name of spans
	Metadata  *metadata.Set
	Stats     *stats.RouteUse // nil: none of its own
	Buffer    Buffer
}

// A PathKind says how a route looks at the path.
type PathKind uint8

// The kinds. The query string is not part of the path that is matched.
const (
	AnyPath       PathKind = iota // no condition
	PrefixPath                    // plain string prefix: /foo matches /foobar
	ExactPath                     //
	RegexPath                     // RE2, the whole path
	SeparatedPath                 // path_separated_prefix: /foo matches /foo and /foo/bar, not /foobar
	ConnectPath                   // connect_matcher: CONNECT requests only
	TemplatePath                  // a URI template, such as /videos/*/{name}.mp4
)

// A Match says which requests a route is for: all conditions must hold.
type Match struct {
	Kind       PathKind
	Path       string // prefix, path or expression
	IgnoreCase bool   // of the path; not for expressions
	Headers    []HeaderMatch
	Query      []QueryMatch
	Cookies    []CookieMatch
	State      []StateMatch
	Metadata   []MetadataMatch // of the request
	Presented  *bool           // whether the client showed a certificate
	Validated  *bool           // whether that was verified
	Fraction   *Fraction       // nil: all
	GRPC       bool            // content-type application/grpc only
}

// A Fraction is a share of requests: Numerator out of Denominator (100, 10,000 or 1,000,000).
type Fraction struct{ Numerator, Denominator uint32 }

// A StringKind says how a StringMatch compares.
type StringKind uint8

// The kinds of comparison.
const (
	Exact StringKind = iota
	Prefix
	Suffix
	Contains
	Regex   // RE2, the whole value
	Present // there is a value, whichever
	Range   // a decimal number in [Start, End)
	Absent  // there is no value; of query parameters
)

// A StringMatch compares a value.
type StringMatch struct {
	Kind       StringKind
	Value      string
	IgnoreCase bool // not for Regex
	Start, End int64
}

// A HeaderMatch compares a header field; of several fields of one name it is
// enough that one compares, but fields that Envoy joins by commas count as one. The pseudo headers ":method", ":scheme", ":authority" and ":path" count
// as fields.
type HeaderMatch struct {
	Name string
	StringMatch
	Invert              bool
	TreatMissingAsEmpty bool
}

// A CookieMatch compares the first cookie of a name. One that is missing matches only if inverted.
type CookieMatch struct {
	Name string
	StringMatch
	Invert bool
}

// A StateMatch compares what a filter has said about the stream under a key.
type StateMatch struct {
	Key string
	StringMatch
}

// A QueryMatch compares the first query parameter of a name, not unescaped.
type QueryMatch struct {
	Name string
	StringMatch
}

// A ForwardConfig describes a route that sends requests to a cluster: one of
// Cluster, Weighted and ClusterHeader is set.
type ForwardConfig struct {
	Cluster       string
	Weighted      []WeightedConfig
	ClusterHeader string
	NotFound      uint16 // cluster_not_found_response_code, 0: 503

	// WeightHeader names the field whose number decides among Weighted, if a request has it.
	WeightHeader string
	// WeightByHash decides among Weighted by the hash policies, so that a client stays where it is.
	WeightByHash bool

	Rewrite       RewriteConfig
	Timeout       *time.Duration // nil: 15 s; 0: none
	IdleTimeout   *time.Duration // nil: the connection manager's
	MaxStream     *MaxStream
	Retry         *RetryPolicy  // nil: the virtual host's
	Follow        *FollowPolicy // of redirects of hosts; nil: the client gets them
	Hedge         *bool         // hedge_on_per_try_timeout; nil: the virtual host's
	Mirrors       []MirrorConfig
	HashPolicies  []HashPolicy
	HighPriority  bool
	Connect       *Connect        // nil: a CONNECT goes on as such
	Upgrades      map[string]bool // upgrade type, lower case -> enabled; nil: the connection manager's
	MetadataMatch any             // subset selection; opaque here
	RateLimits    any             // what requests are counted by; opaque here
}

// MaxStream bounds the life of a stream. Nil fields are unset.
type MaxStream struct {
	MaxDuration       *time.Duration // max_stream_duration
	GRPCTimeoutMax    *time.Duration // grpc_timeout_header_max; 0: whatever the header says
	GRPCTimeoutOffset time.Duration
	// Response says that it is about the response of gRPC requests, in place of Timeout (max_grpc_timeout,
	// deprecated). Otherwise it is about the whole stream, and there is no Timeout.
	Response bool
}

// A WeightedConfig is one destination of several. Weights are relative.
type WeightedConfig struct {
	Cluster       string // or
	ClusterHeader string
	Weight        uint32
	Headers       HeadersConfig
	HostRewrite   string
	PerFilter     map[string]any
	MetadataMatch any
}

// A RewriteConfig changes path and host of a request. Of each group at most one is set.
type RewriteConfig struct {
	Prefix       string // replaces the matched prefix, or the whole path of an exact or regex match
	Regex        string // replaces every match in the path (without query)
	Substitution string // for Regex, with \0 to \9
	Template     string // makes the path of the variables of a TemplatePath
	PathFormat   string // makes the path with its query, with command operators

	Host                                string
	AutoHost                            bool   // the host name of the chosen endpoint; done by the router
	HostHeader                          string // the value of this request header
	HostPathRegex, HostPathSubstitution string
	HostFormat                          string // with command operators
	AppendForwardedHost                 bool   // append_x_forwarded_host
}

// A RedirectConfig answers with a Location.
type RedirectConfig struct {
	HTTPS               bool   // https_redirect
	Scheme              string // scheme_redirect
	Host                string
	Port                uint32
	Path                string // replaces the path; may carry a query of its own
	Prefix              string // prefix_rewrite
	Regex, Substitution string // regex_rewrite
	PathFormat          string // path_rewrite: a format with command operators
	StripQuery          bool
	Code                uint16 // 301 (and 0), 302, 303, 307, 308
}

// Direct answers without an upstream.
type Direct struct {
	Status uint16
	Body   []byte
	// Format makes the body instead, if it is set: of Body too, which is %LOCAL_REPLY_BODY%.
	Format      *access.Format
	ContentType string // "": text/plain
}

// A MirrorConfig sends copies of requests to a cluster and forgets the answers.
type MirrorConfig struct {
	Cluster       string
	ClusterHeader string
	Fraction      *Fraction // nil: all
	HostSuffixOff bool      // disable_shadow_host_suffix_append: do not append "-shadow" to the host
	HostRewrite   string    // the copy's host; no suffix is appended to it
	Headers       []Mutation
}

// A HashPolicy says what of a request the consistent hash is made of.
type HashPolicy struct {
	Header, Cookie, CookiePath, Query, FilterState string
	// HeaderRegex and HeaderSubstitution change the value of Header before it is hashed, if they are set.
	HeaderRegex, HeaderSubstitution string
	CookieTTL                       *time.Duration // nil: never generated
	CookieAttributes                [][2]string
	SourceIP                        bool
	Terminal                        bool
}

// HeadersConfig lists changes of header fields: removals first, then additions in order.
type HeadersConfig struct {
	RequestAdd, ResponseAdd       []HeaderValue
	RequestRemove, ResponseRemove []string
}

// An AppendAction says what happens if the field is there already.
type AppendAction uint8

// Envoy's append actions.
const (
	AppendIfExistsOrAdd AppendAction = iota
	AddIfAbsent
	OverwriteIfExistsOrAdd
	OverwriteIfExists
)

// A HeaderValue adds a field whose value is a format with command operators.
type HeaderValue struct {
	Name, Value string
	Action      AppendAction
	KeepEmpty   bool // an empty value is added too
}
