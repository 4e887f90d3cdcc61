package stream

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/h1"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/pool"
)

// What a client of HTTP/1.1 sends: heads of requests and their bodies.

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
	v.conn.Speaks(access.HTTP11)
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

// refuse answers what is not a request that we would pass on.
func (v *server) refuse(s *Stream, e *h1.Error) {
	v.closing, v.inBody = true, true
	if !e.NoHost() {
		v.malformed()
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
	s.absolute = head.Absolute
	v.asked = !head.KeepAlive
	v.closing = v.closing || !head.KeepAlive || v.spent()
	v.alive()
	if v.http10 && !v.allowHTTP10(s) {
		return
	}
	v.conn.Speaks(s.Rec.Protocol)
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
	if !v.inBody { // also if it is refused
		s.Rec.RequestEnd = s.mark()
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
		v.malformed()
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
	v.malformed()
	v.closing = true
	s.Rec.Flags.Set(access.DownstreamProtocolError)
	s.Reply(e.Status, h1.Reason(statusText(&s.statusTx, e.Status)), e.Details)
}

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
