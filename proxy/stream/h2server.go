package stream

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/h2"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/pool"
)

// server2 is the HTTP/2 side of a client's connection. It has as many streams as the
// client opens and the configuration allows.
type server2 struct {
	link
	http    *h2.Conn
	live    exchange // head of the ring of streams
	count   int
	free    *exchange
	done    []*exchange // over, but perhaps still on the stack of a caller in this turn
	atEnd   func()      // recycle, bound once
	deliver func()      // http.Deliver, bound once

	left  h2.Code // why the client has taken its leave
	alert string  // of TLS, by which it has ended the connection
	lost  int     // streams that ended because the connection is broken
	reads bool    // frames are being taken, among which the next may begin a stream
	shed  bool    // because there is too much of something
	ping  drive.Timer
}

// serveHTTP2 goes on with a connection of HTTP/2.
func serveHTTP2(l link) {
	m, conn := l.m, l.conn
	v := &server2{link: l}
	v.live.next, v.live.prev = &v.live, &v.live
	v.atEnd = v.recycle
	v.timer.Handler = v
	v.last.Handler, v.last.Kind = v, timerLast
	v.ping.Handler, v.ping.Kind = v, timerPing
	if st := m.cfg.Stats; st != nil {
		v.speaks(&st.DownstreamCxHTTP2Total, &st.DownstreamCxHTTP2Active)
	}
	v.age()
	conn.Served = v
	conn.SetHandler(v)
	conn.EndEarly(true)
	v.http = h2.NewServer(m.w.HTTP2, &m.cfg.HTTP2, conn, v)
	v.deliver = v.http.Deliver
	v.idleFromNow()
	v.keepAlive()
}

const (
	timerAge  = iota // max_connection_duration
	timerLast        // after the announcement of the end
	timerPing
	timerGone // of HTTP/1.1: until the client has had time to go
)

// OnStream begins a request.
func (v *server2) OnStream(hs *h2.Stream) (h2.StreamHandler, *header.Map, *header.Map) {
	x := v.free
	if x == nil {
		x = &exchange{v: v}
	} else {
		v.free = x.next
	}
	x.prev, x.next = v.live.prev, &v.live
	x.prev.next, x.next.prev = x, x
	if v.count++; v.count == 1 {
		v.conn.SetDeadline(0) // that of an idle connection
	}
	v.requests++
	s := v.m.get(x, &v.link)
	x.hs, x.s, x.held, x.began, x.bare = hs, s, false, false, false
	s.Rec.Protocol = access.HTTP2
	v.m.count(access.HTTP2)
	x.alive()
	x.awaitHead()
	if v.spent() {
		v.depart()
	}
	return x, &s.Request, &s.Trailers
}

// OnSettings has nothing to do: a server opens no streams.
func (v *server2) OnSettings() {}

// OnGoAway lets the client go once its streams are done.
func (v *server2) OnGoAway(code h2.Code, _ []byte) {
	v.left = code
	v.endIfDone()
}

// OnHeld has what was kept of resumed requests handed over in the next turn.
func (v *server2) OnHeld() { v.m.w.Loop.Post(v.deliver) }

// OnClosed may be the end of a connection that is to end.
func (v *server2) OnClosed() { v.endIfDone() }

// endIfDone closes a connection that has nothing left to do. That is known when all that has come is read: a client may begin streams
// behind its GOAWAY, and one of a connection that was closed meanwhile would have nobody to end it.
func (v *server2) endIfDone() {
	if !v.closed && !v.reads && v.count == 0 && v.http.Done() {
		v.close()
	}
}

func (v *server2) close() {
	v.finish()
	v.m.w.Loop.Cancel(&v.ping)
	v.conn.CloseGently()
}

// OnData reads frames. A client that leaves its answers untaken is not read any more: bodies stop at the
// connection's mark, but no window bounds headers.
func (v *server2) OnData(_ *drive.Conn, b []byte) int {
	if v.conn.Full() && v.conn.Overfull() {
		v.conn.Pause()
		return 0
	}
	if v.shedDispatch() {
		return len(b)
	}
	v.reads = true
	n, err := v.http.Feed(b)
	v.reads = false
	if err != nil {
		v.broken()
		return n
	}
	v.conn.Speaks(access.HTTP2)
	if n < len(b) && v.http.Rests() {
		v.conn.Yield()
	} else {
		v.endIfDone()
	}
	return n
}

// broken ends a connection that the codec has given up. Its streams have heard of it.
func (v *server2) broken() {
	if v.closed {
		return
	}
	err := v.http.Err()
	v.conn.Malformed()
	if st := v.m.cfg.Stats; st != nil {
		if !err.Flood {
			st.DownstreamCxProtocolError.Inc()
		}
		if err.Premature() {
			st.DownstreamRqTooManyPrematureResets.Inc()
		}
		v.busy(v.lost, &st.DownstreamCxDestroyLocalActiveRq)
	}
	if v.close(); err.Stuck {
		v.conn.Abort()
	}
}

// OnEnd: a client that will say nothing more has gone: it could not even take what it asked for.
func (v *server2) OnEnd(*drive.Conn) { v.gone(nil) }

// OnClose notices that the connection has broken, or that the client takes nothing any more.
func (v *server2) OnClose(_ *drive.Conn, err error) {
	if err == drive.ErrTimeout && !v.closed {
		for v.live.next != &v.live {
			if st := v.m.cfg.Stats; st != nil {
				st.DownstreamRqIdleTimeout.Inc()
			}
			v.live.next.s.Abort(access.StreamIdleTimeout, "stream_idle_timeout")
		}
	}
	v.gone(err)
}

func (v *server2) gone(err error) {
	if v.closed {
		return
	}
	v.how, v.alert = pool.HowEnded(err)
	v.goneWith(v.count)
	v.finish()
	v.m.w.Loop.Cancel(&v.ping)
	v.http.Close()
	v.conn.Close()
}

// OnDrained lets responses flow again, and reads on.
func (v *server2) OnDrained(*drive.Conn) {
	v.http.OnDrained()
	if !v.closed && v.conn.Paused() && !v.conn.Full() {
		v.conn.Resume()
	}
}

// OnDeadline looks for streams, or for a connection, on which nothing has happened for too long.
func (v *server2) OnDeadline(*drive.Conn) {
	if v.closed {
		return
	}
	now := v.m.w.Loop.Now()
	if t := v.over.Timeouts[overload.StreamFlush].Scale(v.m.cfg.FlushTimeout); t > 0 && v.http.Active() > v.count {
		v.http.Sweep(int64(t))
		v.lookAgain(now + int64(t))
	}
	if v.count > 0 {
		v.sweep(now)
		return
	}
	at := v.idleUntil()
	if v.closed || at == 0 {
		return
	}
	if now < at {
		v.lookAgain(at)
		return
	}
	v.idle()
	v.depart()
}

// lookAgain has OnDeadline called at that time, or before.
func (v *server2) lookAgain(at int64) {
	if d := v.conn.Deadline(); d == 0 || at < d {
		v.conn.SetDeadline(at)
	}
}

// lookAgainAt is lookAgain for those of some times that are not 0.
func (v *server2) lookAgainAt(times ...int64) {
	for _, at := range times {
		if at != 0 {
			v.lookAgain(at)
		}
	}
}

// sweep ends streams that are idle, or whose headers are late.
func (v *server2) sweep(now int64) {
	for x := v.live.next; x != &v.live && !v.closed; {
		at := x
		x = x.next
		if at.s == nil {
			continue
		}
		switch until := at.idleUntil(); {
		case at.headAt != 0 && now >= at.headAt:
			at.s.lateHeaders()
		case until != 0 && now >= until:
			at.s.idle()
		default:
			v.lookAgainAt(until, at.headAt)
		}
	}
}

// keepAlive has the connection asked for a sign of life now and then.
func (v *server2) keepAlive() {
	loop := v.m.w.Loop
	next, err := v.http.Keepalive(loop.Now())
	switch {
	case err != nil:
		v.broken()
	case next != 0:
		loop.Schedule(&v.ping, time.Duration(next-loop.Now()))
	}
}

// OnTimer is a time of the connection that is up.
func (v *server2) OnTimer(t *drive.Timer) {
	switch {
	case v.closed:
	case t.Kind == timerPing:
		v.keepAlive()
	case t.Kind == timerLast:
		v.http.GoAway(h2.NoError)
		v.endIfDone()
	default:
		v.aged()
		v.depart()
	}
}

// Drain has the connection end because its listener does.
func (v *server2) Drain() {
	if !v.closed && !v.draining {
		v.countDrain()
		v.depart()
	}
}

// depart announces the end of the connection. Streams that the client begins before it
// has heard of that are served.
func (v *server2) depart() {
	if v.closed || v.draining {
		return
	}
	v.draining = true
	v.http.Drain()
	v.m.w.Loop.Schedule(&v.last, v.drainTime())
}

// Kill ends the connection now.
func (v *server2) Kill() {
	if v.closed {
		return
	}
	v.http.GoAway(h2.NoError)
	if st := v.m.cfg.Stats; st != nil {
		v.busy(v.count, &st.DownstreamCxDestroyRemoteActiveRq)
	}
	for v.live.next != &v.live {
		v.live.next.s.Abort(access.LocalReset, "drain_time_reached")
	}
	if !v.closed {
		v.close()
	}
}

// recycle returns exchanges that are over to stock, at the end of a turn.
func (v *server2) recycle() {
	for i, x := range v.done {
		v.done[i] = nil
		x.next, v.free = v.free, x
	}
	v.done = v.done[:0]
}
