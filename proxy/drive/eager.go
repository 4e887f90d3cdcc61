package drive

// straightMark is what is written at once without a copy, if nothing waits before it, and what is a bulk of output.
const straightMark = 64 << 10

// eagerMark is how much output of a connection is written before the turn ends. What is written together costs the kernel
// less and wakes its reader once; but more than a buffer holds, or in more large buffers than a loop keeps, gains nothing,
// and a connection whose mark is low would be Full of what its socket takes.
func (c *Conn) eagerMark() int {
	if len(c.loop.dirty) <= spare[len(spare)-1] && c.mark >= largest {
		return largest - largest/4
	}
	return straightMark
}

// expected is how much output a turn will have, going by the last one: a bulk is not to be copied from buffer to buffer.
func (c *Conn) expected() int {
	if c.state.bulky && c.eagerMark() > straightMark {
		return largest
	}
	return 1
}

// eager writes what the socket takes now. It tells nobody anything, because it runs inside a call
// of some handler: what fails here fails again when the turn's output is flushed.
func (c *Conn) eager() {
	if c.state.blocked || c.state.connecting || c.pipe != nil || c.tls != nil && !c.tls.done {
		return
	}
	if c.tls != nil {
		c.tls.eager()
	} else {
		if n, _ := c.send(); n > 0 && c.queued() > 0 {
			c.stuck()
		}
	}
	c.compact()
}

// straight writes a bulk of bytes before which nothing waits without a copy of them, and returns
// what the socket did not take.
func (c *Conn) straight(b []byte) []byte {
	if c.tls != nil || c.state.blocked || c.state.connecting || c.Buffered() > 0 {
		return b
	}
	n, _ := c.sock.write(b) // what fails here fails again when the rest is flushed
	c.BytesOut += uint64(n)
	c.meterOut(n)
	if n > 0 && n < len(b) {
		c.stuck()
	}
	return b[n:]
}

// WriteClear writes at once, and in clear even if TLS is to begin: what a peer is to hear first. It is for a few
// bytes on a new connection; it reports whether the socket took them.
func (c *Conn) WriteClear(b []byte) bool {
	n, err := c.sock.write(b)
	c.BytesOut += uint64(max(n, 0))
	c.meterOut(n)
	return err == nil && n == len(b)
}

// eager is the same for TLS.
func (s *secure) eager() {
	c := s.conn
	for c.queued() > 0 || s.wireOff < len(s.wire) {
		if s.wireOff == len(s.wire) {
			s.wire, s.wireOff = s.wire[:0], 0
			b := c.first()
			b = b[:min(len(b), encryptStep)]
			if _, err := s.tls.Write(b); err != nil {
				return
			}
			c.took(len(b))
			c.meterOut(len(b))
		}
		n, _ := c.sock.write(s.wire[s.wireOff:])
		c.BytesOut += uint64(n)
		if s.wireOff += n; s.wireOff < len(s.wire) {
			if n > 0 {
				c.stuck()
			}
			return
		}
	}
}

// compact moves output to the front of its buffer, if that costs little.
func (c *Conn) compact() {
	if len(c.full) > 0 {
		return
	}
	if left := len(c.out) - c.outOff; c.outOff > 0 && left <= c.outOff {
		copy(c.out, c.out[c.outOff:])
		c.out, c.outOff = c.out[:left], 0
	}
}
