package drive

// Output that a peer does not take grows as far as the connection's mark, which may be 1 MiB and
// more. In one buffer that doubles it would cost twice its size, and be copied each time.
// So a buffer of the largest size is full when something does not fit, and a new one is begun.

// queued is the number of bytes of output that are neither written nor encrypted.
func (c *Conn) queued() int { return c.behind + len(c.out) - c.outOff }

// first returns output that is to be written next.
func (c *Conn) first() []byte {
	if len(c.full) > 0 {
		return c.full[0][c.outOff:]
	}
	return c.out[c.outOff:]
}

// took says that n bytes of first are written.
func (c *Conn) took(n int) {
	c.outOff += n
	if len(c.full) == 0 || c.outOff < len(c.full[0]) {
		return
	}
	c.behind -= len(c.full[0])
	c.outOff = 0
	c.loop.bufs.put(c.full[0])
	last := copy(c.full, c.full[1:])
	c.full[last] = nil
	c.full = c.full[:last]
}

// send writes what the socket takes, and returns how much that was.
func (c *Conn) send() (sent int, err error) {
	for c.queued() > 0 {
		b := c.first()
		n, err := c.sock.write(b)
		n = max(n, 0)
		c.BytesOut += uint64(n)
		c.meterOut(n)
		sent += n
		c.took(n)
		if err != nil || n < len(b) {
			return sent, err
		}
	}
	return sent, nil
}

// Room is Begin with place for n more bytes.
func (c *Conn) Room(n int) []byte {
	if len(c.out)+n > largest && len(c.out) >= largest/2 {
		c.next()
	}
	c.out = c.loop.bufs.grow(c.Begin(), n)
	return c.out
}

// fill appends to output what fits into buffers of the largest size, and returns the rest.
func (c *Conn) fill(b []byte) []byte {
	for len(c.out)+len(b) > largest && len(c.out) < largest {
		n := largest - len(c.out)
		c.out = append(c.loop.bufs.grow(c.Begin(), n), b[:n]...)
		b = b[n:]
		c.next()
	}
	return b
}

// next begins another buffer. What is written of the old one, if it is the first, stays in it.
func (c *Conn) next() {
	c.full = append(c.full, c.out)
	c.behind += len(c.out)
	c.out = nil
}

// forgetOutput gives back what will not be written.
func (c *Conn) forgetOutput() {
	for _, b := range c.full {
		c.loop.bufs.put(b)
	}
	if c.out != nil {
		c.loop.bufs.put(c.out)
	}
	c.full, c.out, c.outOff, c.behind = nil, nil, 0, 0
}
