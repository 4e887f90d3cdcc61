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
	lostUpgrade bool        // the request asks for another protocol, and has no route
	reqEnds     bool        // the request has headers only
	respEnds    bool        // the response has headers only
	inData      bool        // a piece of the request's body is being passed on
	reqPaused   bool        // a filter has as much of the request as it can take
	respPaused  bool        // a filter has as much of the response as it can take
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
	s.switches()
	s.startTimers(end)
	s.requested = end
	if end {
		s.Rec.RequestEnd = s.mark()
	}
	s.iterate(0, end)
}

// mark is the present moment; never zero.
func (s *Stream) mark() access.Mark { return access.Mark(s.Worker.Loop.Now() + 1) }

// iterate shows the request to filters from i on, and then to the terminal.
func (s *Stream) iterate(i int, end bool) {
	s.reqEnds = end
	for ; i < len(s.filters); i++ {
		s.at = i + 1
		if s.skipped(i) {
			continue
		}
		if v := s.filters[i].OnRequest(s, &s.Request); v != Continue {
			if !s.over && !s.responded {
				s.reqWait = i
				s.reqHeld.headers = true
				s.reqHeld.collect = v == Collect
			}
			return
		}
		if s.over || s.responded {
			return
		}
	}
	s.started = true
	s.passedEnd = end && !s.Upgrade
	s.terminal.OnRequest(s, &s.Request, s.passedEnd)
}

// onData takes a piece of the request's body.
func (s *Stream) onData(b []byte, end bool) {
	s.Rec.BytesReceived += uint64(len(b))
	if end {
		s.requested = true
		s.Rec.RequestEnd = s.mark()
	}
	s.inData = true
	s.passData(0, b, end)
	s.inData = false
	s.checkOver()
}

// passData leads a piece through the data filters from i on.
func (s *Stream) passData(i int, b []byte, end bool) {
	if s.over || s.finished || s.replied {
		return
	}
	if s.reqWait >= 0 && i <= s.reqWait && (s.reqHeld.raw() && i >= s.reqHeld.done || !s.anyData) {
		s.holdRequest(b, end)
		return
	}
	if s.anyData {
		for ; i < len(s.filters); i++ {
			if i == s.reqWait || s.reqWait >= 0 && s.reqHeld.raw() && i >= s.reqHeld.done { // those before it have seen the piece
				s.holdRequest(b, end)
				return
			}
			if s.data[i] == nil || s.skipped(i) {
				continue
			}
			s.buffer.Bytes = b
			if v := s.data[i].OnRequestData(s, &s.buffer, end); v != Continue {
				if !s.over && !s.replied && v == Stop { // a host that has begun to answer may want the rest
					s.reqWait = i
					s.holdRequest(s.buffer.Bytes, end)
				}
				return
			}
			if s.over || s.responded && s.replied {
				return
			}
			b = s.buffer.Bytes
		}
		if len(b) == 0 && !end {
			return // a filter keeps it
		}
	}
	s.passedEnd = end
	s.terminal.OnRequestData(b, end)
	if !s.over && !end && s.terminal.Full() {
		s.down.PauseRequest()
	}
}

func (s *Stream) holdRequest(b []byte, end bool) {
	s.reqHeld.end = s.reqHeld.end || end
	if len(b) > s.reqHeld.room() {
		s.Reply(413, "Payload Too Large", "request_payload_too_large", access.NoFlag)
		return
	}
	s.reqHeld.bytes = append(s.reqHeld.bytes, b...)
	switch {
	case end && s.reqHeld.collect:
		s.requestWhole()
	case !end && !s.reqHeld.collect && len(s.reqHeld.bytes) >= heldMark:
		s.down.PauseRequest()
	}
}

// requestWhole goes on with a request that was collected.
func (s *Stream) requestWhole() {
	if c, ok := s.filters[s.reqWait].(Collector); ok {
		s.reqHeld.bytes = c.OnRequestWhole(s, s.reqHeld.bytes)
	}
	if !s.over && !s.responded && !s.reqHeld.stay {
		s.resumeRequest()
	}
}

// onTrailers ends the request's body.
func (s *Stream) onTrailers() {
	s.requested = true
	s.Rec.RequestEnd = s.mark()
	switch {
	case s.over || s.finished || s.replied:
	case s.reqWait >= 0 && s.reqHeld.raw():
		s.reqHeld.end, s.reqHeld.trailers = true, &s.Trailers
	default:
		s.passTrailers(0, &s.Trailers)
	}
	s.checkOver()
}

// passTrailers leads a request's trailers through the filters from i on to the terminal.
func (s *Stream) passTrailers(i int, m *header.Map) {
	for ; i < len(s.filters); i++ {
		if i == s.reqWait { // those before it have seen them
			s.reqHeld.end, s.reqHeld.trailers, s.reqHeld.after = true, m, i
			if s.reqHeld.collect {
				s.requestWhole()
			}
			return
		}
		if s.trailing[i] == nil || s.skipped(i) {
			continue
		}
		if v := s.trailing[i].OnRequestTrailers(s, m); v != Continue {
			if v != Taken && !s.over && !s.replied {
				s.reqWait = i
				s.reqHeld.end, s.reqHeld.trailers, s.reqHeld.after = true, m, i+1
			}
			return
		}
		if s.over || s.responded && s.replied {
			return
		}
	}
	s.passedEnd = true
	s.terminal.OnRequestTrailers(m)
}

// resumeRequest goes on behind the filter that stopped the request.
func (s *Stream) resumeRequest() {
	i := s.reqWait
	s.reqWait = -1
	s.proceedFrom(i)
}

// proceedFrom goes on behind filter i with what is held.
func (s *Stream) proceedFrom(i int) {
	h := s.reqHeld
	s.reqHeld = held{bytes: h.bytes[:0]}
	if h.headers {
		s.iterate(i+1, s.requested && len(h.bytes) == 0 && h.trailers == nil)
	}
	from := i + 1
	if h.headers && !h.collect {
		from = h.done // the others have seen headers only
	}
	if s.over || s.replied || h.headers && s.responded || s.reqWait >= 0 && !s.reqHeld.collect {
		if s.reqWait >= 0 { // stopped again further on: keep what has not passed
			s.reqHeld.bytes, s.reqHeld.end, s.reqHeld.trailers, s.reqHeld.after, s.reqHeld.done = h.bytes, h.end, h.trailers, h.after, from
		}
		s.checkOver()
		return
	}
	if len(h.bytes) > 0 || h.end && !s.passedEnd && h.trailers == nil {
		s.passData(from, append([]byte(nil), h.bytes...), h.end && h.trailers == nil)
	}
	if h.trailers != nil && !s.over {
		s.passTrailers(h.after, h.trailers)
	}
	if !s.over && s.reqWait < 0 && !s.reqPaused && !s.Upgrade && (s.passedEnd || !s.terminal.Full()) {
		s.down.ResumeRequest()
	}
	s.checkOver()
}

// ResumeRequest has the client's bytes come again; the terminal calls it when it is no longer Full.
func (s *Stream) ResumeRequest() {
	if !s.over && s.reqWait < 0 && !s.reqPaused {
		s.down.ResumeRequest()
	}
}

// Interim passes on a 1xx response other than 101.
func (s *Stream) Interim(m *header.Map) {
	if !s.over && !s.responded && s.Config.passInterim() {
		s.down.WriteInterim(m)
		if s.down.Full() { // an upstream may send as many as it likes
			s.terminal.PauseResponse()
		}
	}
}

// Respond brings a response from the terminal.
func (s *Stream) Respond(m *header.Map, end bool) {
	if s.over || s.responded {
		return
	}
	s.responded, s.Response = true, m
	s.respond(len(s.filters)-1, end)
}

// respond shows a response to the filters that have seen the request, backwards, and writes it.
func (s *Stream) respond(i int, end bool) {
	s.respEnds = end
	for i = min(i, s.at-1); i >= 0; i-- {
		if s.skipped(i) {
			continue
		}
		if v := s.filters[i].OnResponse(s, s.Response); v != Continue {
			if !s.over {
				s.respWait = i
				s.respHeld.headers = true
				s.respHeld.end = s.respHeld.end || end
				if s.respHeld.collect = v == Collect; v == Stop && s.started {
					s.terminal.PauseResponse()
				}
			}
			return
		}
		if s.over {
			return
		}
	}
	s.finishHeaders(end)
}

// finishHeaders writes the response's headers.
func (s *Stream) finishHeaders(end bool) {
	s.responseHeaders(s.Response)
	s.sent = true
	s.Rec.DownstreamSend = s.mark()
	if end {
		s.finished = true
		s.Rec.DownstreamSent = s.Rec.DownstreamSend
	}
	s.down.WriteHeaders(s.Response, end)
	if s.Config.LogTunnel && s.Upgrade && (s.status == 101 || s.status/100 == 2) && !s.over {
		s.logMoment(access.DownstreamTunnelEstablished)
	}
	s.checkOver()
}

// Data brings a piece of the response's body.
func (s *Stream) Data(b []byte, end bool) {
	if s.over || s.finished {
		return
	}
	if s.respWait >= 0 && s.respHeld.raw() && s.respHeld.done == 0 {
		s.holdResponse(b, end)
		return
	}
	s.passResponse(len(s.filters)-1, b, end)
}

func (s *Stream) holdResponse(b []byte, end bool) {
	s.respHeld.end = s.respHeld.end || end
	if room := s.respHeld.room(); len(b) > room {
		if !s.respHeld.cut {
			s.Abort(access.NoFlag, "response_payload_too_large")
			return
		}
		b = b[:max(0, room)]
	}
	s.respHeld.bytes = append(s.respHeld.bytes, b...)
	if end && s.respHeld.collect {
		s.responseWhole()
	}
}

// responseWhole goes on with a response that was collected.
func (s *Stream) responseWhole() {
	if c, ok := s.filters[s.respWait].(Collector); ok {
		s.respHeld.bytes = c.OnResponseWhole(s, s.respHeld.bytes)
	}
	if !s.over && !s.respHeld.stay {
		s.resumeResponse()
	}
}

func (s *Stream) passResponse(i int, b []byte, end bool) {
	if s.respWait >= 0 && !s.anyData {
		s.holdResponse(b, end)
		return
	}
	if s.anyData {
		for i = min(i, s.at-1); i >= 0; i-- {
			if i == s.respWait || s.respWait >= 0 && s.respHeld.raw() && i < len(s.filters)-s.respHeld.done { // those before it have seen the piece
				s.holdResponse(b, end)
				return
			}
			if s.data[i] == nil || s.skipped(i) {
				continue
			}
			s.buffer.Bytes = b
			if v := s.data[i].OnResponseData(s, &s.buffer, end); v != Continue {
				if !s.over && v == Stop {
					s.respWait = i
					s.holdResponse(s.buffer.Bytes, end)
					if s.started && !end {
						s.terminal.PauseResponse()
					}
				}
				return
			}
			if s.over {
				return
			}
			b = s.buffer.Bytes
		}
		if len(b) == 0 && !end {
			return
		}
	}
	s.Rec.BytesSent += uint64(len(b))
	if end {
		s.finished = true
		s.Rec.DownstreamSent = s.mark()
	}
	s.down.WriteData(b, end)
	if !end && s.started && s.down.Full() {
		s.terminal.PauseResponse()
	}
	s.checkOver()
}

// ResponseTrailers ends the response's body.
func (s *Stream) ResponseTrailers(m *header.Map) {
	if s.over || s.finished {
		return
	}
	if s.respWait >= 0 && s.respHeld.raw() {
		s.respHeld.end, s.respHeld.trailers = true, m
		return
	}
	s.passResponseTrailers(len(s.filters)-1, m)
}

func (s *Stream) passResponseTrailers(i int, m *header.Map) {
	if s.anyTrailing || s.respWait >= 0 {
		for i = min(i, s.at-1); i >= 0; i-- {
			if i == s.respWait { // those before it have seen them
				s.respHeld.end, s.respHeld.trailers = true, m
				if s.respHeld.collect {
					s.responseWhole()
				}
				return
			}
			if s.trailing[i] == nil || s.skipped(i) {
				continue
			}
			if v := s.trailing[i].OnResponseTrailers(s, m); v == Stop || v == Taken {
				if v == Stop && !s.over {
					s.respWait = i
					s.respHeld.end, s.respHeld.trailers = true, m
				}
				return
			}
			if s.over {
				return
			}
		}
	}
	s.finished = true
	s.Rec.DownstreamSent = s.mark()
	if m.Len() == 0 { // a filter has put them into the body
		s.down.WriteData(nil, true)
	} else {
		s.Rec.Trailers = m
		s.down.WriteTrailers(m)
	}
	s.checkOver()
}

// resumeResponse goes on behind the filter that stopped the response.
func (s *Stream) resumeResponse() {
	i, h := s.respWait, s.respHeld
	s.respWait = -1
	s.respHeld = held{bytes: h.bytes[:0]}
	bytes := append([]byte(nil), h.bytes...)
	if h.headers {
		s.respHeld.end, s.respHeld.trailers = h.end, h.trailers
		s.respHeld.bytes = append(s.respHeld.bytes, bytes...)
		s.respond(i-1, h.end && len(bytes) == 0 && h.trailers == nil)
		if !h.collect {
			i = len(s.filters) - h.done // the others have seen headers only
		}
		if s.over || s.finished {
			return
		}
		if s.respWait >= 0 && !s.respHeld.collect {
			s.respHeld.done = len(s.filters) - i
			return
		}
		if s.respHeld.bytes = s.respHeld.bytes[:0]; s.respWait < 0 {
			s.respHeld = held{bytes: s.respHeld.bytes}
		} else if s.respHeld.end, s.respHeld.trailers = h.end && len(bytes) == 0 && h.trailers == nil, nil; s.respHeld.end {
			return // it has headers only
		}
	}
	if len(bytes) > 0 || h.end && h.trailers == nil {
		s.passResponse(i-1, bytes, h.end && h.trailers == nil)
	}
	if h.trailers != nil && !s.over {
		s.passResponseTrailers(i-1, h.trailers)
	}
	if !s.over && !s.finished && s.respWait < 0 && s.started && !s.respPaused && !s.down.Full() {
		s.terminal.ResumeResponse()
	}
}

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

// onDrained lets the response flow again.
func (s *Stream) onDrained() {
	if !s.over && s.started && s.respWait < 0 && !s.respPaused {
		s.terminal.ResumeResponse()
	}
}

// Abort breaks the stream off. A response that has not begun never will.
func (s *Stream) Abort(flag access.Flag, details string) {
	if s.over {
		return
	}
	s.Rec.Flags.Set(flag)
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
	if st := s.Config.Stats; st != nil && s.finished && !s.requested {
		st.DownstreamRqResponseBeforeRqComplete.Inc()
	}
	s.Worker.Loop.Cancel(&s.timer)
	s.Worker.Loop.Cancel(&s.arriving)
	s.Worker.Loop.Cancel(&s.telling)
	if s.started {
		s.terminal.OnEnd(s)
	}
	for i, f := range s.filters[:s.at] {
		if e, ok := f.(Ender); ok && !s.skipped(i) {
			e.OnEnd(s)
		}
	}
	s.m.account(s)
}

// idle ends a stream on which nothing has happened for long.
func (s *Stream) idle() {
	if st := s.Config.Stats; st != nil {
		st.DownstreamRqIdleTimeout.Inc()
	}
	switch {
	case s.responded:
		s.Abort(access.StreamIdleTimeout, "stream_idle_timeout")
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
