package h2

import "encoding/binary"

// The types of frames (RFC 9113, section 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	framePriority     = 0x2
	frameReset        = 0x3
	frameSettings     = 0x4
	framePush         = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindow       = 0x8
	frameContinuation = 0x9
)

// The flags.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

const (
	frameHeader = 9
	preface     = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// appendFrame appends a frame's header.
func appendFrame(dst []byte, n int, kind, flags byte, id uint32) []byte {
	return append(dst, byte(n>>16), byte(n>>8), byte(n), kind, flags, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// unpad takes the padding away from a payload.
func unpad(flags byte, p []byte) ([]byte, *Error) {
	if flags&flagPadded == 0 {
		return p, nil
	}
	if len(p) == 0 {
		return nil, errLength
	}
	if int(p[0]) >= len(p) {
		return nil, errPadding
	}
	return p[1 : len(p)-int(p[0])], nil
}

// priority checks the five bytes of a priority; what they say is ignored.
func priority(id uint32, p []byte) *Error {
	if binary.BigEndian.Uint32(p)&^(1<<31) == id {
		return errSelf // RFC 7540, section 5.3.1; RFC 9113 is silent
	}
	return nil
}

// control writes a frame that is not limited by windows.
func (c *Conn) control(kind, flags byte, id uint32, payload []byte) {
	b := c.out.Room(frameHeader + len(payload))
	b = append(appendFrame(b, len(payload), kind, flags, id), payload...)
	c.end(b, frameHeader+len(payload))
	if kind == frameReset || flags&flagAck != 0 { // as Envoy counts
		c.count.control[1]++
	}
}

// end gives the output back, which is longer by n bytes and one frame.
func (c *Conn) end(b []byte, n int) {
	c.out.End(b)
	c.count.appended += uint64(n)
	c.count.frames[1]++
}

func (c *Conn) writeReset(id uint32, code Code) {
	c.o.Stats.TxReset.Inc()
	c.control(frameReset, 0, id, binary.BigEndian.AppendUint32(c.scratch[:0], uint32(code)))
}

func (c *Conn) writeWindow(id uint32, n int) {
	c.control(frameWindow, 0, id, binary.BigEndian.AppendUint32(c.scratch[:0], uint32(n)))
}

func (c *Conn) writeGoAway(last uint32, code Code, debug string) {
	p := binary.BigEndian.AppendUint32(c.scratch[:0], last)
	p = binary.BigEndian.AppendUint32(p, uint32(code))
	c.control(frameGoAway, 0, 0, append(p, debug...))
}

// openHeaders begins a HEADERS frame; closeHeaders ends it.
func (c *Conn) openHeaders(size int, id uint32) (b []byte, at int) {
	b = c.out.Room(frameHeader + size)
	at = len(b)
	b = appendFrame(b, 0, frameHeaders, flagEndHeaders, id)
	return c.enc.Begin(b), at
}

// closeHeaders fills in the length of the frame that begins at at, and splits it if
// the peer takes no frame that long. It returns how many bytes the block takes on the wire.
func (c *Conn) closeHeaders(b []byte, at int, end bool) int {
	if end {
		b[at+4] |= flagEndStream
	}
	n := len(b) - at - frameHeader
	if n > c.peer.frame {
		b = c.split(b, at)
	} else {
		b[at], b[at+1], b[at+2] = byte(n>>16), byte(n>>8), byte(n)
	}
	c.end(b, len(b)-at)
	return len(b) - at
}

// split makes HEADERS and CONTINUATION frames of a block that is too long for one.
func (c *Conn) split(b []byte, at int) []byte {
	id := binary.BigEndian.Uint32(b[at+5:])
	block := len(b) - at - frameHeader
	more := (block - 1) / c.peer.frame
	for range more * frameHeader {
		b = append(b, 0)
	}
	for i := more; i >= 0; i-- { // from the end, so that nothing is overwritten before it has moved
		from := at + frameHeader + i*c.peer.frame
		n := min(c.peer.frame, block-i*c.peer.frame)
		to := from + i*frameHeader
		copy(b[to:to+n], b[from:from+n])
		kind, flags := byte(frameContinuation), byte(0)
		if i == 0 {
			kind, flags = frameHeaders, b[at+4]&flagEndStream
		}
		if i == more {
			flags |= flagEndHeaders
		}
		appendFrame(b[:to-frameHeader], n, kind, flags, id)
	}
	c.count.frames[1] += more
	return b
}
