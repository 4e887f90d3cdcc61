package pool

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/h1"
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
	stopped  bool  // the response was not read for a while
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
	c.begun, c.doubt, c.served, c.lost, c.stopped = p.w.Loop.Now(), false, false, false, false
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
