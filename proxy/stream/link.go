package stream

import (
	"bytes"
	"time"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/stats"
)

// A Codec says which versions of HTTP clients may speak (codec_type).
type Codec uint8

const (
	// Auto goes by ALPN, and without it by the first bytes.
	Auto Codec = iota
	HTTP1
	HTTP2
)

// A link is a client's connection, whatever version of HTTP it speaks: its account,
// and what is the same for all of its streams.
type link struct {
	m    *manager
	conn *listen.Conn

	certElement []byte // x-forwarded-client-cert of this connection, once it is known
	requests    int
	closed      bool
	over        *overload.State
	how         string      // the client has ended the connection; see access
	since       int64       // when something happened last, of which an idle time is counted
	timer       drive.Timer // max_connection_duration
	active      *stats.Gauge
}

// open begins the account of a connection of a version.
func (l *link) open(total *stats.Counter, active *stats.Gauge) {
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxTotal.Inc()
		st.DownstreamCxActive.Inc()
		total.Inc()
		active.Inc()
		l.active = active
		if l.conn.Secure() {
			st.DownstreamCxSSLTotal.Inc()
			st.DownstreamCxSSLActive.Inc()
		}
	}
	if d := l.m.cfg.MaxAge; d > 0 {
		l.m.w.Loop.Schedule(&l.timer, l.over.Timeouts[overload.ConnectionAge].Scale(d))
	}
	l.patience()
}

// patience bounds how long the client may take nothing.
func (l *link) patience() {
	cfg := l.m.cfg
	l.conn.SetPatience(l.over.Timeouts[overload.StreamFlush].Scale(cfg.FlushTimeout), cfg.DelayedClose, l.m.parted)
}

// rescale has the times of the connection itself follow the pressure.
func (l *link) rescale() {
	l.patience()
	if loop := l.m.w.Loop; l.timer.Armed() {
		at := l.conn.Opened + int64(l.over.Timeouts[overload.ConnectionAge].Scale(l.m.cfg.MaxAge))
		loop.Schedule(&l.timer, time.Duration(max(0, at-loop.Now())))
	}
}

// finish ends the connection's account.
func (l *link) finish() {
	l.closed = true
	w := l.m.w
	w.Loop.Cancel(&l.timer)
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxActive.Dec()
		l.active.Dec()
		st.DownstreamCxDestroy.Inc()
		if l.conn.Secure() {
			st.DownstreamCxSSLActive.Dec()
		}
		st.DownstreamCxLengthMS.Record(uint64(max(0, w.Loop.Now()-l.conn.Opened) / int64(time.Millisecond)))
	}
	l.conn.Release()
}

// goneWith counts a connection that its client has ended, with so many streams in flight.
func (l *link) goneWith(streams int) {
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxDestroyRemote.Inc()
		l.busy(streams, &st.DownstreamCxDestroyRemoteActiveRq)
	}
}

// busy counts a connection that ends with so many streams in flight.
func (l *link) busy(streams int, by *stats.Counter) {
	if streams > 0 {
		l.m.cfg.Stats.DownstreamCxDestroyActiveRq.Inc()
		by.Inc()
	}
}

// cutWith counts a connection that ends from here, in the middle of so many streams. For Envoy those of a connection
// that its listener ends are lost as if the client had ended it.
func (l *link) cutWith(streams int) {
	if st := l.m.cfg.Stats; st != nil {
		l.busy(streams, &st.DownstreamCxDestroyRemoteActiveRq)
	}
	l.left()
}

// left counts a connection that ends from here. Who ends one that is closed gently is known later.
func (l *link) left() {
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxDestroyLocal.Inc()
	}
}

// leave closes the connection once its output is written.
func (l *link) leave() {
	l.left()
	l.conn.Close()
}

// abort closes it now.
func (l *link) abort() {
	l.left()
	l.conn.Abort()
}

// partedFrom counts connections that were closed gently.
func (m *manager) partedFrom(how drive.Parting) {
	st := m.cfg.Stats
	if how == drive.PeerLeft {
		st.DownstreamCxDestroyRemote.Inc()
		return
	}
	st.DownstreamCxDestroyLocal.Inc()
	if how == drive.PeerStayed {
		st.DownstreamCxDelayedCloseTimeout.Inc()
	}
}

// spent reports, and counts, that the connection has carried as many requests as it may.
func (l *link) spent() bool {
	if n := l.m.cfg.MaxRequests; n == 0 || l.requests < n {
		return false
	}
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxMaxRequestsReached.Inc()
	}
	return true
}

func (l *link) idleFromNow() {
	l.since = l.m.w.Loop.Now()
	l.idleSince()
}

// idleSince sets the time at which a connection without a request ends.
func (l *link) idleSince() {
	if at := l.idleUntil(); at != 0 {
		l.conn.SetDeadline(at)
	}
}

// idleUntil is that time, 0: never.
func (l *link) idleUntil() int64 {
	if t := l.over.Timeouts[overload.ConnectionIdle].Scale(l.m.cfg.IdleTimeout); t > 0 {
		return l.since + int64(t)
	}
	return 0
}

// idleTimeout is how long nothing may happen on a stream, 0 for ever.
func (s *Stream) idleTimeout() time.Duration {
	t := s.Config.StreamIdle
	if s.Route != nil && s.Route.Forward != nil && s.Route.Forward.IdleTimeout != nil {
		t = *s.Route.Forward.IdleTimeout
	}
	return s.link.over.Timeouts[overload.StreamIdle].Scale(t)
}

// serve begins with a connection: the version is known, or its first bytes will tell.
func (m *manager) serve(conn *listen.Conn) {
	if m.cfg.Stats != nil {
		conn.SetMeter(&m.meter)
	}
	codec := m.cfg.Codec
	if codec == Auto && conn.TLS != nil && conn.TLS.ALPN != "" {
		if codec = HTTP1; conn.TLS.ALPN == "h2" {
			codec = HTTP2
		}
	}
	if codec != Auto && !conn.Overload().Points[overload.CreateCodec].Watched() {
		m.serveAs(codec, conn)
		return
	}
	u := &unknown{m: m, conn: conn, codec: codec}
	conn.Served = u
	conn.SetHandler(u)
	if t := conn.Overload().Timeouts[overload.ConnectionIdle].Scale(m.cfg.IdleTimeout); t > 0 {
		conn.SetDeadline(m.w.Loop.Now() + int64(t))
	}
}

func (m *manager) serveAs(codec Codec, conn *listen.Conn) {
	if codec == HTTP2 {
		m.serveHTTP2(conn)
		return
	}
	m.serveHTTP1(conn)
}

// magic is how the preface of HTTP/2 begins (RFC 9113, section 3.4), as far as Envoy
// looks at it: no request of HTTP/1 begins like that.
var magic = []byte("PRI * HTTP/2")

// unknown waits for the first bytes of a connection.
type unknown struct {
	m     *manager
	conn  *listen.Conn
	begun bool  // some bytes have come, too few to tell
	codec Codec // Auto: the bytes tell
}

// OnData decides, and leaves the bytes to whoever it is.
func (u *unknown) OnData(_ *drive.Conn, b []byte) int {
	u.begun = true
	if u.conn.Overload().Points[overload.CreateCodec].Hit(u.m.w) {
		u.shed()
		return len(b)
	}
	switch n := min(len(b), len(magic)); {
	case u.codec != Auto:
		u.m.serveAs(u.codec, u.conn)
	case !bytes.Equal(b[:n], magic[:n]):
		u.m.serveHTTP1(u.conn)
	case n == len(magic):
		u.m.serveHTTP2(u.conn)
	}
	return 0
}

// shed ends a connection whose first bytes have come, before anything is made for it.
func (u *unknown) shed() {
	u.m.serveHTTP1(u.conn) // which keeps the account
	v := u.conn.Served.(*server)
	v.shedConnection()
}

// server is who goes on: HTTP/1.1 knows what to do with a beginning that has no end, and with silence.
func (u *unknown) server() *server {
	u.m.serveHTTP1(u.conn)
	v := u.conn.Served.(*server)
	if u.begun {
		v.seenHead = 1
		v.startHead()
	}
	return v
}

// OnEnd counts a connection that has said too little.
func (u *unknown) OnEnd(c *drive.Conn) { u.server().OnEnd(c) }

// OnClose counts one that has broken.
func (u *unknown) OnClose(c *drive.Conn, err error) { u.server().OnClose(c, err) }

// OnDeadline ends one that has said nothing for too long.
func (u *unknown) OnDeadline(c *drive.Conn) { u.server().OnDeadline(c) }

// OnDrained does nothing: nothing was written.
func (u *unknown) OnDrained(*drive.Conn) {}

// Drain does nothing: what comes first is still answered.
func (u *unknown) Drain() {}

// Kill ends the connection.
func (u *unknown) Kill() { u.server().Kill() }

// countDrain counts a connection that is told to end because its listener does.
func (l *link) countDrain() {
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxDrainClose.Inc()
	}
}
