package stream

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
)

// A manager is a Config at work on one shard: its stock of streams, and what is
// computed once for all of them.
type manager struct {
	w      *pool.Worker
	cfg    *Config
	usual  *Chain
	server []byte // value of the server field
	via    []byte
	meter  drive.Meter

	begun  uint // requests after which crowded was asked
	free   *Stream
	spare  int                 // streams in free
	done   []*Stream           // over, but perhaps still on the stack of a caller in this turn
	atEnd  func()              // recycle, bound once
	parted func(drive.Parting) // partedFrom, bound once
	others map[*Chain][]chain  // stock of the filters of requests for other protocols

	table    *route.Table // that of source, looked up once per configuration
	source   pool.Source
	date     []byte
	dateUnix int64
}

// Serve takes a connection: it is the end of a filter chain.
func (c *Config) Serve(w *pool.Worker, conn *listen.Conn) {
	c.manager(w).serve(conn)
}

func (c *Config) manager(w *pool.Worker) *manager {
	return w.Local(c, func() any { return newManager(w, c) }).(*manager)
}

// SentAway counts a connection that comes no further than to a network filter before this one.
func (c *Config) SentAway(conn *listen.Conn) {
	st := c.Stats
	if st == nil {
		return
	}
	st.DownstreamCxTotal.Inc()
	st.DownstreamCxActive.Inc()
	if conn.Chain.TLS != nil {
		st.DownstreamCxSSLTotal.Inc()
		st.DownstreamCxSSLActive.Inc()
	}
}

// Gone ends the account of such a connection.
func (c *Config) Gone(conn *listen.Conn, byClient bool) {
	st := c.Stats
	if st == nil {
		return
	}
	st.DownstreamCxActive.Dec()
	if conn.Chain.TLS != nil {
		st.DownstreamCxSSLActive.Dec()
	}
	st.DownstreamCxDestroy.Inc()
	if byClient {
		st.DownstreamCxDestroyRemote.Inc()
	} else {
		st.DownstreamCxDestroyLocal.Inc()
	}
	st.DownstreamCxLengthMS.Record(uint64(max(0, conn.Worker.Loop.Now()-conn.Opened) / int64(time.Millisecond)))
}

// Reads: nothing is in the way of what a client says.
func (c *Config) Reads() bool { return true }

// Measure counts the bytes of such a connection.
func (c *Config) Measure(conn *listen.Conn) {
	if c.Stats != nil {
		conn.SetMeter(&c.manager(conn.Worker).meter)
	}
}

func newManager(w *pool.Worker, c *Config) *manager {
	m := &manager{w: w, cfg: c, server: []byte("envoy"), via: []byte(c.Via)}
	if c.ServerName != "" {
		m.server = []byte(c.ServerName)
	}
	m.atEnd = m.recycle
	if st := c.Stats; st != nil {
		m.parted = m.partedFrom
		m.meter = drive.Meter{Rx: &st.DownstreamCxRxBytesTotal, Tx: &st.DownstreamCxTxBytesTotal, RxHeld: &st.DownstreamCxRxBytesBuffered, TxHeld: &st.DownstreamCxTxBytesBuffered}
	}
	return m
}

// routes returns the route table of the moment.
func (m *manager) routes() *route.Table {
	if m.cfg.Routes != nil {
		return m.cfg.Routes
	}
	if m.source != m.w.Source {
		m.source = m.w.Source
		m.table = m.w.Source.Table(m.cfg.RouteName)
	}
	return m.table
}

// routes returns the route table of the moment for the request as it is.
func (s *Stream) routes() *route.Table {
	c := s.Config
	if c.ScopeKey == nil {
		return s.m.routes()
	}
	scopes := c.Scopes
	if scopes == nil {
		scopes = s.Worker.Source.ScopesOf(c.ScopeSource)
	}
	return scopes.Table(c.ScopeKey, &s.Request, s.scratch[:0])
}

// get returns a stream from stock.
func (m *manager) get(down Downstream, l *link) *Stream {
	s := m.free
	if s == nil {
		s = m.newStream()
	} else {
		m.free, s.nextFree = s.nextFree, nil
		m.spare--
	}
	if usual := m.usual.now(); s.chain.config != usual {
		s.chain = newChain(usual, m.w) // it was in stock while filters changed
	}
	s.Conn, s.down, s.link = l.conn, down, l
	s.open()
	return s
}

func (m *manager) newStream() *Stream {
	s := &Stream{Worker: m.w, Config: m.cfg, m: m, reqWait: -1, respWait: -1}
	if m.usual == nil {
		m.usual = &Chain{m.cfg.Filters, m.cfg.FiltersOff, m.cfg.Live}
	}
	s.chain = newChain(m.usual.now(), m.w)
	s.timer.Handler, s.timer.Kind = s, timerMaxStream
	s.arriving.Handler, s.arriving.Kind = s, timerRequest
	s.telling.Handler, s.telling.Kind = s, timerLog
	return s
}

// retire puts a stream aside until the end of the turn: its callers may still be at work with it.
func (m *manager) retire(s *Stream) {
	s.gen++
	if len(m.done) == 0 {
		m.w.AtTurnEnd(m.atEnd)
	}
	m.done = append(m.done, s)
}

// crowded reports whether so many streams have ended in this turn, or so much time has gone, that the next requests are for another: a
// connection may have sent thousands of which each is answered at once or costs much, and both the memory of their streams and the other
// connections wait. It is asked after a request of whose connection there may be more; the clock is looked at for every fourth.
func (m *manager) crowded() bool {
	if len(m.done) >= maxEnded {
		return true
	}
	m.begun++
	return m.begun%4 == 0 && m.w.Loop.Late()
}

const (
	maxEnded = 512      // streams in a turn
	maxKept  = 64 << 10 // bytes of buffers that a stream in stock may keep
	maxSpare = 1024     // streams in stock: the memory of a rush of requests is given back after it
)

// recycle returns ended streams to stock, at the end of a turn.
func (m *manager) recycle() {
	for i, s := range m.done {
		m.done[i] = nil
		if m.spare < maxSpare {
			s.reset()
			s.nextFree, m.free = m.free, s
			m.spare++
		}
	}
	m.done = m.done[:0]
}

// reset makes a stream's memory ready for the next request.
func (s *Stream) reset() {
	s.Request.Reset()
	s.Trailers.Reset()
	s.local.Reset()
	s.Rec.Reset()
	if cap(s.head) > maxKept {
		s.head = nil
	}
	if cap(s.reqHeld.bytes)+cap(s.respHeld.bytes)+cap(s.localMsg) > maxKept {
		s.reqHeld.bytes, s.respHeld.bytes, s.localMsg = nil, nil, nil
	}
	s.reqHeld = held{bytes: s.reqHeld.bytes[:0]}
	s.respHeld = held{bytes: s.respHeld.bytes[:0]}
	s.Conn, s.down, s.link, s.Response, s.Table, s.Route, s.Weighted = nil, nil, nil, nil, nil, nil, nil
	s.buffer.Bytes = nil
	s.at, s.reqWait, s.respWait, s.status = 0, -1, -1, 0
	s.lostUpgrade, s.switched = false, false
	s.Upgrade, s.requested, s.responded, s.sent, s.finished, s.replied, s.over = false, false, false, false, false, false, false
	s.passedEnd, s.started, s.wantedByUs, s.internal, s.absolute = false, false, false, false, false
	s.respEnds, s.reqPaused, s.respPaused, s.GRPC, s.skip, s.Cluster = false, 0, 0, false, 0, ""
	clear(s.forClient)
	clear(s.forUpstream)
	s.forClient, s.forUpstream = s.forClient[:0], s.forUpstream[:0]
	s.Host = HostWish{}
	s.Followed.Reset()
	if s.usual != nil {
		s.m.keep(s.other, s.chain)
		s.chain, s.usual, s.other = *s.usual, nil, nil
	}
}

// account tells logs and metrics of a stream that is over.
func (m *manager) account(s *Stream) {
	r := &s.Rec
	if s.status != 0 && !s.unseen && !r.HealthCheck {
		m.countAnswer(s.status)
	}
	if st := m.cfg.Stats; st != nil {
		st.DownstreamRqActive.Dec()
		if r.HealthCheck {
			st.TracingHealthCheck.Inc()
		}
		st.DownstreamRqTime.Record(uint64(r.Duration() / time.Millisecond))
	}
	for _, l := range m.cfg.Logs {
		l.Log(m.w.Index, r)
	}
}

// countAnswer counts a response by its status, an interim one too.
func (m *manager) countAnswer(status int) {
	if st := m.cfg.Stats; st != nil {
		st.DownstreamRq.Add(status)
		st.DownstreamRqCompleted.Inc()
	}
	if st := m.cfg.Listener; st != nil {
		st.DownstreamRq.Add(status)
		st.DownstreamRqCompleted.Inc()
	}
}

// takeDown brings the record up to date.
func (s *Stream) takeDown() {
	r := &s.Rec
	r.Ended = s.mark()
	s.down.Measure(&r.Down)
	if s.responded {
		r.Response = s.Response
	}
}

// MeasureClient takes down the client's side of the stream as it is now.
func (s *Stream) MeasureClient(m *access.Meter) { s.down.Measure(m) }

// logMoment tells the logs of a request that is not over.
func (s *Stream) logMoment(t access.Type) {
	s.takeDown()
	r := &s.Rec
	r.Type = t
	for _, l := range s.Config.Logs {
		l.Log(s.Worker.Index, r)
	}
	r.Type, r.Ended = access.DownstreamEnd, 0
}

// now is the date of the turn, as HTTP writes it.
func (m *manager) now() []byte {
	wall := m.w.Loop.Wall()
	if unix := wall.Unix(); unix != m.dateUnix || m.date == nil {
		m.dateUnix = unix
		// A fresh slice: responses that are under way still point to the old one.
		m.date = wall.UTC().AppendFormat(make([]byte, 0, 29), "Mon, 02 Jan 2006 15:04:05 GMT")
	}
	return m.date
}

// passInterim reports whether an interim response is for the client. Where we answer
// Expect: 100-continue ourselves (Envoy's proxy_100_continue is not set), none is, 103
// included, as with Envoy.
func (c *Config) passInterim() bool { return !c.Expect100Here }

var _ drive.TimerHandler = (*Stream)(nil)
