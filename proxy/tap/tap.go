// Package tap records requests and responses that somebody wants to see, as Envoy's taps do.
//
// A [Config] says which streams are meant ([Predicate]), how much of their bodies is kept, and where the record goes
// ([Sink]). A [Point] is a place in a filter chain that has a config or not; without one it costs a load of
// a pointer. Configs stand in the proxy's configuration, or come by the administration interface, which finds points by
// name in a [Registry].
//
// What a stream had is a [Trace] of plain values. Sinks (package sink) turn it into Envoy's messages, in goroutines of their
// own: no shard ever waits for a disk or for a reader, and what they cannot keep up with is dropped.
package tap

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
)

// A Config says what is recorded. It must not change.
type Config struct {
	Predicate    *Predicate
	Share        *route.Fraction // of the streams; nil: all
	MaxRx, MaxTx int             // bytes of a request's and of a response's body, beyond which it is cut off; streamed: of each piece
	Streaming    bool            // each piece is a trace of its own
	Sink         Sink
}

// DefaultMax is how much of a body is kept if nobody says otherwise.
const DefaultMax = 1024

// A Sink takes traces, and reports whether it did. It is called by shards and must not block.
type Sink interface{ Submit(*Trace) bool }

// A Point is a place where streams can be recorded.
type Point struct{ current atomic.Pointer[Config] }

// Current is the config in force; nil: nothing is recorded.
func (p *Point) Current() *Config { return p.current.Load() }

// Set puts a config in force.
func (p *Point) Set(c *Config) { p.current.Store(c) }

// A Trace is a stream, or a piece of one.
type Trace struct {
	ID                uint64 // of the stream
	Piece             Piece
	Request, Response Message
	Share             *route.Fraction // that the config records; nil: it says nothing

	Downstream, Upstream *Connection // nil: not asked for
}

// A Piece is what of a stream a trace holds.
type Piece uint8

// Pieces.
const (
	Whole Piece = iota
	RequestHeaders
	RequestBody
	RequestTrailers
	ResponseHeaders
	ResponseBody
	ResponseTrailers
)

// A Message is a request or a response.
type Message struct {
	Headers, Trailers []Field
	Body              []byte // nil: none came
	Truncated         bool
	Received          time.Time // of the headers; zero: not asked for
}

// A Field is a header field.
type Field struct{ Name, Value string }

// copyFields copies header fields.
func copyFields(m *header.Map) []Field {
	if m == nil {
		return nil
	}
	out := make([]Field, 0, m.Len())
	for _, f := range m.Fields() {
		out = append(out, Field{string(f.Name), string(f.Value)})
	}
	return out
}

// A Connection has two ends.
type Connection struct{ Local, Remote netip.AddrPort }
