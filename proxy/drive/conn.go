package drive

import (
	"crypto/tls"
	"errors"
	"io"
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
	heldIn  int32  // this connection's share of what is buffered
	heldOut int32
	before  int32 // of BytesIn, what came before the meter

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
	bulky      bool // the last turn had a bulk of output
	eof        bool // the peer's FIN was read
	hup        bool // the poller has seen the peer's FIN
	early      bool // the handler wants to hear of the FIN while it takes no input
	full       bool // output was above the mark
	blocked    bool // the socket took less than was offered
	shut       bool // half-close after the output
	shutDone   bool
	closing    closing
}

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

// OnTimer ends a close that the peer does not cooperate with.
func (c *Conn) OnTimer(*Timer) {
	if !c.state.dead {
		c.part(PeerStayed)
		c.destroy(c.Buffered() > 0)
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
		c.endEarly()
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
