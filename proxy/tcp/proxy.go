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
	"net/netip"
	"strings"
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
	waits     bool // for the client's first bytes, before it goes to a host
	attempts  int
	tried     []*cluster.Host
	wanted    cluster.Wanted // hosts that metadata of the connection name
	elsewhere cluster.Retry
	criteria  *cluster.Criteria // of the cluster that was picked
	seen      peerMessage       // of the client
	named     []netip.Addr      // of the host that the client names, of a [Forward]
	age       drive.Timer
	periodic  drive.Timer
	lines     drive.Timer
	again     again
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
	s.rec.Start, s.rec.Began = w.Loop.WallAt(conn.Opened), access.Mark(conn.Opened+1) // what listener filters and TLS took counts, as in Envoy
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
	if s.waits = c.AfterData; s.waits {
		s.alive() // who says nothing is idle
	} else {
		conn.Pause()
	}
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
	if !s.waits {
		s.connect(s.pick())
	}
}

// begun goes to a host, as the client has sent its first bytes. They stay unread until the host is there.
func (s *session) begun() {
	s.waits = false
	s.conn.Pause()
	s.conn.SetDeadline(0)
	if s.conn.Heard() {
		s.rec.State.Inherit(s.conn.State)
	}
	s.connect(s.pick())
}

// SentAway counts a connection that comes no further than to a network filter before this one.
func (c *Config) SentAway(*listen.Conn) {
	if c.Stats != nil {
		c.Stats.DownstreamCxTotal.Inc()
	}
}

// Gone does nothing: of the end of connections there is no count.
func (c *Config) Gone(*listen.Conn, bool) {}

// Reads: what a client sends is for a host, and waits until there is one.
func (c *Config) Reads() bool { return false }

// Measure does nothing: nothing is read.
func (c *Config) Measure(*listen.Conn) {}

// Record logs it.
func (c *Config) Record(shard int, r *access.Record) {
	for _, l := range c.Logs {
		l.Log(shard, r)
	}
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
	c := s.find(name)
	if c == nil {
		return
	}
	s.rec.Cluster, s.rec.ClusterRaw, s.rec.Destination = c.StatName, c.Name, c.Destination
	if c.Kind == cluster.DynamicForward {
		s.forward(c)
		return
	}
	s.try(c)
}

// find returns a cluster as it is by now. If there is none, that was the session.
func (s *session) find(name string) *cluster.Cluster {
	c := s.w.Source.Cluster(name)
	if c == nil {
		if st := s.config.Stats; st != nil {
			st.DownstreamCxNoRoute.Inc()
		}
		s.fail(access.NoClusterFound, noCluster)
	}
	return c
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
	if c.Naming != nil {
		if s.attempts == 0 {
			c.Naming.Want(&s.wanted, nil, &s.rec.Dynamic)
		}
		pick.Wanted = &s.wanted
	}
	h, reason := c.Pick(&pick)
	if reason != cluster.OK {
		c.Stats.UpstreamCxNoneHealthy.Inc()
		s.fail(access.NoHealthyUpstream, noHost)
		return
	}
	if c.Naming != nil {
		c.Naming.Tell(&s.rec.Dynamic, h)
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
	s.rec.Configured[metadata.Locality] = h.Metadata.Around
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
	s.again = again{s, c.Name, drive.Timer{}}
	if s.config.Backoff.Base == 0 {
		s.again.OnTimer(nil)
		return
	}
	s.again.timer.Handler = &s.again
	s.w.Loop.Schedule(&s.again.timer, s.config.Backoff.Wait(uint32(s.attempts), s.w.Random()))
}

// again tries to connect once more, when it is time.
type again struct {
	s       *session
	cluster string
	timer   drive.Timer
}

func (a *again) OnTimer(*drive.Timer) {
	if c := a.s.find(a.cluster); c != nil {
		a.s.try(c)
	}
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

// Drain does nothing: nobody can tell a TCP client to come back by another way.
func (s *session) Drain() {}

// Kill ends the session now.
func (s *session) Kill() { s.finish() }
