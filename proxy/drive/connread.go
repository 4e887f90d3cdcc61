package drive

import (
	"io"
	"math"
)

// A connection's input: what has come, on its way to the handler.

// Pause stops reading. At most one more OnData is under way when it is called from inside one.
func (c *Conn) Pause() { c.state.paused = true }

// Paused reports whether reading is stopped.
func (c *Conn) Paused() bool { return c.state.paused }

// Resume starts reading again. Input that was left is presented again, later in this turn.
func (c *Conn) Resume() {
	if c.state.dead {
		return
	}
	c.state.paused = false
	c.state.again = true
	c.loop.enqueue(c)
}

// EndEarly sets whether the handler hears of the peer's end while nothing is read, before the input that comes first: for
// a peer that has gone with all that it wants once it sends no more.
func (c *Conn) EndEarly(on bool) { c.state.early = on }

// endEarly tells of an end that would be read only when reading goes on.
func (c *Conn) endEarly() {
	if c.state.early && c.state.hup && c.state.closing == open && (c.state.paused || !c.state.again) {
		c.ended()
	}
}

// Yield ends reading for now: what the handler has left is presented again, after the other connections have had
// their turn. To be called from inside OnData.
func (c *Conn) Yield() { c.Resume() }

// HasInput reports whether there is input that was not consumed.
func (c *Conn) HasInput() bool { return len(c.in) > 0 }

// SetInput sets how much input the handler may leave unconsumed. It has to be more than the
// longest thing that the handler takes only as a whole.
func (c *Conn) SetInput(n int) { c.tail = int32(min(max(n, maxTail), math.MaxInt32)) }

// save keeps input that was not consumed. b is never a part of c.in.
func (c *Conn) save(b []byte) {
	if len(b) == 0 {
		c.drop()
		return
	}
	if cap(c.in) < len(b) {
		c.drop()
		c.in = c.loop.bufs.get(len(b))
	}
	c.in = append(c.in[:0], b...)
}

// deliver offers input to the handler, and to its successor if the handler hands over. b is
// borrowed: what the handler leaves is saved.
func (c *Conn) deliver(b []byte) {
	if rest, ok := c.offer(b); ok {
		c.save(rest)
	}
}

// deliverOwn is deliver for a buffer that c.in was, so that input of which the handler takes
// nothing is not copied time and again while a long head arrives.
func (c *Conn) deliverOwn(b []byte) {
	c.in = nil
	rest, ok := c.offer(b)
	if ok && len(rest) == len(b) {
		c.in = b
		return
	}
	if ok {
		c.save(rest)
	}
	c.loop.bufs.put(b)
}

// offer is what deliver does. It returns what was left, and whether it is to be kept.
func (c *Conn) offer(b []byte) ([]byte, bool) {
	for len(b) > 0 {
		h, sec, meter := c.h, c.tls, c.meter
		n := h.OnData(c, b)
		if c.state.dead {
			return nil, false
		}
		b = b[n:]
		if meter == nil && c.tls == sec { // what was only looked at before belongs to whom it is counted for
			c.meterIn(len(b), len(b))
		}
		if c.tls != sec { // the handler has begun TLS: what is left is ciphertext
			c.drop()
			c.tls.feed(b)
			return nil, false
		}
		if c.h == h || c.state.paused {
			break
		}
	}
	return b, true
}

// pump reads until there is nothing more or somebody says stop.
func (c *Conn) pump() {
	if c.state.dead || c.state.connecting {
		return
	}
	if c.state.again && !c.state.paused {
		c.state.again = false
		if len(c.in) > 0 {
			c.deliverOwn(c.in)
		}
	}
	for i := range maxReads {
		if i > 0 && c.loop.Late() {
			break
		}
		if c.state.dead || c.state.paused || c.state.again || c.state.eof || len(c.in) > c.maxTail() {
			c.endEarly()
			return
		}
		if c.tls != nil {
			if !c.pumpTLS() {
				return
			}
			continue
		}
		if !c.pumpPlain() {
			return
		}
	}
	c.loop.enqueue(c)
}

// pumpPlain reads once; it reports whether there may be more.
func (c *Conn) pumpPlain() bool {
	if c.canSplice() {
		return c.pumpSplice()
	}
	if len(c.in) > len(c.loop.read)-readStep {
		return c.pumpBehind()
	}
	buf := c.loop.read
	kept := copy(buf, c.in)
	n, err := c.sock.read(buf[kept:])
	if n == 0 {
		c.noInput(err)
		return false
	}
	c.in = c.in[:0] // deliver saves what the handler leaves
	c.BytesIn += uint64(n)
	c.meterIn(n, kept+n)
	c.longRead(n)
	if c.state.closing != open {
		return true
	}
	c.deliver(buf[:kept+n])
	// A short read means that the socket is empty, unless a FIN is behind it.
	return n == len(buf)-kept || c.state.hup
}

// pumpBehind is pumpPlain for input too long for the loop's buffer: it reads behind it.
func (c *Conn) pumpBehind() bool {
	c.in = c.loop.bufs.grow(c.in, readStep)
	space := c.in[len(c.in):cap(c.in)]
	n, err := c.sock.read(space)
	if n == 0 {
		c.noInput(err)
		return false
	}
	c.BytesIn += uint64(n)
	c.meterIn(n, len(c.in)+n)
	if c.state.closing != open {
		return true
	}
	c.deliverOwn(c.in[:len(c.in)+n])
	return n == len(space) || c.state.hup
}

func (c *Conn) noInput(err error) {
	switch {
	case err == errAgain:
	case err == io.EOF:
		c.ended()
	default:
		c.fail(err)
	}
}

func (c *Conn) ended() {
	if c.state.eof || c.state.dead {
		return
	}
	c.state.eof = true
	if c.state.closing == lingering {
		c.destroy(false)
		return
	}
	c.h.OnEnd(c)
}
