package stats

// A Peer is what Istio's metrics say about a workload: this proxy's own, or the one at the
// other end as metadata exchange, the certificate or endpoint metadata told. Peers are interned with
// [Istio.Peer]; equal ones are the same pointer. Empty fields are written "unknown".
type Peer struct {
	Workload, Namespace                 string
	CanonicalService, CanonicalRevision string
	App, Version, Cluster               string
	Principal                           string // SPIFFE id, from the TLS connection
}

// A Destination is the service that a request was for.
type Destination struct {
	Service   string // reviews.default.svc.cluster.local
	Name      string // reviews
	Namespace string
}

// A Reporter is the side that counts.
type Reporter uint8

// The reporters.
const (
	Source Reporter = iota
	Dest
	Waypoint
)

// A Security is the value of connection_security_policy.
type Security uint8

// The values. A source does not know, even if it did the TLS itself.
const (
	SecurityUnknown Security = iota
	SecurityNone
	SecurityMutualTLS
)

// A RequestProtocol is the value of request_protocol.
type RequestProtocol uint8

// The values.
const (
	ProtocolHTTP RequestProtocol = iota
	ProtocolGRPC
	ProtocolTCP
)

// A Key is one combination of labels. It is comparable and small.
type Key struct {
	Peer        *Peer        // interned; nil: unknown
	Destination *Destination // interned; nil: unknown
	LocalID     string       // our own principal on this connection
	Flags       uint64       // access.Flags
	Code        uint16
	GRPCStatus  int16 // -1: not gRPC
	Reporter    Reporter
	Protocol    RequestProtocol
	Security    Security
}

// Istio holds Istio's standard metrics.
type Istio struct{}

// HTTPSeries are the metrics of one combination of labels for requests.
type HTTPSeries struct {
	Requests         Counter
	RequestMessages  Counter
	ResponseMessages Counter
	Duration         Histogram // milliseconds
	RequestBytes     Histogram
	ResponseBytes    Histogram
}

// TCPSeries are the metrics of one combination of labels for TCP connections.
type TCPSeries struct {
	Opened, Closed, Sent, Received Counter
}
