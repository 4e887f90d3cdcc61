package drive

import (
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net/netip"
	"time"
)

// A Handler is told what happens on a connection. Its methods run inside the
// loop's turn and must not block.
type Handler interface {
	// OnData is given the bytes that have not been consumed yet and returns how many
	// it consumes now. What is left is presented again when more has come, or after
	// Resume. The bytes are valid until OnData returns.
	OnData(c *Conn, b []byte) int
	// OnEnd says that the peer will send no more. Writing is still possible.
	OnEnd(c *Conn)
	// OnClose says that the connection has gone, and not by our Close or Abort.
	OnClose(c *Conn, err error)
	// OnDrained says that output has gone below the low-water mark after Full was true.
	OnDrained(c *Conn)
	// OnDeadline says that the time set by SetDeadline has passed.
	OnDeadline(c *Conn)
}

// A Connector is the handler of a connection that is being dialled.
type Connector interface {
	Handler
	// OnConnect reports the outcome. After an error the connection is gone.
	OnConnect(c *Conn, err error)
}

// A socket is what a backend gives: bytes without waiting.
type socket interface {
	read(b []byte) (int, error)  // errAgain; io.EOF
	write(b []byte) (int, error) // errAgain
	closeWrite()
	close(reset bool)
	connected() error // outcome of an asynchronous connect
	unacked() int     // bytes written that the peer's system has not acknowledged
	localAddr() netip.AddrPort
	originalDst() (netip.AddrPort, error)
}

var (
	errAgain = errors.New("drive: nothing now")
	// ErrTimeout closes connections whose peer does not take what was written in time.
	ErrTimeout = errors.New("drive: write timed out")
)

// A Conn is a connection of a [Loop]. Except where it says otherwise, its
// methods are called on the loop's own thread.
//
// Output is collected and written at the end of the turn. Input stops while the
// connection is paused. A connection without bytes in flight owns no buffer.
type Conn struct {
	loop *Loop
	h    Handler
	sock socket
	tls  *secure

	in     []byte   // input that was not consumed
	full   [][]byte // output before out, in buffers that are full; see output.go
	out    []byte   // output that was not written (before encryption)
	outOff int      // written of the first buffer
	behind int      // bytes in full
	pipe   *pipe    // output that is before out; nil: none

	meter   *Meter // nil: nobody counts
	heldIn  int    // this connection's share of what is buffered
	heldOut int

	toward *Conn // where input may go without being seen; nil: nowhere
	bulk   int32 // long reads in a row
	index  int32 // in loop.conns; -1: not there

	remote, local netip.AddrPort
	deadline      int64
	state         state

	// Bytes count what passed the socket; Opened is the loop's time of creation.
	BytesIn, BytesOut uint64
	Opened            int64

	mark   int32         // high-water mark of output
	tail   int32         // unconsumed input beyond which the connection is not read; 0: maxTail
	stall  time.Duration // how long output may wait for the peer to take a byte, 0: for ever
	linger time.Duration // how long a gentle close waits for the peer
	parted func(Parting) // told how a gentle close has ended
	moved  int64         // when the peer last took bytes, while it blocks
	timer  Timer
}

type state struct {
	connecting bool
	dead       bool
	paused     bool
	again      bool // in holds bytes that the handler should see again
	queued     bool // in loop.ready
	dirty      bool // in loop.dirty
	eof        bool // the peer's FIN was read
	hup        bool // the poller has seen the peer's FIN
	full       bool // output was above the mark
	blocked    bool // the socket took less than was offered
	shut       bool // half-close after the output
	shutDone   bool
	closing    closing
}

type closing uint8

const (
	open      closing = iota
	flushing          // close when the output has gone
	lingering         // output gone, our side shut; wait for the peer's FIN
	flushThenLinger
)

const (
	defaultMark = 256 << 10
	maxTail     = 96 << 10 // unconsumed input beyond which a connection is not read
	maxReads    = 16       // per event, so that one connection does not starve the others
	readStep    = 64 << 10 // room for a read behind input that is kept
	lingerTime  = time.Second
	flushTime   = 10 * time.Second
)

// Loop is the loop that serves the connection.
func (c *Conn) Loop() *Loop { return c.loop }

// SetHandler replaces the handler. Unconsumed input goes to the new one.
func (c *Conn) SetHandler(h Handler) { c.h = h }

// RemoteAddr is the peer's address as the socket knows it.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr is our address as the socket knows it.
func (c *Conn) LocalAddr() netip.AddrPort {
	if !c.local.IsValid() && !c.state.dead {
		c.local = c.sock.localAddr()
	}
	return c.local
}

// Broken is the error that the socket holds, of which nobody has been told; nil: none.
func (c *Conn) Broken() error { return c.sock.connected() }

// Unacked is how many bytes of what was written, on the wire, have not reached the peer's system, as far as is known.
func (c *Conn) Unacked() int { return c.sock.unacked() }

// OriginalDst is the destination that the peer dialled before the kernel redirected it.
func (c *Conn) OriginalDst() (netip.AddrPort, error) { return c.sock.originalDst() }

// Alive reports whether the connection can still be written to.
func (c *Conn) Alive() bool { return !c.state.dead && c.state.closing == open }

// Ended reports whether the peer has said that it sends no more.
func (c *Conn) Ended() bool { return c.state.eof }

// TLS returns the state of the TLS connection, nil for a plain one.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.tls == nil || !c.tls.done {
		return nil
	}
	return &c.tls.state
}

// SetDeadline has the handler told when the loop's clock passes at, or up to a tenth of a second later; 0 means never.
func (c *Conn) SetDeadline(at int64) {
	if c.deadline = sure(at); at != 0 {
		c.loop.lookBy(c.deadline)
	}
}

// Deadline is what SetDeadline has set, 0 if that has passed.
func (c *Conn) Deadline() int64 { return c.deadline }

// SetMark sets the number of bytes of output above which the connection is Full.
func (c *Conn) SetMark(n int) { c.mark = int32(min(n, math.MaxInt32)) }

// SetInput sets how much input the handler may leave unconsumed. It has to be more than the
// longest thing that the handler takes only as a whole.
func (c *Conn) SetInput(n int) { c.tail = int32(min(max(n, maxTail), math.MaxInt32)) }

// SetPatience bounds the waits for a peer. A connection whose output waits for stall without
// a byte of it being taken is reset, and its handler is told ErrTimeout; 0 is for ever. linger is how long a gentle close waits for the peer's FIN, 0: a second; parted, if it is not nil,
// is told how that has ended.
func (c *Conn) SetPatience(stall, linger time.Duration, parted func(Parting)) {
	c.stall, c.linger, c.parted = stall, linger, parted
	c.watchStall()
}

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

// Write queues a copy of b.
func (c *Conn) Write(b []byte) {
	if len(b) == 0 || !c.Alive() {
		return
	}
	if len(b) >= eagerMark {
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
		c.out = c.loop.bufs.get(1)
	}
	return c.out
}

// End takes back what Begin gave.
func (c *Conn) End(b []byte) {
	if !c.Alive() {
		return
	}
	c.out = b
	if c.queued() >= eagerMark {
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

// Yield ends reading for now: what the handler has left is presented again, after the other connections have had
// their turn. To be called from inside OnData.
func (c *Conn) Yield() { c.Resume() }

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

// OnTimer ends a close that the peer does not cooperate with.
func (c *Conn) OnTimer(*Timer) {
	if !c.state.dead {
		c.part(PeerStayed)
		c.destroy(c.Buffered() > 0)
	}
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

// event is what the poller has seen.
func (c *Conn) event(readable, writable, hup, broken bool) {
	if c.state.dead {
		return
	}
	// Before anything else: a host may have said all that it has to say, and its FIN, by the time that we see that
	// we are connected, and there is no second edge for that.
	c.state.hup = c.state.hup || hup || broken
	if c.state.connecting {
		if writable || broken {
			c.connected()
		}
		return
	}
	if writable && c.state.blocked {
		c.state.blocked = false
		c.flush()
	}
	if c.state.dead {
		return
	}
	if c.state.paused || c.state.eof {
		if broken {
			c.broken()
		}
		return
	}
	if readable || hup || broken {
		c.pump()
	}
}

// broken notices that the peer has gone while nobody reads.
func (c *Conn) broken() {
	if err := c.sock.connected(); err != nil {
		c.fail(err)
		return
	}
	if c.state.eof { // both directions are over
		c.fail(io.EOF)
	}
}

func (c *Conn) connected() {
	err := c.sock.connected()
	if err != nil {
		c.fail(err)
		return
	}
	c.state.connecting = false
	c.h.(Connector).OnConnect(c, nil)
	if !c.state.dead {
		c.touch()
		c.loop.enqueue(c)
	}
}

// ignore is the handler of a connection that nobody listens to any more.
type ignore struct{}

func (ignore) OnData(_ *Conn, b []byte) int { return len(b) }
func (ignore) OnEnd(*Conn)                  {}
func (ignore) OnClose(*Conn, error)         {}
func (ignore) OnDrained(*Conn)              {}
func (ignore) OnDeadline(*Conn)             {}
func (ignore) OnConnect(*Conn, error)       {}

// HasInput reports whether there is input that was not consumed.
func (c *Conn) HasInput() bool { return len(c.in) > 0 }
