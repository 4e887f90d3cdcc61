package drive

// The end of a connection: who ends it, and what still goes before.

type closing uint8

const (
	open      closing = iota
	flushing          // close when the output has gone
	lingering         // output gone, our side shut; wait for the peer's FIN
	flushThenLinger
)

// A Parting is how a gentle close has ended.
type Parting uint8

const (
	// PeerLeft: the peer has closed its side, too, or the connection has broken.
	PeerLeft Parting = iota
	// PeerStayed: it has not in time.
	PeerStayed
	// WeLeft: we did not wait for it.
	WeLeft
)

// CloseWrite sends a FIN (and close_notify) after the output; the peer may go on sending.
func (c *Conn) CloseWrite() {
	if c.state.shut || !c.Alive() {
		return
	}
	c.state.shut = true
	c.touch()
}

// Close closes the connection once its output is written. The handler hears nothing more.
func (c *Conn) Close() {
	c.parted = nil
	c.shutdown(flushing)
}

// CloseThen is Close, and tells when the connection is gone.
func (c *Conn) CloseThen(gone func(Parting)) {
	c.parted = gone
	c.shutdown(flushing)
}

// CloseGently is Close for a peer that may still be sending: after the output
// our side is shut and input is thrown away for up to a second, because a close
// with unread input makes the kernel send a reset, and a reset makes the peer lose what we
// wrote last.
func (c *Conn) CloseGently() { c.shutdown(flushThenLinger) }

// Push writes as much of the output as the socket takes, now and not at the end of the turn.
func (c *Conn) Push() {
	if c.Alive() && !c.state.blocked {
		c.flush()
	}
}

// Abort closes the connection at once; output is lost and the peer may see a reset.
func (c *Conn) Abort() {
	if !c.state.dead {
		c.h = ignore{}
		c.part(WeLeft)
		c.destroy(c.Buffered() > 0)
	}
}

// Reset closes the connection with a TCP reset.
func (c *Conn) Reset() {
	if !c.state.dead {
		c.h = ignore{}
		c.part(WeLeft)
		c.destroy(true)
	}
}

func (c *Conn) shutdown(how closing) {
	if c.state.dead || c.state.closing != open {
		return
	}
	c.h = ignore{}
	c.state.paused = false
	c.deadline = 0
	if c.state.connecting || how == flushing && c.Buffered() == 0 && c.tls == nil {
		c.destroy(false)
		return
	}
	c.state.closing = how
	c.drop()
	c.timer.Handler = c
	c.loop.Schedule(&c.timer, flushTime)
	c.touch()
}

// part tells how a close that somebody waits for has ended, once.
func (c *Conn) part(how Parting) {
	if f := c.parted; f != nil && c.state.closing != open {
		c.parted = nil
		f(how)
	}
}

// fail is the end of a connection that we did not ask for. One that fails because its peer takes
// nothing is reset: what is left of its output would stay in the kernel.
func (c *Conn) fail(err error) {
	if c.state.dead {
		return
	}
	h := c.h
	connecting := c.state.connecting
	c.destroy(err == ErrTimeout)
	if connecting {
		h.(Connector).OnConnect(c, err)
		return
	}
	h.OnClose(c, err)
}

// destroy gives everything back.
func (c *Conn) destroy(reset bool) {
	c.part(PeerLeft)
	c.state.dead = true
	c.LocalAddr()
	c.loop.Cancel(&c.timer)
	c.sock.close(reset)
	c.loop.forget(c)
	c.drop()
	c.toward = nil
	if c.pipe != nil {
		c.loop.putPipe(c.pipe)
		c.pipe = nil
	}
	c.forgetOutput()
	c.meterEnd()
	if c.tls != nil {
		c.tls.abandon()
	}
}

func (c *Conn) drop() {
	if c.in != nil {
		c.loop.bufs.put(c.in)
		c.in = nil
	}
}

// finish goes on with closing when the output has gone.
func (c *Conn) finish() {
	switch c.state.closing {
	case flushing:
		c.destroy(false)
	case flushThenLinger:
		if c.state.eof {
			c.destroy(false)
			return
		}
		c.state.closing = lingering
		if !c.state.shutDone {
			c.state.shutDone = true
			c.sock.closeWrite()
		}
		linger := c.linger
		if linger == 0 {
			linger = lingerTime
		}
		c.loop.Schedule(&c.timer, linger)
		c.loop.enqueue(c)
	}
}
