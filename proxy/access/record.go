package access

import (
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/stats"
)

// A Mark is a moment on the shard's clock, in nanoseconds. Zero means that it has
// not come.
type Mark int64

// Sub returns the time from an earlier mark, and false if one of the two has not come.
func (m Mark) Sub(from Mark) (time.Duration, bool) {
	if m == 0 || from == 0 {
		return 0, false
	}
	return time.Duration(m - from), true
}

// A Protocol is a version of HTTP, or none for plain TCP.
type Protocol uint8

// The protocols of a stream.
const (
	NoProtocol Protocol = iota
	HTTP10
	HTTP11
	HTTP2
	HTTP3
)

var protocolNames = [...]string{"", "HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"}

// String returns the name as Envoy logs it, empty for none.
func (p Protocol) String() string { return protocolNames[p] }

// A Type says at which moment of a stream its record is written.
type Type uint8

// The types of records, with Envoy's names.
const (
	NotSet Type = iota
	TCPUpstreamConnected
	TCPPeriodic
	TCPConnectionEnd
	DownstreamStart
	DownstreamPeriodic
	DownstreamEnd
	UpstreamPoolReady
	UpstreamPeriodic
	UpstreamEnd
	DownstreamTunnelEstablished
)

var typeNames = [...]string{
	"NotSet", "TcpUpstreamConnected", "TcpPeriodic", "TcpConnectionEnd",
	"DownstreamStart", "DownstreamPeriodic", "DownstreamEnd",
	"UpstreamPoolReady", "UpstreamPeriodic", "UpstreamEnd",
	"DownstreamTunnelSuccessfullyEstablished",
}

// String returns Envoy's name of the type.
func (t Type) String() string { return typeNames[t] }

// A Direction is that of a listener's traffic, with Envoy's numbers.
type Direction uint8

// The directions.
const (
	Unspecified Direction = iota
	Inbound
	Outbound
)

// TLS holds what one end of a TLS connection knows about the other. It is made
// once per connection, after the handshake, and never changes.
type TLS struct {
	Version   uint16              // tls.VersionTLS13
	Cipher    uint16              // tls.TLS_AES_128_GCM_SHA256
	Group     string              // key exchange, such as "X25519MLKEM768"
	SessionID []byte              // empty under TLS 1.3 without resumption
	SNI       string              // what the client asked for
	ALPN      string              // what was agreed
	Peer      *x509.Certificate   // nil without client certificate
	Chain     []*x509.Certificate // as the client sent it: Peer, and what came with it
	Issuer    *x509.Certificate   // whose certificate the peer's is; nil: not verified
	Local     *x509.Certificate   // the certificate that we presented
	PeerID    string              // the peer's first URI SAN (its SPIFFE id), interned
	LocalID   string              // our own
	Verified  bool                // the peer's chain was verified
}

// A Dial is when a connection to a host was made, which may have been long before the stream.
type Dial struct {
	Begun     Mark // US_CX_BEG
	Connected Mark // US_CX_END
	Secured   Mark // US_HS_END; 0: plain text
}

// Attempted is a host that was tried.
type Attempted struct {
	Addr netip.AddrPort
	Name string // if it has one (DNS)
}

// A Close says how a connection has ended, as far as that shows.
type Close uint8

// The ways to end, with Envoy's names.
const (
	CloseNormal Close = iota // or not yet
	CloseLocalReset
	CloseRemoteReset
)

var closeNames = [...]string{"Normal", "LocalReset", "RemoteReset"}

// String returns Envoy's name.
func (c Close) String() string { return closeNames[c] }

// A Record holds everything that a log line, a metric or an explanation may say
// about one stream, be it a request or a TCP connection. The shard fills it while the stream
// goes on and uses it again for the next one ([Record.Reset]).
//
// Byte slices and header maps are borrowed from the stream and are valid until the
// record has been formatted. Strings are constants, configuration, or belong to a
// connection.
type Record struct {
	Type     Type
	Protocol Protocol  // downstream
	Start    time.Time // wall clock, when the first byte came

	// Marks on the shard's clock; Envoy's names in parentheses.
	Began          Mark // stream started (DS_RX_BEG)
	RequestEnd     Mark // last byte of the request received (DS_RX_END)
	UpstreamBegin  Mark // first byte of the request sent upstream (US_TX_BEG)
	UpstreamSent   Mark // last byte of the request sent upstream (US_TX_END)
	ResponseBegin  Mark // first byte of the response received (US_RX_BEG)
	ResponseEnd    Mark // last byte of the response received (US_RX_END)
	DownstreamSend Mark // first byte of the response sent downstream (DS_TX_BEG)
	DownstreamSent Mark // last byte of the response sent downstream (DS_TX_END)
	Ended          Mark // the stream is over
	BodyBegin      Mark // first byte of the response's body received (US_RX_BODY_BEG)
	Opened         Mark // the client's connection (DS_CX_BEG)
	Closed         Mark // its end, if it was that of the stream (DS_CX_END)
	Dial           Dial // of the host's connection
	Asked, Placed  Mark // a connection was asked for, and there was one, or none to be had
	Handshake      time.Duration

	Request  *header.Map // as it is after the filters, nil for TCP
	Response *header.Map // nil if there was none
	Trailers *header.Map // of the response, nil if there were none

	Code        uint16 // status of the response sent downstream, 0 if none
	CodeDetails string // "via_upstream", "route_not_found", ...; spaces are underscores already
	Flags       Flags
	Termination string // connection termination details, such as an RBAC policy

	BytesReceived, BytesSent                 uint64 // bodies downstream; TCP: all bytes
	UpstreamBytesReceived, UpstreamBytesSent uint64 // TCP: payload towards the upstream and back
	Down, Up                                 Meter  // of the client's side, and of all attempts together

	RouteName       string
	VirtualHost     string
	Routed          bool // there is a route, which may have no name
	VirtualCluster  string
	FilterChain     string
	Direction       Direction   // of the listener
	Cluster         string      // alternative statistics name, what %UPSTREAM_CLUSTER% prints
	ClusterRaw      string      // the cluster's real name; empty: same as Cluster
	Earlier         []Attempted // TCP: hosts that were tried in vain, before the present one
	Attempts        uint32      // requests sent upstream, retries included; 0: none
	ConnectionID    uint64
	UpstreamConnID  uint64
	JA3, JA4        string  // fingerprints of the client hello, where the listener takes them
	UpstreamFailure string  // transport failure reason, "TLS_error:|..." and the like
	LocalFailure    string  // downstream transport failure reason
	ClientClose     Close   // how the client's connection has ended
	HostClose       Close   // how the host's has
	PoolFull        bool    // a host was chosen that could be asked no more
	ClientEnd       Closing // how the client's side has ended before its time; what it says of bytes and ages is the record's
	HostEnd         Closing // how the last host's has
	UpstreamClose   string  // local close reason of the upstream connection
	LocalClose      string  // local close reason of the downstream connection

	UpstreamHost     netip.AddrPort // the host that was chosen
	UpstreamHostName string         // its name if it has one (DNS)
	Locality         *Locality      // of the host that was chosen; nil: there is none
	UpstreamLocal    netip.AddrPort // our end of the upstream connection
	UpstreamRemote   netip.AddrPort // the other end as dialed
	UpstreamProtocol Protocol
	DownstreamLocal  netip.AddrPort // what the client dialed (original destination if captured)
	DownstreamRemote netip.AddrPort // the client as trusted headers or PROXY protocol say
	DirectLocal      netip.AddrPort // our socket's own address
	DirectRemote     netip.AddrPort // the peer of the socket
	SNI              string         // requested server name
	Downstream       *TLS           // nil for plain text
	Upstream         *TLS
	RequestID        []byte // x-request-id, for streams whose header map is gone
	TraceID          []byte
	LocalReplyBody   string
	ForceTraced      bool // somebody wants the request traced (x-envoy-force-trace)
	HealthCheck      bool // the request asked whether we are well

	// What Istio's metrics say about the stream; nil where unknown.
	Peer        *stats.Peer        // the workload at the other end, from metadata exchange
	Destination *stats.Destination // the service, from the cluster's metadata

	// State is what filters say to those that come after them, and to logs.
	State State
	// UpstreamState is what the connection to the host knows of what filters said, nil: nothing.
	UpstreamState *State

	// Dynamic is the metadata that filters gave the stream, Configured that of what serves it.
	Dynamic    metadata.Dynamic
	Configured [metadata.Kinds]*metadata.Set
	World      World // what is beyond the stream; survives Reset

	// Scratch is memory for whoever formats on behalf of the stream. It holds nothing
	// from one call to the next and survives Reset.
	Scratch []byte
}

// Reset makes the record ready for the next stream.
func (r *Record) Reset() {
	r.State.Reset()
	r.Dynamic.Reset()
	*r = Record{Scratch: r.Scratch[:0], State: r.State, Dynamic: r.Dynamic, World: r.World}
}

// A World knows what a stream may want to say of things beyond it.
type World interface {
	ClusterMetadata(name string) *metadata.Set
	// ClusterSize is how many hosts a cluster has; false: there is no such cluster.
	ClusterSize(name string) (int, bool)
	Node() *Node // what the proxy is called; nil: not known
}

// ClusterMetadata returns the metadata of the cluster that the stream goes to. It is looked up only
// when somebody asks.
func (r *Record) ClusterMetadata() *metadata.Set {
	if name := rawCluster(r); name != "" && r.World != nil {
		return r.World.ClusterMetadata(name)
	}
	return nil
}

// Duration is the time from the start of the stream to its end.
func (r *Record) Duration() time.Duration {
	d, _ := r.Ended.Sub(r.Began)
	return d
}
