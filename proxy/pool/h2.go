package pool

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/h2"
	"github.com/mallamesh/malla/proxy/header"
)

// h2Conn is an upstream connection that speaks HTTP/2: it carries as many requests at
// once as both sides allow. It is in the pool's list as long as it takes requests; one
// that the host wants to end, or that is old, serves those that it has and is closed.
type h2Conn struct {
	*upstream
	http    *h2.Conn
	active  int
	place   int // in pool.open, -1: it takes no requests
	free    *h2Stream
	done    []*h2Stream // over, but perhaps still on the stack of a caller in this turn
	atEnd   func()      // recycle, bound once
	deliver func()      // http.Deliver, bound once
	left    h2.Code     // why the host has taken its leave
	ended   bool        // it has closed its side
	unacked int         // what its system had not taken then, in bytes
}

func newH2(u *upstream) *h2Conn {
	c := &h2Conn{upstream: u, place: -1}
	c.atEnd = c.recycle
	c.http = h2.NewClient(u.pool.w.HTTP2, &u.pool.cluster.HTTP2Options, u.conn, c)
	c.deliver = c.http.Deliver
	return c
}

// opened has the connection serve those that wait.
func (c *h2Conn) opened() {
	c.info.Protocol = access.HTTP2
	c.pool.countVersion(c.pool.key.version == byALPN, false)
	c.place = len(c.pool.open)
	c.pool.open = append(c.pool.open, c)
	c.timer.Handler = c
	c.keepAlive()
	c.serve()
	c.pool.retry() // the others want more connections, if it was thought that this one could carry them all
	if c.active == 0 {
		c.idleFromNow()
	}
}

// room reports whether the connection can carry one request more. No window bounds the headers of
// requests, and a host that hangs takes none of them while its kernel keeps the connection open for
// ever: then there is none.
func (c *h2Conn) room() bool {
	return c.place >= 0 && c.conn.Alive() && !c.conn.Ended() && c.http.CanOpen() && !c.conn.Overfull()
}

// retireStuck gives up connections whose host takes nothing.
func (p *Pool) retireStuck() {
	for i := len(p.open) - 1; i >= 0; i-- {
		if c := p.open[i]; c.conn.Overfull() {
			c.retire()
		}
	}
}

// serve gives places to requests that wait.
func (c *h2Conn) serve() {
	for c.room() && c.pool.serve(c) {
	}
}

func (p *Pool) unlinkOpen(c *h2Conn) {
	if c.place < 0 {
		return
	}
	last := len(p.open) - 1
	p.open[c.place] = p.open[last]
	p.open[c.place].place = c.place
	p.open[last] = nil
	p.open = p.open[:last]
	c.place = -1
}

// retire takes no more requests, and ends the connection when there are none.
func (c *h2Conn) retire() {
	c.pool.unlinkOpen(c)
	c.endIfIdle()
}

// spent reports whether the connection takes no more requests.
func (c *h2Conn) spent() bool { return c.place < 0 }

func (c *h2Conn) endIfIdle() {
	if c.place < 0 && c.active == 0 && !c.dead {
		c.destroyed(false)
		c.http.GoAway(h2.NoError)
		c.conn.Close()
	}
}

func (c *h2Conn) idleFromNow() {
	if t := *c.pool.cluster.IdleTimeout; t > 0 {
		c.conn.SetDeadline(c.pool.w.Loop.Now() + int64(t))
	}
}

// An h2Stream is a request on a connection of HTTP/2. Its memory is used again by the
// same connection.
type h2Stream struct {
	c        *h2Conn
	s        *h2.Stream
	handler  Handler // nil: over
	meter    *access.Meter
	rqLimits *cluster.Breakers
	sentAt   uint64 // conn.BytesOut when the request began
	gotAt    uint64 // conn.BytesIn then
	begun    int64  // loop time then
	sentAll  bool
	next     *h2Stream
}

// begin starts a request.
func (c *h2Conn) begin(h Handler, limits *cluster.Breakers, response *Message) Stream {
	r := c.free
	if r == nil {
		r = &h2Stream{c: c}
	} else {
		c.free, r.next = r.next, nil
	}
	p := c.pool
	if c.active == 0 {
		c.conn.SetDeadline(0)
	}
	r.handler, r.rqLimits, r.sentAll = h, limits, false
	r.sentAt, r.gotAt, r.begun = c.conn.BytesOut, c.conn.BytesIn, p.w.Loop.Now()
	r.meter = response.meter(p.w)
	response.Trailers.Reset()
	c.active++
	c.taken()
	if c.http.TryIdle(p.w.Loop.Now()) {
		c.keepAlive()
	}
	r.s = c.http.Open(r, &response.Map, &response.Trailers)
	if c.upstream.spent() {
		p.cluster.Stats.UpstreamCxMaxRequests.Inc()
		p.unlinkOpen(c)
	}
	return r
}

// finish ends the request's account.
func (r *h2Stream) finish() {
	c := r.c
	r.handler = nil
	c.active--
	c.settle(r.rqLimits)
	head, body := r.s.HeaderBytes, r.s.BodyBytes
	r.meter.HeaderIn += head.In
	r.meter.HeaderOut += head.Out
	r.meter.WireIn += head.In + body.In
	r.meter.WireOut += head.Out + body.Out
	r.s.Release()
	r.s = nil
	if c.active == 0 && !c.dead {
		c.idleFromNow()
	}
	if len(c.done) == 0 {
		c.pool.w.AtTurnEnd(c.atEnd)
	}
	c.done = append(c.done, r)
}

// recycle returns streams that are over to stock, at the end of a turn.
func (c *h2Conn) recycle() {
	for i, r := range c.done {
		c.done[i] = nil
		r.next, c.free = c.free, r
	}
	c.done = c.done[:0]
}

// Info says what is known of the connection.
func (r *h2Stream) Info() *Info { return &r.c.info }

// SendHeaders sends the request's head.
func (r *h2Stream) SendHeaders(m *header.Map, end bool) {
	if r.handler == nil {
		return
	}
	if string(m.Get(header.Method)) == "CONNECT" && !m.Has(header.Protocol) {
		m.Remove(header.Scheme) // RFC 9113, section 8.5
	}
	r.sentAll = end
	r.meter.PlainOut += uint64(m.Size())
	r.s.SendHeaders(m, end)
}

// SendData sends a piece of the request's body.
func (r *h2Stream) SendData(b []byte, end bool) {
	if r.handler != nil {
		r.sentAll = end
		r.s.SendData(b, end)
	}
}

// SendTrailers ends the request's body.
func (r *h2Stream) SendTrailers(m *header.Map) {
	if r.handler != nil {
		r.sentAll = true
		r.meter.PlainOut += uint64(m.Size())
		r.s.SendTrailers(m)
	}
}

// Full says that the request should pause.
func (r *h2Stream) Full() bool { return r.handler != nil && r.s.Full() }

// Held is how many bytes wait here, of the request and of the response.
func (r *h2Stream) Held() int {
	if r.handler == nil {
		return 0
	}
	return r.s.Held()
}

// Pause takes no more of the response.
func (r *h2Stream) Pause() {
	if r.handler != nil {
		r.c.pool.cluster.Stats.UpstreamFlowControlPausedReading.Inc()
		r.s.Pause()
	}
}

// Resume takes the response again.
func (r *h2Stream) Resume() {
	if r.handler != nil {
		r.c.pool.cluster.Stats.UpstreamFlowControlResumedReading.Inc()
		r.s.Resume()
	}
}

// Cancel gives the request up.
func (r *h2Stream) Cancel() {
	if r.handler == nil {
		return
	}
	r.c.pool.cluster.Stats.UpstreamRqTxReset.Inc()
	r.s.Reset(h2.InternalError)
	r.finish()
	r.c.moreRoom()
}

// end is the end of a response. A request that was not sent whole is of no use any more.
func (r *h2Stream) end() Handler {
	h := r.handler
	if !r.sentAll {
		r.c.pool.cluster.Stats.UpstreamRqTxReset.Inc()
		r.s.Reset(h2.NoError)
	}
	r.finish()
	return h
}

// OnHeaders brings a response.
func (r *h2Stream) OnHeaders(m *header.Map, end bool) {
	h := r.handler
	r.meter.PlainIn += uint64(m.Size())
	if end {
		h = r.end()
	}
	h.OnHeaders(m, end)
}

// OnInformational brings a 1xx response.
func (r *h2Stream) OnInformational(m *header.Map) { r.handler.OnInformational(m) }

// OnData brings a piece of the response's body.
func (r *h2Stream) OnData(b []byte, end bool) {
	h := r.handler
	if end {
		h = r.end()
	}
	h.OnData(b, end)
}

// OnTrailers ends the response.
func (r *h2Stream) OnTrailers(m *header.Map) {
	r.meter.PlainIn += uint64(m.Size())
	r.end().OnTrailers(m)
}

// OnDrained passes on that the request can flow again.
func (r *h2Stream) OnDrained() { r.handler.OnDrained() }

// OnReset tells why there is no (whole) response.
func (r *h2Stream) OnReset(reset h2.Reset) {
	h, st := r.handler, r.c.pool.cluster.Stats
	reason, how := ConnectionTerminated, r.c.how
	switch reset.Cause {
	case h2.RemoteReset:
		st.UpstreamRqRxReset.Inc()
		reason, how = RemoteReset, access.EndRemoteStream
		if reset.Code == h2.RefusedStream {
			reason = RemoteRefused
		}
	case h2.GoneAway:
		reason, how = RemoteRefused, access.EndRemoteGoAway
	case h2.Malformed, h2.Broken:
		reason, how = ProtocolError, HowRefused(reset)
	}
	end := r.Closing(how)
	if code := r.c.left; reset.Cause != h2.Closed && reset.Cause != h2.GoneAway {
		end.Code = reset.Code.String()
	} else if code != h2.NoError {
		end.Code = code.String()
	}
	seen := r.seen(reset)
	r.finish()
	h.OnReset(Loss{reason, "", seen, end})
}

// HowRefused is how we have ended a stream for what the other side has done, in a log's words: it has broken a rule, or
// has given no sign of life.
func HowRefused(r h2.Reset) string {
	if r.Code == h2.NoError {
		return access.EndLocalReset
	}
	return access.EndLocalProtocol
}

// Closing is what a log says of the stream's end.
func (r *h2Stream) Closing(how string) access.Closing {
	head, body := r.s.HeaderBytes, r.s.BodyBytes
	return r.c.closing(how, head.In+body.In, head.Out+body.Out)
}

// seen says what the host can have seen of the request.
func (r *h2Stream) seen(reset h2.Reset) Seen {
	c := r.c
	switch {
	case reset.Unseen, c.conn.BytesOut == r.sentAt && reset.Cause == h2.Closed:
		return Unseen
	case reset.Cause == h2.Closed && c.info.Requests > 1 && c.conn.BytesIn == r.gotAt && !r.read() && c.pool.raced(r.begun):
		return Raced
	}
	return MaybeSeen
}

// read reports that the host has closed its side when its system had some of the request: in order, so that it has read that.
func (r *h2Stream) read() bool {
	c := r.c
	return c.ended && uint64(c.unacked) < c.conn.BytesOut-r.sentAt
}

// OnStream refuses what servers do not do.
func (c *h2Conn) OnStream(*h2.Stream) (h2.StreamHandler, *header.Map, *header.Map) {
	panic("pool: a server began a stream") // h2 refuses PUSH_PROMISE
}

// OnSettings may make room. Those that find none want a connection of their own.
func (c *h2Conn) OnSettings() {
	c.pool.streams = c.http.MaxStreams()
	c.serve()
	c.pool.retry()
}

// OnHeld has what was kept of resumed responses handed over in the next turn.
func (c *h2Conn) OnHeld() { c.pool.w.Loop.Post(c.deliver) }

// OnClosed makes room.
func (c *h2Conn) OnClosed() { c.moreRoom() }

func (c *h2Conn) moreRoom() {
	c.serve()
	c.endIfIdle()
}

// OnGoAway takes no more requests.
func (c *h2Conn) OnGoAway(code h2.Code, _ []byte) {
	c.left = code
	c.pool.cluster.Stats.UpstreamCxCloseNotify.Inc()
	c.pool.unlinkOpen(c)
	c.pool.retry() // those that wait may have counted on this one
	c.endIfIdle()
}

// OnData reads frames.
func (c *h2Conn) OnData(_ *drive.Conn, b []byte) int {
	n, err := c.http.Feed(b)
	if err != nil {
		c.broken()
	}
	return n
}

// broken ends a connection that the codec has given up. Its streams have heard of it.
func (c *h2Conn) broken() {
	if !c.dead {
		c.pool.cluster.Stats.UpstreamCxProtocolError.Inc()
		c.over(c.active > 0)
		c.conn.Close()
	}
}

// over ends the account of a connection whose streams have all heard of it.
func (c *h2Conn) over(withRequests bool) {
	c.pool.w.Loop.Cancel(&c.timer)
	c.destroyed(withRequests)
}

// OnEnd is the end: half a connection is none in HTTP/2.
func (c *h2Conn) OnEnd(d *drive.Conn) {
	c.ended, c.unacked = true, d.Unacked()
	c.OnClose(d, nil)
}

// OnClose notices that the connection has broken.
func (c *h2Conn) OnClose(_ *drive.Conn, err error) {
	if c.dead {
		return
	}
	c.broke(err)
	c.over(c.active > 0)
	c.http.Close()
	c.conn.Close()
}

// OnDrained lets requests flow again.
func (c *h2Conn) OnDrained(*drive.Conn) { c.http.OnDrained() }

// OnDeadline closes a connection that nobody has used for long.
func (c *h2Conn) OnDeadline(*drive.Conn) {
	if c.active == 0 && !c.dead {
		c.pool.cluster.Stats.UpstreamCxIdleTimeout.Inc()
		c.retire()
	}
}

// keepAlive has the host asked for a sign of life now and then.
func (c *h2Conn) keepAlive() {
	loop := c.pool.w.Loop
	next, err := c.http.Keepalive(loop.Now())
	switch {
	case err != nil:
		c.broken()
	case next != 0:
		loop.Schedule(&c.timer, time.Duration(next-loop.Now()))
	}
}

// OnTimer is the time for the next look.
func (c *h2Conn) OnTimer(*drive.Timer) {
	if !c.dead {
		c.keepAlive()
	}
}
