package pool

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
)

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
