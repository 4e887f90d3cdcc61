package drive

import (
	"fmt"
	"io"
	"net/netip"
	"syscall"
	"time"
)

// Memory is a network of one loop without sockets, for tests: they dial the loop, answer what
// it dials, and move its clock. Everything runs on the test's goroutine, inside Step.
type Memory struct {
	Loop *Loop
	back *memory
}

// memory is the backend without sockets.
type memory struct {
	start  time.Time // of the system's clock
	loop   *Loop
	clock  time.Duration
	events []*memSocket
	next   []*memSocket
	woken  chan struct{}
	ports  uint16
	serve  map[netip.AddrPort]func(*Pipe)
	joins  map[netip.AddrPort]func(*Conn)
	refuse func(Dial) error
}

// NewMemory returns a loop in memory whose wall clock starts at start.
func NewMemory(start time.Time) *Memory {
	b := &memory{start: start, woken: make(chan struct{}, 1), ports: 40000, serve: map[netip.AddrPort]func(*Pipe){}, joins: map[netip.AddrPort]func(*Conn){}}
	l := newLoop(b, start)
	b.loop, l.keepFibers = l, 0
	return &Memory{Loop: l, back: b}
}

// A Pipe is the test's end of a connection of the loop.
type Pipe struct {
	In      []byte // what the loop wrote and nobody has taken
	EOF     bool   // the loop has shut its side
	Closed  bool   // the loop has closed the connection
	Broken  bool   // by a reset
	Unacked int    // how much of what the loop wrote has not come through
	Window  int    // how much the loop may write before somebody takes it; 0: all
	OnData  func(*Pipe)

	sock *memSocket
}

// memSocket is the loop's end.
type memSocket struct {
	back          *memory
	conn          *Conn
	pipe          *Pipe
	in            []byte
	eof           bool
	err           error
	local, remote netip.AddrPort
	original      netip.AddrPort
	queued        bool
	writable      bool
	ready         bool // asynchronous connect has an outcome
	telling       func()
	peer          *memSocket // the other end, if it is a connection of the loop too
}

// Accept makes a connection to the loop, as if a client had dialled local from remote.
func (m *Memory) Accept(remote, local netip.AddrPort, accept func(*Conn)) *Pipe {
	s := m.back.socket(local, remote)
	s.ready = true
	s.pipe.Window = 0
	c := m.Loop.accepted(s, remote)
	accept(c)
	return s.pipe
}

// AcceptRedirected is Accept for a client whose connection the kernel has redirected: it
// dialed original, and our socket's address is another.
func (m *Memory) AcceptRedirected(remote, original netip.AddrPort, accept func(*Conn)) *Pipe {
	s := m.back.socket(netip.AddrPortFrom(original.Addr(), 1), remote)
	s.ready, s.original = true, original
	accept(m.Loop.accepted(s, remote))
	return s.pipe
}

// Original sets what the kernel would say was the destination before REDIRECT.
func (p *Pipe) Original(a netip.AddrPort) { p.sock.original = a }

// Handle answers the loop's connections to an address; f is given the test's end.
func (m *Memory) Handle(addr netip.AddrPort, f func(*Pipe)) { m.back.serve[addr] = f }

// Join has the loop accept its own connections to an address, so that two proxies in one loop can meet.
func (m *Memory) Join(addr netip.AddrPort, accept func(*Conn)) { m.back.joins[addr] = accept }

// Unhandle refuses connections to an address from now on.
func (m *Memory) Unhandle(addr netip.AddrPort) { delete(m.back.serve, addr) }

// Refuse decides the outcome of connections before Handle does; nil goes on, io.EOF hangs for ever.
func (m *Memory) Refuse(f func(Dial) error) { m.back.refuse = f }

// Advance moves the clock and runs what becomes due on the way, in order.
func (m *Memory) Advance(d time.Duration) {
	m.Step()
	end := m.back.clock + d
	for {
		at, _, _, ok := m.Loop.wheel.next()
		if !ok || time.Duration(at*tick) > end {
			break
		}
		m.back.clock = max(m.back.clock, time.Duration(at*tick))
		if m.Step(); m.Loop.clock < at*tick { // it would never be due
			panic("drive: a timer is due and has not run: the loop goes by another clock than its own")
		}
	}
	m.back.clock = end
	m.Step()
}

// Work has time pass in the middle of a turn, as it does for who computes.
func (m *Memory) Work(d time.Duration) { m.back.clock += d }

// Jump sets the system's clock, as somebody does who has noticed that it is wrong. The loop's own goes on as it was.
func (m *Memory) Jump(d time.Duration) { m.back.start = m.back.start.Add(d) }

// Step runs turns until nothing happens any more.
func (m *Memory) Step() {
	l, b := m.Loop, m.back
	for {
		b.wait(0)
		l.stamp()
		l.turn()
		if len(b.next) > 0 || len(l.ready) > 0 || len(l.dirty) > 0 || len(l.shaking) > 0 || l.mail.full.Load() {
			continue
		}
		if at, _, _, ok := l.wheel.next(); ok && at <= l.clock/tick {
			continue
		}
		if !b.busy() {
			return
		}
		<-b.woken
	}
}

// busy reports whether another goroutine has something to say.
func (b *memory) busy() bool { return b.loop.asides > 0 || b.loop.mail.full.Load() }

func (b *memory) now() time.Duration { return b.clock }
func (b *memory) wall() time.Time    { return b.start.Add(b.clock) }
func (b *memory) close()             {}

func (b *memory) wake() {
	select {
	case b.woken <- struct{}{}:
	default:
	}
}

func (b *memory) wait(time.Duration) {
	b.loop.idle.Store(true) // every Post wakes Step
	b.events, b.next = b.next, b.events[:0]
}

func (b *memory) dispatch() {
	for _, s := range b.events {
		s.queued = false
		if s.conn == nil {
			continue
		}
		writable := s.writable
		s.writable = false
		s.conn.event(len(s.in) > 0, writable, s.eof, s.err != nil)
	}
}

func (b *memory) socket(local, remote netip.AddrPort) *memSocket {
	s := &memSocket{back: b, local: local, remote: remote, pipe: &Pipe{}}
	s.pipe.sock = s
	return s
}

func (b *memory) notify(s *memSocket) {
	if !s.queued {
		s.queued = true
		b.next = append(b.next, s)
	}
}

func (b *memory) watch(c *Conn) error {
	s := c.sock.(*memSocket)
	s.conn = c
	b.notify(s)
	return nil
}

func (b *memory) unwatch(c *Conn) {
	if s, ok := c.bare().(*memSocket); ok {
		s.conn = nil
	}
}

func (b *memory) dial(o Dial) (socket, bool, error) {
	b.ports++
	source := netip.MustParseAddr("127.0.0.1")
	if o.Source.IsValid() {
		source = o.Source
	}
	s := b.socket(netip.AddrPortFrom(source, b.ports), o.Addr)
	if b.refuse != nil {
		switch err := b.refuse(o); err {
		case nil:
		case io.EOF:
			return s, false, nil
		default:
			return nil, false, err
		}
	}
	serve := b.serve[o.Addr]
	s.ready, s.writable = true, true
	if accept := b.joins[o.Addr]; accept != nil {
		other := b.socket(o.Addr, s.local)
		other.ready, other.peer, s.peer = true, s, other
		b.loop.Post(func() { accept(b.loop.accepted(other, other.remote)) })
		return s, false, nil
	}
	if serve == nil {
		s.err = syscall.ECONNREFUSED
		return s, false, nil
	}
	b.loop.Post(func() {
		if s.conn != nil {
			serve(s.pipe)
		}
	})
	return s, false, nil
}

func (b *memory) pair() (socket, socket, error) {
	one, other := b.socket(netip.AddrPort{}, netip.AddrPort{}), b.socket(netip.AddrPort{}, netip.AddrPort{})
	one.ready, one.writable, other.ready = true, true, true
	one.peer, other.peer = other, one
	return one, other, nil
}

func (s *memSocket) read(p []byte) (int, error) {
	if len(s.in) > 0 {
		n := copy(p, s.in)
		s.in = s.in[:copy(s.in, s.in[n:])]
		return n, nil
	}
	if s.err != nil {
		return 0, s.err
	}
	if s.eof {
		return 0, io.EOF
	}
	return 0, errAgain
}

func (s *memSocket) write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.peer != nil {
		s.peer.in = append(s.peer.in, p...)
		s.back.notify(s.peer)
		return len(p), nil
	}
	n := len(p)
	if w := s.pipe.Window; w > 0 {
		n = max(0, min(n, w-len(s.pipe.In)))
		if n == 0 {
			return 0, errAgain
		}
	}
	s.pipe.In = append(s.pipe.In, p[:n]...)
	s.tell()
	return n, nil
}

// tell lets the test's end look, in a turn of its own.
func (s *memSocket) tell() {
	if s.pipe.OnData == nil {
		return
	}
	if s.telling == nil {
		s.telling = func() {
			if f := s.pipe.OnData; f != nil {
				f(s.pipe)
			}
		}
	}
	s.back.loop.Post(s.telling)
}

func (s *memSocket) closeWrite() {
	if s.peer != nil {
		s.peer.eof = true
		s.back.notify(s.peer)
		return
	}
	s.pipe.EOF = true
	s.tell()
}

func (s *memSocket) close(reset bool) {
	if s.peer != nil {
		s.peer.eof = true
		if reset {
			s.peer.err = syscall.ECONNRESET
		}
		s.back.notify(s.peer)
		return
	}
	s.pipe.EOF, s.pipe.Closed, s.pipe.Broken = true, true, reset
	s.tell()
}

func (s *memSocket) connected() error          { return s.err }
func (s *memSocket) unacked() int              { return s.pipe.Unacked }
func (s *memSocket) localAddr() netip.AddrPort { return s.local }

func (s *memSocket) originalDst() (netip.AddrPort, error) {
	if !s.original.IsValid() {
		return s.local, syscall.ENOENT
	}
	return s.original, nil
}

// Write sends bytes to the loop.
func (p *Pipe) Write(b []byte) (int, error) {
	if p.Closed {
		return 0, fmt.Errorf("write on a connection that the loop has closed")
	}
	p.sock.in = append(p.sock.in, b...)
	p.sock.back.notify(p.sock)
	return len(b), nil
}

// WriteString sends bytes to the loop.
func (p *Pipe) WriteString(s string) { p.Write([]byte(s)) }

// Take returns what the loop wrote, and makes room.
func (p *Pipe) Take() string {
	s := string(p.In)
	p.In = p.In[:0]
	if p.Window > 0 {
		p.sock.writable = true
		p.sock.back.notify(p.sock)
	}
	return s
}

// CloseWrite ends the loop's input.
func (p *Pipe) CloseWrite() {
	p.sock.eof = true
	p.sock.back.notify(p.sock)
}

// Reset breaks the connection.
func (p *Pipe) Reset() {
	p.sock.err = syscall.ECONNRESET
	p.sock.back.notify(p.sock)
}

// Remote is the address of the loop's end.
func (p *Pipe) Remote() netip.AddrPort { return p.sock.local }

// Unread is the number of bytes that the loop has not read.
func (p *Pipe) Unread() int { return len(p.sock.in) }
