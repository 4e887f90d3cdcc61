// Package tcp is the TCP proxy: it joins a client's connection to one of a cluster's
// hosts and copies bytes both ways.
//
// It connects as soon as it has the client, before a byte has come, so that servers
// that speak first are heard. Each direction ends on its own: a FIN (or close_notify)
// is passed on after the bytes before it, and the other direction goes on until it ends too
// or the idle time is up. A side that does not take its bytes stops the other side's reading.
//
// With a metadata exchange configured, each end tells its workload before its first
// byte on TLS connections that agreed on istio-peer-exchange; what the peer tells is
// taken off the stream.
//
// With a [Tunnel] configured, the host is a proxy: bytes go to it as the body of a CONNECT, or of a POST, on a
// connection of the cluster's pools, by HTTP/1.1 or HTTP/2. A host that refuses has failed to be reached.
//
// Bytes are copied through the loop's buffers, or move by splice(2) where there are many and both sides
// are plain; see [drive.Conn.SpliceTo].
package tcp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/pool"
)

// exchangeProtocol is the ALPN under which both ends tell who they are.
const exchangeProtocol = "istio-peer-exchange"

// A session is a client's connection with its upstream.
type session struct {
	config *Config
	w      *pool.Worker
	conn   *listen.Conn
	meter  drive.Meter
	origin pool.Origin
	up     side // nil: none yet, or no more
	rec    access.Record

	opened    bool // and logged
	attempts  int
	tried     []*cluster.Host
	elsewhere cluster.Retry
	criteria  *cluster.Criteria // of the cluster that was picked
	seen      peerMessage       // of the client
	named     []netip.Addr      // of the host that the client names, of a [Forward]
	age       drive.Timer
	periodic  drive.Timer
	lines     drive.Timer
	idle      time.Duration
	over      bool
}

const (
	timerAge = iota
	timerPeriodic
	timerLine
)

// Serve takes a connection: it is the end of a filter chain.
func (c *Config) Serve(w *pool.Worker, conn *listen.Conn) {
	s := &session{config: c, w: w, conn: conn, origin: conn.Origin()}
	s.rec.Start, s.rec.Began = w.Loop.Wall(), s.mark()
	conn.Fill(&s.rec)
	s.rec.Dynamic.Inherit(&conn.Dynamic)
	s.rec.World = w
	if len(c.TLVs) > 0 {
		s.origin.TLVs = c.TLVPolicy.Merge(conn.TLVs, conn.Introduced(), c.TLVs, &s.rec)
	}
	s.idle = pool.WishedIdle(&s.rec.State, c.IdleTimeout)
	if st := c.Stats; st != nil {
		st.DownstreamCxTotal.Inc()
		s.meter = drive.Meter{Rx: &st.DownstreamCxRxBytesTotal, Tx: &st.DownstreamCxTxBytesTotal, RxHeld: &st.DownstreamCxRxBytesBuffered, TxHeld: &st.DownstreamCxTxBytesBuffered}
		conn.SetMeter(&s.meter)
	}
	conn.Served = s
	conn.SetHandler(s)
	conn.Pause()
	if c.MaxAge > 0 {
		s.age = drive.Timer{Handler: s, Kind: timerAge}
		w.Loop.Schedule(&s.age, c.age(w.Random()))
	}
	if c.FlushEvery > 0 {
		s.lines = drive.Timer{Handler: s, Kind: timerLine}
		w.Loop.Schedule(&s.lines, c.FlushEvery)
	}
	if c.FlushStart {
		s.rec.Type = access.NotSet
		s.flushLog()
	}
	if c.Exchange != nil && conn.TLS != nil && conn.TLS.ALPN == exchangeProtocol {
		s.seen.expected = true
		conn.Write(c.Exchange.Message)
	}
	s.connect(s.pick())
}

func (s *session) mark() access.Mark { return access.Mark(s.w.Loop.Now() + 1) }

// pick chooses the cluster.
func (s *session) pick() string {
	s.criteria = s.config.Criteria
	if name, ok := s.rec.State.Get(pool.WishCluster); ok {
		return string(name)
	}
	if name := s.conn.Cluster; name != "" {
		return name
	}
	if len(s.config.Weighted) == 0 {
		return s.config.Cluster
	}
	total := uint64(0)
	for _, w := range s.config.Weighted {
		total += uint64(w.Weight)
	}
	n := s.w.Random() % max(total, 1)
	for _, w := range s.config.Weighted {
		if n < uint64(w.Weight) {
			s.criteria = w.Criteria
			return w.Cluster
		}
		n -= uint64(w.Weight)
	}
	return s.config.Weighted[0].Cluster
}

// connect begins to connect to a host of the cluster.
func (s *session) connect(name string) {
	if s.conn.Overload().Points[overload.TCPConnect].Hit(s.w) {
		s.fail(access.OverloadManagerTerminated, "overload")
		return
	}
	c := s.w.Source.Cluster(name)
	if c == nil {
		if st := s.config.Stats; st != nil {
			st.DownstreamCxNoRoute.Inc()
		}
		s.fail(access.NoClusterFound, noCluster)
		return
	}
	s.rec.Cluster, s.rec.ClusterRaw, s.rec.Destination = c.StatName, c.Name, c.Destination
	if c.Kind == cluster.DynamicForward {
		s.forward(c)
		return
	}
	s.try(c)
}

func (s *session) try(c *cluster.Cluster) {
	pick := cluster.Pick{Random: s.w.RandomFor(c, s.w.Random()), Criteria: s.criteria}
	if len(s.tried) > 0 {
		s.elsewhere = cluster.Retry{Tried: s.tried, Attempts: 3, PreviousHosts: true}
		pick.Retry = &s.elsewhere
	}
	if c.Hashes() {
		pick.Hash, pick.HasHash = s.hash()
	}
	if c.Kind == cluster.OriginalDst {
		if wish, ok := pool.WishedDestination(&s.rec.State); ok {
			pick.Original = wish
		} else if s.conn.Restored {
			pick.Original = s.conn.Local
		}
	}
	if len(s.named) > 0 {
		pick.Original, pick.Named = netip.AddrPortFrom(s.named[0], pool.WishedPort(&s.rec.State, s.config.Forward.Port)), s.named
	}
	h, reason := c.Pick(&pick)
	if reason != cluster.OK {
		c.Stats.UpstreamCxNoneHealthy.Inc()
		s.fail(access.NoHealthyUpstream, noHost)
		return
	}
	limits := c.Limit(cluster.Default)
	if s.config.Tunnel != nil && !limits.Connections.Free() || s.config.Tunnel == nil && !limits.TryConnect(h) {
		c.Stats.UpstreamCxOverflow.Inc()
		s.fail(access.UpstreamOverflow, overflow)
		return
	}
	s.attempts++
	s.rec.Attempts, s.rec.Asked = uint32(s.attempts), s.mark()
	s.rec.UpstreamHost, s.rec.UpstreamHostName, s.rec.Configured[metadata.Host] = h.Addr, h.Name, h.Metadata.All
	s.rec.Locality = &h.Locality
	if h.Peer != nil {
		s.rec.Peer = h.Peer
	}
	if h.Dest != nil {
		s.rec.Destination = h.Dest
	}
	if s.config.Tunnel != nil {
		s.up = newTunnel(s, c, h)
		s.up.(*tunnel).open()
		return
	}
	s.up = newUpstream(s, c, h, limits)
}

// A side is the host's end of a session.
type side interface {
	joined() bool  // bytes can pass
	expects() bool // what the host tells of itself has not come yet
	splice()       // lets bytes go by the kernel, where that can be
	Write(b []byte)
	CloseWrite() // the client will send no more
	Full() bool
	Held() int // bytes that have not left
	Paused() bool
	Resume()
	Ended() bool // the host will send no more
	Reset()
	end() // closes it, after what is still to be written
}

// connected joins both sides.
func (s *session) connected() {
	s.alive()
	s.open()
	if every := s.config.Periodic; every > 0 {
		s.periodic = drive.Timer{Handler: s, Kind: timerPeriodic}
		s.w.Loop.Schedule(&s.periodic, every)
	}
	s.conn.Resume()
}

// open logs that both sides are joined, once what the peers tell of themselves has come: a
// connection must not be counted as opened by nobody and closed by somebody.
func (s *session) open() {
	if s.opened || s.up == nil || !s.up.joined() || s.seen.expected || s.up.expects() {
		return
	}
	s.opened = true
	s.connectedLog()
	if !s.conn.Overload().Points[overload.TCPData].Watched() { // somebody wants to see the bytes
		s.up.splice()
	}
}

// mustOpen is open for those who have waited long enough.
func (s *session) mustOpen() {
	if s.up != nil && s.up.joined() && !s.opened {
		s.opened = true
		s.connectedLog()
	}
}

func (s *session) connectedLog() {
	s.log(access.TCPUpstreamConnected, s.config.FlushConnected)
}

// notConnected tries another host, or gives up.
func (s *session) notConnected(c *cluster.Cluster, h *cluster.Host, why string) {
	s.up = nil
	s.rec.Flags.Set(access.UpstreamConnectionFailure)
	s.rec.UpstreamFailure = strings.ReplaceAll(why, " ", "_")
	if s.attempts >= max(1, s.config.Attempts) {
		c.Stats.UpstreamCxConnectAttemptsExceeded.Inc()
		s.fail(access.UpstreamRetryLimitExceeded, notConnectable)
		return
	}
	s.tried = append(s.tried, h)
	s.rec.Earlier = append(s.rec.Earlier, access.Attempted{Addr: h.Addr, Name: h.Name})
	s.try(c)
}

// hash is what balances the connection, if something does.
func (s *session) hash() (uint64, bool) {
	if key := s.config.HashState; key != "" {
		v, ok := s.rec.State.Get(key)
		return lb.Hash(v), ok
	}
	if !s.config.HashSourceIP {
		return 0, false
	}
	var text [46]byte
	return lb.Hash(s.conn.Remote.Addr().Unmap().AppendTo(text[:0])), true
}

// alive notes that bytes have passed.
func (s *session) alive() {
	if t := s.idle; t > 0 {
		s.conn.SetDeadline(s.w.Loop.Now() + int64(t))
	}
}

// OnData takes bytes of the client.
func (s *session) OnData(_ *drive.Conn, b []byte) int {
	n := len(b)
	if s.conn.Overload().Points[overload.TCPData].Hit(s.w) {
		s.rec.BytesReceived += uint64(n)
		s.fail(access.OverloadManagerTerminated, "overload")
		return n
	}
	if s.seen.expected {
		var more bool
		if b, more = s.seen.take(b, s, s.conn.TLS); more {
			return 0
		}
		s.open()
	}
	if s.conn.Heard() {
		s.rec.State.Inherit(s.conn.State)
	}
	if s.up == nil {
		return n
	}
	s.up.Write(b)
	s.OnSpliced(s.conn.Conn, len(b))
	return n
}

// OnSpliced accounts for bytes of the client that are on their way to the host.
func (s *session) OnSpliced(_ *drive.Conn, n int) {
	s.alive()
	s.rec.BytesReceived += uint64(n)
	s.rec.UpstreamBytesSent += uint64(n)
	if s.up.Full() {
		if st := s.config.Stats; st != nil {
			st.DownstreamFlowControlPausedReading.Inc()
		}
		s.conn.Pause()
	}
}

// came accounts for bytes of the host that are on their way to the client.
func (s *session) came(n int) {
	s.alive()
	s.rec.UpstreamBytesReceived += uint64(n)
	s.rec.BytesSent += uint64(n)
}

// flows lets the client's bytes flow again: the host takes more.
func (s *session) flows() {
	if s.over || !s.conn.Paused() {
		return
	}
	if st := s.config.Stats; st != nil {
		st.DownstreamFlowControlResumedReading.Inc()
	}
	s.conn.Resume()
}

// OnEnd passes on that the client will send no more.
func (s *session) OnEnd(*drive.Conn) {
	s.rec.ClientEnd.How = access.EndRemoteClosed
	if s.up == nil {
		s.finish()
		return
	}
	s.up.CloseWrite()
	s.ended()
}

// ended finishes once both directions have ended.
func (s *session) ended() {
	if s.conn.Ended() && s.up != nil && s.up.Ended() {
		s.finish()
	}
}

// OnClose notices that the client has broken off.
func (s *session) OnClose(_ *drive.Conn, err error) {
	if s.over {
		return
	}
	s.rec.ClientEnd.How, s.rec.ClientEnd.Code = pool.HowEnded(err)
	if errors.Is(err, syscall.ECONNRESET) {
		s.rec.ClientClose = access.CloseRemoteReset
		if s.up != nil {
			s.up.Reset() // as the client did
		}
	}
	s.finish()
}

// OnDrained lets the host's bytes flow again.
func (s *session) OnDrained(*drive.Conn) {
	if s.up != nil && s.up.Paused() {
		s.up.Resume()
	}
}

// OnDeadline ends a connection on which nothing has happened for long.
func (s *session) OnDeadline(*drive.Conn) {
	if st := s.config.Stats; st != nil {
		st.IdleTimeout.Inc()
	}
	s.closedFor("tcp_session_idle_timeout")
	s.finish()
}

// OnTimer is a time that is up.
func (s *session) OnTimer(t *drive.Timer) {
	if s.over {
		return
	}
	if t.Kind == timerLine {
		s.rec.Type, s.rec.Ended = access.TCPPeriodic, s.mark()
		s.flushLog()
		s.w.Loop.Schedule(t, s.config.FlushEvery)
		return
	}
	if t.Kind == timerPeriodic {
		s.mustOpen()
		s.log(access.TCPPeriodic, false)
		s.w.Loop.Schedule(t, s.config.Periodic)
		return
	}
	if st := s.config.Stats; st != nil {
		st.MaxDownstreamConnectionDuration.Inc()
	}
	s.rec.Flags.Set(access.DurationTimeout)
	s.closedFor("max_connection_duration_reached")
	s.finish()
}

// closedFor notes why both sides are closed from here.
func (s *session) closedFor(why string) { s.rec.LocalClose, s.rec.UpstreamClose = why, why }

// Why there is no upstream, in Envoy's words, spelling included.
const (
	notConnectable = "tcp_initializion_failure:0"
	noHost         = "tcp_initializion_failure:1"
	overflow       = "tcp_initializion_failure:2"
	noCluster      = "tcp_initializion_failure:3"
)

// fail ends a session that got no upstream.
func (s *session) fail(flag access.Flag, why string) {
	s.rec.Flags.Set(flag)
	s.rec.LocalClose = why
	s.finish()
}

// finish closes both sides, after what is still to be written.
func (s *session) finish() {
	if s.over {
		return
	}
	s.over = true
	s.mustOpen()
	s.w.Loop.Cancel(&s.age)
	s.w.Loop.Cancel(&s.periodic)
	s.w.Loop.Cancel(&s.lines)
	if u := s.up; u != nil {
		s.up = nil
		u.end()
	}
	s.measure()
	s.rec.Closed = s.mark()
	s.closing()
	s.log(access.TCPConnectionEnd, true)
	s.conn.Release()
	s.conn.Conn.Close()
}

// closing notes how each side has ended: it has closed first, or the proxy has.
func (s *session) closing() {
	r := &s.rec
	if r.ClientEnd.How == "" {
		r.ClientEnd.How = access.EndLocalClosed
	}
	h := &r.HostEnd
	if r.Dial.Connected == 0 || h.Requests > 0 { // there was none, or its codec has told
		return
	}
	if h.How == "" {
		h.How = access.EndLocalClosed
	}
	h.In, h.Out = r.Up.WireIn, r.Up.WireOut
	h.Age, _ = r.Closed.Sub(r.Dial.Begun)
}

// measure counts what the TCP proxy has passed on; its own words (peer exchange, handshakes) are nobody's.
func (s *session) measure() {
	r := &s.rec
	r.Down.WireIn, r.Down.WireOut = r.BytesReceived, r.BytesSent
	if r.Up.HeaderOut == 0 { // a tunnel counts what it sends
		r.Up.WireIn, r.Up.WireOut = r.UpstreamBytesReceived, r.UpstreamBytesSent
	}
}

// log tells metrics of a moment, and access logs if it is one of theirs.
func (s *session) log(t access.Type, write bool) {
	s.rec.Type, s.rec.Ended = t, s.mark()
	for _, l := range s.config.Metrics {
		l.Log(s.w.Index, &s.rec)
	}
	if write {
		s.flushLog()
	}
}

// flushLog writes a line of the access logs.
func (s *session) flushLog() {
	for _, l := range s.config.Logs {
		l.Log(s.w.Index, &s.rec)
	}
}

// Weigh tells what waits in the session.
func (s *session) Weigh(tell func(int, func())) {
	if s.over {
		return
	}
	n := s.conn.Buffered()
	if s.up != nil {
		n += s.up.Held()
	}
	tell(n, func() {
		if s.over {
			return
		}
		s.rec.Flags.Set(access.OverloadManagerTerminated)
		if s.up != nil {
			s.up.Reset()
		}
		s.conn.Abort()
		s.finish()
	})
}

// Drain does nothing: nobody can tell a TCP client to come back by another way.
func (s *session) Drain() {}

// Kill ends the session now.
func (s *session) Kill() { s.finish() }

// A peerMessage is what a peer tells before its first byte.
type peerMessage struct{ expected bool }

const (
	exchangeMagic = 0x3D230467
	maxExchange   = 64 << 10
)

// take takes the message off the front of b, once it is there whole. A peer that does
// not begin with one has nothing to tell.
func (m *peerMessage) take(b []byte, s *session, from *access.TLS) (rest []byte, more bool) {
	if len(b) >= 4 && binary.BigEndian.Uint32(b) != exchangeMagic {
		m.expected = false
		return b, false
	}
	if len(b) < 8 {
		return b, true
	}
	size := binary.BigEndian.Uint32(b[4:])
	if size > maxExchange {
		m.expected = false
		return b, false
	}
	if len(b) < 8+int(size) {
		return b, true
	}
	m.expected = false
	if p := s.config.Exchange.Parse(b[8:8+size], from.PeerID); p != nil {
		s.rec.Peer = p
	}
	return b[8+size:], false
}

func ms(ns int64) uint64 { return uint64(max(0, ns) / int64(time.Millisecond)) }
