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
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/tls"
)

// Direction is a listener's traffic direction.
type Direction uint8

const (
	Unspecified Direction = iota
	Inbound
	Outbound
)

// A Config describes a listener. It must not change once a shard has it.
type Config struct {
	Name      string
	Version   string           // of its configuration; equal name and version means: nothing changed, keep the listener
	Addrs     []netip.AddrPort // the first is the address; the rest are additional ones
	Bind      bool             // bind_to_port; otherwise it is only reached by hand-over
	Direction Direction

	UseOriginalDst bool // hand over to the listener whose address is the original destination

	OriginalDst       bool          // listener filter: ask the kernel for the destination before REDIRECT
	TLSInspector      *Inspector    // listener filter; nil: none
	HTTPInspector     *Inspector    // listener filter; nil: none
	FiltersTimeout    time.Duration // listener_filters_timeout; 0: none
	ContinueOnTimeout bool

	Transparent, FreeBind bool
	Backlog               int // 0: the system's
	BufferLimit           int // per_connection_buffer_limit_bytes; 0: 1 MiB
	MaxConnections        int // open connections of this listener, all shards; 0: no limit

	Chains  []*Chain
	Default *Chain

	Stats *stats.Listener // nil: none
	Logs  []Log           // told about connections that found no chain or failed before it served

	compiled matchers
	count    atomic.Int64 // open connections of all shards
}

// An Inspector is a listener filter that reads the first bytes.
type Inspector struct {
	DisabledPorts []PortRange // original destination ports on which it does not run
}

// A PortRange is a range of ports, both ends included; Not turns it around.
type PortRange struct {
	First, Last uint16
	Not         bool
}

// Disabled reports whether the inspector does not run on a port.
func (i *Inspector) Disabled(port uint16) bool {
	if i == nil {
		return true
	}
	for _, r := range i.DisabledPorts {
		if (port >= r.First && port <= r.Last) != r.Not {
			return true
		}
	}
	return false
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
	Match            Match
	TLS              *tls.Server   // nil: plain
	HandshakeTimeout time.Duration // transport_socket_connect_timeout; 0: 15 s
	Filter           Filter
}

// A Filter serves a connection: *stream.Config (the HTTP connection manager) or
// *tcp.Config (the TCP proxy). It is called on the connection's shard.
type Filter interface {
	Serve(w *pool.Worker, c *Conn)
}

// A Log is told about streams: an access log, or Istio's metrics. It is called on
// the stream's shard, whose number it gets, for the moments that r.Type names
// (DownstreamEnd, TCPUpstreamConnected, TCPPeriodic, TCPConnectionEnd); it ignores those
// that it does not care for and must not keep r.
type Log interface {
	Log(shard int, r *access.Record)
}
