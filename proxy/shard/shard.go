// Package shard runs the data plane: so many threads, each with its loop, its
// connections and its upstream pools, under one configuration.
//
// A [Runtime] is swapped as a whole by [Shards.Apply]: sockets are bound first, then
// every shard takes over the new one in a turn of its own, then sockets that nobody needs are
// closed. What is in flight goes on under what it began with, and listeners that are
// gone or changed drain.
//
// Runtimes are made by proxy/build; who calls Apply, Drain and Close, and when, is app's affair.
package shard

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stream"
)

// Options say how shards run.
type Options struct {
	Concurrency int         // 0: 1
	Mark        int         // SO_MARK of upstream sockets, so that interception lets them pass; 0: none
	Pace        listen.Pace // at which connections of listeners that go are led to their end; its time is 45 s, Istio's default, if it is 0
	// Listener gives a listening socket that somebody else has made (a broker, a process
	// that this one replaces); nil, nil means that it is to be bound here. It may be nil.
	Listener func(c *listen.Config, addr netip.AddrPort) (net.Listener, error)
	Overload *overload.State // what there is too much of; nil: nothing ever
	Failing  *atomic.Bool    // whether health checks are to fail; nil: never
	Churn    func()          // see [drive.Loop.OnChurn]; nil: nobody
	Log      *slog.Logger
}

// Shards are the threads of the data plane.
type Shards struct {
	o       Options
	shards  []*one
	current atomic.Pointer[Runtime]
	sweeper sweeper
	short   shortage

	mu      sync.Mutex // guards what follows, and makes Apply one at a time
	sockets map[netip.AddrPort]*drive.Socket
	started bool
	closed  bool
	stopped [2]bool // listening: inbound listeners, all others; configuration that comes later does not begin again
	done    sync.WaitGroup
}

// one is a single shard.
type one struct {
	w   *pool.Worker
	set *listen.Set
}

// New makes the shards. They do nothing until Start.
func New(o Options) (*Shards, error) {
	if o.Concurrency <= 0 {
		o.Concurrency = 1
	}
	if o.Pace.Time == 0 {
		o.Pace.Time = 45 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	s := &Shards{o: o, sockets: map[netip.AddrPort]*drive.Socket{}}
	s.current.Store(&Runtime{})
	for i := range o.Concurrency {
		loop, err := drive.New()
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", i, err)
		}
		loop.OnChurn(o.Churn)
		loop.CountShortage(&s.short.Shortage)
		one := newOne(i, loop, o.Mark, s.current.Load())
		if o.Overload != nil {
			one.w.Overload = o.Overload
		}
		if o.Failing != nil {
			one.w.Failing = o.Failing
		}
		one.w.Log = o.Log
		s.shards = append(s.shards, one)
	}
	return s, nil
}

func newOne(i int, loop *drive.Loop, mark int, rt *Runtime) *one {
	w := pool.NewWorker(i, loop, rt)
	w.Mark = mark
	return &one{w: w, set: listen.NewSet(w)}
}

// Start runs the shards.
func (s *Shards) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		return
	}
	s.started = true
	for _, sh := range s.shards {
		s.done.Go(sh.w.Loop.Run)
	}
	first := s.shards[0].w.Loop
	s.sweeper = sweeper{loop: first, runtime: s.current.Load, also: func(now time.Time) { s.short.tell(s.o.Log, now) }}
	first.Post(s.sweeper.soon)
}

// A sweeper does what is due in clusters, on the loop of the first shard.
type sweeper struct {
	loop    *drive.Loop
	timer   drive.Timer
	runtime func() *Runtime
	also    func(now time.Time) // nil: nothing
}

// OnTimer sweeps.
func (s *sweeper) OnTimer(t *drive.Timer) {
	now := s.loop.Time()
	s.loop.Schedule(t, sweep(s.runtime(), now))
	if s.also != nil {
		s.also(now)
	}
}

// soon has it look at the clusters of a new configuration, unless it is about to anyway.
func (s *sweeper) soon() {
	s.timer.Handler = s
	if left, ok := s.loop.Left(&s.timer); !ok || left > leastSweep {
		s.loop.Schedule(&s.timer, leastSweep)
	}
}

// What bounds how often clusters are looked at. A proxy that has nothing to do sleeps: each time it wakes costs the
// machine more than the look does.
const (
	leastSweep = 100 * time.Millisecond
	mostSweep  = 5 * time.Second
)

// sweep returns when it is to be called again.
func sweep(rt *Runtime, now time.Time) time.Duration {
	next := mostSweep
	for _, c := range rt.Clusters {
		if at := c.Sweep(now); !at.IsZero() {
			next = min(next, at.Sub(now))
		}
	}
	return max(next, leastSweep)
}

// Runtime returns the present configuration.
func (s *Shards) Runtime() *Runtime { return s.current.Load() }

// Apply puts a configuration in force and returns when every shard works by it.
// A listener whose socket cannot be had is part of the returned error; all else is in force.
func (s *Shards) Apply(rt *Runtime) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apply(rt)
}

func (s *Shards) apply(rt *Runtime) error {
	if s.closed {
		return errors.New("shards are closed")
	}
	sockets, wanted, errs := s.bind(rt)
	s.current.Store(rt)
	live := filters(rt)
	var wait sync.WaitGroup
	failed := make([]error, len(s.shards))
	for i, sh := range s.shards {
		wait.Add(1)
		sh.w.Loop.Post(func() {
			defer wait.Done()
			failed[i] = sh.apply(rt, sockets, s.o.Pace, live)
		})
	}
	closeOld := func() {
		for addr, socket := range s.sockets {
			if !wanted[addr] {
				socket.Close()
				delete(s.sockets, addr)
			}
		}
	}
	if !s.started { // the posts run first of all
		return errors.Join(errs...)
	}
	wait.Wait()
	s.shards[0].w.Loop.Post(s.sweeper.soon)
	closeOld()
	return errors.Join(append(errs, failed...)...)
}

func (o *one) apply(rt *Runtime, sockets map[string][]*drive.Socket, pace listen.Pace, live map[any]bool) error {
	o.w.Source = rt
	err := o.set.Apply(rt.Listeners, sockets, pace)
	o.w.Retain(live)
	return err
}

// filters are what shards may keep local state of.
func filters(rt *Runtime) map[any]bool {
	live := map[any]bool{}
	add := func(c *listen.Chain) {
		if c == nil {
			return
		}
		filter := c.Filter
		if slot, ok := filter.(*listen.Slot); ok {
			if filter = nil; slot.Now() != nil {
				filter = slot.Now().Filter
			}
		}
		live[filter] = true
		if m, ok := filter.(*stream.Config); ok {
			for f := range m.Factories() {
				live[f] = true
			}
		}
	}
	for _, l := range rt.Listeners {
		add(l.Default)
		for _, c := range l.Chains {
			add(c)
		}
	}
	return live
}

// A BindError is why a listener could not be opened.
type BindError struct {
	Listener string
	Err      error
}

func (e *BindError) Error() string { return fmt.Sprintf("listener %s: %v", e.Listener, e.Err) }
func (e *BindError) Unwrap() error { return e.Err }

// bind gets the sockets of all listeners that want some. Those that have been stopped get none: whoever is connected stays so.
func (s *Shards) bind(rt *Runtime) (byName map[string][]*drive.Socket, wanted map[netip.AddrPort]bool, errs []error) {
	byName, wanted = map[string][]*drive.Socket{}, map[netip.AddrPort]bool{}
	for _, c := range rt.Listeners {
		if err := c.Check(); err != nil {
			errs = append(errs, err)
		}
		if !c.Bind || s.stopped[c.Class()] {
			continue
		}
		for _, addr := range c.Addrs {
			socket := s.sockets[addr]
			if socket == nil {
				var err error
				if socket, err = s.socket(c, addr); err != nil {
					errs = append(errs, &BindError{c.Name, err})
					continue
				}
				s.sockets[addr] = socket
				s.o.Log.Info("listening", "listener", c.Name, "address", pipe.String(socket.Addr()))
			}
			wanted[addr] = true
			byName[c.Name] = append(byName[c.Name], socket)
		}
	}
	return byName, wanted, errs
}

func (s *Shards) socket(c *listen.Config, addr netip.AddrPort) (*drive.Socket, error) {
	if s.o.Listener != nil {
		l, err := s.o.Listener(c, addr)
		if err != nil {
			return nil, err
		}
		if l != nil {
			return drive.SocketOf(l)
		}
	}
	mark := 0
	if c.Transparent {
		mark = s.o.Mark
	}
	return drive.Bind(addr, drive.BindOptions{Transparent: c.Transparent, FreeBind: c.FreeBind, Backlog: c.Backlog, Mark: mark, Mode: c.Modes[addr], Options: c.SocketOptions})
}

// Rebind opens the sockets of these addresses anew, where there are any, without a change of what
// listens there: connections stay, and new ones come from the new sockets.
func (s *Shards) Rebind(addrs ...netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []*drive.Socket
	for _, addr := range addrs {
		if socket := s.sockets[addr]; socket != nil {
			old = append(old, socket)
			delete(s.sockets, addr)
		}
	}
	if len(old) == 0 {
		return nil
	}
	err := s.apply(s.Runtime())
	for _, socket := range old {
		socket.Close()
	}
	return err
}

// Addr returns the address that a listener's first socket is bound to.
func (s *Shards) Addr(listener string) (netip.AddrPort, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.current.Load().Listeners {
		if c.Name == listener && len(c.Addrs) > 0 && !s.stopped[c.Class()] {
			if socket := s.sockets[c.Addrs[0]]; socket != nil {
				return socket.Addr(), true
			}
		}
	}
	return netip.AddrPort{}, false
}

// Drain has connections of inbound listeners, or all, told that they should end; see [listen.Set.Drain].
func (s *Shards) Drain(inboundOnly bool) {
	s.each(func(o *one) { o.set.Drain(inboundOnly, s.o.Pace) })
}

// StopListening closes the listening sockets of inbound listeners, or of all, for good:
// configuration that arrives while connections drain brings them back no more.
func (s *Shards) StopListening(inboundOnly bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped[0], s.stopped[1] = true, s.stopped[1] || !inboundOnly
	return s.apply(s.Runtime())
}

// Connections is the number of open downstream connections.
func (s *Shards) Connections() int {
	var n atomic.Int64
	s.each(func(o *one) { n.Add(int64(o.set.Open())) })
	return int(n.Load())
}

// each runs f on every shard's thread and waits for all.
func (s *Shards) each(f func(*one)) {
	s.mu.Lock()
	running := s.started && !s.closed
	s.mu.Unlock()
	if !running {
		return
	}
	var wait sync.WaitGroup
	for _, sh := range s.shards {
		wait.Add(1)
		sh.w.Loop.Post(func() {
			defer wait.Done()
			f(sh)
		})
	}
	wait.Wait()
}

// Close ends every connection and every shard.
func (s *Shards) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if s.started {
		for _, sh := range s.shards {
			sh.w.Loop.Stop()
		}
		s.done.Wait()
	}
	for addr, socket := range s.sockets {
		socket.Close()
		delete(s.sockets, addr)
	}
}
