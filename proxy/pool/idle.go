package pool

// Connections of HTTP/1.1 that have no request stand in a list of their own, the
// most recently used first: it is the one that the host is least likely to have closed.

// idleConn returns a connection without a request, which stays in the list until it begins one.
func (p *Pool) idleConn() *h1Conn {
	for p.idle != nil {
		c := p.idle
		if at := c.conn.Deadline(); c.conn.Alive() && !c.conn.Ended() && (at == 0 || p.w.Loop.Now() < at) {
			return c
		}
		c.retire()
	}
	return nil
}

func (p *Pool) putIdle(c *h1Conn) {
	c.isIdle, c.idleAt = true, p.w.Loop.Now()
	p.idles++
	c.nextIdle, c.prevIdle = p.idle, nil
	if p.idle != nil {
		p.idle.prevIdle = c
	}
	p.idle = c
}

func (p *Pool) unlinkIdle(c *h1Conn) {
	if !c.isIdle {
		return
	}
	p.idles--
	if c.prevIdle != nil {
		c.prevIdle.nextIdle = c.nextIdle
	} else {
		p.idle = c.nextIdle
	}
	if c.nextIdle != nil {
		c.nextIdle.prevIdle = c.prevIdle
	}
	c.nextIdle, c.prevIdle, c.isIdle = nil, nil, false
}

// release gives a connection to whoever waits, or puts it aside.
func (p *Pool) release(c *h1Conn) {
	if p.serve(c) {
		return
	}
	if timeout := c.info.Host.Idle.Keep(*p.cluster.IdleTimeout, p.w.Loop.Time); timeout > 0 {
		c.conn.SetDeadline(p.w.Loop.Now() + int64(timeout))
	}
	p.putIdle(c)
}
