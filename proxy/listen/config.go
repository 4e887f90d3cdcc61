// Package listen turns accepted connections into served ones.
//
// A [Config] describes a listener as Envoy's: addresses, listener filters that
// look at the first bytes (original destination, TLS client hello, HTTP preface),
// and filter chains. A connection passes the listener filters, is handed over to
// the listener of its original destination if the configuration says so, and gets
// the chain that matches best, by Envoy's order: destination port, destination
// address, server names, transport protocol, application protocols, direct source
// address, source type, source address, source port. At each step the most specific
// value present wins and is never taken back.
//
// A listener never changes: new configuration makes a new one. Connections keep
// the one they came in by.
//
// Sockets are proxy/drive's; what a chain does with a connection is its [Filter]'s.
package listen

import (
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/matcher"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/tls"
)

// Direction is a listener's traffic direction.
type Direction = access.Direction

// The directions.
const (
	Unspecified = access.Unspecified
	Inbound     = access.Inbound
	Outbound    = access.Outbound
)

// A Config describes a listener. It must not change once a shard has it.
type Config struct {
	Name      string
	Version   string                         // of its configuration; equal name and version means: nothing changed, keep the listener
	Addrs     []netip.AddrPort               // the first is the address; the rest are additional ones
	Modes     map[netip.AddrPort]os.FileMode // of the files of Unix sockets among them; 0: as the process makes files
	Bind      bool                           // bind_to_port; otherwise it is only reached by hand-over
	Inside    bool                           // internal_listener: it is reached from the proxy itself, by its name
	Direction Direction
	Metadata  *metadata.Set

	UseOriginalDst bool // hand over to the listener whose address is the original destination

	RateLimit         *RateLimit     // listener filter, nil: none; before all others
	Proxy             *ProxyProtocol // listener filter; nil: none; before the inspectors
	OriginalDst       bool           // listener filter: ask the kernel for the destination before REDIRECT
	OriginalSrc       *OriginalSrc   // listener filter; nil: none
	TLSInspector      *Inspector     // listener filter; nil: none
	HTTPInspector     *Inspector     // listener filter; nil: none
	TLSCounts         *stats.TLSInspector
	HTTPCounts        *stats.HTTPInspector
	FiltersMissing    bool          // the configuration of one of them has not come: there are no connections
	FiltersTimeout    time.Duration // listener_filters_timeout; 0: none
	ContinueOnTimeout bool

	Transparent, FreeBind bool
	Backlog               int // 0: the system's
	SocketOptions         []drive.SocketOption
	BufferLimit           int          // per_connection_buffer_limit_bytes; 0: 1 MiB
	MaxConnections        int          // open connections of this listener, all shards; 0: no limit
	Global                *Connections // the limit over all listeners; nil: none, or not for this one
	ModifyOnly            bool         // drain_type: connections stay when the proxy fails its health checks
	Unshed                bool         // bypass_overload_manager: nothing is shed here

	Chains  []*Chain
	Default *Chain
	InPlace bool // nothing but chains differs from the listener of this name before: connections that have no chain yet get one here
	Tree    Tree // filter_chain_matcher; nil: the chains' own matches count

	Stats *stats.Listener // nil: none
	Logs  []Log           // told about connections when they are over

	compiled matchers
	count    atomic.Int64 // open connections of all shards
}

// A Tree finds the name of a connection's chain.
type Tree = matcher.Tree[*Subject, string]

// An Inspector is a listener filter that reads the first bytes.
type Inspector struct {
	OffFor   matcher.Predicate[uint16] // original destination ports on which it does not run; nil: none
	JA3, JA4 bool                      // tls_inspector: take the client hello's fingerprints
}

// Disabled reports whether the inspector does not run on a port.
func (i *Inspector) Disabled(port uint16) bool {
	return i == nil || i.OffFor != nil && i.OffFor(port)
}

// SourceType restricts a chain to connections from this machine or from others.
type SourceType uint8

const (
	AnySource SourceType = iota
	SameIPOrLoopback
	ExternalSource
)

// Transport protocols as a chain's match names them.
const (
	RawBuffer = "raw_buffer"
	TLS       = "tls"
)

// A Match says which connections a chain is for. What is empty matches all.
type Match struct {
	DestinationPort uint16
	Destinations    []netip.Prefix
	ServerNames     []string // exact, or "*.suffix"
	Transport       string   // RawBuffer, TLS
	ALPN            []string
	DirectSources   []netip.Prefix
	SourceType      SourceType
	Sources         []netip.Prefix
	SourcePorts     []uint16
}

// A Chain is what happens to a connection that matches.
type Chain struct {
	Name             string
	Metadata         *metadata.Set
	Match            Match
	TLS              *tls.Server   // nil: plain
	HandshakeTimeout time.Duration // transport_socket_connect_timeout; 0: 15 s
	Gates            []Gate        // network filters that only admit connections, before the handshake
	Filter           Filter
	Slots            []*Slot // those of Gates and Filter that come by themselves
}

// A Gate is a network filter that looks at a new connection once.
type Gate interface {
	// Admit reports whether the connection goes on. If not, the gate has ended it, or sees to it that it goes on later.
	Admit(w *pool.Worker, c *Conn) bool
}

// Connections counts the open connections of all listeners, all shards.
type Connections struct {
	Max  int64
	open atomic.Int64
}

// take counts a connection if there is room for it.
func (n *Connections) take() bool {
	if n == nil || n.open.Add(1) <= n.Max {
		return true
	}
	n.open.Add(-1)
	return false
}

// Open is the number of connections that are open now.
func (n *Connections) Open() int64 { return n.open.Load() }

func (n *Connections) release() {
	if n != nil {
		n.open.Add(-1)
	}
}

// A ProxyProtocol is the listener filter that reads the PROXY protocol's header.
type ProxyProtocol struct {
	Optional               bool // connections may come without
	DisallowV1, DisallowV2 bool
	// KeepLocal says that original_dst comes after it: the header's destination does not count if the
	// kernel knows one.
	KeepLocal bool
	Pass      func(t byte) bool                                // extensions that hosts may be told; nil: none
	Rules     map[byte]TLVRule                                 // which filters and logs know, by type
	InState   bool                                             // as [StateTLVs]; else as metadata of the connection
	Message   func(values map[string][]byte) *metadata.Message // of what is in one namespace; nil with InState
	Stats     *stats.ProxyProtocol
	Errors    *stats.ProxyProtocolErrors
}

// OriginalSrc is the listener filter by which connections to hosts come from the client's address.
type OriginalSrc struct{ Mark int }

// A Filter serves a connection: *stream.Config (the HTTP connection manager) or
// *tcp.Config (the TCP proxy). It is called on the connection's shard.
type Filter interface {
	Serve(w *pool.Worker, c *Conn)
}

// A Counting filter counts connections that a gate before it sends away, too.
type Counting interface {
	// SentAway begins their account, Gone ends it.
	SentAway(c *Conn)
	Gone(c *Conn, byClient bool)
	// Reads reports whether what their clients send is read while they wait for their end.
	Reads() bool
	// Measure has it counted.
	Measure(c *Conn)
}

// A Recording filter writes of them in its logs.
type Recording interface {
	// Record is called when such a connection is over, on the shard whose number it gets. The filter must not keep r.
	Record(shard int, r *access.Record)
}

// A Log is told about streams: an access log, or Istio's metrics. It is called on
// the stream's shard, whose number it gets, for the moments that r.Type names
// (DownstreamEnd, TCPUpstreamConnected, TCPPeriodic, TCPConnectionEnd; a listener's are NotSet); it ignores those
// that it does not care for and must not keep r.
type Log interface {
	Log(shard int, r *access.Record)
}
