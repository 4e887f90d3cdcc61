package pool

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/h1"
	"github.com/mallamesh/malla/proxy/header"
)

// read counts bytes of a response, some of which are fields.
func (c *h1Conn) read(all, fields int) {
	c.meter.WireIn += uint64(all)
	c.meter.HeaderIn += uint64(fields)
}

// Pause stops reading the response.
func (c *h1Conn) Pause() {
	c.pool.cluster.Stats.UpstreamFlowControlPausedReading.Inc()
	c.stopped = true
	c.conn.Pause()
}

// Resume reads the response again.
func (c *h1Conn) Resume() {
	c.pool.cluster.Stats.UpstreamFlowControlResumedReading.Inc()
	c.conn.Resume()
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
			c.stopped = true
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
	switch {
	case reusable && c.stopped:
		c.pool.w.Loop.Post(c.quiet)
	case reusable:
		c.pool.release(c)
	default:
		c.destroyed(!c.sentAll)
		c.conn.Close()
	}
	tell(h)
}

// quiet gives a connection back that was not read for a while. What has come behind the response meanwhile, and is in no buffer yet, has shown by
// now: the next request would have taken it for its answer.
func (c *h1Conn) quiet() {
	switch {
	case c.dead:
	case c.conn.Alive() && !c.outdated():
		c.pool.release(c)
	default:
		c.retire()
	}
}
