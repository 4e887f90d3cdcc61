package h2

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/hpack"
)

// A Shard is what the connections of one thread share: a clock and memory.
type Shard struct {
	now         func() int64
	free        *Stream
	spare       int    // streams in free
	chunks      *chunk // that held input
	spareChunks int
	heldChunks  int        // that hold input
	drop        header.Map // where blocks are decoded that nobody wants
}

// NewShard returns a shard whose clock, in nanoseconds, need not be precise.
func NewShard(now func() int64) *Shard { return &Shard{now: now} }

const maxSpare = 1024 // streams that a shard keeps for later

func (h *Shard) get() *Stream {
	s := h.free
	if s == nil {
		return &Stream{}
	}
	h.free, s.next = s.next, nil
	h.spare--
	return s
}

func (h *Shard) put(s *Stream) {
	if h.spare < maxSpare {
		s.next, h.free = h.free, s
		h.spare++
	}
}

// A Conn is one end of a connection. It is used by one goroutine.
type Conn struct {
	o      Options
	shard  *Shard
	out    Output
	h      Handler
	server bool

	enc  *hpack.Encoder
	dec  *hpack.Decoder
	peer peerSettings

	table   table
	active  int     // streams that are open, those without an identifier yet among them
	history history // of the streams of the client, whichever end that is
	nextID  uint32  // a client's
	unsent  list    // streams without an identifier
	ready   list    // streams with something to send that their own window allows
	waiting list    // streams that wait for nothing but the output

	sendWindow int
	recvWindow int // what the peer may still send
	unsaid     int // bytes that we have taken and not told the peer yet

	block      []byte // a header block that is not complete
	blockID    uint32 // 0: none
	blockFlags byte

	count   counts
	scratch [64]byte

	err       *Error
	preface   bool // the client's was read
	acked     bool // our settings
	draining  bool
	leaving   bool   // GOAWAY was sent
	lastTaken uint32 // what it named
	peerGone  bool   // GOAWAY was received
	peerLast  uint32 // what it named
	feeding   bool
	resting   bool         // Feed ends with the present frame
	late      []heldStream // released in the middle of Feed, to be given up at its end

	pumping    bool
	held       []heldStream
	delivering bool
	closed     bool

	pingSent, pingNext int64
	received           int64 // when bytes came last; kept only where it matters
	stale              int   // streams that Sweep has reset
}

// NewServer returns the server's end of a connection and writes its settings.
func NewServer(shard *Shard, o *Options, out Output, h Handler) *Conn {
	return newConn(shard, o, out, h, true)
}

// NewClient returns the client's end of a connection and writes preface and settings.
func NewClient(shard *Shard, o *Options, out Output, h Handler) *Conn {
	return newConn(shard, o, out, h, false)
}

func newConn(shard *Shard, o *Options, out Output, h Handler, server bool) *Conn {
	c := &Conn{o: o.resolved(), shard: shard, out: out, h: h, server: server, nextID: 1, sendWindow: firstWindow, recvWindow: firstWindow}
	c.peer = peerSettings{streams: 100, window: firstWindow, frame: minFrame}
	c.enc, c.dec = hpack.NewEncoder(c.o.EncoderTable), hpack.NewDecoder(c.o.MaxHeaderBytes, c.o.MaxHeaders)
	c.peerLast = maxStreamID
	c.received = shard.now()
	c.introduce()
	return c
}

// Feed takes bytes that have come and returns how many it consumed: whole frames. What is left
// is fed again in front of what comes next. An error is the end of the connection.
func (c *Conn) Feed(b []byte) (int, error) {
	if c.err != nil || c.closed {
		return len(b), c.over()
	}
	if err := c.checkOutput(); err != nil {
		return len(b), c.fail(err)
	}
	if c.o.PingIdle > 0 {
		c.received = c.shard.now()
	}
	used := 0
	if c.server && !c.preface {
		n := min(len(b), len(preface))
		if string(b[:n]) != preface[:n] {
			return len(b), c.fail(errPreface)
		}
		if n < len(preface) {
			return 0, nil
		}
		c.preface, used = true, n
	}
	c.feeding, c.resting = true, false
	used, err := c.frames(b, used)
	c.feeding = false
	if err != nil {
		return len(b), c.fail(err)
	}
	if c.closed {
		return len(b), nil
	}
	c.giveUpLate()
	c.Deliver()
	return used, nil
}

// Rest has Feed end with the present frame: a handler has enough to do for now. What is left is fed again.
func (c *Conn) Rest() { c.resting = true }

// Rests reports whether Feed has ended for that.
func (c *Conn) Rests() bool { return c.resting }

// frames takes the whole frames in b from used on, and returns up to where.
func (c *Conn) frames(b []byte, used int) (int, *Error) {
	for len(b)-used >= frameHeader && !c.closed && !c.resting {
		f := b[used:]
		n := int(f[0])<<16 | int(f[1])<<8 | int(f[2])
		if n > c.o.MaxFrameSize {
			return used, errFrameSize
		}
		if len(f) < frameHeader+n {
			break
		}
		err := c.frame(f[3], f[4], binary.BigEndian.Uint32(f[5:])&^(1<<31), f[frameHeader:frameHeader+n])
		if err != nil {
			return used, err
		}
		used += frameHeader + n
	}
	return used, nil
}

func (c *Conn) over() error {
	if c.err != nil {
		return c.err
	}
	return nil
}

// Err returns what ended the connection, nil if it goes on.
func (c *Conn) Err() *Error { return c.err }

// frame takes one frame.
func (c *Conn) frame(kind, flags byte, id uint32, p []byte) *Error {
	if c.blockID != 0 && (kind != frameContinuation || id != c.blockID) {
		return errContinuation
	}
	if !c.peer.known && (kind != frameSettings || flags&flagAck != 0) {
		return errFirst
	}
	switch kind {
	case frameData:
		return c.onData(flags, id, p)
	case frameHeaders:
		return c.onHeaders(flags, id, p)
	case frameContinuation:
		return c.onContinuation(flags, id, p)
	case frameWindow:
		return c.onWindow(id, p)
	case frameReset:
		return c.onReset(id, p)
	case frameSettings:
		return c.onSettings(flags, id, p)
	case framePing:
		return c.onPing(flags, id, p)
	case frameGoAway:
		return c.onGoAway(id, p)
	case framePriority:
		switch {
		case id == 0:
			return errStreamZero
		case len(p) != 5:
			return errLength
		}
		if err := priority(id, p); err != nil {
			return err
		}
		return c.countPriority()
	case framePush:
		return errPush
	}
	return nil // section 4.1: what is not known is ignored
}

// find returns the stream of a frame that needs one that was begun; nil if it has ended.
func (c *Conn) find(id uint32) (*Stream, *Error) {
	if id == 0 {
		return nil, errStreamZero
	}
	if s := c.table.get(id); s != nil {
		return s, nil
	}
	if id&1 == 0 || id > c.history.last {
		return nil, errIdle
	}
	return nil, nil
}

// onReset takes RST_STREAM (section 6.4).
func (c *Conn) onReset(id uint32, p []byte) *Error {
	if len(p) != 4 {
		return errLength
	}
	s, err := c.find(id)
	if s != nil {
		err = c.ended(s, Code(binary.BigEndian.Uint32(p)))
	}
	if err == nil {
		err = c.countReset()
	}
	return err
}

// ended ends a stream that the peer has reset.
func (c *Conn) ended(s *Stream, code Code) *Error {
	c.o.Stats.RxReset.Inc()
	if code == NoError && s.remoteEnd { // section 8.1: the peer has answered and wants no more
		c.remove(s)
		s.localEnd = true
		s.dropPending()
		s.drained()
		c.h.OnClosed()
		return nil
	}
	err := c.countEnd(s, true)
	r := Reset{Cause: RemoteReset, Code: code, Details: detailsRemoteReset}
	if code == RefusedStream {
		r.Details, r.Unseen = detailsRemoteRefused, !c.server
	}
	c.kill(s, r)
	return err
}

// onPing answers (section 6.7).
func (c *Conn) onPing(flags byte, id uint32, p []byte) *Error {
	switch {
	case id != 0:
		return errStreamNotZero
	case len(p) != 8:
		return errLength
	case flags&flagAck == 0:
		c.control(framePing, flagAck, 0, p)
	default:
		c.pingSent = 0
	}
	return nil
}

// Keepalive sends a PING if it is time for one, and returns when it wants to be called
// again, 0 for never. An error is the end of the connection: the last PING was not answered.
func (c *Conn) Keepalive(now int64) (next int64, err error) {
	every, patience := int64(c.o.PingInterval), int64(c.o.PingTimeout)
	if every <= 0 && c.pingSent == 0 || c.err != nil || c.closed {
		return 0, c.over()
	}
	if patience <= 0 {
		patience = int64(20 * time.Second)
	}
	if c.pingSent != 0 {
		if now-c.pingSent >= patience {
			return 0, c.fail(errPing)
		}
		return c.pingSent + patience, nil
	}
	if c.pingNext == 0 {
		c.pingNext = now + every + c.jitter()
	}
	if now < c.pingNext {
		return c.pingNext, nil
	}
	c.ping(now)
	c.pingNext = now + every + c.jitter()
	return now + min(patience, every), nil
}

func (c *Conn) ping(now int64) {
	c.pingSent = now
	c.control(framePing, 0, 0, binary.BigEndian.AppendUint64(c.scratch[:0], uint64(now)))
}

// jitter is what is added to an interval, so that connections that began together do not all ask together.
func (c *Conn) jitter() int64 {
	if most := int64(float64(c.o.PingInterval) * c.o.PingJitter / 100); most > 0 {
		return rand.Int64N(most)
	}
	return 0
}

// TryIdle sends a PING if nothing has come for as long as the options say: the peer may have gone without a word. It
// reports whether it did; then Keepalive wants to be called.
func (c *Conn) TryIdle(now int64) bool {
	if c.o.PingIdle <= 0 || c.pingSent != 0 || now-c.received <= int64(c.o.PingIdle) || c.err != nil || c.closed {
		return false
	}
	c.ping(now)
	return true
}

// onGoAway takes GOAWAY (section 6.8).
func (c *Conn) onGoAway(id uint32, p []byte) *Error {
	if id != 0 {
		return errStreamNotZero
	}
	if len(p) < 8 {
		return errLength
	}
	last, code := binary.BigEndian.Uint32(p)&^(1<<31), Code(binary.BigEndian.Uint32(p[4:]))
	if last > c.peerLast {
		return errGoAway
	}
	c.peerGone, c.peerLast = true, last
	if !c.server {
		lost := Reset{Cause: GoneAway, Code: RefusedStream, Details: detailsRemoteRefused, Unseen: true}
		for s := c.unsent.first; s != nil; s = c.unsent.first {
			c.kill(s, lost)
		}
		for s := c.table.above(last); s != nil; s = c.table.above(last) {
			c.kill(s, lost)
		}
	}
	c.h.OnGoAway(code, p[8:])
	return nil
}

// Drain says that the connection will end and serves all that comes (section 6.8). GoAway follows
// when what the client had sent before it knew must have arrived.
func (c *Conn) Drain() {
	if !c.draining && !c.leaving && c.err == nil && !c.closed {
		c.draining = true
		c.writeGoAway(maxStreamID, NoError, "")
	}
}

// GoAway ends the connection with the streams that have begun so far: later ones are not
// looked at, and the client knows that it can send them elsewhere.
func (c *Conn) GoAway(code Code) {
	if c.leaving || c.err != nil || c.closed {
		return
	}
	c.o.Stats.GoAwaySent.Inc()
	c.leave(code)
}

// Leave is GoAway without an error, and is not counted: so it is in Envoy where load is shed.
func (c *Conn) Leave() {
	if !c.leaving && c.err == nil && !c.closed {
		c.leave(NoError)
	}
}

func (c *Conn) leave(code Code) {
	c.leaving = true
	if c.server {
		c.lastTaken = c.history.last
	}
	c.writeGoAway(c.lastTaken, code, "")
}

// Done reports that the connection is to end, by either side's wish, and has no stream left.
func (c *Conn) Done() bool { return c.active == 0 && (c.leaving || c.peerGone) }

// Leaving reports that GoAway was called, or Drain.
func (c *Conn) Leaving() bool { return c.leaving || c.draining }

// Active is the number of open streams.
func (c *Conn) Active() int { return c.active }

// MaxStreams is how many streams the peer lets a client open; 100 until it has said so.
func (c *Conn) MaxStreams() uint32 { return c.peer.streams }

// PeerKnown reports whether the peer's settings have come.
func (c *Conn) PeerKnown() bool { return c.peer.known }

// PeerAllowsConnect reports whether the peer takes extended CONNECT.
func (c *Conn) PeerAllowsConnect() bool { return c.peer.connect }

// CanOpen reports whether a client can open a stream now; Exhausted, whether it ever can again.
func (c *Conn) CanOpen() bool { return !c.Exhausted() && uint64(c.active) < uint64(c.peer.streams) }

// Exhausted reports that no stream can be opened any more: the connection has ended or is
// about to, or has no identifiers left.
func (c *Conn) Exhausted() bool {
	return c.err != nil || c.closed || c.peerGone || c.leaving || c.nextID > maxStreamID-2*uint32(c.active)
}

// Close says that the transport has gone. Streams hear OnReset. Nothing is written.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.closed = true
	if c.err == nil {
		c.killAll(Reset{Cause: Closed, Code: Cancel})
	}
}

// fail ends the connection.
func (c *Conn) fail(err *Error) error {
	if c.err != nil {
		return c.err
	}
	c.err = err
	c.countError(err)
	last := uint32(0)
	if c.server {
		last = c.history.last
	}
	c.writeGoAway(last, err.Code, err.Why)
	c.killAll(Reset{Cause: Broken, Code: err.Code, Details: err.Details})
	return err
}

func (c *Conn) killAll(r Reset) {
	for s := c.table.above(0); s != nil; s = c.table.above(0) {
		c.kill(s, r)
	}
	r.Unseen = true
	for s := c.unsent.first; s != nil; s = c.unsent.first {
		c.kill(s, r)
	}
}
