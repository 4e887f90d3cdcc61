package stream

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/stats"
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
	draining    bool        // the client is told that the connection ends, which it does a little later:
	last        drive.Timer // then
	active      *stats.Gauge
}

// open begins the account of a connection.
func (l *link) open() {
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxTotal.Inc()
		st.DownstreamCxActive.Inc()
		if l.conn.Secure() {
			st.DownstreamCxSSLTotal.Inc()
			st.DownstreamCxSSLActive.Inc()
		}
	}
	l.patience()
	l.age()
}

// speaks counts the connection among those of a version of HTTP.
func (l *link) speaks(total *stats.Counter, active *stats.Gauge) {
	total.Inc()
	active.Inc()
	l.active = active
}

// malformed counts a client that does not keep to the protocol.
func (l *link) malformed() {
	l.conn.Malformed()
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxProtocolError.Inc()
	}
}

// age bounds how long the connection may live.
func (l *link) age() {
	if d := l.m.cfg.MaxAge; d > 0 {
		at := l.conn.Opened + int64(l.longer(l.over.Timeouts[overload.ConnectionAge].Scale(d), l.m.cfg.AgeJitter))
		l.m.w.Loop.Schedule(&l.timer, time.Duration(max(0, at-l.m.w.Loop.Now())))
	}
}

// longer is a time with up to a share of it added, always the same for one connection: not all that came together go together.
func (l *link) longer(d time.Duration, share float64) time.Duration {
	return d + time.Duration(float64(d)*share*float64(l.conn.ID*0x9e3779b97f4a7c15>>11)/(1<<53))
}

// drainTime is how long the client has from when it is told that the connection ends.
func (l *link) drainTime() time.Duration { return l.longer(l.m.cfg.DrainTimeout, l.m.cfg.DrainJitter) }

// aged counts a connection that has lived as long as it may.
func (l *link) aged() {
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxMaxDurationReached.Inc()
	}
}

// patience bounds how long the client may take nothing.
func (l *link) patience() {
	cfg := l.m.cfg
	l.conn.SetPatience(l.over.Timeouts[overload.StreamFlush].Scale(cfg.FlushTimeout), cfg.DelayedClose, l.m.parted)
}

// rescale has the times of the connection itself follow the pressure.
func (l *link) rescale() {
	l.patience()
	if l.timer.Armed() {
		l.age()
	}
}

// finish ends the connection's account.
func (l *link) finish() {
	l.closed = true
	w := l.m.w
	w.Loop.Cancel(&l.timer)
	w.Loop.Cancel(&l.last)
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxActive.Dec()
		if l.active != nil {
			l.active.Dec()
		}
		st.DownstreamCxDestroy.Inc()
		if l.conn.Secure() {
			st.DownstreamCxSSLActive.Dec()
		}
		st.DownstreamCxLengthMS.Record(uint64(max(0, w.Loop.Now()-l.conn.Opened) / int64(time.Millisecond)))
	}
	l.conn.Release()
}

// goneWith counts a connection that its client has ended, or a fault in its stead, with so many streams in flight.
func (l *link) goneWith(streams int) {
	st := l.m.cfg.Stats
	switch {
	case st == nil:
	case l.conn.Cut():
		l.busy(streams, &st.DownstreamCxDestroyLocalActiveRq)
		l.left()
	default:
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

// stayed counts a client that has not ended a connection of which it was told that it ends.
func (l *link) stayed() {
	if st := l.m.cfg.Stats; st != nil {
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

// idle counts a connection on which nothing has happened for too long.
func (l *link) idle() {
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxIdleTimeout.Inc()
	}
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

// BufferLimit is how much of a message a filter may keep that has no limit of its own: as in Envoy, over HTTP/2 that is the window of
// streams, and the listener's limit is one of HTTP/1.1 only.
func (s *Stream) BufferLimit() int {
	if s.Rec.Protocol == access.HTTP2 {
		return s.Config.HTTP2.Window()
	}
	if n := s.Conn.Listener.BufferLimit; n > 0 {
		return n
	}
	return 1 << 20
}

// countDrain counts a connection that is told to end because its listener does.
func (l *link) countDrain() {
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxDrainClose.Inc()
	}
}
