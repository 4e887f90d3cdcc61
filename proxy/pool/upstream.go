package pool

import (
	cryptotls "crypto/tls"
	"errors"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/tls"
)

// An upstream is a connection to a host: what every one has, whatever it speaks. It
// is made here, up to the end of the handshake; then its codec has it.
type upstream struct {
	pool   *Pool
	conn   *drive.Conn
	limits *cluster.Breakers // that count the connection
	info   Info
	began  int64
	timer  drive.Timer // of connecting
	found  tls.Found
	codec  codec // nil while connecting
	dead   bool
}

// A codec speaks some version of HTTP on a connection.
type codec interface {
	drive.Handler
	// opened takes over the connection, which is new.
	opened()
	// retire ends the connection as soon as no request is in flight on it.
	retire()
}

// dial makes a connection for a request that waits. The limit on connections does
// not hold for a host that has none: its requests would wait for ever. It reports
// whether there will be one.
func (p *Pool) dial(limits *cluster.Breakers) bool {
	if !limits.Connections.TryAcquire() {
		p.cluster.Stats.UpstreamCxOverflow.Inc()
		if p.total > 0 {
			return false
		}
		limits.Connections.Acquire()
	}
	u := &upstream{pool: p, limits: limits, began: p.w.Loop.Now()}
	u.info.Host = p.host
	u.timer.Handler = u
	p.total++
	p.dialing++
	st := p.cluster.Stats
	st.UpstreamCxTotal.Inc()
	st.UpstreamCxActive.Inc()
	p.host.CxTotal.Inc()
	p.host.Connections.Inc()
	p.w.Loop.Schedule(&u.timer, p.cluster.ConnectTimeout)
	u.conn = p.w.Loop.Dial(p.w.DialOptions(p.cluster, p.host, &p.origin), u)
	u.conn.SetMark(int(p.cluster.BufferLimit))
	return true
}

// OnConnect goes on with TLS, or is done.
func (u *upstream) OnConnect(_ *drive.Conn, err error) {
	if err != nil {
		reset := ConnectFailed
		if _, unready := errors.AsType[*drive.UnreadyError](err); unready {
			reset = LocalConnectFailed
		}
		u.failed(reset, ConnectError(err))
		return
	}
	if !u.pool.origin.Introduce(u.conn, u.info.Host) {
		u.failed(ConnectFailed, "")
		return
	}
	client := u.pool.client
	if client == nil {
		u.made()
		return
	}
	if !client.Ready() {
		u.failed(ConnectFailed, tls.ErrNotReady.Error())
		return
	}
	config := client.Config(u.pool.key.name, u.info.Host.Name, u.conn.Aside, &u.found)
	if offer := u.pool.offer(); offer != "" {
		config.NextProtos = strings.Split(offer, ",")
	} else if len(config.NextProtos) == 0 {
		config.NextProtos = u.pool.fallback()
	}
	u.conn.StartTLS(false, config, u.pool.cluster.ConnectTimeout, u.secured)
}

// OnTimer ends connecting that takes too long.
func (u *upstream) OnTimer(*drive.Timer) {
	if u.codec == nil && !u.dead {
		u.pool.cluster.Stats.UpstreamCxConnectTimeout.Inc()
		u.failed(ConnectTimedOut, "")
	}
}

// secured goes on after the handshake.
func (u *upstream) secured(conn *drive.Conn, err error) {
	if u.dead {
		return
	}
	st := &u.pool.cluster.Stats.TLS
	if err != nil {
		tls.CountFailure(st, err)
		u.failed(ConnectFailed, tls.Reason(err))
		return
	}
	state := conn.TLS()
	tls.Count(st, state, u.found.Peer)
	u.info.ALPN = state.NegotiatedProtocol
	u.info.TLS = u.describe(state)
	u.made()
}

func (u *upstream) describe(state *cryptotls.ConnectionState) *access.TLS {
	d := tls.Describe(state, &u.found)
	d.SNI = u.pool.client.ServerName(u.pool.key.name, u.info.Host.Name)
	return d
}

// made hands the connection to the codec that it is for.
func (u *upstream) made() {
	p := u.pool
	p.w.Loop.Cancel(&u.timer)
	p.dialing--
	u.info.Conn, u.info.ConnID = u.conn, p.w.ConnectionID()
	u.info.Local, u.info.Remote = u.conn.LocalAddr(), u.conn.RemoteAddr()
	p.cluster.Stats.UpstreamCxConnectMS.Record(ms(p.w.Loop.Now() - u.began))
	p.cluster.Report(u.info.Host, cluster.Result{Kind: cluster.ConnectOK}, p.w.Loop.Wall())
	u.codec = p.speak(u)
	u.conn.SetHandler(u.codec)
	u.codec.opened()
}

// failed ends a connection that did not come up.
func (u *upstream) failed(r Reset, why string) {
	p := u.pool
	p.w.Loop.Cancel(&u.timer)
	p.dialing--
	st, h := p.cluster.Stats, u.info.Host
	st.UpstreamCxConnectFail.Inc()
	h.CxConnectFail.Inc()
	kind := cluster.ConnectFailed
	if r == ConnectTimedOut {
		kind = cluster.Timeout
	}
	p.cluster.Report(h, cluster.Result{Kind: kind}, p.w.Loop.Wall())
	u.destroyed(false)
	u.conn.Close()
	p.failWaiting(r, why)
}

// destroyed ends the connection's account.
func (u *upstream) destroyed(withRequest bool) {
	if u.dead {
		return
	}
	u.dead = true
	p := u.pool
	p.w.Loop.Cancel(&u.timer)
	p.forget(u.codec)
	p.total--
	u.limits.Connections.Release()
	st := p.cluster.Stats
	st.UpstreamCxActive.Dec()
	st.UpstreamCxDestroy.Inc()
	st.UpstreamCxRxBytesTotal.Add(u.conn.BytesIn)
	st.UpstreamCxTxBytesTotal.Add(u.conn.BytesOut)
	st.UpstreamCxLengthMS.Record(ms(p.w.Loop.Now() - u.began))
	if withRequest {
		st.UpstreamCxDestroyWithActiveRq.Inc()
	}
	u.info.Host.Connections.Dec()
	// A request may be waiting for the place among the connections that is now free.
	if p.waits > 0 && p.dialing == 0 {
		p.w.Loop.Post(p.retry)
	}
}

// old reports whether the connection has lived long enough.
func (u *upstream) old() bool {
	k := u.pool.cluster
	if k.MaxRequestsPerConnection > 0 && u.info.Requests >= uint64(k.MaxRequestsPerConnection) {
		k.Stats.UpstreamCxMaxRequests.Inc()
		return true
	}
	if k.MaxConnectionDuration > 0 && u.pool.w.Loop.Now()-u.began > int64(k.MaxConnectionDuration) {
		k.Stats.UpstreamCxMaxDurationReached.Inc()
		return true
	}
	return false
}

// OnClose notices that the host has ended the connection in the middle of the handshake.
func (u *upstream) OnClose(_ *drive.Conn, err error) {
	if u.dead {
		return
	}
	u.pool.cluster.Stats.UpstreamCxDestroyRemote.Inc()
	why := "TLS_error:|connection closed during handshake:TLS_error_end"
	if err != nil {
		why = ConnectError(err)
	}
	u.failed(ConnectFailed, why)
}

// OnEnd is OnClose: half a handshake is none.
func (u *upstream) OnEnd(c *drive.Conn) { u.OnClose(c, nil) }

// OnData leaves bytes to the codec.
func (u *upstream) OnData(*drive.Conn, []byte) int { return 0 }

// OnDrained does nothing: nothing was written yet.
func (u *upstream) OnDrained(*drive.Conn) {}

// OnDeadline does nothing: none is set.
func (u *upstream) OnDeadline(*drive.Conn) {}
