package tcp

import (
	"cmp"
	"errors"
	"syscall"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/tls"
)

// An upstream is the connection to a host.
type upstream struct {
	s       *session
	cluster *cluster.Cluster
	host    *cluster.Host
	limits  *cluster.Breakers
	dial    pool.Dialing
	conn    *drive.Conn // nil while connecting
	meter   drive.Meter
	early   []byte // what the client sent before
	last    bool   // and that there will be no more
	tls     *access.TLS
	told    peerMessage
	timer   drive.Timer
	began   int64
	life    drive.Timer // max_connection_duration
	up      bool
	freed   bool
	refused bool // the host has not been reached
	ended   bool // the host has ended it, or the way to it has broken
}

// The kinds of an upstream's timers.
const (
	timerConnecting = iota
	timerLife
)

func newUpstream(s *session, c *cluster.Cluster, h *cluster.Host, limits *cluster.Breakers) *upstream {
	u := &upstream{s: s, cluster: c, host: h, limits: limits, began: s.w.Loop.Now(), meter: drive.MeterOf(c.Stats)}
	st := c.Stats
	st.UpstreamCxActive.Inc()
	st.UpstreamRqPendingTotal.Inc() // for Envoy a session is a request to the pool
	st.UpstreamRqPendingActive.Inc()
	h.Pending.Inc()
	h.CxTotal.Inc()
	h.Connections.Inc()
	h.Active.Add(1)
	if c.CloseOnFailure {
		h.Mourn(u)
	}
	u.timer.Handler, u.life.Handler, u.life.Kind = u, u, timerLife
	s.w.Loop.Schedule(&u.timer, c.ConnectTimeout)
	s.origin.State = s.rec.State.Shared()
	u.dial = pool.Dialing{Worker: s.w, Cluster: c, Host: h, Origin: &s.origin, Name: s.conn.SNI, Wish: pool.WishOf(&s.rec.State), Owner: u, Meter: &u.meter}
	u.dial.Start()
	return u
}

// OnDialed joins.
func (u *upstream) OnDialed(c *drive.Conn, secure *access.TLS) {
	u.conn, u.tls = c, secure
	c.SetHandler(u)
	if x := u.s.config.Exchange; x != nil && secure != nil && secure.ALPN == exchangeProtocol {
		u.told.expected = true
		c.Write(x.Message)
	}
	if len(u.early) > 0 {
		c.Write(u.early)
		u.early = nil
	}
	if u.last {
		c.CloseWrite()
	}
	s := u.s
	s.w.Loop.Cancel(&u.timer)
	if t := u.cluster.MaxConnectionDuration; t > 0 {
		s.w.Loop.Schedule(&u.life, t)
	}
	u.up = true
	st := u.cluster.Stats
	st.UpstreamRqPendingActive.Dec()
	u.host.Pending.Dec()
	st.UpstreamRqTotal.Inc()
	st.UpstreamRqActive.Inc()
	u.host.RqTotal.Inc()
	st.UpstreamCxConnectMS.Record(ms(s.w.Loop.Now() - u.began))
	u.cluster.Report(u.host, cluster.Result{Kind: cluster.ConnectOKFinal}, s.w.Loop.Time())
	s.rec.UpstreamLocal, s.rec.UpstreamRemote = u.conn.LocalAddr(), u.conn.RemoteAddr()
	s.rec.Dial, s.rec.Placed, s.rec.HostEnd = u.dial.Times, s.mark(), access.Closing{} // of those before
	s.rec.UpstreamConnID, s.rec.Upstream, s.rec.UpstreamState = u.dial.ID, u.tls, s.origin.State
	s.connected()
}

// OnTimer ends connecting that takes too long. A connection whose time is up is only counted: it has the one session
// that it will ever have, which ends by itself.
func (u *upstream) OnTimer(t *drive.Timer) {
	switch {
	case u.freed:
	case t.Kind == timerLife:
		u.cluster.Stats.UpstreamCxMaxDurationReached.Inc()
	case !u.up:
		u.cluster.Stats.UpstreamCxConnectTimeout.Inc()
		u.s.rec.HostEnd = u.dial.TimedOut()
		u.failed("connection timeout", cluster.Timeout)
	}
}

// OnDialFailed tries another host, or gives up.
func (u *upstream) OnDialFailed(l pool.Loss) {
	u.ended = l.Reset == pool.ConnectFailed
	u.s.rec.HostEnd = l.End
	u.failed(cmp.Or(l.Why, "connection termination"), cluster.ConnectFailed)
}

// failed ends an attempt to connect.
func (u *upstream) failed(why string, kind cluster.ResultKind) {
	if u.freed {
		return
	}
	u.s.rec.Placed = u.s.mark()
	u.cluster.Stats.UpstreamCxConnectFail.Inc()
	u.cluster.Stats.UpstreamRqPendingFailureEject.Inc()
	u.refused = true
	u.host.CxConnectFail.Inc()
	u.cluster.Report(u.host, cluster.Result{Kind: kind}, u.s.w.Loop.Time())
	u.end()
	u.s.notConnected(u.cluster, u.host, why)
}

// HostFailed ends the session, as its host is found to be of no use.
func (u *upstream) HostFailed() { u.s.w.Loop.Post(u.abandon) }

func (u *upstream) abandon() {
	switch {
	case u.freed:
	case !u.up:
		u.failed("connection termination", cluster.ConnectFailed)
	default:
		u.s.finish()
	}
}

// release ends the connection's account.
func (u *upstream) release() {
	if u.freed {
		return
	}
	u.freed = true
	u.s.w.Loop.Cancel(&u.timer)
	u.s.w.Loop.Cancel(&u.life)
	u.limits.Connections.Release()
	if u.cluster.CloseOnFailure {
		u.host.Forget(u)
	}
	st := u.cluster.Stats
	st.UpstreamCxActive.Dec()
	if u.up {
		st.UpstreamRqActive.Dec()
	} else {
		st.UpstreamRqPendingActive.Dec()
		u.host.Pending.Dec()
		if !u.refused {
			st.UpstreamRqCancelled.Inc()
		}
	}
	st.CountDestroyed(u.ended || u.Ended(), u.up)
	st.UpstreamCxLengthMS.Record(ms(u.s.w.Loop.Now() - u.began))
	u.host.Connections.Dec()
	u.host.Active.Add(-1)
}

func (u *upstream) joined() bool  { return u.up }
func (u *upstream) expects() bool { return u.told.expected }
func (u *upstream) Full() bool    { return u.conn == nil || u.conn.Full() }
func (u *upstream) Paused() bool  { return u.conn != nil && u.conn.Paused() }
func (u *upstream) Ended() bool   { return u.up && u.conn.Ended() }

// Write sends bytes, those that come while it connects after that.
func (u *upstream) Write(b []byte) {
	if u.conn == nil {
		u.early = append(u.early, b...)
		return
	}
	u.conn.Write(b)
}

// CloseWrite tells the host that the client will send no more.
func (u *upstream) CloseWrite() {
	if u.conn == nil {
		u.last = true
		return
	}
	u.conn.CloseWrite()
}

// Held is how many bytes have not left.
func (u *upstream) Held() int {
	if u.conn == nil {
		return len(u.early)
	}
	return u.conn.Buffered()
}

// Resume reads on.
func (u *upstream) Resume() {
	if u.conn != nil {
		u.conn.Resume()
	}
}

// Reset breaks off as the client did.
func (u *upstream) Reset() {
	if u.up {
		u.conn.Reset()
	}
}

func (u *upstream) splice() {
	u.s.conn.SpliceTo(u.conn)
	u.conn.SpliceTo(u.s.conn.Conn)
}

func (u *upstream) end() {
	u.dial.Cancel()
	u.release()
	switch st := u.s.config.Stats; {
	case u.conn == nil:
	case st != nil && u.conn.Buffered() > 0: // the client is gone, and its bytes are not
		st.UpstreamFlushTotal.Inc()
		st.UpstreamFlushActive.Inc()
		u.conn.CloseThen(func(drive.Parting) { st.UpstreamFlushActive.Dec() })
	default:
		u.conn.Close()
	}
}

// OnData takes bytes of the host.
func (u *upstream) OnData(_ *drive.Conn, b []byte) int {
	s, n := u.s, len(b)
	if s.over {
		return n
	}
	if u.told.expected {
		var more bool
		if b, more = u.told.take(b, s, u.tls); more {
			return 0
		}
		s.open()
	}
	s.conn.Write(b)
	u.OnSpliced(u.conn, len(b))
	return n
}

// OnSpliced accounts for bytes of the host that are on their way to the client.
func (u *upstream) OnSpliced(_ *drive.Conn, n int) {
	s := u.s
	if s.came(n) && s.conn.Full() {
		u.cluster.Stats.UpstreamFlowControlPausedReading.Inc()
		u.conn.Pause()
	}
}

// OnEnd passes on that the host will send no more.
func (u *upstream) OnEnd(*drive.Conn) {
	if !u.s.over {
		u.s.rec.HostEnd.How = access.EndRemoteClosed
		u.s.conn.CloseWrite()
		u.s.ended()
	}
}

// OnClose notices that the host has broken off.
func (u *upstream) OnClose(_ *drive.Conn, err error) {
	s := u.s
	if s.over {
		return
	}
	u.ended = true
	s.rec.HostEnd.How, s.rec.HostEnd.Code = pool.HowEnded(err)
	if errors.Is(err, syscall.ECONNRESET) {
		s.rec.Flags.Set(access.UpstreamRemoteReset)
		s.rec.HostClose = access.CloseRemoteReset
		s.rec.ClientClose = access.CloseLocalReset
		if s.conn.Buffered() == 0 {
			s.conn.Reset() // as the host did
		}
	} else if u.tls == nil || !tls.CountLoss(&u.cluster.Stats.TLS, err) {
		s.rec.Flags.Set(access.UpstreamConnectionTermination)
	}
	s.finish()
}

// OnDrained lets the client's bytes flow again.
func (u *upstream) OnDrained(*drive.Conn) {
	u.s.flows()
}

// OnDeadline is not used: the client's side keeps the time.
func (u *upstream) OnDeadline(*drive.Conn) {}
