package tcp

import (
	"net/netip"
	"strings"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
)

// A tunnel is a host's end of a session whose bytes are the body of a request: the host is a
// proxy that is asked to pass them on. Connections to it are those of the cluster's pools, so with HTTP/2
// many sessions share one.
type tunnel struct {
	s       *session
	cluster *cluster.Cluster
	host    *cluster.Host
	pending pool.Pending
	stream  pool.Stream // nil: none yet, or no more
	request header.Map
	msg     pool.Message
	up      bool // the host has agreed
	paused  bool
	timer   drive.Timer
	sentEnd bool // the client will send no more
	gotEnd  bool // the host will send no more
}

func newTunnel(s *session, c *cluster.Cluster, h *cluster.Host) *tunnel {
	return &tunnel{s: s, cluster: c, host: h}
}

// open asks for a place on a connection. It may fail before it returns.
func (t *tunnel) open() {
	s := t.s
	t.pending.Origin = s.origin
	t.pending.Origin.State = &s.rec.State
	s.config.Tunnel.head(&t.request, &s.rec)
	t.msg.Meter = &s.rec.Up
	authority := t.request.Get(header.Authority)
	if !s.w.Admits(&t.pending, t.cluster, t.host, cluster.Default, authority) {
		s.up, s.rec.UpstreamHost, s.rec.UpstreamHostName = nil, netip.AddrPort{}, ""
		s.fail(access.NoHealthyUpstream, noHost)
		return
	}
	s.w.Open(&t.pending, t.cluster, t.host, cluster.Default, authority, &t.msg, t)
}

// head makes the request, all but for what depends on the connection.
func (c *Tunnel) head(m *header.Map, rec *access.Record) {
	method := "CONNECT"
	if c.PostPath != "" {
		method = "POST"
	}
	m.Add(header.Method, []byte(method))
	host := c.Host.Append(nil, rec)
	if !header.ValidAuthority(host) { // a client's server name may be anything
		host = nil
	}
	m.Add(header.Authority, host)
	if c.PostPath != "" {
		m.Add(header.Path, []byte(c.PostPath))
	}
	c.identify(m, rec)
}

// identify gives the request an id, by which the host's logs and ours can be brought together.
func (c *Tunnel) identify(m *header.Map, rec *access.Record) {
	if c.RequestID == "" {
		return
	}
	id := access.AppendUUID(nil)
	m.AddName([]byte(c.RequestID), id)
	rec.Dynamic.Set("envoy.filters.network.tcp_proxy", c.RequestIDKey, string(id))
}

// OnReady sends the request.
func (t *tunnel) OnReady(stream pool.Stream) {
	t.stream = stream
	s, info := t.s, stream.Info()
	s.rec.UpstreamLocal, s.rec.UpstreamRemote = info.Local, info.Remote
	s.rec.UpstreamConnID, s.rec.Upstream, s.rec.UpstreamState = info.ConnID, info.TLS, info.State
	if c := s.config.Tunnel; c.PostPath != "" && info.Protocol == access.HTTP2 {
		scheme := "http"
		if info.TLS != nil {
			scheme = "https"
		}
		t.request.Add(header.Scheme, []byte(scheme))
	}
	if h := s.config.Tunnel.Headers; h != nil {
		h.Apply(&t.request, &s.rec)
	}
	stream.SendHeaders(&t.request, false)
}

// OnFailure: there is no connection to be had.
func (t *tunnel) OnFailure(l pool.Loss) {
	r, why := l.Reset, l.Why
	t.s.rec.HostEnd = l.End
	if why == "" && r != pool.ConnectFailed {
		why = r.String()
	}
	kind := cluster.ConnectFailed
	if r == pool.ConnectTimedOut {
		kind = cluster.Timeout
	}
	if r == pool.Overflow || r == pool.ActiveOverflow || r == pool.Shed {
		t.s.up = nil
		t.s.fail(access.UpstreamOverflow, overflow)
		return
	}
	t.failed(why, kind)
}

// failed ends an attempt.
func (t *tunnel) failed(why string, kind cluster.ResultKind) {
	t.report(kind)
	t.drop()
	if s := t.s; !s.over {
		s.notConnected(t.cluster, t.host, why)
	}
}

// report tells outlier detection how an attempt ends: as one to connect, which it is for the session.
func (t *tunnel) report(kind cluster.ResultKind) {
	t.cluster.Report(t.host, cluster.Result{Kind: kind}, t.s.w.Loop.Time())
}

// OnInformational is of no use to anybody.
func (t *tunnel) OnInformational(*header.Map) {}

// OnHeaders joins both sides, if the host agrees.
func (t *tunnel) OnHeaders(m *header.Map, end bool) {
	agrees := t.agrees(m) && !end
	if end {
		t.stream = nil
	}
	if t.s.config.Tunnel.KeepHeaders {
		t.s.rec.State.SetHeaders("envoy.tcp_proxy.propagate_response_headers", m)
	}
	if !agrees {
		t.failed("tunnel_response:"+string(m.Get(header.Status)), cluster.ConnectFailed)
		return
	}
	t.up = true
	t.report(cluster.ConnectOKFinal)
	t.s.connected()
}

// agrees reports whether a response opens the tunnel.
func (t *tunnel) agrees(m *header.Map) bool {
	code := string(m.Get(header.Status))
	if t.stream.Info().Protocol == access.HTTP2 {
		return code == "200"
	}
	return strings.HasPrefix(code, "2")
}

// OnData takes bytes of the host.
func (t *tunnel) OnData(b []byte, end bool) {
	s := t.s
	if end {
		t.stream = nil
	}
	if s.over {
		return
	}
	if len(b) > 0 {
		if s.conn.Write(b); !s.came(len(b)) {
			return
		}
	}
	if end {
		t.hostEnded()
		return
	}
	if s.conn.Full() {
		t.paused = true
		t.stream.Pause()
	}
}

// OnTrailers ends the host's bytes.
func (t *tunnel) OnTrailers(m *header.Map) {
	t.stream = nil
	if t.s.config.Tunnel.KeepTrailers {
		t.s.rec.State.SetHeaders("envoy.tcp_proxy.propagate_response_trailers", m)
	}
	if !t.s.over {
		t.hostEnded()
	}
}

func (t *tunnel) hostEnded() {
	t.gotEnd = true
	t.s.rec.HostEnd.How = access.EndRemoteClosed
	t.s.finish()
}

// OnReset: the connection or the stream has ended under way.
func (t *tunnel) OnReset(l pool.Loss) {
	t.stream = nil
	s := t.s
	s.rec.HostEnd = l.End
	switch {
	case s.over:
	case !t.up:
		t.failed("", cluster.ConnectFailed)
	default:
		s.finish()
	}
}

// OnDrained lets the client's bytes flow again.
func (t *tunnel) OnDrained() {
	if t.up {
		t.s.flows()
	}
}

func (t *tunnel) joined() bool  { return t.up }
func (t *tunnel) expects() bool { return false }
func (t *tunnel) splice()       {}

// Write sends bytes of the client.
func (t *tunnel) Write(b []byte) {
	if t.stream != nil {
		t.stream.SendData(b, false)
	}
}

// lastWords is how long a host may go on by HTTP/1.1 when the client has sent all. Nothing else need end such
// a tunnel: a POST does not.
const lastWords = time.Second

// CloseWrite ends the request.
func (t *tunnel) CloseWrite() {
	if t.stream == nil || t.sentEnd {
		return
	}
	t.sentEnd = true
	if t.stream.Info().Protocol != access.HTTP2 {
		t.timer.Handler = t
		t.s.w.Loop.Schedule(&t.timer, lastWords)
	}
	t.stream.SendData(nil, true)
}

// OnTimer ends a tunnel whose client has sent all.
func (t *tunnel) OnTimer(*drive.Timer) {
	if !t.s.over {
		t.s.finish()
	}
}

// Full says that the client should pause.
func (t *tunnel) Full() bool { return t.stream != nil && t.stream.Full() }

// Held is how many bytes of the client wait for the host.
func (t *tunnel) Held() int {
	if t.stream == nil {
		return 0
	}
	return t.stream.Held()
}

// Paused reports whether the host's bytes are held up.
func (t *tunnel) Paused() bool { return t.paused }

// Resume lets them flow again.
func (t *tunnel) Resume() {
	if t.paused = false; t.stream != nil {
		t.stream.Resume()
	}
}

// Ended reports whether the host will send no more.
func (t *tunnel) Ended() bool { return t.gotEnd }

// Reset gives the request up.
func (t *tunnel) Reset() { t.drop() }

func (t *tunnel) end() { t.drop() }

func (t *tunnel) drop() {
	t.s.w.Loop.Cancel(&t.timer)
	t.pending.Cancel()
	if stream := t.stream; stream != nil {
		t.stream = nil
		stream.Cancel()
	}
}

var (
	_ pool.Handler = (*tunnel)(nil)
	_ side         = (*tunnel)(nil)
	_ side         = (*upstream)(nil)
)
