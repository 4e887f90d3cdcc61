package stream

import (
	"net/netip"
	"time"

	"github.com/mallamesh/malla/proxy/h1"
	"github.com/mallamesh/malla/proxy/h2"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
)

// ServerHeader says what becomes of the upstream's server field.
type ServerHeader uint8

const (
	Overwrite ServerHeader = iota
	AppendIfAbsent
	PassThrough
)

// ForwardClientCert says what becomes of x-forwarded-client-cert.
type ForwardClientCert uint8

const (
	Sanitize ForwardClientCert = iota
	ForwardOnly
	AppendForward
	SanitizeSet
	AlwaysForwardOnly
)

// ClientCertDetails are the parts of the client's certificate that an element of
// x-forwarded-client-cert tells besides By and Hash.
type ClientCertDetails struct {
	Subject, Cert, Chain, DNS, URI bool
}

// EscapedSlashes says what to do with %2F and %5C in paths.
type EscapedSlashes uint8

const (
	KeepUnchanged EscapedSlashes = iota
	RejectRequest
	UnescapeAndRedirect
	UnescapeAndForward
)

// Tracing says how requests are chosen for tracing and named.
type Tracing struct {
	Egress bool // operation_name EGRESS: the decorator goes to the upstream, not back to the client
	// Shares of requests, in percent. Client: of those with x-client-trace-id; Overall: upper bound.
	Client, Random, Overall float64
	Pack                    bool // identifiers of requests say whether they are traced, and why
}

// A Chain is what stands in Filters and FiltersOff of a Config, for some requests.
type Chain struct {
	Filters []Factory
	Off     uint64
	Live    *Live // whose chain counts in its place; nil: it stays as it is
}

// now is the chain for requests that begin now.
func (c *Chain) now() *Chain {
	if c.Live != nil {
		return c.Live.Now()
	}
	return c
}

// A Config describes an HTTP connection manager. It must not change once a shard has it.
type Config struct {
	StatPrefix string
	Stats      *stats.HTTP         // nil: none
	Listener   *stats.ListenerHTTP // nil: none
	Logs       []listen.Log        // access logs and Istio's metrics
	LogStart   bool                // flush_access_log_on_new_request: they are told of requests that begin, too,
	LogTunnel  bool                // of tunnels that are there,
	LogEvery   time.Duration       // and so often of requests that go on; 0: never

	Routes    *route.Table // or
	RouteName string       // of the table in the runtime, looked up by each request

	ScopeKey    *route.ScopeKey // tables are those of the scopes of requests; nil: as above
	Scopes      *route.Scopes   // or
	ScopeSource string          // of those in the runtime

	Codec Codec
	HTTP1 *stats.HTTP1 // nil: none
	HTTP2 h2.Options

	Filters       []Factory         // in order; the last one is the router; at most MaxFilters
	FiltersOff    uint64            // those that are off unless a route says something to them, a bit for each
	Live          *Live             // the chain in place of these two, if some of its filters come and change by themselves; nil: none do
	UpgradeChains map[string]*Chain // of those for other protocols that have filters of their own, by type, lower case

	UseRemoteAddress     bool
	TrustedHops          int // xff_num_trusted_hops
	SkipXFFAppend        bool
	ForwardedPort        bool       // append_x_forwarded_port
	Detectors            []Detector // in place of the two above
	Forward              ForwardClientCert
	ForwardDetails       ClientCertDetails
	Server               ServerHeader
	ServerName           string // "": envoy
	Via                  string
	SchemeOverwrite      string // scheme_header_transformation
	SchemeOfHost         bool   // match_upstream: it is how the host is spoken to
	PreserveRequestID    bool   // preserve_external_request_id
	NoRequestID          bool   // generate_request_id: false
	AlwaysSetRequestID   bool   // always_set_request_id_in_response
	Tracing              *Tracing
	NormalizePath        bool
	MergeSlashes         bool
	EscapedSlashes       EscapedSlashes
	StripAnyPort         bool
	StripMatchingPort    bool
	StripTrailingHostDot bool
	RejectUnderscores    bool // headers_with_underscores_action: REJECT_REQUEST
	DropUnderscores      bool
	InternalAddresses    []netip.Prefix // internal_address_config; empty: nobody is internal
	InternalUnix         bool           // who comes by a Unix socket is internal

	// UpstreamALPN is what Istio's ALPN filter says.
	UpstreamALPN pool.Offers

	UserAgent, Node []byte           // add_user_agent: who this proxy is, told with every request; nil: nobody is told
	Early           *route.Mutations // of requests, before anything is made of them; nil: none
	ProxyStatus     *ProxyStatus     // nil: proxy-status is not set

	MarkOverload  bool        // append_local_overload: who is refused for overload is told by x-envoy-local-overloaded
	LocalReply    *LocalReply // nil: answers of our own stay as they are
	Upgrades      []string    // upgrade types that are allowed, lower case ("websocket")
	AcceptHTTP10  bool
	KeepAfterBad  bool // stream_error_on_invalid_http_message: a connection goes on after a reply of 400
	NoAbsolute    bool // allow_absolute_url: false
	AnyMethod     bool // allow_custom_methods
	Spelling      h1.Spelling
	ProperCase    bool   // names of headers are written with capitals over HTTP/1.1
	NoTrailers    bool   // drop trailers of HTTP/1.1 messages, as Envoy does without enable_trailers
	DefaultHost   string // default_host_for_http_10
	Expect100Here bool   // answer Expect: 100-continue instead of passing it on (Envoy's default; proxy_100_continue is the opposite)

	MaxHeaderBytes int           // 0: 60 KiB
	MaxHeaders     int           // 0: 100
	MaxRequests    int           // per connection, 0: no limit
	IdleTimeout    time.Duration // of a connection without a request; 0: none (the builder gives Envoy's default, 1 h)
	MaxAge         time.Duration // max_connection_duration
	AgeJitter      float64       // up to how much longer, as a share of MaxAge
	SoftAge        bool          // http1_safe_max_connection_duration: a client of HTTP/1 that asks for nothing more is not sent away for its age
	FlushTimeout   time.Duration // stream_flush_timeout: how long a client may take no byte of what waits for it; 0: for ever
	StreamIdle     time.Duration // stream_idle_timeout; 0: none (the builder gives Envoy's default, 5 min)
	MaxStream      time.Duration // max_stream_duration
	RequestTimeout time.Duration // whole request received
	HeadersTimeout time.Duration // request headers received
	DrainTimeout   time.Duration // 0: 5 s
	DrainJitter    float64       // up to how much longer, as a share of it
	DelayedClose   time.Duration // 0: 1 s
}
