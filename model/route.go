package model

import (
	"net/netip"
	"slices"
	"time"
)

// RouteRules say how requests for some hosts are routed (a VirtualService).
type RouteRules struct {
	From     Ref
	Created  time.Time
	Hosts    []string // full names; "*.x" and "*" are wildcards. A mesh has no rules without
	Gateways []string // "mesh" or namespace/name; never empty
	// Of is the service that the rules are about, not everything that has its host: who gets another one by that
	// host does not keep to them. It is no service where the host is all that counts.
	Of       ServiceKey
	ExportTo ExportTo
	HTTP     []*HTTPRule
	TLS      []*TLSRule
	TCP      []*TCPRule
}

// Applies reports whether the rules hold at the gateway ("mesh" for sidecars).
func (r *RouteRules) Applies(gateway string) bool {
	for _, g := range r.Gateways {
		if g == gateway {
			return true
		}
	}
	return false
}

// Rank says how near the rules are to a namespace that sees them: 0 are its own, kept
// from others, 1 are exported to it, 2 are for all. The lower comes first. Def applies
// where the rules do not say who sees them.
func (r *RouteRules) Rank(client string, def ExportTo) int {
	to := r.ExportTo
	if len(to) == 0 {
		to = def
	}
	switch {
	case len(to) == 0 || slices.Contains(to, "*"):
		return 2
	case r.From.Namespace == client:
		return 0
	}
	return 1
}

// An HTTPRule is one http entry: if one of the matches fits, one action is taken.
type HTTPRule struct {
	Name     string
	From     *Ref         // whose it is, if not that of the rules it stands in
	Matches  []*HTTPMatch // none: every request
	Forward  []Split      // to these, by weight; nil if Redirect or Direct is set
	Redirect *Redirect
	Direct   *DirectResponse
	Delegate *Name // whose rules stand here; a mesh has them put in
	Rewrite  *Rewrite
	Timeout  time.Duration // 0: none
	Retry    *Retry        // nil: the mesh's default
	Fault    *Fault
	Mirrors  []Mirror
	CORS     *CORS
	Headers  HeaderOps
	Session  *Session // nil: none
	Strict   bool     // a destination that is not there is the author's mistake, which is answered by 500 and not by 503
}

// A Session sends the requests of a client to the endpoint that answered the first, which
// says in a cookie, or in a header, where that is.
type Session struct {
	Cookie, Header string        // the name of one of them
	Path           string        // of the cookie
	TTL            time.Duration // of the cookie; 0: until the client ends
}

// A Destination names where traffic goes.
type Destination struct {
	Host   string // full name; empty: nowhere, though something was named
	Subset string
	Port   uint16 // 0: the service's only port, else the listener's
}

// A Split is a share of the traffic.
type Split struct {
	To      Destination
	Weight  uint32
	Headers HeaderOps
}

// A StringKind says how a StringMatch compares.
type StringKind uint8

const (
	Present StringKind = iota // any value
	Exact
	Prefix
	Regex      // RE2, the whole string
	PathPrefix // of whole segments: /a takes /a and /a/b, not /ab; without a / at its end
)

// A StringMatch compares a string.
type StringMatch struct {
	Kind  StringKind
	Value string
}

// A NamedMatch compares the value of a header or of a query parameter.
type NamedMatch struct {
	Name string
	StringMatch
}

// An HTTPMatch holds if all its parts hold.
type HTTPMatch struct {
	Name            string
	URI             *StringMatch
	IgnoreCase      bool // of the URI, for exact and prefix
	Scheme          *StringMatch
	Method          *StringMatch
	Authority       *StringMatch
	Headers         []NamedMatch // sorted by name
	WithoutHeaders  []NamedMatch // sorted by name
	QueryParams     []NamedMatch // sorted by name
	Port            uint16       // of the listener; 0: any
	StatPrefix      string
	SourceLabels    map[string]string // these three choose proxies when the routes are made
	SourceNamespace string
	Gateways        []string // nil: those of the rules
}

// HeaderOps change the headers of requests and responses.
type HeaderOps struct {
	Request, Response HeaderChange
}

// A HeaderChange sets, adds and removes headers.
type HeaderChange struct {
	Set, Add []Header // sorted by name
	Remove   []string // in the author's order
}

// A Header is a name and a value.
type Header struct{ Name, Value string }

// IsZero reports whether nothing is changed.
func (c HeaderChange) IsZero() bool { return len(c.Set)+len(c.Add)+len(c.Remove) == 0 }

// A Redirect answers with another place to go.
type Redirect struct {
	Path       string // replaces the path, if not empty
	Prefix     string // replaces the matched prefix, if not empty
	Regex      string // of what Replace takes the place, if not empty
	Replace    string
	Authority  string
	Scheme     string
	Port       uint16
	DerivePort PortDerivation
	Code       uint32 // 301, 302, 303, 307 or 308
}

// A PortDerivation says where a redirect takes its port from.
type PortDerivation uint8

const (
	NoDerivation PortDerivation = iota
	FromProtocol                // 80 or 443
	FromRequest                 // the port on which the request came
)

// A DirectResponse answers without asking anybody.
type DirectResponse struct {
	Status uint32
	Body   []byte
}

// A Rewrite changes what the destination sees.
type Rewrite struct {
	URI       string // replaces the matched prefix, or the whole path
	Authority string
	Regex     string // with Replacement, \1 is the first group
	Replace   string
}

// A Retry says when a request is tried again.
type Retry struct {
	Attempts        uint32 // 0: never
	PerTry          time.Duration
	On              string // Envoy's conditions and status codes, comma-separated; empty: the default
	AvoidPrevious   *bool  // retryIgnorePreviousHosts; nil: unless a hash chooses the host
	OtherLocalities bool   // retryRemoteLocalities
	Backoff         time.Duration
}

// A Fault delays or aborts a share of the requests.
type Fault struct {
	Delay        time.Duration // 0: none
	DelayPercent float64
	AbortStatus  uint32 // 0: none
	AbortGRPC    string // name of a gRPC status; empty: none
	AbortPercent float64
}

// A Mirror gets copies of a share of the requests.
type Mirror struct {
	To      Destination
	Percent float64
}

// CORS is what a browser is told about other origins.
type CORS struct {
	Origins          []StringMatch
	Methods, Headers []string
	Expose           []string
	MaxAge           time.Duration // negative: not given
	Credentials      *bool
	IgnoreUnmatched  bool // unmatchedPreflights: IGNORE
}

// A TLSRule routes TLS by the name that the client asks for.
type TLSRule struct {
	Matches []*TLSMatch
	Forward []Split
}

// A TLSMatch holds if all its parts hold.
type TLSMatch struct {
	SNI             []string
	Subnets         []netip.Prefix // of the destination
	Port            uint16
	SourceLabels    map[string]string
	SourceNamespace string
	Gateways        []string
}

// A TCPRule routes connections.
type TCPRule struct {
	Matches []*TCPMatch // none: every connection
	Forward []Split
}

// A TCPMatch holds if all its parts hold.
type TCPMatch struct {
	Subnets         []netip.Prefix // of the destination
	Port            uint16
	SourceLabels    map[string]string
	SourceNamespace string
	Gateways        []string
}
