package stream

import (
	"cmp"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/h1"
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
		NoAbsolute: c.NoAbsolute, AnyMethod: c.AnyMethod, Plain: !conn.Secure() && c.first(), Spelling: c.Spelling,
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
	conn.EndEarly(true)
	v.idleFromNow()
	return v
}

// first reports whether nobody whom the proxy trusts is before it. Then a client that comes in plain text is not to be taken for one of
// https: by the scheme it could pass for one to others behind.
func (c *Config) first() bool { return c.UseRemoteAddress && c.TrustedHops == 0 }

// alive notes that something happens on the stream.
func (v *server) alive() {
	v.since = v.m.w.Loop.Now()
	v.watch()
}

// Alive begins to count the idle time anew.
func (v *server) Alive() { v.alive() }

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
		if v.conn.CutShort(&s.Rec) {
			s.Abort(access.NoFlag, "")
		} else {
			s.Abort(access.DownstreamConnectionTermination, "downstream_remote_disconnect")
		}
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
		if v.aged(); v.m.cfg.SoftAge {
			v.draining = true // the next response says so
			break
		}
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
	if !v.closed && !v.last.Armed() {
		v.draining = true
		v.m.w.Loop.Schedule(&v.last, v.drainTime())
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
