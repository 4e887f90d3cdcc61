package pool

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/h1"
	"github.com/mallamesh/malla/proxy/header"
)

// h1Conn is an upstream connection that speaks HTTP/1.1: it carries one request at a time.
type h1Conn struct {
	*upstream
	parser h1.Parser

	isIdle   bool
	idleAt   int64 // since when
	nextIdle *h1Conn
	prevIdle *h1Conn

	// of the request in flight
	handler  Handler
	rqLimits *cluster.Breakers
	response *Message
	meter    *access.Meter
	body     h1.Body
	method   []byte
	sentAt   uint64 // conn.BytesOut when the request began
	gotAt    uint64 // conn.BytesIn then
	seenHead int    // how much of an incomplete head was looked at
	chunked  bool   // the request is sent in chunks
	sentAll  bool
	upgrade  bool // the request asks for one
	connect  bool // the request is a CONNECT
	inBody   bool
	tunnel   bool
	begun    int64 // loop time when the request began
	doubt    bool  // the host has closed its side, and it is open whether it has got the request
	served   bool  // it closed its side when its system had the request: in order, so that the host has read it
	lost     bool  // it has not
	keep     bool  // the connection can be used again
}

// limits is what a cluster takes of a response's head, and what is kept of it.
func limits(c *cluster.Cluster) h1.Parser {
	return h1.Parser{MaxBytes: c.HTTP2Options.MaxHeaderBytes, MaxFields: c.HTTP2Options.MaxHeaders, Spelling: c.Spelling, Lenient: true}
}

// opened has the connection serve whoever waits. The others want more connections, if
// it was thought that this one could carry them all.
func (c *h1Conn) opened() {
	c.info.Protocol = access.HTTP11
	c.pool.cluster.Stats.HTTP1.Show()
	c.timer.Handler = c
	c.pool.countVersion(false, c.pool.key.version == byALPN)
	c.pool.release(c)
	if next := c.pool.first(); next != nil && c.pool.key.version == byALPN {
		c.pool.dialFor(next.limits)
	}
}

// begin starts a request.
func (c *h1Conn) begin(h Handler, limits *cluster.Breakers, response *Message) Stream {
	p := c.pool
	p.unlinkIdle(c)
	c.conn.SetDeadline(0)
	c.handler, c.rqLimits, c.response = h, limits, response
	c.meter = response.meter(p.w)
	response.Trailers.Reset()
	c.sentAt, c.gotAt = c.conn.BytesOut, c.conn.BytesIn
	c.seenHead, c.chunked, c.sentAll, c.upgrade, c.inBody, c.tunnel, c.keep = 0, false, false, false, false, false, true
	c.begun, c.doubt, c.served, c.lost = p.w.Loop.Now(), false, false, false
	c.taken()
	if c.spent() {
		p.cluster.Stats.UpstreamCxMaxRequests.Inc()
		c.keep = false
	}
	return c
}

// finish ends the request's account.
func (c *h1Conn) finish() {
	c.handler = nil
	c.settle(c.rqLimits)
}

// Info says what is known of the connection.
func (c *h1Conn) Info() *Info { return &c.info }

// SendHeaders encodes the request's head.
func (c *h1Conn) SendHeaders(m *header.Map, end bool) {
	c.method = m.Get(header.Method)
	c.upgrade, c.connect = m.Has(header.Upgrade), string(c.method) == "CONNECT"
	c.chunked = !end && !m.Has(header.ContentLength) && !c.upgrade && !c.connect
	room := c.room(512)
	empty := end && !c.upgrade && !m.Has(header.ContentLength) && !h1.Bodiless(c.method)
	b := h1.AppendRequest(room, m, h1.Form{Chunked: c.chunked, Empty: empty, Absolute: c.pool.cluster.AbsoluteURL})
	switch {
	case m.Spelled():
		m.Spell(b[len(room):])
	case c.pool.cluster.ProperCase:
		h1.ProperCase(b[len(room):])
	}
	head := b[len(room):]
	c.wrote(len(head), h1.FieldBytes(head))
	c.conn.End(b)
	c.sentAll = end
}

// wrote counts bytes of a request, some of which are fields.
func (c *h1Conn) wrote(all, fields int) {
	c.meter.WireOut += uint64(all)
	c.meter.HeaderOut += uint64(fields)
	c.meter.PlainOut += uint64(fields)
}

// read counts bytes of a response, some of which are fields.
func (c *h1Conn) read(all, fields int) {
	c.meter.WireIn += uint64(all)
	c.meter.HeaderIn += uint64(fields)
}

const lastChunk = "0\r\n\r\n"

// SendData encodes a piece of the request's body.
func (c *h1Conn) SendData(b []byte, end bool) {
	if c.handler == nil {
		return // the response is complete: nobody wants the rest
	}
	if c.chunked {
		if h1.WriteChunk(c.conn, b); len(b) > 0 {
			c.wrote(len(b)+h1.ChunkOverhead(len(b)), 0)
		}
		if end {
			c.conn.End(h1.AppendLastChunk(c.conn.Begin(), nil))
			c.wrote(len(lastChunk), 0)
		}
	} else {
		c.conn.Write(b)
		c.wrote(len(b), 0)
	}
	if end {
		c.endRequest()
	}
}

// room is the output with place for n more bytes, so that append need not leave the pooled buffer.
func (c *h1Conn) room(n int) []byte { return c.conn.Room(n) }

// SendTrailers ends the request's body with trailers, which only a chunked one can carry.
func (c *h1Conn) SendTrailers(m *header.Map) {
	if c.handler == nil {
		return
	}
	if c.chunked {
		if !c.pool.cluster.Trailers {
			m = nil
		}
		room := c.conn.Begin()
		b := h1.AppendLastChunk(room, m)
		n := len(b) - len(room)
		c.wrote(n, n-len(lastChunk))
		c.conn.End(b)
	}
	c.endRequest()
}

func (c *h1Conn) endRequest() {
	c.sentAll = true
	if c.tunnel {
		c.conn.CloseWrite()
	}
}

// Full says that the request should pause.
func (c *h1Conn) Full() bool { return c.conn.Full() }

// Held is how many bytes of the request have not left.
func (c *h1Conn) Held() int { return c.conn.Buffered() }

// Pause stops reading the response.
func (c *h1Conn) Pause() {
	c.pool.cluster.Stats.UpstreamFlowControlPausedReading.Inc()
	c.conn.Pause()
}

// Resume reads the response again.
func (c *h1Conn) Resume() {
	c.pool.cluster.Stats.UpstreamFlowControlResumedReading.Inc()
	c.conn.Resume()
}

// Cancel gives the request up. HTTP/1.1 has no other way than to close.
func (c *h1Conn) Cancel() {
	if c.handler == nil {
		return
	}
	c.finish()
	c.destroyed(true)
	if c.tunnel {
		c.conn.Push() // what the client has sent before it went
	}
	c.conn.Abort()
}

// OnDrained passes on that output has gone.
func (c *h1Conn) OnDrained(*drive.Conn) {
	if c.handler != nil {
		c.handler.OnDrained()
	}
}

// OnDeadline closes a connection that nobody has used for long.
func (c *h1Conn) OnDeadline(*drive.Conn) {
	if c.isIdle {
		c.pool.cluster.Stats.UpstreamCxIdleTimeout.Inc()
		c.pool.unlinkIdle(c)
		c.retire()
	}
}

// retire closes a connection that has no request. One that has is closed after the response.
func (c *h1Conn) retire() {
	if c.handler != nil {
		c.keep = false
		return
	}
	c.destroyed(false)
	c.conn.Close()
}

// OnClose notices that the connection has broken.
func (c *h1Conn) OnClose(_ *drive.Conn, err error) {
	c.lost = c.doubt && err != nil
	c.gone(err)
}

// OnEnd notices that the host has closed its side. In a tunnel that is the end of both, as in Envoy.
func (c *h1Conn) OnEnd(*drive.Conn) {
	if c.handler != nil && c.inBody && !c.tunnel && c.body.End() {
		c.keep = false
		c.endResponse()
		return
	}
	unread := c.handler != nil && c.unread()
	c.served = !unread
	if unread && !Idempotent(c.method) {
		if err := c.conn.Broken(); err != nil { // the reset has come, too
			c.lost = true
			c.gone(err)
			return
		}
		c.doubt = true
		c.pool.w.Loop.Schedule(&c.timer, proofTime)
		return
	}
	c.gone(nil)
}

// proofTime is how long a reset may take that proves that a host has closed its side before
// the request came: there and back on a slow network.
const proofTime = 250 * time.Millisecond

// raced reports that a request that began then can still have crossed with the end of an idle connection.
func (p *Pool) raced(begun int64) bool { return p.w.Loop.Now()-begun <= int64(proofTime) }

// unread reports that nothing of the request has reached the host's system when it closed its side. If a reset
// follows, nobody was there any more to read it, and it can be sent again whatever its method. (A host that
// closes one side only, reads on, and then resets looks the same; but it could not have answered.)
func (c *h1Conn) unread() bool {
	sent := c.conn.BytesOut - c.sentAt
	if c.info.Requests < 2 || c.conn.BytesIn != c.gotAt || c.tunnel || sent == 0 {
		return false
	}
	if c.info.TLS != nil && sent > oneRecord {
		return false // the first records may have come through
	}
	return uint64(c.conn.Unacked()) >= sent
}

// oneRecord is a request that fits into one record of TLS, which is read as a whole or not at all.
const oneRecord = 8 << 10

// OnTimer ends the wait for proof.
func (c *h1Conn) OnTimer(*drive.Timer) {
	if c.doubt && !c.dead && c.handler != nil {
		c.gone(nil)
	}
}

func (c *h1Conn) gone(err error) {
	if c.dead {
		return
	}
	c.broke(err)
	h := c.handler
	if h == nil {
		if c.isIdle {
			c.info.Host.Idle.Seen(time.Duration(c.pool.w.Loop.Now()-c.idleAt), c.pool.w.Loop.Time())
		}
		c.retire()
		return
	}
	seen, reason := c.seen(), ConnectionTerminated
	if c.inBody && !c.tunnel || c.seenHead > 0 {
		reason = ProtocolError // a head or body that ends too early, in Envoy's eyes
		c.pool.cluster.Stats.UpstreamCxProtocolError.Inc()
	}
	end := c.Closing(c.how)
	c.finish()
	c.destroyed(true)
	c.conn.Close()
	h.OnReset(Loss{reason, "", seen, end}) // what TLS says once it has begun is counted, but told of a handshake only, as in Envoy
}

// Closing is what a log says of the end of the request in flight.
func (c *h1Conn) Closing(how string) access.Closing {
	return c.closing(how, c.conn.BytesIn-c.gotAt, c.conn.BytesOut-c.sentAt)
}

// seen says what the host can have seen of the request in flight.
func (c *h1Conn) seen() Seen {
	switch {
	case c.conn.BytesOut == c.sentAt, c.lost:
		return Unseen
	case c.info.Requests > 1 && c.conn.BytesIn == c.gotAt && !c.served && c.pool.raced(c.begun):
		return Raced
	}
	return MaybeSeen
}

// OnData reads responses.
func (c *h1Conn) OnData(_ *drive.Conn, b []byte) int {
	used := 0
	for used < len(b) && !c.dead && !c.conn.Paused() {
		if c.handler == nil { // nobody asked
			if !givesUp(b) {
				c.pool.cluster.Stats.UpstreamCxProtocolError.Inc()
			}
			c.pool.unlinkIdle(c)
			c.destroyed(false)
			c.conn.Abort()
			return len(b)
		}
		var n int
		switch {
		case !c.inBody:
			n = c.readHead(b[used:])
		case c.response.Helpings && used >= 4*Helping:
			c.conn.Yield()
			return used
		case c.response.Helpings && len(b)-used > Helping:
			if n = c.readBody(b[used:], Helping); n == 0 && !c.dead { // the head of a chunk is cut there
				n = c.readBody(b[used:], len(b)-used)
			}
		default:
			n = c.readBody(b[used:], len(b)-used)
		}
		used += n
		if n == 0 {
			break
		}
	}
	return used
}

// givesUp reports whether a host says that it has waited for a request for long enough (RFC 9110, section 15.5.9): it ends an idle
// connection in an orderly way.
func givesUp(b []byte) bool {
	return len(b) >= 12 && string(b[:7]) == "HTTP/1." && string(b[8:12]) == " 408"
}

// protocolError refuses a response.
func (c *h1Conn) protocolError() {
	c.pool.cluster.Stats.UpstreamCxProtocolError.Inc()
	h, end := c.handler, c.Closing(access.EndLocalProtocol)
	c.finish()
	c.destroyed(true)
	c.conn.Abort()
	h.OnReset(Loss{ProtocolError, "", MaybeSeen, end})
}

// readHead takes a response's head from b, and returns its length.
func (c *h1Conn) readHead(b []byte) int {
	n, e := c.parser.HeadEnd(b, min(c.seenHead, len(b)))
	if e != nil {
		c.protocolError()
		return len(b)
	}
	if n == 0 {
		c.seenHead = len(b)
		return 0
	}
	c.seenHead = 0
	r := c.response
	r.Head = append(r.Head[:0], b[:n]...)
	head, e := c.parser.Response(r.Head, &r.Map, c.method)
	if e != nil {
		c.protocolError()
		return len(b)
	}
	c.read(n, head.Fields)
	c.meter.PlainIn += uint64(head.Fields)
	if head.Status < 200 {
		c.interim(&head)
		return n
	}
	c.info.Host.Idle.Said(time.Duration(head.Idle) * time.Second)
	if head.Upgrade { // 101 says that; in other responses it is an offer that we do not pass on
		r.Map.Remove(header.Upgrade)
		r.Map.Remove(header.Connection)
	}
	if c.tunnels(&head) {
		return n
	}
	c.keep = c.keep && head.KeepAlive
	c.body.Start(&head)
	if c.body.Done() {
		c.endResponseWith(n < len(b), func(h Handler) { h.OnHeaders(&r.Map, true) })
		return n
	}
	c.inBody = true
	c.handler.OnHeaders(&r.Map, false)
	return n
}

// tunnels begins a tunnel if the host agrees to a CONNECT. What the response says of a body
// means nothing then (RFC 9110, section 9.3.6).
func (c *h1Conn) tunnels(head *h1.Head) bool {
	if !c.connect || head.Status >= 300 {
		return false
	}
	c.response.Map.Remove(header.ContentLength)
	c.keep, c.inBody, c.tunnel = false, true, true
	c.body.Tunnel()
	c.handler.OnHeaders(&c.response.Map, false)
	return true
}

// interim passes a 1xx response on. 101 ends HTTP on this connection, if we asked for it.
func (c *h1Conn) interim(head *h1.Head) {
	r := c.response
	if head.Status != 101 {
		c.handler.OnInformational(&r.Map)
		return
	}
	if !c.upgrade {
		c.protocolError()
		return
	}
	c.keep, c.inBody, c.tunnel = false, true, true
	c.body.Tunnel()
	c.handler.OnHeaders(&r.Map, false)
}

// readBody takes a piece of a response's body from the first most bytes of b.
func (c *h1Conn) readBody(b []byte, most int) int {
	r := c.response
	piece, n, e := c.body.Next(&c.parser, b[:most], &r.Trailers)
	if e != nil {
		c.protocolError()
		return len(b)
	}
	c.read(n, 0)
	if !c.body.Done() {
		if len(piece) > 0 {
			c.handler.OnData(piece, false)
		}
		return n
	}
	c.read(0, int(c.body.Trailers))
	if r.Trailers.Len() == 0 || !c.pool.cluster.Trailers {
		c.endResponseWith(n < len(b), func(h Handler) { h.OnData(piece, true) })
		return n
	}
	c.endResponseWith(n < len(b), func(h Handler) { h.OnTrailers(&r.Trailers) })
	return n
}

// endResponse ends a response whose end is the end of the connection.
func (c *h1Conn) endResponse() {
	c.endResponseWith(true, func(h Handler) { h.OnData(nil, true) })
}

// endResponseWith gives the connection back and then tells the handler of the end,
// so that whatever the handler does next can use it. It is closed instead if the
// request was not sent whole, or if bytes follow that nobody asked for: they must not be
// taken for the answer to somebody else's request.
func (c *h1Conn) endResponseWith(extra bool, tell func(Handler)) {
	h := c.handler
	c.pool.renew()
	if extra {
		c.pool.cluster.Stats.UpstreamCxProtocolError.Inc()
	}
	reusable := !extra && c.keep && c.sentAll && c.conn.Alive() && !c.outdated()
	c.finish()
	c.inBody = false
	if reusable {
		c.pool.release(c)
	} else {
		c.destroyed(!c.sentAll)
		c.conn.Close()
	}
	tell(h)
}
