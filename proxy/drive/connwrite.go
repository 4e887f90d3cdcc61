package drive

import (
	"math"
	"time"
)

// A connection's output: what is to go, and a peer that does not take it.

// Write queues a copy of b.
func (c *Conn) Write(b []byte) {
	if len(b) == 0 || !c.Alive() {
		return
	}
	if len(b) >= straightMark {
		if b = c.straight(b); len(b) == 0 {
			return
		}
	}
	if len(c.out)+len(b) > largest {
		b = c.fill(b)
	}
	c.End(append(c.Room(len(b)), b...))
}

// Begin returns the output to append to; the longer slice must go to End before anything else is called.
func (c *Conn) Begin() []byte {
	if c.out == nil {
		c.out = c.loop.bufs.get(c.expected())
	}
	return c.out
}

// End takes back what Begin gave.
func (c *Conn) End(b []byte) {
	if !c.Alive() {
		return
	}
	c.out = b
	if n := c.queued(); n >= straightMark && n >= c.eagerMark() {
		c.eager()
	}
	if c.Buffered() > int(c.mark) {
		c.state.full = true
	}
	c.touch()
}

// touch has the connection flushed at the end of the turn.
func (c *Conn) touch() {
	if !c.state.dirty && !c.state.blocked {
		c.state.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// Buffered is the number of bytes of output that the socket has not taken.
func (c *Conn) Buffered() int {
	n := c.queued()
	if c.pipe != nil {
		n += c.pipe.n
	}
	if c.tls != nil {
		n += len(c.tls.wire) - c.tls.wireOff
	}
	return n
}

// Overfull reports that output is so far above the mark that it cannot be what one turn has made:
// the peer takes nothing, and whoever feeds the connection goes on although it is Full.
func (c *Conn) Overfull() bool { return c.Buffered() > max(2*int(c.mark), 256<<10) }

// Full reports that output is above the mark: whoever feeds it should pause until OnDrained.
func (c *Conn) Full() bool { return c.state.full }

// SetMark sets the number of bytes of output above which the connection is Full.
func (c *Conn) SetMark(n int) { c.mark = int32(min(n, math.MaxInt32)) }

// SetPatience bounds the waits for a peer. A connection whose output waits for stall without
// a byte of it being taken is reset, and its handler is told ErrTimeout; 0 is for ever. linger is how long a gentle close waits for the peer's FIN, 0: a second; parted, if it is not nil,
// is told how that has ended.
func (c *Conn) SetPatience(stall, linger time.Duration, parted func(Parting)) {
	c.stall, c.linger, c.parted = stall, linger, parted
	c.watchStall()
}

// stuck notes that the socket takes no more, so that the sweep can see for how long.
func (c *Conn) stuck() {
	c.state.blocked, c.moved = true, c.loop.clock
	c.meterHeld()
	c.watchStall()
}

// watchStall has the sweep look when the peer will have taken nothing for too long.
func (c *Conn) watchStall() {
	if at := c.stalls(); at != 0 {
		c.loop.lookBy(at)
	}
}

// stalls is when the peer will have taken nothing for too long, 0: never.
func (c *Conn) stalls() int64 {
	if !c.state.blocked || c.stall <= 0 || c.state.closing != open {
		return 0
	}
	return sure(c.moved + int64(c.stall))
}

// sure is a time that the clock and a span make. One of centuries is no overflow that has passed already.
func sure(at int64) int64 {
	if at < 0 {
		return math.MaxInt64
	}
	return at
}

func (c *Conn) maxTail() int {
	if c.tail > 0 {
		return int(c.tail)
	}
	return maxTail
}

// flush writes what the socket takes.
func (c *Conn) flush() {
	if c.state.dead || c.state.connecting || c.state.blocked {
		return
	}
	if c.pipe != nil {
		if err := c.flushPipe(); err != nil {
			c.fail(err)
			return
		}
		if c.pipe != nil {
			return
		}
	}
	if c.tls != nil {
		if !c.flushTLS() {
			return
		}
	} else if c.queued() > 0 {
		n, err := c.send()
		if err != nil && err != errAgain {
			c.fail(err)
			return
		}
		if n > 0 {
			c.progress()
		}
		if c.queued() > 0 {
			c.stuck()
		}
	}
	c.written()
}

// progress gives a peer that takes the last of the output more time for the rest.
func (c *Conn) progress() {
	if c.state.closing == flushing || c.state.closing == flushThenLinger {
		c.loop.Schedule(&c.timer, flushTime)
	}
}

// written does what had to wait for output to go.
func (c *Conn) written() {
	if c.out != nil && c.queued() == 0 {
		c.state.bulky = len(c.out) > straightMark
		c.loop.bufs.put(c.out)
		c.out, c.outOff = nil, 0
	}
	c.meterHeld()
	left := c.Buffered()
	if left == 0 && c.state.shut && !c.state.shutDone {
		c.state.shutDone = true
		c.sock.closeWrite()
	}
	if left == 0 && c.state.closing != open {
		c.finish()
		return
	}
	if c.state.full && left <= int(c.mark/2) {
		c.state.full = false
		c.h.OnDrained(c)
	}
}
