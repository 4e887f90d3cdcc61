package pool

import (
	"errors"
	"strings"
	"syscall"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/tls"
)

// An upstream is a connection to a host: what every one has, whatever it speaks. It
// is made here, up to the end of the handshake; then its codec has it.
type upstream struct {
	pool   *Pool
	change uint64 // the pool's when it was made
	fails  uint32 // and this, too
	dial   Dialing
	conn   *drive.Conn       // nil while connecting
	limits *cluster.Breakers // that count the connection
	info   Info
	began  int64
	timer  drive.Timer // of connecting
	life   drive.Timer // of the connection, if that is bounded
	codec  codec       // nil while connecting
	dead   bool
	ended  bool   // the host has ended it, or the way to it has broken
	how    string // it has ended; see access
	alert  string // that it was ended by
}

// A codec speaks some version of HTTP on a connection.
type codec interface {
	drive.Handler
	// opened takes over the connection, which is new.
	opened()
	// retire ends the connection as soon as no request is in flight on it.
	retire()
	// spent reports whether the connection takes no more requests.
	spent() bool
}

// taken accounts for a request that the connection takes.
func (u *upstream) taken() {
	u.info.Requests++
	u.pool.active++
	st := u.pool.cluster.Stats
	st.UpstreamRqTotal.Inc()
	st.UpstreamRqActive.Inc()
	u.info.Host.RqTotal.Inc()
	u.info.Host.Active.Add(1)
}

// settle ends the account of one, which limits have counted.
func (u *upstream) settle(limits *cluster.Breakers) {
	limits.Requests.Release()
	u.pool.active--
	u.pool.cluster.Stats.UpstreamRqActive.Dec()
	u.info.Host.Active.Add(-1)
}

// dial makes a connection for a request that waits. The limit on connections does
// not hold for a host that has none: its requests would wait for ever. It reports
// whether there will be one.
func (p *Pool) dial(limits *cluster.Breakers) bool {
	if !limits.TryConnect(p.host) {
		p.cluster.Stats.UpstreamCxOverflow.Inc()
		if p.total > 0 {
			return false
		}
		limits.Connections.Acquire()
	}
	u := &upstream{pool: p, limits: limits, began: p.w.Loop.Now()}
	u.info.Host, u.change, u.fails = p.host, p.change, p.fails
	u.timer.Handler = u
	p.total++
	p.dialing++
	p.latest = u
	st := p.cluster.Stats
	st.UpstreamCxActive.Inc()
	p.countVersion(p.key.version == http2, p.key.version == http1)
	p.host.CxTotal.Inc()
	p.host.Connections.Inc()
	p.w.Loop.Schedule(&u.timer, p.cluster.ConnectTimeout)
	u.dial = Dialing{Worker: p.w, Cluster: p.cluster, Host: p.host, Origin: &p.origin, Name: p.key.name, Protocols: u.protocols, Wish: p.wish, Owner: u, Meter: p.bytes()}
	u.dial.Start()
	return true
}

// countVersion counts a connection of a version of HTTP: as in Envoy when it is begun, or, where the host is to choose, when it has.
func (p *Pool) countVersion(two, one bool) {
	switch st := p.cluster.Stats; {
	case two:
		st.UpstreamCxHTTP2Total.Inc()
	case one:
		st.UpstreamCxHTTP1Total.Inc()
	}
}

// bytes returns what counts the bytes of the pool's connections.
func (p *Pool) bytes() *drive.Meter {
	if st := p.cluster.Stats; p.meter == nil || p.meter.Rx != &st.UpstreamCxRxBytesTotal { // the cluster counts under another name now
		m := drive.MeterOf(st)
		p.meter = &m
	}
	return p.meter
}

// OnTimer ends connecting that takes too long.
func (u *upstream) OnTimer(*drive.Timer) {
	if u.codec == nil && !u.dead {
		u.pool.cluster.Stats.UpstreamCxConnectTimeout.Inc()
		u.failed(Loss{Reset: ConnectTimedOut, End: u.dial.TimedOut()})
	}
}

// protocols is what is offered as ALPN.
func (u *upstream) protocols(own []string) []string {
	if offer := u.pool.offer(); offer != "" {
		return strings.Split(offer, ",")
	}
	if len(own) == 0 {
		return u.pool.fallback()
	}
	return own
}

// OnDialed hands the connection to the codec that it is for.
func (u *upstream) OnDialed(conn *drive.Conn, secure *access.TLS) {
	p := u.pool
	u.conn, u.info.TLS, u.info.Dial = conn, secure, u.dial.Times
	if secure != nil {
		u.info.ALPN = secure.ALPN
	}
	p.w.Loop.Cancel(&u.timer)
	u.dialed()
	u.info.Conn, u.info.ConnID, u.info.State = u.conn, u.dial.ID, p.origin.State
	u.info.Local, u.info.Remote = u.conn.LocalAddr(), u.conn.RemoteAddr()
	p.cluster.Stats.UpstreamCxConnectMS.Record(ms(p.w.Loop.Now() - u.began))
	u.codec = p.speak(u)
	u.conn.SetHandler(u.codec)
	if t := p.cluster.MaxConnectionDuration; t > 0 {
		u.life.Handler = lifetime{u}
		p.w.Loop.Schedule(&u.life, t)
	}
	u.codec.opened()
}

// dialed notes that the connection is no longer being made.
func (u *upstream) dialed() {
	p := u.pool
	if p.dialing--; p.latest == u {
		p.latest = nil
	}
}

// OnDialFailed ends a connection that did not come up.
func (u *upstream) OnDialFailed(l Loss) { u.failed(l) }

func (u *upstream) failed(l Loss) {
	p := u.pool
	p.w.Loop.Cancel(&u.timer)
	u.dialed()
	st, h := p.cluster.Stats, u.info.Host
	st.UpstreamCxConnectFail.Inc()
	h.CxConnectFail.Inc()
	u.dial.Cancel()
	u.ended = l.Reset == ConnectFailed
	u.destroyed(false)
	p.failWaiting(l)
}

// destroyed ends the connection's account.
func (u *upstream) destroyed(withRequest bool) {
	if u.dead {
		return
	}
	u.dead = true
	p := u.pool
	p.w.Loop.Cancel(&u.timer)
	p.w.Loop.Cancel(&u.life)
	p.forget(u.codec)
	if p.total--; p.empty() {
		p.uncount()
	}
	u.limits.Connections.Release()
	st := p.cluster.Stats
	st.UpstreamCxActive.Dec()
	st.CountDestroyed(u.ended, withRequest)
	if u.codec != nil && u.info.Requests > 0 {
		st.UpstreamRqPerCx.Record(u.info.Requests)
	}
	st.UpstreamCxLengthMS.Record(ms(p.w.Loop.Now() - u.began))
	u.info.Host.Connections.Dec()
	// A request may be waiting for the place among the connections that is now free.
	if p.waits > 0 && p.dialing == 0 {
		p.w.Loop.Post(p.retry)
	}
}

// broke notes how the connection has ended.
func (u *upstream) broke(err error) {
	if err != nil && u.info.TLS != nil {
		tls.CountLoss(&u.pool.cluster.Stats.TLS, err)
	}
	u.ended = true
	u.how, u.alert = HowEnded(err)
}

// HowEnded is how the other side of a connection has ended it, in a log's words, and by which alert of TLS, if by one; nil is a
// side that was closed.
func HowEnded(err error) (how, alert string) {
	switch {
	case err == nil:
		return access.EndRemoteClosed, ""
	case errors.Is(err, drive.ErrCut):
		return access.EndLocalReset, ""
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return access.EndRemoteReset, ""
	}
	if alert = tls.Alert(err); alert != "" { // a server of TLS 1.3 looks at its client's certificate when the handshake is over for that
		return access.EndRemoteAlert, alert
	}
	return access.EndBroken, ""
}

// closing is what a log says of a stream's end, at such a byte of it.
func (u *upstream) closing(how string, in, out uint64) access.Closing {
	age, _ := access.Mark(u.pool.w.Loop.Now() + 1).Sub(u.info.Dial.Begun)
	c := access.Closing{How: how, In: in, Out: out, Age: age, Requests: u.info.Requests}
	if how == access.EndRemoteAlert {
		c.Code = u.alert
	}
	return c
}

// spent reports whether the connection has got as many requests as it may carry.
func (u *upstream) spent() bool {
	limit := u.pool.cluster.MaxRequestsPerConnection
	return limit > 0 && u.info.Requests >= uint64(limit)
}

// outdated reports whether the connection was made before the host failed, or for another set of hosts, where that matters.
func (u *upstream) outdated() bool { return u.change != u.pool.change || u.fails != u.pool.fails }

// A lifetime is an upstream whose time may be up (max_connection_duration).
type lifetime struct{ u *upstream }

// OnTimer has the connection take no more requests. One that is to end anyhow is not counted, as in Envoy.
func (l lifetime) OnTimer(*drive.Timer) {
	u := l.u
	if u.dead || u.codec.spent() {
		return
	}
	u.pool.cluster.Stats.UpstreamCxMaxDurationReached.Inc()
	u.codec.retire()
}
