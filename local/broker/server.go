package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mallamesh/malla/local/internal/fdmsg"
	"github.com/miekg/dns"
)

// Serve answers on l until ctx is done or l fails; then it closes l and every
// port that it opened.
func Serve(ctx context.Context, l *net.UnixListener, o Options) error {
	if o.Linger <= 0 {
		o.Linger = 10 * time.Second
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 10 * time.Second
	}
	s := &server{o: o, ports: make(map[portKey]*port), v6: hasLoopback6()}
	d := newDoor()
	d.room("dial", maxDials, s.dial)
	d.room("resolve", maxQuestions, s.resolve)
	d.room("listen", maxLeases, s.listen)
	d.room("families", maxLeases, s.families)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.closePorts()
	return d.serve(ctx, l)
}

// hasLoopback6 reports whether the host has ::1.
func hasLoopback6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

type server struct {
	o  Options
	v6 bool // ports are opened on ::1 too

	mu     sync.Mutex // guards what follows, and orders OnPublish
	ports  map[portKey]*port
	last   map[portKey]netip.AddrPort // where a port was before that may be anywhere
	closed bool

	sending sync.WaitGroup // requests that have copies of sockets
}

type portKey struct {
	owner string
	port  uint16
}

// A port is open on the host.
type port struct {
	published Published
	listeners []*net.TCPListener
	users     int
	linger    *time.Timer   // runs when there are no users
	moved     chan struct{} // closed when the port is to be had at a better address
}

func answer(c *net.UnixConn, r reply, files ...*os.File) error {
	c.SetWriteDeadline(time.Now().Add(requestTimeout))
	return fdmsg.Write(c, r, files...)
}

func (s *server) families(_ context.Context, c *net.UnixConn, _ request, _ <-chan word) {
	_ = answer(c, reply{IPv6: s.v6})
}

func (s *server) dial(ctx context.Context, c *net.UnixConn, q request, _ <-chan word) {
	ctx, cancel := context.WithTimeout(ctx, s.o.DialTimeout)
	defer cancel()
	conn, err := dialHost(ctx, q)
	if err != nil {
		_ = answer(c, failed(err)) // if it has gone it needs no answer
		return
	}
	defer conn.Close()
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		_ = answer(c, failed(err))
		return
	}
	defer f.Close()
	_ = answer(c, reply{}, f)
}

func dialHost(ctx context.Context, q request) (net.Conn, error) {
	if q.Network != "tcp" {
		return nil, errNetwork(q.Network)
	}
	host, port, err := net.SplitHostPort(q.Addr)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	if host != Loopback {
		return d.DialContext(ctx, "tcp", q.Addr)
	}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		if conn6, err6 := d.DialContext(ctx, "tcp", net.JoinHostPort("::1", port)); err6 == nil {
			return conn6, nil
		}
	}
	return conn, err
}

// listen lends a port until the client goes or the port moves.
func (s *server) listen(_ context.Context, c *net.UnixConn, q request, gone <-chan word) {
	key := portKey{q.Owner, q.Port}
	p, copies, err := s.acquire(key)
	if err != nil {
		_ = answer(c, failed(err))
		return
	}
	var last word
	defer func() { s.release(key, p, last.back) }()
	err = answer(c, reply{Published: p.published}, copies...)
	closeFiles(copies)
	s.sending.Done()
	if err != nil {
		return
	}
	select {
	case last = <-gone:
	case <-p.moved:
	}
}

// acquire returns a port with one more user, and copies of its sockets, which are the caller's: while they are
// sent the port may move, and its own be closed. The caller says s.sending.Done when it has closed them.
func (s *server) acquire(key portKey) (*port, []*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, net.ErrClosed
	}
	if p := s.ports[key]; p != nil {
		copies, err := p.copies()
		if err != nil {
			return nil, nil, err
		}
		p.users++
		if p.linger != nil {
			p.linger.Stop()
			p.linger = nil
		}
		s.sending.Add(1)
		return p, copies, nil
	}
	if key.port == 0 {
		return nil, nil, errors.New("port 0, want 1 to 65535")
	}
	s.evict(s.wanted(key))
	p, err := s.open(key)
	if err != nil {
		return nil, nil, err
	}
	copies, err := p.copies()
	if err != nil {
		p.close()
		return nil, nil, err
	}
	p.users = 1
	s.ports[key] = p
	s.tell(p.published)
	s.sending.Add(1)
	return p, copies, nil
}

// copies returns a copy of each socket.
func (p *port) copies() (out []*os.File, err error) {
	for _, l := range p.listeners {
		f, err := l.File()
		if err != nil {
			closeFiles(out)
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// wanted is where a port is to be offered.
func (s *server) wanted(key portKey) netip.AddrPort {
	if at, ok := s.o.Publish[key.port]; ok {
		return at
	}
	return defaultAddress(key.port)
}

// open finds a free address: where the port is wanted, or the next that is free on
// both loopbacks. One that may be anywhere comes back to where it was.
func (s *server) open(key portKey) (*port, error) {
	wanted := s.wanted(key)
	if before, ok := s.last[key]; ok && wanted.Port() == 0 {
		if p, err := s.openAt(before, wanted, key); err == nil {
			return p, nil
		}
	}
	var first error
	for at, tries := wanted, 0; tries < maxPortTries; tries++ {
		p, err := s.openAt(at, wanted, key)
		if err == nil {
			if s.last == nil {
				s.last = make(map[portKey]netip.AddrPort)
			}
			s.last[key] = p.published.Host
			return p, nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, syscall.EADDRINUSE) || at.Port() == 65535 {
			break
		}
		if at.Port() != 0 { // any, but free on both families
			at = netip.AddrPortFrom(at.Addr(), at.Port()+1)
		}
	}
	return nil, first
}

// openAt opens an address, and its twin on ::1 if it is 127.0.0.1.
func (s *server) openAt(at, wanted netip.AddrPort, key portKey) (*port, error) {
	p := &port{published: Published{Owner: key.owner, Port: key.port, Wanted: wanted}, moved: make(chan struct{})}
	host, err := p.add(at)
	if err == nil && s.v6 && host.Addr() == loopback4 {
		p.published.Host6, err = p.add(netip.AddrPortFrom(netip.IPv6Loopback(), host.Port()))
	}
	if err != nil {
		p.close()
		return nil, err
	}
	p.published.Host = host
	return p, nil
}

// add opens one more socket.
func (p *port) add(at netip.AddrPort) (netip.AddrPort, error) {
	network := "tcp4"
	if at.Addr().Is6() {
		network = "tcp6"
	}
	l, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return netip.AddrPort{}, err
	}
	p.listeners = append(p.listeners, l)
	host := l.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(host.Addr().Unmap(), host.Port()), nil
}

// release takes a user away. A port without users closes when it has lingered; at once if it
// is given back, or if somebody waits for its address.
func (s *server) release(key portKey, p *port, back bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.users--; p.users > 0 || s.closed || s.ports[key] != p {
		return
	}
	if back || s.waiting(p.published.Host) != nil {
		s.shut(key, p)
		return
	}
	s.wait(key, p)
}

// wait has a port without users linger.
func (s *server) wait(key portKey, p *port) {
	var t *time.Timer
	t = time.AfterFunc(s.o.Linger, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if p.linger == t && p.users == 0 && !s.closed {
			s.shut(key, p)
		}
	})
	p.linger = t
}

// evict closes the port at an address if it only lingers there. The caller holds s.mu.
func (s *server) evict(at netip.AddrPort) {
	for key, p := range s.ports {
		if p.published.Host == at && p.users == 0 {
			s.shut(key, p)
		}
	}
}

// shut closes a port that nobody has, and gives its address to who wants it. The caller
// holds s.mu.
func (s *server) shut(key portKey, p *port) {
	if p.linger != nil {
		p.linger.Stop()
		p.linger = nil
	}
	delete(s.ports, key)
	p.close()
	s.gone(p)
	if other := s.waiting(p.published.Host); other != nil {
		s.move(other)
	}
}

// gone tells that an address is no longer open.
func (s *server) gone(p *port) {
	gone := p.published
	gone.Closed = true
	s.tell(gone)
}

// waiting returns the port in use that is offered elsewhere and wants an address, nil if
// there is none: of several the first by its name.
func (s *server) waiting(at netip.AddrPort) (first *port) {
	for _, p := range s.ports {
		if p.published.Wanted != at || p.published.Host == at || p.users == 0 {
			continue
		}
		if first == nil || p.published.Owner < first.published.Owner {
			first = p
		}
	}
	return first
}

// move opens a port where it is wanted and has its users, whose leases end by that, come
// back for it. If the address is not to be had all stays as it is.
func (s *server) move(old *port) {
	key := portKey{old.published.Owner, old.published.Port}
	p, err := s.openAt(old.published.Wanted, old.published.Wanted, key)
	if err != nil {
		return
	}
	s.ports[key] = p
	s.wait(key, p) // they are on their way
	s.tell(p.published)
	close(old.moved)
	old.close()
	s.gone(old)
	if next := s.waiting(old.published.Host); next != nil {
		s.move(next)
	}
}

func (p *port) close() {
	for _, l := range p.listeners {
		l.Close()
	}
}

// closePorts closes all there is, for good.
func (s *server) closePorts() {
	defer s.sending.Wait() // without the lock; each has a deadline
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, p := range s.ports {
		if p.linger != nil {
			p.linger.Stop()
		}
		p.close()
	}
}

func (s *server) tell(p Published) {
	if s.o.OnPublish != nil {
		s.o.OnPublish(p)
	}
}

// resolverTimeout bounds one question to one resolver.
const resolverTimeout = 2 * time.Second

// resolve asks the host's resolvers in order, over TCP where an answer is too
// long for UDP.
func (s *server) resolve(ctx context.Context, c *net.UnixConn, q request, _ <-chan word) {
	m := new(dns.Msg)
	if err := m.Unpack(q.Query); err != nil {
		_ = answer(c, failed(fmt.Errorf("decode DNS question: %w", err)))
		return
	}
	servers, err := s.resolvers()
	var a *dns.Msg
	for _, server := range servers {
		if a, err = exchange(ctx, m, server); err == nil || ctx.Err() != nil {
			break
		}
	}
	var wire []byte
	if err == nil {
		wire, err = a.Pack()
	}
	if err != nil {
		_ = answer(c, failed(err))
		return
	}
	_ = answer(c, reply{Answer: wire})
}

func exchange(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	udp := &dns.Client{Net: "udp", Timeout: resolverTimeout, UDPSize: 4096}
	a, _, err := udp.ExchangeContext(ctx, m, server)
	if err == nil && a.Truncated {
		tcp := &dns.Client{Net: "tcp", Timeout: resolverTimeout}
		a, _, err = tcp.ExchangeContext(ctx, m, server)
	}
	return a, err
}

// resolvers reads them anew for each question: a laptop changes networks.
func (s *server) resolvers() ([]string, error) {
	var out []string
	for _, r := range s.o.Resolvers {
		out = append(out, r.String())
	}
	if s.o.Resolvers == nil {
		conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return nil, err
		}
		for _, r := range conf.Servers {
			out = append(out, net.JoinHostPort(r, conf.Port))
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the host has no DNS resolver")
	}
	return out[:min(len(out), 3)], nil // as the C library
}
