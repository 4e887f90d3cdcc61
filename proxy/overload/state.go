package overload

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/stats"
)

// A State is what shards look at. It is nothing but atomics: the [Manager] writes them, and the zero value says
// that there is nothing to be careful about.
type State struct {
	Requests    Share // that are refused: stop_accepting_requests
	KeepAlive   Share // of responses that are the last of their connection: disable_http_keepalive
	Connections Share // that are refused: reject_incoming_connections
	Timeouts    [NumTimers]Timeout
	Points      [NumPoints]Point
}

// Nothing is the state of listeners that are left out.
var Nothing State

// A Dice gives random numbers; a shard's worker is one.
type Dice interface{ Random() uint64 }

// A Share is a part of all cases, decided one by one.
type Share struct{ of atomic.Uint32 }

// Set sets the share, 0 to 1.
func (s *Share) Set(share float64) {
	s.of.Store(uint32(math.Round(min(1, max(0, share)) * math.MaxUint32)))
}

// Hit reports whether this case is among them.
func (s *Share) Hit(d Dice) bool {
	of := s.of.Load()
	return of != 0 && (of == math.MaxUint32 || uint32(d.Random()) < of)
}

// A Point is a moment in the life of a connection or a request at which some of them can be shed.
type Point struct {
	Share
	stats *stats.ShedPoint // nil: the point is not configured
}

// Hit reports whether this one is to be shed, and counts it.
func (p *Point) Hit(d Dice) bool {
	if !p.Share.Hit(d) {
		return false
	}
	if p.stats != nil {
		p.stats.ShedLoadCount.Inc()
	}
	return true
}

// Watched reports whether something may be shed here some time.
func (p *Point) Watched() bool { return p.stats != nil }

// A PointName is an index of State.Points.
type PointName int

// Envoy's load shed points, without those of HTTP/3.
const (
	TCPListenerAccept PointName = iota
	DecodeHeaders
	HTTP1Dispatch
	HTTP2GoAway
	HTTP2GoAwayAndClose
	CreateCodec
	FilterCheck
	NewConnection
	TCPData
	TCPConnect
	NumPoints
)

var pointNames = [NumPoints]string{
	"tcp_listener_accept", "http_connection_manager_decode_headers", "http1_server_abort_dispatch",
	"http2_server_go_away_on_dispatch", "http2_server_go_away_and_close_on_dispatch", "hcm_ondata_creating_codec",
	"http_downstream_filter_check", "connection_pool_new_connection", "tcp_proxy_on_data", "tcp_proxy_upstream_connect",
}

// String is the point's name in configuration.
func (n PointName) String() string { return "envoy.load_shed_points." + pointNames[n] }

// A Timeout says how much shorter a time is than it was configured.
type Timeout struct {
	pressure atomic.Uint64 // a float64: 0 leaves the time as it is, 1 makes it the least
	floor    Floor         // does not change once shards run
}

func (t *Timeout) set(pressure float64) { t.pressure.Store(math.Float64bits(pressure)) }

// A Floor is what is left of a time when the pressure is highest.
type Floor struct {
	Time  time.Duration // at least, or
	Share float64       // of the configured time, if Time is 0
}

// Scale returns what a time of d is at the moment. 0 stands for none, and stays.
func (t *Timeout) Scale(d time.Duration) time.Duration {
	bits := t.pressure.Load()
	if bits == 0 || d == 0 {
		return d
	}
	least := t.floor.Time
	if least == 0 {
		least = time.Duration(t.floor.Share * float64(d))
	}
	if least >= d {
		return d
	}
	return max(1, d-time.Duration(math.Float64frombits(bits)*float64(d-least)))
}

// A Timer is an index of State.Timeouts.
type Timer int

// The times that can be made shorter.
const (
	ConnectionIdle Timer = iota
	StreamIdle
	Handshake
	ConnectionAge
	StreamFlush
	NumTimers
)
