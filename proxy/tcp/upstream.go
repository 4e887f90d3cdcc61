package tcp

import (
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
	conn    *drive.Conn
	client  *tls.Client
	found   tls.Found
	tls     *access.TLS
	told    peerMessage
	timer   drive.Timer
	began   int64
	up      bool
	freed   bool
}

func newUpstream(s *session, c *cluster.Cluster, h *cluster.Host, limits *cluster.Breakers) *upstream {
	u := &upstream{s: s, cluster: c, host: h, limits: limits, began: s.w.Loop.Now()}
	u.client, _ = h.Transport.Socket.(*tls.Client)
	st := c.Stats
	st.UpstreamCxTotal.Inc()
	st.UpstreamCxActive.Inc()
	h.CxTotal.Inc()
	h.Connections.Inc()
	h.Active.Add(1)
	u.timer.Handler = u
	s.w.Loop.Schedule(&u.timer, c.ConnectTimeout)
	u.conn = s.w.Loop.Dial(s.w.DialOptions(c, h, &s.origin), u)
	u.conn.SetMark(int(c.BufferLimit))
	return u
}

// OnConnect goes on with TLS, or joins.
func (u *upstream) OnConnect(_ *drive.Conn, err error) {
	switch {
	case err != nil:
		u.failed(pool.ConnectError(err), cluster.ConnectFailed)
	case !u.s.origin.Introduce(u.conn, u.host):
		u.failed("connection termination", cluster.ConnectFailed)
	case u.client == nil:
		u.ready()
	case !u.client.Ready():
		u.failed(tls.ErrNotReady.Error(), cluster.ConnectFailed)
	default:
		config := u.client.Config(u.s.conn.SNI, u.host.Name, u.conn.Aside, &u.found)
		u.conn.StartTLS(false, config, u.cluster.ConnectTimeout, u.secured)
	}
}

// secured goes on after the handshake.
func (u *upstream) secured(c *drive.Conn, err error) {
	if err != nil {
		tls.CountFailure(&u.cluster.Stats.TLS, err)
		u.failed(tls.Reason(err), cluster.ConnectFailed)
		return
	}
	tls.Count(&u.cluster.Stats.TLS, c.TLS(), u.found.Peer)
	u.tls = tls.Describe(c.TLS(), &u.found)
	u.tls.SNI = u.client.ServerName(u.s.conn.SNI, u.host.Name)
	if x := u.s.config.Exchange; x != nil && u.tls.ALPN == exchangeProtocol {
		u.told.expected = true
		c.Write(x.Message)
	}
	u.ready()
}

func (u *upstream) ready() {
	s := u.s
	s.w.Loop.Cancel(&u.timer)
	u.up = true
	u.cluster.Stats.UpstreamCxConnectMS.Record(ms(s.w.Loop.Now() - u.began))
	u.cluster.Report(u.host, cluster.Result{Kind: cluster.ConnectOKFinal}, s.w.Loop.Wall())
	s.rec.UpstreamLocal, s.rec.UpstreamRemote = u.conn.LocalAddr(), u.conn.RemoteAddr()
	s.rec.UpstreamConnID, s.rec.Upstream = s.w.ConnectionID(), u.tls
	s.connected()
}

// OnTimer ends connecting that takes too long.
func (u *upstream) OnTimer(*drive.Timer) {
	if !u.up && !u.freed {
		u.cluster.Stats.UpstreamCxConnectTimeout.Inc()
		u.failed("connection timeout", cluster.Timeout)
	}
}

// failed ends an attempt to connect.
func (u *upstream) failed(why string, kind cluster.ResultKind) {
	if u.freed {
		return
	}
	u.cluster.Stats.UpstreamCxConnectFail.Inc()
	u.host.CxConnectFail.Inc()
	u.cluster.Report(u.host, cluster.Result{Kind: kind}, u.s.w.Loop.Wall())
	u.release()
	u.conn.Close()
	u.s.notConnected(u.cluster, u.host, why)
}

// release ends the connection's account.
func (u *upstream) release() {
	if u.freed {
		return
	}
	u.freed = true
	u.s.w.Loop.Cancel(&u.timer)
	u.limits.Connections.Release()
	st := u.cluster.Stats
	st.UpstreamCxActive.Dec()
	st.UpstreamCxDestroy.Inc()
	st.UpstreamCxRxBytesTotal.Add(u.conn.BytesIn)
	st.UpstreamCxTxBytesTotal.Add(u.conn.BytesOut)
	st.UpstreamCxLengthMS.Record(ms(u.s.w.Loop.Now() - u.began))
	u.host.Connections.Dec()
	u.host.Active.Add(-1)
}

func (u *upstream) joined() bool   { return u.up }
func (u *upstream) expects() bool  { return u.told.expected }
func (u *upstream) Write(b []byte) { u.conn.Write(b) }
func (u *upstream) CloseWrite()    { u.conn.CloseWrite() }
func (u *upstream) Full() bool     { return u.conn.Full() }
func (u *upstream) Paused() bool   { return u.conn.Paused() }
func (u *upstream) Resume()        { u.conn.Resume() }
func (u *upstream) Ended() bool    { return u.conn.Ended() }
func (u *upstream) Reset()         { u.conn.Reset() }

func (u *upstream) splice() {
	u.s.conn.SpliceTo(u.conn)
	u.conn.SpliceTo(u.s.conn.Conn)
}

func (u *upstream) end() {
	u.release()
	u.conn.Close()
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
	s.came(n)
	if s.conn.Full() {
		u.cluster.Stats.UpstreamFlowControlPausedReading.Inc()
		u.conn.Pause()
	}
}

// OnEnd passes on that the host will send no more.
func (u *upstream) OnEnd(*drive.Conn) {
	if !u.up {
		u.failed("TLS_error:|connection closed during handshake:TLS_error_end", cluster.ConnectFailed)
		return
	}
	if !u.s.over {
		u.s.conn.CloseWrite()
		u.s.ended()
	}
}

// OnClose notices that the host has broken off.
func (u *upstream) OnClose(_ *drive.Conn, err error) {
	if !u.up {
		u.failed(pool.ConnectError(err), cluster.ConnectFailed)
		return
	}
	s := u.s
	if s.over {
		return
	}
	u.cluster.Stats.UpstreamCxDestroyRemote.Inc()
	s.rec.Flags.Set(access.UpstreamConnectionTermination)
	if errors.Is(err, syscall.ECONNRESET) && s.conn.Buffered() == 0 {
		s.conn.Reset() // as the host did
	}
	s.finish()
}

// OnDrained lets the client's bytes flow again.
func (u *upstream) OnDrained(*drive.Conn) {
	if u.up {
		u.s.flows()
	}
}

// OnDeadline is not used: the client's side keeps the time.
func (u *upstream) OnDeadline(*drive.Conn) {}
