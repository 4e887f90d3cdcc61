package stream

import (
	"net/netip"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
)

// A Stream is one request with its response, and what is known of it.
type Stream struct {
	Worker *pool.Worker
	Config *Config
	Conn   *listen.Conn

	Request  header.Map // until the end, as the filters left it
	Trailers header.Map // of the request
	Response *header.Map
	Rec      access.Record

	Table    *route.Table
	Route    *route.Route // nil: none matches
	Match    route.Request
	Cluster  string                 // where the route leads; "": nowhere
	Host     HostWish               // which of its hosts is asked for by name
	Followed route.Followed         // redirects of hosts, in the client's place
	Weighted *route.WeightedCluster // the one of several that the request's number fell on
	Upgrade  bool                   // the request asks for another protocol
	GRPC     bool                   // the request came as a gRPC call: replies of ours are gRPC's
	Random   uint64                 // of this request; decides shares, weights, mirrors

	m        *manager
	down     Downstream
	link     *link
	gen      uint64
	head     []byte // the request's head; Request points into it
	local    header.Map
	localMsg []byte
	reqID    [36]byte
	scratch  [64]byte
	statusTx [3]byte

	chain        // the filters of this request
	usual *chain // those of others, while it has filters of its own
	other *Chain // the kind of those that it has of its own
	skip  uint64 // filters that this route has off, a bit for each

	at          int // filters[:at] have seen the request
	reqWait     int // filter that holds the request, -1: none
	respWait    int // filter that holds the response, -1: none
	reqHeld     held
	respHeld    held
	buffer      Buffer
	timer       drive.Timer // max_stream_duration
	arriving    drive.Timer // request_timeout
	telling     drive.Timer // access_log_flush_interval
	switched    bool        // the request asks for another protocol, and may
	lostUpgrade bool        // the request asks for another protocol, and has no route
	reqEnds     bool        // the request has headers only
	respEnds    bool        // the response has headers only
	inData      bool        // a piece of the request's body is being passed on
	forClient   []Waiter    // who waits until the client takes more
	forUpstream []Waiter    // who waits until the upstream does
	reqPaused   int         // so many filters have as much of the request as they can take
	respPaused  int         // so many filters have as much of the response as they can take
	requested   bool        // the whole request was received
	responded   bool        // response headers have gone to the filters
	sent        bool        // response headers have been written
	finished    bool        // the whole response has been written
	replied     bool        // by us
	over        bool
	passedEnd   bool // the end of the request has gone to the terminal
	started     bool // the terminal has the request
	unseen      bool // the response is not for the client, and does not count as one
	wantedByUs  bool // decorator: the request named its operation itself
	internal    bool
	absolute    bool // the request's target, of HTTP/1.1, names its scheme
	nextFree    *Stream
	status      int
}

// A HostWish is a host of the cluster that a filter asks for, by its address.
type HostWish struct {
	Addr   netip.AddrPort // invalid: none
	Strict bool           // that one or none
	Status int            // of the answer if it is not there and Strict; 0: 503
}

// held is a body that waits behind a filter.
type held struct {
	bytes    []byte
	end      bool
	trailers *header.Map
	after    int  // trailers go on with this filter
	headers  bool // the headers have not passed either
	collect  bool // until the message is whole
	cut      bool // what is beyond the limit is dropped
	stay     bool // the message stays when it is whole, until Proceed
	done     int  // so many filters at the beginning of the way have seen the bytes; the headers are held
	limit    int  // 0: maxHeld
}

// room is how much more may be held.
func (h *held) room() int {
	if h.limit > 0 {
		return h.limit - len(h.bytes)
	}
	return maxHeld - len(h.bytes)
}

// raw reports whether the filters before the one that waits have not seen the body either: it
// has stopped the headers, and the body stays with them.
func (h *held) raw() bool { return h.headers && !h.collect }

// maxHeld bounds a body that waits behind a filter.
const maxHeld = 1 << 20

// heldMark is how much of a body is read while a filter holds its request. Up to there the
// client's connection is read, not least so that its end is noticed.
const heldMark = 64 << 10

// Generation numbers the uses of a stream's memory; Resume wants it back.
func (s *Stream) Generation() uint64 { return s.gen }

// Resume continues a stream that a filter has stopped. It may be called from any goroutine.
// apply, if not nil, runs first, on the shard, and may reply. Nothing happens if the stream
// of that generation has gone.
func (s *Stream) Resume(gen uint64, apply func(*Stream)) {
	s.Worker.Loop.Post(func() {
		if s.gen != gen || s.over {
			return
		}
		if apply != nil {
			apply(s)
		}
		if !s.over {
			s.proceed()
		}
	})
}

// Proceed continues a stream that a filter has stopped, from inside a turn.
func (s *Stream) Proceed() {
	if !s.over {
		s.proceed()
	}
}

func (s *Stream) proceed() {
	switch {
	case s.reqWait >= 0 && (!s.responded || s.respWait < 0):
		s.resumeRequest()
	case s.respWait >= 0:
		s.resumeResponse()
	}
}

// ProceedRequest is Proceed of a filter that may hold both, request and response.
func (s *Stream) ProceedRequest() {
	if !s.over && s.reqWait >= 0 {
		s.resumeRequest()
	}
}

// ProceedResponse is Proceed of a filter that may hold both, request and response.
func (s *Stream) ProceedResponse() {
	if !s.over && s.respWait >= 0 {
		s.resumeResponse()
	}
}

// Filter returns the i-th filter, for tests.
func (s *Stream) Filter(i int) Filter { return s.filters[i] }

// RequestEnded reports whether the whole request was received.
func (s *Stream) RequestEnded() bool { return s.requested }

// Responded reports whether a response has begun.
func (s *Stream) Responded() bool { return s.responded }

// Replied reports whether the response is one of the proxy's own, so that nobody wants the request any more.
func (s *Stream) Replied() bool { return s.replied }

// begin leads the request through the chain.
func (s *Stream) begin(end bool) {
	if s.Worker.Debugs() {
		s.Worker.Log.Debug("request", "connection", s.Rec.ConnectionID, "protocol", s.Rec.Protocol, "method", string(s.Request.Get(header.Method)),
			"authority", string(s.Request.Get(header.Authority)), "path", string(s.Request.Get(header.Path)))
	}
	s.switches()
	s.startTimers(end)
	s.requested = end
	s.iterate(0, end)
}

// mark is the present moment; never zero.
func (s *Stream) mark() access.Mark { return access.Mark(s.Worker.Loop.Now() + 1) }

// held is how many bytes of the stream wait here, in front of filters, in them and behind them.
func (s *Stream) held() int {
	n := len(s.reqHeld.bytes) + len(s.respHeld.bytes)
	if h, ok := s.terminal.(Holder); ok && s.started {
		n += h.Held()
	}
	for _, f := range s.filters[:s.at] {
		if h, ok := f.(Holder); ok {
			n += h.Held()
		}
	}
	return n
}

// Abort breaks the stream off. A response that has not begun never will.
func (s *Stream) Abort(flag access.Flag, details string) {
	if s.over {
		return
	}
	s.Rec.Flags.Set(flag)
	if s.Rec.ClientEnd.How == "" {
		s.Rec.ClientEnd.How = access.EndLocalReset
	}
	s.Rec.ClientEnd.Requests = uint64(s.link.requests)
	if details != "" {
		s.Rec.CodeDetails = details
	}
	s.end()
	s.down.Reset()
	s.down.Ended()
	s.m.retire(s)
}

// checkOver ends the stream once request and response are complete. A complete response
// to a request that is not complete ends it too: the connection will be closed.
func (s *Stream) checkOver() {
	if s.over || !s.finished {
		return
	}
	s.end()
	s.down.Ended()
	s.m.retire(s)
}

// end closes the account: filters, terminal, log.
func (s *Stream) end() {
	s.over = true
	s.Rec.LocalReplyBody = "" // which is for who words replies; logs have none, as in Envoy
	if st := s.Config.Stats; st != nil {
		if !s.unseen && !(s.finished && s.requested) { // whoever broke it off
			st.DownstreamRqRxReset.Inc()
		}
		if s.switched {
			st.DownstreamCxUpgradesActive.Dec()
		}
	}
	s.Worker.Loop.Cancel(&s.timer)
	s.Worker.Loop.Cancel(&s.arriving)
	s.Worker.Loop.Cancel(&s.telling)
	if s.started {
		s.terminal.OnEnd(s)
	}
	s.takeDown() // filters may ask how long it took
	for i, f := range s.filters[:s.at] {
		if e, ok := f.(Ender); ok && !s.skipped(i) {
			e.OnEnd(s)
		}
	}
	s.m.account(s)
	if s.Worker.Debugs() {
		s.Worker.Log.Debug("request ended", "connection", s.Rec.ConnectionID, "code", s.Rec.Code, "details", s.Rec.CodeDetails, "flags", s.Rec.Flags.String(), "cluster", s.Rec.Cluster)
	}
}

// idle ends a stream on which nothing has happened for long.
func (s *Stream) idle() {
	if st := s.Config.Stats; st != nil {
		st.DownstreamRqIdleTimeout.Inc()
	}
	switch {
	case s.responded && s.sent:
		s.Abort(access.StreamIdleTimeout, "stream_idle_timeout")
	case s.responded:
		s.instead(s.late(), "stream timeout", "stream_idle_timeout", nil, access.StreamIdleTimeout)
	case s.requested:
		s.Reply(504, "stream timeout", "stream_idle_timeout", access.StreamIdleTimeout)
	default:
		s.Reply(408, "stream timeout", "stream_idle_timeout", access.StreamIdleTimeout)
	}
}

// lateHeaders answers a request whose headers take too long to come whole.
func (s *Stream) lateHeaders() {
	if st := s.Config.Stats; st != nil {
		st.DownstreamRqHeaderTimeout.Inc()
	}
	s.Reply(408, "request header timeout", "request_header_timeout")
}

// Schedule arms a timer of a filter.
func (s *Stream) Schedule(t *drive.Timer, d time.Duration) { s.Worker.Loop.Schedule(t, d) }
