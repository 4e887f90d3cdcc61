package h2

import (
	"time"

	"github.com/mallamesh/malla/proxy/stats"
)

// Options are what a listener or a cluster says of its HTTP/2 connections. The
// zero value of every field means Envoy's default. Options are not changed once in use.
type Options struct {
	MaxConcurrentStreams uint32 // that the peer may have open; 0: 1024
	StreamWindow         int    // initial receive window of a stream; 0: 16 MiB
	ConnWindow           int    // receive window of the connection; 0: 24 MiB
	DecoderTable         int    // HPACK table that the peer may use; 0: 4096, below 0: none
	EncoderTable         int    // HPACK table that we use at most; 0: 4096, below 0: none
	MaxFrameSize         int    // that we accept; 0: 16384. A frame must fit into the driver's input
	MaxHeaderBytes       int    // of a message's fields; 0: 60 KiB
	MaxHeaders           int    // number of fields; 0: 100
	AllowConnect         bool   // a server takes extended CONNECT (RFC 8441)

	// StreamErrors resets the stream on a malformed message. Otherwise that ends the
	// connection, as in Envoy (stream_error_on_invalid_http_message).
	StreamErrors bool

	DropUnderscores, RejectUnderscores bool // in names of request fields

	// A PING is sent when this long has passed since the last one, and the
	// connection ends if it is not answered in time; 0: never. See Conn.Keepalive.
	PingInterval, PingTimeout time.Duration
	PingJitter                float64       // up to so many percent of the interval are added to each
	PingIdle                  time.Duration // a client's connection on which nothing has come for longer is tried before a request; 0: never. See Conn.TryIdle

	Limits Limits

	Stats *stats.HTTP2 // nil: nobody counts
}

// Limits are Envoy's protections against peers that make work or take memory
// without end. 0 means Envoy's default, below 0 no limit unless said otherwise.
type Limits struct {
	OutboundFrames        int           // frames that wait unsent; 10000
	OutboundControlFrames int           // of these PING, SETTINGS, RST_STREAM, ...; 1000
	EmptyFrames           int           // consecutive frames with neither payload nor end; 1
	PriorityPerStream     int           // PRIORITY frames per stream opened; 100
	WindowUpdatesPerData  int           // WINDOW_UPDATE frames per DATA frame sent; 10
	PrematureResets       int           // requests, half of which were reset unanswered within PrematureLifetime; 500
	PrematureLifetime     time.Duration // 1 s
	ResetBurst            int           // RST_STREAM frames that a client may send at once; 1000, below 0: none
	ResetRate             int           // more of them for each second; 33, below 0: none
}

const (
	defaultStreamWindow = 16 << 20
	defaultConnWindow   = 24 << 20
	defaultStreams      = 1024
	defaultTable        = 4096
	minFrame            = 16384
	defaultHeaderBytes  = 60 << 10
	defaultHeaders      = 100
	firstWindow         = 65535 // of everything, until the peers say otherwise
	maxWindow           = 1<<31 - 1
	maxStreamID         = 1<<31 - 1
)

// resolved is a copy of o without zeros that stand for something else.
func (o *Options) resolved() Options {
	r := *o
	def := func(n *int, d int) {
		switch {
		case *n == 0:
			*n = d
		case *n < 0:
			*n = 0
		}
	}
	if r.MaxConcurrentStreams == 0 {
		r.MaxConcurrentStreams = defaultStreams
	}
	def(&r.ConnWindow, defaultConnWindow)
	r.StreamWindow = o.Window()
	r.ConnWindow = min(max(r.ConnWindow, firstWindow), maxWindow)
	def(&r.DecoderTable, defaultTable)
	def(&r.EncoderTable, defaultTable)
	r.MaxFrameSize = min(max(r.MaxFrameSize, minFrame), 1<<24-1)
	def(&r.MaxHeaderBytes, defaultHeaderBytes)
	def(&r.MaxHeaders, defaultHeaders)
	r.Limits = r.Limits.resolved()
	if r.Stats == nil {
		r.Stats = new(stats.HTTP2)
	}
	return r
}

// Window is how much of a stream the peer may send that nobody has taken yet.
func (o *Options) Window() int {
	if o.StreamWindow == 0 {
		return defaultStreamWindow
	}
	return min(max(o.StreamWindow, firstWindow), maxWindow)
}

const unlimited = int(^uint(0) >> 2)

func (l Limits) resolved() Limits {
	def := func(n *int, d int) {
		switch {
		case *n == 0:
			*n = d
		case *n < 0:
			*n = unlimited
		}
	}
	def(&l.OutboundFrames, 10000)
	def(&l.OutboundControlFrames, 1000)
	def(&l.EmptyFrames, 1)
	def(&l.PriorityPerStream, 100)
	def(&l.WindowUpdatesPerData, 10)
	def(&l.PrematureResets, 500)
	none := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
		*n = max(*n, 0)
	}
	none(&l.ResetBurst, 1000)
	none(&l.ResetRate, 33)
	if l.PrematureLifetime == 0 {
		l.PrematureLifetime = time.Second
	}
	return l
}
