// Package drive moves bytes between sockets and the state machines of the proxy.
//
// A [Loop] is one thread that serves many connections. Everything of a shard
// happens inside its turns: read what has come, hand it to handlers, run timers, and at the
// end of the turn write what was produced, one write per connection. So the code above needs
// no locks, and a request costs no hand-over between threads.
//
// There are two backends: epoll (Linux) and memory ([NewMemory]), with which whole
// proxies run in a test without sockets and with a clock that the test moves.
//
// What bytes mean is not known here, except for TLS records ([Conn.StartTLS]).
package drive

import (
	"errors"
	"math"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A backend watches sockets.
type backend interface {
	// wait collects events, for at most d (negative: as long as it takes); it may be interrupted.
	wait(d time.Duration)
	// dispatch gives the collected events to their connections.
	dispatch()
	// wake makes wait return; it may be called from any goroutine.
	wake()
	dial(o Dial) (socket, bool, error) // the bool: connected already
	pair() (a, b socket, err error)    // connected to each other
	watch(c *Conn) error
	unwatch(c *Conn)
	now() time.Duration
	wall() time.Time // which the system may set at any time
	close()
}

// A Loop serves connections. Its methods are called on its own thread, except
// Post and those that say so.
type Loop struct {
	back  backend
	clock int64 // nanoseconds since start, of this turn
	start time.Time
	zero  time.Time // of the system's clock, when ours was 0, as it says now
	told  int64     // when it was asked for that
	wheel wheel
	bufs  buffers
	pipes []*pipe

	sweep   Timer // looks at the deadlines of all connections
	sweepAt int64 // when it does, while it is armed
	swept   int64 // when it last did

	read  []byte // what the socket being read gave
	plain []byte // what it decrypts to

	conns      []*Conn
	load       atomic.Int32 // how many, with those that other loops have accepted for this one
	dirty      []*Conn
	meters     []*Meter // that have something to publish
	ready      []*Conn
	spareReady []*Conn

	shaking []*secure // handshakes that can go on
	asides  int       // handshakes that wait for another goroutine

	fibers     []*Fiber // without a job
	keepFibers int      // so many of them at most

	mail struct {
		mu    sync.Mutex
		queue []func()
		spare []func()
		full  atomic.Bool
	}
	stopped    bool
	idle       atomic.Bool // waits for events: a Post must wake it
	shortWaits int         // one after the other, as far as napAfter
	onTurn     func()
	onChurn    func()

	shortage *Shortage
}

func newLoop(b backend, start time.Time) *Loop {
	l := &Loop{
		back: b, start: start, zero: start,
		read: make([]byte, 160<<10), plain: make([]byte, 160<<10), keepFibers: spareFibers,
		shortage: new(Shortage),
	}
	l.sweep.Handler = sweeper{l}
	l.stamp()
	l.wheel.now = l.clock / tick
	return l
}

// Now is the loop's time: nanoseconds since its start, taken once per turn.
func (l *Loop) Now() int64 { return l.clock }

// Time is Now as a time, for what has to last some time: nobody sets it.
func (l *Loop) Time() time.Time { return l.start.Add(time.Duration(l.clock)) }

// Wall is the system's time of the turn, for dates that somebody reads. It may jump.
func (l *Loop) Wall() time.Time { return l.WallAt(l.clock) }

// WallAt is the system's time that belongs to a value of Now.
func (l *Loop) WallAt(at int64) time.Time { return l.zero.Add(time.Duration(at)) }

// longTurn is how long a turn may be before what can wait is left for the next. The rest of it is one helping of each
// connection that has something to say.
const longTurn = 2 * time.Millisecond

// Late reports that the turn has been a long one: a connection that has had some of it leaves the rest for the next, so
// that others wait for as long as helpings take, and not for all that somebody has sent.
func (l *Loop) Late() bool { return int64(l.back.now())-l.clock > int64(longTurn) }

// stamp takes the time of a turn. The system's clock is looked at once a second: it is set now and then, and goes on
// while the machine sleeps, which ours does not.
func (l *Loop) stamp() {
	if l.clock = int64(l.back.now()); l.clock-l.told >= int64(time.Second) {
		l.told, l.zero = l.clock, l.back.wall().Add(-time.Duration(l.clock))
	}
}

// longest is what a longer time is taken for: some 146 years, so that adding it to the clock is no overflow.
const longest = time.Duration(1 << 62)

// Schedule arms a timer, anew if it was armed.
func (l *Loop) Schedule(t *Timer, d time.Duration) {
	d = min(d, longest)
	l.wheel.remove(t)
	l.wheel.add(t, (l.clock+int64(d)+tick-1)/tick)
}

// Left is how long an armed timer has to go.
func (l *Loop) Left(t *Timer) (left time.Duration, armed bool) {
	if !t.Armed() {
		return 0, false
	}
	return time.Duration(t.when*tick - l.clock), true
}

// Cancel stops a timer.
func (l *Loop) Cancel(t *Timer) { l.wheel.remove(t) }

// Post has f run in a later turn. It may be called from any goroutine.
func (l *Loop) Post(f func()) {
	l.mail.mu.Lock()
	l.mail.queue = append(l.mail.queue, f)
	l.mail.full.Store(true)
	l.mail.mu.Unlock()
	if l.idle.Load() {
		l.back.wake()
	}
}

// OnTurn has f called at the end of every turn, before output is written.
func (l *Loop) OnTurn(f func()) { l.onTurn = f }

// OnChurn has f called whenever a connection comes, goes, or has shaken hands. What a loop
// allocates, it allocates then, and what it leaves to the collector, it leaves then.
func (l *Loop) OnChurn(f func()) { l.onChurn = f }

func (l *Loop) churn() {
	if l.onChurn != nil {
		l.onChurn()
	}
}

// Len is the number of connections.
func (l *Loop) Len() int { return len(l.conns) }

// Each calls f for every connection until f returns false. f may close connections.
func (l *Loop) Each(f func(*Conn) bool) {
	for i := len(l.conns) - 1; i >= 0; i-- {
		if i < len(l.conns) && !f(l.conns[i]) {
			return
		}
	}
}

// Run serves until Stop, on a thread of its own.
func (l *Loop) Run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for !l.stopped {
		began := l.back.now()
		l.back.wait(l.rest(began))
		l.idle.Store(false)
		l.stamp()
		l.rested(time.Duration(l.clock) - began)
		l.turn()
	}
	l.finish()
}

// A nap is a wait of which Go's scheduler is not told. Told of one, it wakes its monitor, which takes the processor away from
// the thread and then looks every 20 us, for some milliseconds, whether there is another one to take: with two busy shards that
// costs 1 us for each request. Not told, it takes the loop for one that computes, which is to yield after 10 ms, and at once for
// the collector; it asks by a signal, and that ends the wait. A nap is shorter than those 10 ms, so that one is over without
// having been interrupted when there is nothing to do.
const (
	nap      = 8 * time.Millisecond
	napAfter = 8 // waits that were as short, one after the other: a nap that nothing ends is a wake-up for nothing
)

// rest returns how long to wait for events, from now on; negative: as long as it takes.
func (l *Loop) rest(now time.Duration) time.Duration {
	if len(l.ready) > 0 || len(l.dirty) > 0 || len(l.shaking) > 0 {
		return 0
	}
	wait := time.Duration(math.MaxInt64)
	if at, ok := l.wheel.due(); ok {
		wait = max(0, time.Duration(at*tick)-now)
	}
	if l.shortWaits == napAfter {
		wait = min(wait, nap)
	}
	l.idle.Store(true)
	if l.mail.full.Load() {
		return 0
	}
	if wait == math.MaxInt64 {
		return -1
	}
	return wait
}

// rested notes how long a wait was.
func (l *Loop) rested(took time.Duration) {
	if took >= nap {
		l.shortWaits = 0
	} else if l.shortWaits < napAfter {
		l.shortWaits++
	}
}

// turn is everything between two waits.
func (l *Loop) turn() {
	l.back.dispatch()
	if l.mail.full.Load() {
		l.deliverMail()
	}
	l.wheel.advance(l.clock / tick)
	l.again()
	if l.onTurn != nil {
		l.onTurn()
	}
	l.flush()
	if len(l.shaking) > 0 {
		l.shake()
		l.flush()
	}
	l.publish()
}

func (l *Loop) deliverMail() {
	l.mail.mu.Lock()
	queue := l.mail.queue
	l.mail.queue, l.mail.spare = l.mail.spare[:0], nil
	l.mail.full.Store(false)
	l.mail.mu.Unlock()
	for i, f := range queue {
		f()
		queue[i] = nil
	}
	l.mail.mu.Lock()
	l.mail.spare = queue[:0]
	l.mail.mu.Unlock()
}

// again reads connections that were resumed or have more than one helping.
func (l *Loop) again() {
	ready := l.ready
	l.ready = l.spareReady[:0]
	for i, c := range ready {
		ready[i] = nil
		c.state.queued = false
		if c.state.paused {
			c.endEarly()
		} else {
			c.pump()
		}
	}
	l.spareReady = ready[:0]
}

func (l *Loop) enqueue(c *Conn) {
	if !c.state.queued {
		c.state.queued = true
		l.ready = append(l.ready, c)
	}
}

// flush writes every connection that has output. A handler that is told that its
// connection has drained may write to others: these are flushed too.
func (l *Loop) flush() {
	for i := 0; i < len(l.dirty); i++ {
		c := l.dirty[i]
		c.state.dirty = false
		c.flush()
	}
	clear(l.dirty)
	l.dirty = l.dirty[:0]
}

// Stop ends Run after the present turn. It may be called from any goroutine.
func (l *Loop) Stop() { l.Post(func() { l.stopped = true }) }

func (l *Loop) finish() {
	l.Each(func(c *Conn) bool {
		c.Abort()
		return true
	})
	for len(l.shaking) > 0 { // all have been told that nothing will come
		l.shake()
	}
	for _, k := range l.fibers {
		k.stop()
	}
	for _, p := range l.pipes {
		p.close()
	}
	l.back.close()
}

// A Dial says whom to connect to and how.
type Dial struct {
	Addr   netip.AddrPort // of TCP or, as package address has it, of a Unix socket
	Source netip.Addr     // bind to this address first, if valid; it need not be this machine's
	Mark   int            // SO_MARK, if not 0
	// Transparent allows a Source that is no address of this machine's, for which the system routes
	// answers here (IP_TRANSPARENT).
	Transparent bool
	Options     []SocketOption // of TCP; set before connecting, whatever their moment
}

// An UnreadyError is why a socket could not be made ready to connect: the machine or our rights
// are to blame, not the peer.
type UnreadyError struct{ Err error }

func (e *UnreadyError) Error() string { return e.Err.Error() }
func (e *UnreadyError) Unwrap() error { return e.Err }

// Bind reports whether it could not be bound to its address.
func (e *UnreadyError) Bind() bool {
	s, ok := errors.AsType[*os.SyscallError](e.Err)
	return ok && s.Syscall == "bind"
}

// An ImmediateError is a connection that the system refused when it was asked for, before anything was sent.
type ImmediateError struct {
	Addr netip.AddrPort
	Err  error
}

func (e *ImmediateError) Error() string { return e.Err.Error() }
func (e *ImmediateError) Unwrap() error { return e.Err }

// A SocketOption is set on a socket.
type SocketOption struct {
	Level, Name int
	Value       int
	Bytes       []byte // in place of Value, if not nil
	When        SocketState
}

// A SocketState is a moment in the life of a listening socket.
type SocketState uint8

// The moments at which options are set.
const (
	BeforeBind SocketState = iota
	Bound
	Listening
)

// Dial begins to connect. The outcome comes in a later turn.
func (l *Loop) Dial(o Dial, h Connector) *Conn {
	c := &Conn{loop: l, h: h, remote: o.Addr, Opened: l.clock, mark: defaultMark, index: -1}
	c.state.connecting = true
	sock, _, err := l.back.dial(o)
	if err != nil {
		if short(err) {
			l.shortage.Connects.Add(1)
		}
		c.sock = deadSocket{}
		l.Post(func() {
			if !c.state.dead {
				c.fail(err)
			}
		})
		return c
	}
	c.sock = sock
	l.adopt(c)
	return c
}

// accepted makes a connection of a socket that a listener gave.
func (l *Loop) accepted(s socket, remote netip.AddrPort) *Conn {
	c := &Conn{loop: l, h: ignore{}, sock: s, remote: remote, Opened: l.clock, mark: defaultMark, index: -1}
	l.adopt(c)
	return c
}

// adopt puts a connection among those that are watched.
func (l *Loop) adopt(c *Conn) {
	c.index = int32(len(l.conns))
	l.conns = append(l.conns, c)
	l.load.Add(1)
	l.churn()
	if err := l.back.watch(c); err != nil {
		l.Post(func() { c.fail(err) })
	}
}

func (l *Loop) forget(c *Conn) {
	if c.index < 0 {
		return
	}
	l.back.unwatch(c)
	last := len(l.conns) - 1
	l.conns[c.index] = l.conns[last]
	l.conns[c.index].index = c.index
	l.conns[last] = nil
	l.conns = l.conns[:last]
	l.load.Add(-1)
	c.index = -1
	l.churn()
}

// sweepGap is the least time between two looks at all connections, and so how late a deadline may be noticed. Where there are more
// than ten thousand of them it grows with their number: looking costs one processor a hundredth of its time, or less.
const sweepGap = 100 * time.Millisecond

// lookBy has connections looked at when the clock passes at, or a little later. Most deadlines move on before they pass, so
// they are no timers: one timer stands for the earliest of them.
func (l *Loop) lookBy(at int64) {
	at = max(at, l.swept+max(int64(sweepGap), int64(len(l.conns))*int64(sweepGap/10_000)))
	if l.sweep.Armed() && l.sweepAt <= at {
		return
	}
	l.sweepAt = at
	l.Schedule(&l.sweep, time.Duration(max(0, at-l.clock)))
}

// sweeper tells connections about deadlines.
type sweeper struct{ l *Loop }

func (s sweeper) OnTimer(*Timer) {
	l := s.l
	l.swept = l.clock
	next := int64(math.MaxInt64)
	l.Each(func(c *Conn) bool {
		if c.deadline != 0 && l.clock >= c.deadline {
			c.deadline = 0
			c.h.OnDeadline(c)
		}
		if at := c.stalls(); at != 0 && l.clock >= at {
			c.fail(ErrTimeout)
		} else if at != 0 {
			next = min(next, at)
		}
		if c.deadline != 0 {
			next = min(next, c.deadline)
		}
		return true
	})
	if next != math.MaxInt64 {
		l.lookBy(next)
	}
}

// deadSocket stands for one that could not be made.
type deadSocket struct{}

func (deadSocket) read([]byte) (int, error)                   { return 0, errAgain }
func (deadSocket) write([]byte) (int, error)                  { return 0, errAgain }
func (deadSocket) closeWrite()                                {}
func (deadSocket) close(bool)                                 {}
func (deadSocket) connected() error                           { return nil }
func (deadSocket) unacked() int                               { return 0 }
func (deadSocket) localAddr() (a netip.AddrPort)              { return a }
func (deadSocket) originalDst() (a netip.AddrPort, err error) { return a, errAgain }
