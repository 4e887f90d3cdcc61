package h2

import "encoding/binary"

// onData takes DATA (section 6.1).
func (c *Conn) onData(flags byte, id uint32, p []byte) *Error {
	whole := len(p)
	p, err := unpad(flags, p)
	if err != nil {
		return err
	}
	end := flags&flagEndStream != 0
	if err := c.countEmpty(len(p) == 0 && !end); err != nil {
		return err
	}
	s, err := c.find(id)
	if err != nil {
		return err
	}
	if c.recvWindow -= whole; c.recvWindow < 0 {
		return errFlow
	}
	if s == nil {
		if c.history.of(id) != abandoned {
			return errClosed
		}
		c.take(whole)
		return nil
	}
	if s.remoteEnd {
		return errHalfClosed
	}
	if s.recvWindow -= whole; s.recvWindow < 0 {
		return errFlow
	}
	s.BodyBytes.In += uint64(frameHeader + whole)
	s.left -= int64(len(p))
	if !s.gotHeaders {
		c.take(whole)
		return c.malformed(s, detailsMessaging)
	}
	if s.sized && (s.left < 0 || end && s.left != 0) {
		c.take(whole)
		return c.wrongLength(s)
	}
	if c.shard.heldChunks >= maxHeld && !s.released && (s.paused || s.holding()) && len(p) > 0 {
		c.take(whole)
		return c.breakOff(s, EnhanceYourCalm, detailsHeld)
	}
	s.credit(whole - len(p))
	s.deliver(p, end)
	return nil
}

// deliver hands a piece of the body to the handler, or keeps it while the stream is paused.
func (s *Stream) deliver(p []byte, end bool) {
	c, released, gen := s.c, s.released, s.gen
	closed := end && c.remoteEnded(s)
	switch {
	case len(p) == 0 && !end:
	case released:
		c.take(len(p))
	case s.paused || s.holding():
		s.input.push(c.shard, p)
		s.inputEnd = end
	default:
		s.h.OnData(p, end)
		c.handed(s, gen, len(p))
	}
	if closed {
		c.h.OnClosed()
	}
}

// remoteEnded notes the end of the peer's message, and takes the stream off the connection if that was
// all: the handler may open another one when it hears of it.
func (c *Conn) remoteEnded(s *Stream) bool {
	s.remoteEnd = true
	if !s.localDone {
		return false
	}
	c.countEnd(s, false)
	c.remove(s)
	return true
}

// handed pays for bytes that the handler of a stream has been given, unless it paused the stream. The handler may
// have ended the stream, and its memory may belong to another by now: gen tells.
func (c *Conn) handed(s *Stream, gen uint32, n int) {
	switch {
	case s.gen != gen:
		c.take(n)
	case s.paused && !s.released:
		s.unpaid += n
	default:
		s.credit(n)
	}
}

// credit lets the peer send n more bytes on the stream and the connection.
func (s *Stream) credit(n int) {
	s.c.take(n)
	if s.gone || s.remoteEnd || n == 0 {
		return
	}
	if s.unsaid += n; s.unsaid >= s.c.o.StreamWindow/2 {
		s.c.writeWindow(s.id, s.unsaid)
		s.recvWindow += s.unsaid
		s.unsaid = 0
	}
}

// take lets the peer send n more bytes on the connection.
func (c *Conn) take(n int) {
	if c.unsaid += n; c.unsaid >= c.o.ConnWindow/2 && c.err == nil && !c.closed {
		c.writeWindow(0, c.unsaid)
		c.recvWindow += c.unsaid
		c.unsaid = 0
	}
}

// holding reports whether something waits that came while the stream was paused.
func (s *Stream) holding() bool { return s.input.size > 0 || s.inputEnd }

// Pause has the handler hear no data, trailers or end until Resume. The peer can go
// on sending until its window is used up.
func (s *Stream) Pause() { s.paused = true }

// Paused reports whether the stream is paused.
func (s *Stream) Paused() bool { return s.paused }

// Resume takes data again. What was kept is not handed over at once, but by the next
// Feed, OnDrained or Deliver; Handler.OnHeld asks for it.
func (s *Stream) Resume() {
	if !s.paused {
		return
	}
	s.paused = false
	n := s.unpaid
	s.unpaid = 0
	s.credit(n)
	if s.holding() && !s.released {
		c := s.c
		c.held = append(c.held, heldStream{s, s.gen})
		if len(c.held) == 1 && !c.delivering {
			c.h.OnHeld()
		}
	}
}

// A heldStream is a stream whose kept input can be handed over, if it is still the same.
type heldStream struct {
	s   *Stream
	gen uint32
}

// Deliver hands over what was kept of streams that were resumed.
func (c *Conn) Deliver() {
	if c.delivering || len(c.held) == 0 {
		return
	}
	c.delivering = true
	for i := 0; i < len(c.held); i++ {
		for x := c.held[i]; x.s.gen == x.gen && !x.s.released && !x.s.paused && x.s.holding(); {
			x.s.deliverHeld(x.gen)
		}
	}
	clear(c.held)
	c.held, c.delivering = c.held[:0], false
}

// deliverHeld hands over the next piece, and with the last one the end.
func (s *Stream) deliverHeld(gen uint32) {
	c, k, p := s.c, s.input.pop(), []byte(nil)
	if k != nil {
		p = k.b[:k.n]
		defer c.shard.putChunk(k)
	}
	end := s.input.size == 0 && s.inputEnd
	if end {
		s.inputEnd = false
	}
	switch {
	case end && s.inputTail:
		s.inputTail = false
		if len(p) > 0 {
			s.h.OnData(p, false)
			c.handed(s, gen, len(p))
		}
		switch {
		case s.gen != gen || s.released:
		case s.paused:
			s.inputEnd, s.inputTail = true, true
		default:
			s.h.OnTrailers(s.trailer)
		}
	default:
		s.h.OnData(p, end)
		c.handed(s, gen, len(p))
	}
}

// dropInput forgets what was kept, and pays for it.
func (s *Stream) dropInput() {
	n := s.input.size + s.unpaid
	s.input.drop(s.c.shard)
	s.unpaid = 0
	s.inputEnd, s.inputTail = false, false
	if n > 0 {
		s.c.take(n)
	}
}

// SendData sends a piece of the body; b is the caller's again afterwards. end says that nothing follows.
func (s *Stream) SendData(b []byte, end bool) {
	if s.gone || s.localEnd || !s.sentHeaders || len(b) == 0 && !end {
		return
	}
	c := s.c
	s.localEnd = end
	n := 0
	if s.queued() == 0 && (c.ready.empty() || len(b) == 0) {
		n = s.writeData(b, end)
		if n == len(b) {
			if !end && c.out.Full() {
				s.wait()
			}
			return
		}
	}
	s.keep(b[n:])
	s.full = true
	c.enqueue(s)
}

// wait has the stream hear of it when the output has drained.
func (s *Stream) wait() {
	s.full = true
	if s.list == nil {
		s.c.waiting.push(s)
	}
}

// queued is the number of bytes that wait to be sent.
func (s *Stream) queued() int { return len(s.pending) - s.off }

// Held is how many bytes of the stream wait here, in either direction.
func (s *Stream) Held() int { return s.queued() + s.input.size }

func (s *Stream) keep(b []byte) {
	if s.off > 0 && s.off >= len(s.pending)/2 {
		s.pending = s.pending[:copy(s.pending, s.pending[s.off:])]
		s.off = 0
	}
	s.pending = append(s.pending, b...)
}

// dropPending forgets what waits to be sent.
func (s *Stream) dropPending() {
	s.pending, s.off, s.tail = s.pending[:0], 0, nil
	if cap(s.pending) > maxSpareBytes {
		s.pending = nil
	}
}

// Full says that whoever feeds the stream should pause until OnDrained.
func (s *Stream) Full() bool { return s.full && !s.gone }

// Queued is how many bytes were given to SendData and wait for a window or the output.
func (s *Stream) Queued() int { return s.queued() }

// Stalled reports that the stream has something to send and the peer gives no window for it.
func (s *Stream) Stalled() bool {
	return !s.gone && s.queued() > 0 && (s.sendWindow <= 0 || s.c.sendWindow <= 0)
}

// writeData writes what both windows and the output allow, and returns how much that was. The stream may be over
// afterwards.
func (s *Stream) writeData(b []byte, end bool) int {
	c := s.c
	for n := 0; ; {
		k := min(len(b)-n, s.sendWindow, c.sendWindow, c.peer.frame)
		if len(b) > 0 && (k <= 0 || c.out.Full()) {
			return n
		}
		k = max(k, 0)
		last, flags := n+k == len(b), byte(0)
		if last && end {
			flags = flagEndStream
		}
		o := c.out.Room(frameHeader + k)
		c.end(append(appendFrame(o, k, frameData, flags, s.id), b[n:n+k]...), frameHeader+k)
		c.count.dataSent++
		s.moved = c.shard.now()
		s.sendWindow -= k
		c.sendWindow -= k
		s.BodyBytes.Out += uint64(frameHeader + k)
		n += k
		if last {
			if end {
				s.sent()
			}
			return n
		}
	}
}

// enqueue has a stream take its turn if there is something that it could send.
func (c *Conn) enqueue(s *Stream) {
	if s.queued() == 0 || s.sendWindow <= 0 || s.list == &c.ready {
		return
	}
	s.unlink()
	c.ready.push(s)
}

// pump sends what waits: ready streams in turn, a frame each. Then it tells who may go on.
func (c *Conn) pump() {
	if c.pumping || c.err != nil || c.closed {
		return
	}
	c.pumping = true
	for !c.out.Full() && c.err == nil && !c.closed {
		if s := c.waiting.first; s != nil {
			s.unlink()
			s.drained()
			continue
		}
		s := c.ready.first
		if s == nil || c.sendWindow <= 0 {
			break
		}
		s.unlink()
		if s.sendWindow > 0 {
			c.turn(s)
		}
	}
	c.pumping = false
}

// turn sends a frame of a stream that has some.
func (c *Conn) turn(s *Stream) {
	p, gen := s.pending[s.off:], s.gen
	p = p[:min(len(p), c.peer.frame)]
	n := s.writeData(p, s.localEnd && s.tail == nil && len(p) == s.queued())
	if s.gen != gen || s.gone {
		return
	}
	if s.off += n; s.queued() > 0 {
		c.enqueue(s)
		return
	}
	if tail := s.tail; tail != nil {
		s.dropPending()
		s.writeTrailers(tail)
		return
	}
	s.dropPending()
	s.drained()
}

// drained tells the handler that the stream is not full any more.
func (s *Stream) drained() {
	if s.full {
		s.full = false
		if !s.released {
			s.h.OnDrained()
		}
	}
}

// OnDrained goes on sending when the output has room again.
func (c *Conn) OnDrained() {
	c.pump()
	c.Deliver()
}

// onWindow takes WINDOW_UPDATE (section 6.9).
func (c *Conn) onWindow(id uint32, p []byte) *Error {
	if len(p) != 4 {
		return errLength
	}
	n := int(binary.BigEndian.Uint32(p) &^ (1 << 31))
	if err := c.countWindow(); err != nil {
		return err
	}
	if id == 0 {
		if n == 0 {
			return errWindowZero
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return errWindow
		}
		c.pump()
		return nil
	}
	s, err := c.find(id)
	if s == nil || err != nil {
		return err
	}
	if n == 0 {
		return c.breakOff(s, ProtocolError, detailsMessaging)
	}
	if s.sendWindow += n; s.sendWindow > maxWindow {
		return c.breakOff(s, FlowControlError, detailsMessaging)
	}
	c.enqueue(s)
	c.pump()
	return nil
}
