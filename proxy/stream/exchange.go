package stream

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/h2"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
)

// An exchange is a stream of HTTP/2: it takes a request from it and writes the response to it.
type exchange struct {
	v          *server2
	hs         *h2.Stream
	s          *Stream // nil: over
	since      int64   // when something happened last
	headAt     int64   // when its headers are late, 0: never
	held       bool    // reading is stopped by the one who takes the request
	began      bool    // the request's headers have come
	tunnel     bool    // waits for 101, or has it
	bare       bool    // the response has no body, whatever the upstream sends
	prev, next *exchange
}

// alive notes that something happens on the stream.
func (x *exchange) alive() {
	x.since = x.v.m.w.Loop.Now()
	if at := x.idleUntil(); at != 0 {
		x.v.lookAgain(at)
	}
}

// Alive begins to count the idle time anew.
func (x *exchange) Alive() { x.alive() }

// awaitHead bounds how long the request's headers may take to come whole.
func (x *exchange) awaitHead() {
	x.headAt = 0
	if t := x.v.m.cfg.HeadersTimeout; t > 0 {
		x.headAt = x.v.m.w.Loop.Now() + int64(t)
		x.v.lookAgain(x.headAt)
	}
}

// idleUntil is when nothing will have happened for too long, 0: never.
func (x *exchange) idleUntil() int64 {
	if t := x.s.idleTimeout(); t > 0 {
		return x.since + int64(t)
	}
	return 0
}

// OnHeaders leads a request into its stream.
func (x *exchange) OnHeaders(m *header.Map, end bool) {
	s, cfg := x.s, x.v.m.cfg
	x.began, x.headAt = true, 0
	s.Rec.Down.PlainIn = uint64(m.Size())
	x.alive()
	s.Upgrade = m.Has(header.Upgrade) || string(m.Get(header.Method)) == "CONNECT"
	if x.tunnel = s.Upgrade; x.tunnel {
		// What follows is for whoever the protocol is switched to. It must not reach a
		// server that does not switch, so it waits for the 101.
		x.hs.Pause()
	}
	if cfg.Expect100Here && string(m.Get(header.Expect)) == "100-continue" {
		m.Remove(header.Expect)
		x.v.m.countAnswer(100)
		x.hs.SendInformational(&continue100)
	}
	v := x.v
	if s.requested = end; end { // also if it is refused
		s.Rec.RequestEnd = s.mark()
	}
	if s.prepare() {
		x.alive() // the route may have an idle time of its own
		s.begin(end)
	}
	if v.m.crowded() {
		v.http.Rest()
	}
}

var continue100 = func() (m header.Map) {
	m.Add(header.Status, []byte("100"))
	return m
}()

// OnInformational is for clients.
func (x *exchange) OnInformational(*header.Map) {}

// OnData brings a piece of the request's body.
func (x *exchange) OnData(b []byte, end bool) {
	x.alive()
	x.s.onData(b, end)
}

// OnTrailers ends the request's body.
func (x *exchange) OnTrailers(m *header.Map) {
	x.alive()
	x.s.Rec.Down.PlainIn += uint64(m.Size())
	x.s.onTrailers()
}

// OnReset notices that the client has given up, or was refused.
func (x *exchange) OnReset(r h2.Reset) {
	s := x.s
	if r.Cause == h2.Broken {
		x.v.lost++
	}
	flag, details, how := access.DownstreamRemoteReset, r.Details, access.EndRemoteStream
	if !x.began {
		s.Request.Reset() // nothing of it was taken seriously
	}
	switch r.Cause {
	case h2.Malformed, h2.Broken:
		how = pool.HowRefused(r)
		if r.Cause == h2.Broken || r.Code != h2.InternalError { // Envoy takes what is over a limit for the client's wish
			flag = access.DownstreamProtocolError
		}
	case h2.Closed:
		s.Rec.Closed = s.mark()
		if x.v.conn.CutShort(&s.Rec) {
			flag, details, how = access.NoFlag, s.Rec.CodeDetails, x.v.how
			break
		}
		flag, details, how = access.DownstreamConnectionTermination, "downstream_remote_disconnect", x.v.how
	}
	if details == "" {
		details = "downstream_remote_reset"
	}
	s.Rec.ClientEnd.How = how
	switch {
	case r.Cause != h2.Closed:
		s.Rec.ClientEnd.Code = r.Code.String()
	case x.v.alert != "":
		s.Rec.ClientEnd.Code = x.v.alert
	case x.v.left != h2.NoError:
		s.Rec.ClientEnd.Code = x.v.left.String()
	}
	x.Measure(&s.Rec.Down)
	x.hs.Release()
	x.hs = nil
	s.Abort(flag, details)
}

// OnDrained lets the response flow again.
func (x *exchange) OnDrained() { x.s.onDrained() }

// WriteInterim passes on a 1xx response.
func (x *exchange) WriteInterim(m *header.Map) { x.hs.SendInformational(m) }

// WriteHeaders sends a response's headers.
func (x *exchange) WriteHeaders(m *header.Map, end bool) {
	x.alive()
	if !x.v.draining && (x.v.conn.Draining() || x.v.lastForOverload()) {
		x.v.Drain()
	}
	if string(x.s.Request.Get(header.Method)) == "HEAD" {
		end, x.bare = true, true
	}
	x.s.Rec.Down.PlainOut += uint64(m.Size())
	x.hs.SendHeaders(m, end)
	if x.tunnel && x.s.status < 300 {
		x.hs.Resume()
	}
}

// WriteData sends a piece of a response's body.
func (x *exchange) WriteData(b []byte, end bool) {
	x.alive()
	if !x.bare {
		x.hs.SendData(b, end)
	}
}

// WriteTrailers ends a response's body.
func (x *exchange) WriteTrailers(m *header.Map) {
	x.s.Rec.Down.PlainOut += uint64(m.Size())
	x.hs.SendTrailers(m)
}

// Measure says how many bytes have gone over the wire.
func (x *exchange) Measure(m *access.Meter) {
	if x.hs == nil { // they were taken down when it went
		return
	}
	h, b := x.hs.HeaderBytes, x.hs.BodyBytes
	m.HeaderIn, m.HeaderOut, m.WireIn, m.WireOut = h.In, h.Out, h.In+b.In, h.Out+b.Out
}

// Reset breaks the stream off.
func (x *exchange) Reset() {
	if x.hs != nil {
		if st := x.v.m.cfg.Stats; st != nil && !x.s.Rec.Flags.Has(access.OverloadManagerTerminated) {
			st.DownstreamRqTxReset.Inc()
		}
		code := h2.InternalError
		if x.tunnel {
			code = h2.ConnectError
		}
		x.hs.Reset(code)
	}
}

// Full says that the response should pause.
func (x *exchange) Full() bool { return x.hs.Full() }

// PauseRequest takes no more of the request.
func (x *exchange) PauseRequest() {
	if st := x.v.m.cfg.Stats; st != nil && !x.held {
		st.DownstreamFlowControlPausedReading.Inc()
	}
	x.held = true
	x.hs.Pause()
}

// ResumeRequest takes the request again.
func (x *exchange) ResumeRequest() {
	if x.hs == nil || x.tunnel && (x.s == nil || !x.s.sent) {
		return
	}
	if st := x.v.m.cfg.Stats; st != nil && x.held {
		st.DownstreamFlowControlResumedReading.Inc()
	}
	x.held = false
	x.hs.Resume()
}

// Ended lets go of the stream. What is left of the response goes out by itself; a
// request that has not come whole is of no interest any more.
func (x *exchange) Ended() {
	v := x.v
	if x.hs != nil {
		x.hs.Release()
	}
	x.hs, x.s = nil, nil
	x.prev.next, x.next.prev = x.next, x.prev
	v.count--
	if len(v.done) == 0 {
		v.m.w.AtTurnEnd(v.atEnd)
	}
	v.done = append(v.done, x)
	if v.closed {
		return
	}
	if v.count == 0 {
		v.idleFromNow()
		v.endIfDone()
	}
	if t := v.m.cfg.FlushTimeout; t > 0 && v.http.Active() > v.count { // somebody has to look after what is still going out
		v.lookAgain(v.m.w.Loop.Now() + int64(t))
	}
}
