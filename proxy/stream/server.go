package stream

import (
	"cmp"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/h1"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/pool"
)

// server is the HTTP/1.1 side of a client's connection. It has one stream at a
// time; pipelined requests wait in the connection's input, unread.
type server struct {
	link
	parser h1.Parser
	body   h1.Body
	s      *Stream

	seenHead  int         // bytes of a head that is not whole yet
	begun     access.Mark // the first byte of a request has come, while its head is not whole; 0: none has
	inBody    bool        // the request is not complete
	http10    bool
	headOnly  bool // the request was HEAD
	chunked   bool // the response is sent in chunks
	tunnel    bool
	held      bool // reading is stopped by the one who takes the request
	closing   bool // the connection ends after this response
	asked     bool // by the client's wish
	wroteHead bool
	headAt    int64
}

// serveHTTP1 goes on with a connection of HTTP/1.1.
func serveHTTP1(l link) *server {
	conn, c := l.conn, l.m.cfg
	v := &server{link: l}
	v.parser = h1.Parser{
		MaxBytes: c.MaxHeaderBytes, MaxFields: c.MaxHeaders, DropUnderscores: c.DropUnderscores, RejectUnderscores: c.RejectUnderscores, Stats: c.HTTP1,
		NoAbsolute: c.NoAbsolute, AnyMethod: c.AnyMethod, Plain: !conn.Secure(), Spelling: c.Spelling,
	}
	v.timer.Handler = v
	v.last.Handler, v.last.Kind = v, timerLast
	if st := c.Stats; st != nil {
		v.speaks(&st.DownstreamCxHTTP1Total, &st.DownstreamCxHTTP1Active)
	}
	v.age()
	if c.HTTP1 != nil {
		c.HTTP1.Show()
	}
	conn.Served = v
	conn.SetHandler(v)
	conn.SetInput(c.MaxHeaderBytes + headSlack)
	v.idleFromNow()
	return v
}

// alive notes that something happens on the stream.
func (v *server) alive() {
	v.since = v.m.w.Loop.Now()
	v.watch()
}

// watch has a stream ended when nothing happens on it any more.
func (v *server) watch() {
	t := v.m.cfg.StreamIdle
	if v.s != nil {
		t = v.s.idleTimeout()
	}
	at := int64(0)
	if t > 0 {
		at = v.since + int64(t)
	}
	v.conn.SetDeadline(at)
}

// Rescale has the connection's times follow the pressure.
func (v *server) Rescale() {
	if v.closed {
		return
	}
	v.rescale()
	switch {
	case v.s != nil || v.beginning():
		v.watch()
	case v.headAt == 0:
		v.idleSince()
	}
	if at := v.conn.Deadline(); v.headAt != 0 && (at == 0 || v.headAt < at) {
		v.conn.SetDeadline(v.headAt)
	}
}

// headSlack is the input beyond the longest head that has to fit, so that a longer one is seen to be.
const headSlack = 32 << 10

// OnData reads requests. While the answers to earlier ones wait for the client, the next
// one waits too: who sends requests and takes no answers would have us collect them.
func (v *server) OnData(_ *drive.Conn, b []byte) int {
	if v.over.Points[overload.HTTP1Dispatch].Hit(v.m.w) {
		v.abortDispatch()
		return len(b)
	}
	used := 0
	for used < len(b) && !v.closed && !v.conn.Paused() {
		var n int
		switch {
		case v.s == nil && v.conn.Full():
			v.conn.Pause()
			return used
		case v.s == nil && used > 0 && v.m.crowded():
			v.conn.Yield()
			return used
		case v.s == nil:
			n = v.readHead(b[used:])
		case v.inBody && v.s.helpings && used >= 4*pool.Helping:
			v.conn.Yield()
			return used
		case v.inBody && v.s.helpings && len(b)-used > pool.Helping:
			if n = v.readBody(b[used : used+pool.Helping]); n == 0 && !v.closed { // the head of a chunk is cut there
				n = v.readBody(b[used:])
			}
		case v.inBody:
			n = v.readBody(b[used:])
		}
		used += n
		if n == 0 {
			break // incomplete, or pipelined: it waits
		}
	}
	return used
}

// readHead takes a request's head from b and begins its stream.
func (v *server) readHead(b []byte) int {
	if v.seenHead == 0 {
		// RFC 9112, section 2.2: an empty line before a request is ignored.
		if b[0] == '\r' && len(b) > 1 && b[1] == '\n' {
			return 2
		}
	}
	n, e := v.parser.HeadEnd(b, min(v.seenHead, len(b)))
	if n == 0 && e == nil {
		if v.seenHead == 0 {
			v.startHead()
		}
		v.seenHead = len(b)
		return 0
	}
	s := v.newStream()
	if e == nil {
		var head h1.Head
		s.head = append(s.head[:0], b[:n]...)
		head, e = v.parser.Request(s.head, &s.Request)
		if e == nil {
			fields := uint64(head.Fields)
			s.Rec.Down = access.Meter{WireIn: uint64(n), HeaderIn: fields, PlainIn: fields}
			v.begin(s, &head)
			return n
		}
	}
	v.refuse(s, e)
	return len(b)
}

// startHead notes that a request has begun whose head has come in part only. For Envoy it is a stream from its first
// byte on: the connection is idle no more, and what is logged begins there.
func (v *server) startHead() {
	loop := v.m.w.Loop
	v.begun = access.Mark(loop.Now() + 1)
	v.alive()
	if t := v.m.cfg.HeadersTimeout; t > 0 {
		v.headAt = loop.Now() + int64(t)
		if at := v.conn.Deadline(); at == 0 || v.headAt < at {
			v.conn.SetDeadline(v.headAt)
		}
	}
}

// beginning reports whether the head of a request has come in part.
func (v *server) beginning() bool { return v.seenHead > 0 }

func (v *server) newStream() *Stream {
	s := v.m.get(v, &v.link)
	if v.begun != 0 {
		s.Rec.Began, s.Rec.Start = v.begun, v.m.w.Loop.WallAt(int64(v.begun)-1)
		s.Rec.Down.WireIn = uint64(v.seenHead) // all that there is, if no more comes
		v.begun = 0
	}
	v.s, v.headAt, v.seenHead = s, 0, 0
	v.requests++
	v.http10, v.headOnly, v.chunked, v.inBody, v.wroteHead = false, false, false, false, false
	s.Rec.Protocol = access.HTTP11
	v.m.count(access.HTTP11)
	return s
}

// refuse answers what is not a request that we would pass on.
func (v *server) refuse(s *Stream, e *h1.Error) {
	if st := v.m.cfg.Stats; st != nil {
		st.DownstreamCxProtocolError.Inc()
	}
	v.closing, v.inBody = true, true
	if !e.NoHost() {
		s.Rec.Flags.Set(access.DownstreamProtocolError)
		s.Request.Reset()
		s.Reply(e.Status, h1.Reason(statusText(&s.statusTx, e.Status)), e.Details)
		return
	}
	s.Reply(e.Status, "", e.Details)
}

// begin leads a request into its stream.
func (v *server) begin(s *Stream, head *h1.Head) {
	cfg := v.m.cfg
	v.headOnly = string(s.Request.Get(header.Method)) == "HEAD"
	v.http10 = head.Minor == 0
	v.asked = !head.KeepAlive
	v.closing = v.closing || !head.KeepAlive || v.spent()
	v.alive()
	if v.http10 && !v.allowHTTP10(s) {
		return
	}
	v.body.Start(head)
	v.inBody = !v.body.Done()
	s.Upgrade = head.Upgrade || head.Connect
	if head.Upgrade || head.Connect {
		// What follows the head is for whoever the protocol is switched to. It must not
		// reach a server that does not switch, so it waits for the 101.
		v.body.Tunnel()
		v.inBody, v.closing = true, true
		v.conn.Pause()
	}
	if head.Expect && cfg.Expect100Here {
		s.Request.Remove(header.Expect)
		if v.inBody && !v.http10 {
			v.m.countAnswer(100)
			v.conn.End(append(v.conn.Begin(), h1.Continue...))
		}
	}
	if s.prepare() {
		v.alive() // the route may have an idle time of its own
		s.begin(!v.inBody)
	}
}

// allowHTTP10 refuses HTTP/1.0 as Envoy does unless it is allowed.
func (v *server) allowHTTP10(s *Stream) bool {
	cfg := v.m.cfg
	s.Rec.Protocol = access.HTTP10
	if !cfg.AcceptHTTP10 {
		v.closing = true
		v.http10, s.Rec.Protocol = false, access.HTTP11 // that is what Envoy answers and logs
		s.Request.Reset()
		s.Reply(426, "Upgrade Required", "low_version", access.DownstreamProtocolError)
		return false
	}
	if len(s.Request.Get(header.Authority)) == 0 {
		if cfg.DefaultHost == "" {
			v.closing = true
			s.Reply(400, "", "missing_host_header")
			return false
		}
		s.Request.SetCopy(header.Authority, []byte(cfg.DefaultHost))
	}
	return true
}

// readBody takes a piece of the request's body from b.
func (v *server) readBody(b []byte) int {
	s := v.s
	piece, n, e := v.body.Next(&v.parser, b, &s.Trailers)
	if e != nil {
		v.bodyError(s, e)
		return len(b)
	}
	v.alive()
	done := v.body.Done()
	s.Rec.Down.WireIn += uint64(n)
	if done {
		v.inBody = false
		s.Rec.Down.HeaderIn += uint64(v.body.Trailers)
	}
	switch {
	case done && s.Trailers.Len() > 0 && !v.m.cfg.NoTrailers:
		s.onTrailers()
	case done || len(piece) > 0:
		s.onData(piece, done)
	}
	return n
}

// bodyError breaks off a request whose framing is wrong in the middle.
func (v *server) bodyError(s *Stream, e *h1.Error) {
	if st := v.m.cfg.Stats; st != nil {
		st.DownstreamCxProtocolError.Inc()
	}
	v.closing = true
	s.Rec.Flags.Set(access.DownstreamProtocolError)
	s.Reply(e.Status, h1.Reason(statusText(&s.statusTx, e.Status)), e.Details)
}

// WriteInterim passes on a 1xx response.
func (v *server) WriteInterim(m *header.Map) {
	if !v.http10 {
		v.writeHead(m, false, false, false)
	}
}

// writeHead sends a response's head, as h1.AppendResponse makes it, and counts it.
func (v *server) writeHead(m *header.Map, chunked, closing, empty bool) {
	room := v.conn.Room(1024)
	b := h1.AppendResponse(room, m, chunked, closing, empty)
	if v.http10 { // Envoy answers in the version of the request
		b[len(room)+len("HTTP/1.")] = '0'
	}
	switch {
	case m.Spelled():
		m.Spell(b[len(room):])
	case v.m.cfg.ProperCase:
		h1.ProperCase(b[len(room):])
	}
	head := b[len(room):]
	v.wrote(len(head), h1.FieldBytes(head))
	v.conn.End(b)
}

// wrote counts bytes of a response, some of which are fields.
func (v *server) wrote(all, fields int) {
	m := &v.s.Rec.Down
	m.WireOut += uint64(all)
	m.HeaderOut += uint64(fields)
	m.PlainOut += uint64(fields)
}

var keepAlive = []byte("keep-alive")

// WriteHeaders encodes a response's head and decides how its body is framed.
func (v *server) WriteHeaders(m *header.Map, end bool) {
	v.alive()
	v.wroteHead = true
	status := v.s.status
	if status == 101 || v.s.Upgrade && status/100 == 2 && string(v.s.Request.Get(header.Method)) == "CONNECT" {
		v.startTunnel(m)
		return
	}
	// An answer before the end of the request leaves bytes that are no request: the
	// connection cannot be used again.
	v.closing = v.closing || v.inBody
	switch {
	case v.closing || v.draining:
	case v.conn.Draining():
		v.countDrain()
		v.depart()
	case v.lastForOverload():
		v.closing = true
		v.countDrain()
	}
	bodiless := status == 204 || status == 304 || status < 200
	empty := false
	sized := m.Has(header.ContentLength)
	switch {
	case sized || bodiless:
	case end && !v.headOnly:
		empty = true
	case v.http10:
		v.closing = true
	default:
		v.chunked = true
	}
	last := v.closing || v.draining
	if v.http10 && !last { // which is not the default there
		m.Add(header.Connection, keepAlive)
	}
	v.writeHead(m, v.chunked, last, empty)
	v.chunked = v.chunked && !v.headOnly
}

func (v *server) startTunnel(m *header.Map) {
	v.tunnel = true
	v.writeHead(m, false, false, false)
	v.conn.Resume()
}

// WriteData encodes a piece of a response's body.
func (v *server) WriteData(b []byte, end bool) {
	v.alive()
	switch {
	case v.headOnly:
	case v.chunked:
		if h1.WriteChunk(v.conn, b); len(b) > 0 {
			v.wrote(len(b)+h1.ChunkOverhead(len(b)), 0)
		}
		if end {
			v.conn.End(h1.AppendLastChunk(v.conn.Room(16), nil))
			v.wrote(len(lastChunk), 0)
		}
	default:
		v.conn.Write(b)
		v.wrote(len(b), 0)
	}
}

// Measure does nothing: bytes are counted as they go.
func (v *server) Measure(*access.Meter) {}

const lastChunk = "0\r\n\r\n"

// WriteTrailers ends a response's body with trailers, which only a chunked one can carry.
func (v *server) WriteTrailers(m *header.Map) {
	if v.chunked {
		if v.m.cfg.NoTrailers {
			m = nil
		}
		room := v.conn.Room(256)
		b := h1.AppendLastChunk(room, m)
		n := len(b) - len(room)
		v.wrote(n, n-len(lastChunk))
		v.conn.End(b)
	}
}

// Reset breaks off a response: closing the connection is all that HTTP/1.1 has to say so.
func (v *server) Reset() {
	if st := v.m.cfg.Stats; st != nil && !v.closed && !v.s.Rec.Flags.Has(access.OverloadManagerTerminated) {
		st.DownstreamRqTxReset.Inc()
	}
	v.closing, v.inBody = true, true
}

// Full says that the response should pause.
func (v *server) Full() bool { return v.conn.Full() }

// PauseRequest stops reading.
func (v *server) PauseRequest() {
	if st := v.m.cfg.Stats; st != nil && !v.held {
		st.DownstreamFlowControlPausedReading.Inc()
	}
	v.held = true
	v.conn.Pause()
}

// ResumeRequest reads again.
func (v *server) ResumeRequest() {
	if v.closed || !v.conn.Paused() || v.s != nil && v.s.Upgrade && !v.tunnel {
		return
	}
	if st := v.m.cfg.Stats; st != nil && v.held {
		st.DownstreamFlowControlResumedReading.Inc()
	}
	v.held = false
	v.conn.Resume()
}

// Ended goes on to the next request, or ends the connection.
func (v *server) Ended() {
	s := v.s
	v.s, v.held = nil, false
	if v.closed {
		return
	}
	if v.closing || v.inBody {
		broken := !s.finished && !v.wroteHead
		v.finish()
		switch {
		case broken:
			v.abort()
		case v.tunnel, v.asked && !v.inBody:
			v.leave()
		default: // the client may be sending and must not lose our answer by a reset
			v.conn.CloseGently()
		}
		return
	}
	v.idleFromNow()
	if v.conn.Paused() || v.conn.HasInput() {
		v.conn.Resume()
	}
}

// OnEnd notices that the client has shut its sending side. A client in the middle of
// a request has gone, as far as Envoy and we are concerned.
func (v *server) OnEnd(*drive.Conn) { v.gone(nil) }

// OnClose notices that the connection has broken, or that the client takes nothing any more.
func (v *server) OnClose(_ *drive.Conn, err error) {
	if err == drive.ErrTimeout && !v.closed && v.s != nil {
		if st := v.m.cfg.Stats; st != nil {
			st.DownstreamRqIdleTimeout.Inc()
		}
		s := v.s
		v.closing = true
		v.finish()
		v.left()
		s.Abort(access.StreamIdleTimeout, "stream_idle_timeout")
		return
	}
	v.gone(err)
}

func (v *server) gone(err error) {
	if v.closed {
		return
	}
	if v.s == nil && v.beginning() { // what was no request yet is logged as one that ended here
		v.newStream()
	}
	s := v.s
	v.closing = true
	v.finish()
	streams := 0
	if s != nil {
		streams = 1
	}
	v.goneWith(streams)
	if s != nil {
		s.Rec.Closed = s.mark()
		s.Rec.ClientEnd.How, s.Rec.ClientEnd.Code = pool.HowEnded(err)
		s.Abort(access.DownstreamConnectionTermination, "downstream_remote_disconnect")
	}
	v.conn.Close()
}

// OnDrained lets the response flow again, or the next request come.
func (v *server) OnDrained(*drive.Conn) {
	switch {
	case v.s != nil:
		v.s.onDrained()
	case !v.closed:
		v.conn.Resume()
	}
}

// OnDeadline ends what has been idle for too long.
func (v *server) OnDeadline(*drive.Conn) {
	switch {
	case v.closed:
	case v.s != nil:
		v.idled()
	case v.headAt != 0 && v.m.w.Loop.Now() >= v.headAt:
		v.lateHeaders()
	case v.beginning():
		v.idled()
	default:
		v.idle()
		v.depart()
	}
}

// idled ends a stream in which nothing has happened for too long, be it that its head never became whole.
func (v *server) idled() {
	if v.s == nil {
		v.newStream()
		v.closing, v.inBody = true, true
	}
	v.s.idle()
}

// lateHeaders answers a client that takes too long with its request's head.
func (v *server) lateHeaders() {
	s := v.newStream()
	v.closing, v.inBody = true, true
	s.lateHeaders()
}

// OnTimer ends a connection that is too old, or that has had time to end by itself: after the request that it is in. One
// that has none is waited for a little longer, and in Envoy for the client's end alone: here a request is still answered.
func (v *server) OnTimer(t *drive.Timer) {
	switch t.Kind {
	case timerAge:
		v.aged()
		v.depart()
	case timerLast:
		v.closing = true
		if v.s == nil && !v.beginning() {
			v.last.Kind = timerGone
			v.m.w.Loop.Schedule(&v.last, cmp.Or(v.m.cfg.DelayedClose, time.Second))
		}
	case timerGone:
		if v.s == nil && !v.beginning() {
			v.stayed()
			v.endIfIdle()
		}
	}
}

// depart has responses say that the connection ends. Requests that are on their way, or come later all the same, are still served:
// to end an idle connection at once would race with them.
func (v *server) depart() {
	if !v.closed && !v.draining {
		v.draining = true
		v.m.w.Loop.Schedule(&v.last, v.m.cfg.DrainTimeout)
	}
}

func (v *server) endIfIdle() {
	if v.s == nil && !v.beginning() && !v.closed {
		v.finish()
		v.leave()
	}
}

// Drain has nothing to tell: the next response will.
func (v *server) Drain() {}

// Kill ends the connection now.
func (v *server) Kill() {
	if v.closed {
		return
	}
	if v.s == nil && v.beginning() {
		v.newStream()
	}
	if s := v.s; s != nil {
		v.finish()
		v.cutWith(1)
		s.Abort(access.LocalReset, "drain_time_reached")
		v.conn.Close()
		return
	}
	v.endIfIdle()
}
