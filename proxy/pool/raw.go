package pool

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
)

// rawConn is an upstream connection that speaks no HTTP: a CONNECT that ends here has its bytes
// passed on as they are. It carries one request and then ends.
type rawConn struct {
	*upstream
	handler  Handler // nil: none yet, or over
	rqLimits *cluster.Breakers
	response *Message
	answered bool // the client has heard that it is connected
}

var ok200 = []byte("200")

// opened has the connection serve whoever waits; nobody else could use it.
func (c *rawConn) opened() {
	if !c.pool.serve(c) {
		c.retire()
	}
}

// begin starts a request.
func (c *rawConn) begin(h Handler, limits *cluster.Breakers, response *Message) Stream {
	c.handler, c.rqLimits, c.response = h, limits, response
	c.taken()
	return c
}

// finish ends the request's account, and with it the connection's.
func (c *rawConn) finish(withRequest bool) {
	c.handler = nil
	c.settle(c.rqLimits)
	c.destroyed(withRequest)
}

// Info says what is known of the connection.
func (c *rawConn) Info() *Info { return &c.info }

// SendHeaders answers in the host's place: there is a connection. The caller is still busy with the
// request, so the answer comes in the next turn.
func (c *rawConn) SendHeaders(*header.Map, bool) {
	c.pool.w.Loop.Post(func() {
		if c.handler == nil {
			return
		}
		c.answered = true
		m := &c.response.Map
		m.Reset()
		c.response.Trailers.Reset()
		m.Add(header.Status, ok200)
		c.handler.OnHeaders(m, false)
		if c.handler != nil && c.conn.HasInput() {
			c.conn.Resume()
		}
	})
}

// SendData passes bytes on.
func (c *rawConn) SendData(b []byte, end bool) {
	if c.handler == nil {
		return
	}
	c.conn.Write(b)
	c.response.meter(c.pool.w).WireOut += uint64(len(b))
	if end {
		c.conn.CloseWrite()
	}
}

// SendTrailers ends the request's bytes.
func (c *rawConn) SendTrailers(*header.Map) { c.SendData(nil, true) }

// Full says that the request should pause.
func (c *rawConn) Full() bool { return c.conn.Full() }

// Held is how many bytes have not left.
func (c *rawConn) Held() int { return c.conn.Buffered() }

// Pause stops reading.
func (c *rawConn) Pause() {
	c.pool.cluster.Stats.UpstreamFlowControlPausedReading.Inc()
	c.conn.Pause()
}

// Resume reads again.
func (c *rawConn) Resume() {
	c.pool.cluster.Stats.UpstreamFlowControlResumedReading.Inc()
	c.conn.Resume()
}

// Cancel gives the request up.
func (c *rawConn) Cancel() {
	if c.handler != nil {
		c.finish(true)
		c.conn.Close() // after what the client has sent
	}
}

// OnData passes on bytes of the host, once the client knows that it is connected.
func (c *rawConn) OnData(_ *drive.Conn, b []byte) int {
	switch {
	case c.handler == nil:
		return len(b)
	case !c.answered:
		return 0
	}
	c.response.meter(c.pool.w).WireIn += uint64(len(b))
	c.handler.OnData(b, false)
	return len(b)
}

// OnEnd passes on that the host will send no more.
func (c *rawConn) OnEnd(*drive.Conn) {
	h := c.handler
	switch {
	case h == nil:
		c.retire()
	case !c.answered:
		c.gone(nil)
	default:
		c.finish(false)
		c.conn.Close()
		h.OnData(nil, true)
	}
}

// OnClose notices that the connection has broken.
func (c *rawConn) OnClose(_ *drive.Conn, err error) { c.gone(err) }

func (c *rawConn) gone(err error) {
	if c.dead {
		return
	}
	c.broke(err)
	h := c.handler
	if h == nil {
		c.retire()
		return
	}
	end := c.Closing(c.how)
	c.finish(true)
	c.conn.Close()
	h.OnReset(Loss{ConnectionTerminated, "", MaybeSeen, end})
}

// Closing is what a log says of the connection's end.
func (c *rawConn) Closing(how string) access.Closing {
	return c.closing(how, c.conn.BytesIn, c.conn.BytesOut)
}

// OnDrained passes on that output has gone.
func (c *rawConn) OnDrained(*drive.Conn) {
	if c.handler != nil {
		c.handler.OnDrained()
	}
}

// OnDeadline is not used.
func (c *rawConn) OnDeadline(*drive.Conn) {}

// retire closes a connection that nobody wants. The end of its request ends one that has one.
func (c *rawConn) retire() {
	if c.handler == nil {
		c.destroyed(false)
		c.conn.Close()
	}
}
