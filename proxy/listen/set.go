package listen

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/pool"
)

// matchers holds the matcher of a Config, built once for all shards.
type matchers struct {
	once sync.Once
	m    *Matcher
	err  error
}

// Check builds what the shards need of the configuration and reports what is
// wrong with it. It may be called many times and from any goroutine.
func (c *Config) Check() error {
	c.compiled.once.Do(func() {
		if c.Tree != nil {
			c.compiled.m, c.compiled.err = NewNamed(c.Tree, c.Chains, c.Default)
		} else {
			c.compiled.m, c.compiled.err = NewMatcher(c.Chains, c.Default)
		}
		if c.compiled.err != nil {
			c.compiled.err = fmt.Errorf("listener %s: %w", c.Name, c.compiled.err)
		}
	})
	return c.compiled.err
}

// A Set is the listeners of one shard. Only the shard's thread uses it.
type Set struct {
	w      *pool.Worker
	byName map[string]*listener
	byAddr map[netip.AddrPort]*listener
	inside map[string]*listener   // those inside of the proxy, by name
	old    map[*listener]struct{} // draining
	drains [2]drain               // of the whole proxy, by class
	full   bool                   // no connections are accepted for now
}

// A listener is a Config at work on one shard.
type listener struct {
	set     *Set
	config  *Config
	matcher *Matcher
	accepts []*drive.Listener
	conns   Conn // head of a ring
	open    int
	drained drain
	timer   drive.Timer
}

// NewSet returns an empty set.
func NewSet(w *pool.Worker) *Set {
	s := &Set{w: w, byName: map[string]*listener{}, byAddr: map[netip.AddrPort]*listener{}, old: map[*listener]struct{}{}}
	w.Inside = s
	return s
}

// Apply makes the set that of a new configuration. sockets are those of each
// listener that binds, by name; what is not in them any more is no longer accepted from. Listeners that are
// gone or changed drain at that pace, except for connections whose
// chain is also a chain of the new listener, which simply move there.
func (s *Set) Apply(configs []*Config, sockets map[string][]*drive.Socket, pace Pace) error {
	before := s.byName
	s.byName = make(map[string]*listener, len(configs))
	s.byAddr = make(map[netip.AddrPort]*listener, len(configs))
	s.inside = map[string]*listener{}
	var failed error
	for _, cfg := range configs {
		l := before[cfg.Name]
		if l == nil || l.config != cfg && (l.config.Version != cfg.Version || cfg.Version == "") {
			old := l
			l = s.add(cfg)
			if old != nil {
				old.handOver(l)
			}
		} else {
			delete(before, cfg.Name)
		}
		s.byName[cfg.Name] = l
		if cfg.Inside {
			s.inside[cfg.Name] = l
		}
		for _, addr := range cfg.Addrs {
			if s.byAddr[addr] == nil {
				s.byAddr[addr] = l
			}
		}
	}
	for _, l := range before {
		l.drain(pace)
	}
	for name, l := range s.byName {
		if err := l.accept(sockets[name]); err != nil {
			failed = err
		}
	}
	return failed
}

func (s *Set) add(cfg *Config) *listener {
	cfg.Check()
	l := &listener{set: s, config: cfg, matcher: cfg.compiled.m}
	l.conns.next, l.conns.prev = &l.conns, &l.conns
	l.timer.Handler = l
	return l
}

// accept accepts from these sockets and from no others.
func (l *listener) accept(sockets []*drive.Socket) error {
	for _, a := range l.accepts {
		if !contains(sockets, a.Socket()) {
			a.Close()
		}
	}
	var kept []*drive.Listener
	for _, a := range l.accepts {
		if contains(sockets, a.Socket()) {
			kept = append(kept, a)
			a.Pause(l.set.full && !l.config.Unshed)
		}
	}
	l.accepts = kept
next:
	for _, socket := range sockets {
		for _, a := range kept {
			if a.Socket() == socket {
				continue next
			}
		}
		a, err := l.set.w.Loop.Listen(socket, l.Accepted)
		if err != nil {
			return fmt.Errorf("listener %s: %w", l.config.Name, err)
		}
		if st := l.config.Stats; st != nil {
			a.OnBatch(func(n int) { st.ConnectionsAcceptedPerSocketEvent.Record(uint64(n)) })
		}
		a.Pause(l.set.full && !l.config.Unshed)
		l.accepts = append(l.accepts, a)
	}
	return nil
}

func contains(list []*drive.Socket, s *drive.Socket) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Accept takes a connection for the listener of a name, as if its socket had; for tests and in-process clients.
func (s *Set) Accept(name string) func(*drive.Conn) {
	return func(d *drive.Conn) {
		l := s.byName[name]
		if l == nil {
			d.Abort()
			return
		}
		l.Accepted(d)
	}
}

// Inside reports whether there is a listener of that name inside of the proxy.
func (s *Set) Inside(name string) bool { return s.inside[name] != nil }

// AcceptInside takes a connection that comes from the proxy itself. If the listener has gone meanwhile, so has the connection.
func (s *Set) AcceptInside(name string, d *drive.Conn, p pool.Passed) {
	l := s.inside[name]
	if l == nil {
		d.Close()
		return
	}
	l.begin(d, p)
}

// Accepted begins with a new connection.
func (l *listener) Accepted(d *drive.Conn) { l.begin(d, pool.Passed{}) }

func (l *listener) begin(d *drive.Conn, p pool.Passed) {
	cfg := l.config
	if l.shed() {
		d.Abort()
		return
	}
	if limit := int64(cfg.MaxConnections); limit > 0 && cfg.count.Load() >= limit {
		if st := cfg.Stats; st != nil {
			st.DownstreamCxOverflow.Inc()
		}
		d.Abort()
		return
	}
	if !cfg.Global.take() {
		if st := cfg.Stats; st != nil {
			st.DownstreamGlobalCxOverflow.Inc()
		}
		d.Abort()
		return
	}
	c := &Conn{Conn: d, Worker: l.set.w, Listener: cfg, ID: l.set.w.ConnectionID(), set: l.set, global: cfg.Global}
	for namespace, fields := range p.Metadata {
		c.Dynamic.Put(namespace, fields)
	}
	c.State = p.State
	l.link(c)
	if c.Worker.Debugs() {
		c.Worker.Log.Debug("connection", "connection", c.ID, "listener", cfg.Name, "from", d.RemoteAddr())
	}
	c.start()
}

func (l *listener) link(c *Conn) {
	c.ln, c.counted = l, true
	c.prev, c.next = l.conns.prev, &l.conns
	c.prev.next, c.next.prev = c, c
	l.open++
	l.config.count.Add(1)
}

func (l *listener) unlink(c *Conn) {
	c.prev.next, c.next.prev = c.next, c.prev
	c.next, c.prev, c.counted = nil, nil, false
	l.open--
	l.config.count.Add(-1)
	if l.drained.began && l.open == 0 {
		l.set.w.Loop.Cancel(&l.timer)
		delete(l.set.old, l)
	}
}

// handOver moves connections whose chain lives on to the new listener, and in place those that have yet to get one.
func (l *listener) handOver(to *listener) {
	keep := map[*Chain]bool{to.config.Default: to.config.Default != nil}
	for _, c := range to.config.Chains {
		keep[c] = true
	}
	for c := l.conns.next; c != &l.conns; {
		next := c.next
		if c.Chain != nil && keep[c.Chain] || c.Chain == nil && to.config.InPlace {
			l.unlink(c)
			to.link(c)
		}
		c = next
	}
}

// find returns the listener for an original destination: that of the address,
// else that of all addresses with this port, else nil.
func (s *Set) find(dst netip.AddrPort, from *listener) *listener {
	wild := netip.IPv4Unspecified()
	if dst.Addr().Is6() && !dst.Addr().Is4In6() {
		wild = netip.IPv6Unspecified()
	}
	for _, addr := range [...]netip.AddrPort{dst, netip.AddrPortFrom(wild, dst.Port()), netip.AddrPortFrom(netip.IPv4Unspecified(), dst.Port())} {
		if l := s.byAddr[addr]; l != nil {
			if l == from {
				return nil
			}
			return l
		}
	}
	return nil
}

// Open is the number of open connections of this shard.
func (s *Set) Open() int {
	n := 0
	for _, l := range s.byName {
		n += l.open
	}
	for l := range s.old {
		n += l.open
	}
	return n
}
