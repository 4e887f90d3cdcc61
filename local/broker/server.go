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
	last   map[portKey]netip.AddrPort // where a port was before
	closed bool
}

type portKey struct {
	owner string
	port  uint16
}

// A port is open on the host.
type port struct {
	published Published
	listeners []*net.TCPListener
	files     []*os.File // what clients get copies of
	users     int
	linger    *time.Timer // runs when there are no users
}

func answer(c *net.UnixConn, r reply, files ...*os.File) error {
	c.SetWriteDeadline(time.Now().Add(requestTimeout))
	return fdmsg.Write(c, r, files...)
}

func (s *server) families(_ context.Context, c *net.UnixConn, _ request, _ <-chan struct{}) {
	_ = answer(c, reply{IPv6: s.v6})
}

func (s *server) dial(ctx context.Context, c *net.UnixConn, q request, _ <-chan struct{}) {
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

// listen lends a port until the client goes.
func (s *server) listen(_ context.Context, c *net.UnixConn, q request, gone <-chan struct{}) {
	key := portKey{q.Owner, q.Port}
	p, err := s.acquire(key)
	if err != nil {
		_ = answer(c, failed(err))
		return
	}
	defer s.release(key, p, q.Brief)
	if err := answer(c, reply{Published: p.published}, p.files...); err != nil {
		return
	}
	<-gone
}

func (s *server) acquire(key portKey) (*port, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if p := s.ports[key]; p != nil {
		p.users++
		if p.linger != nil {
			p.linger.Stop()
			p.linger = nil
		}
		return p, nil
	}
	if key.port == 0 {
		return nil, errors.New("port 0, want 1 to 65535")
	}
	p, err := s.open(key)
	if err != nil {
		return nil, err
	}
	p.users = 1
	s.ports[key] = p
	s.tell(p.published)
	return p, nil
}

// open finds a free address: where the port was before, where it is wanted, or
// the next that is free on both loopbacks.
func (s *server) open(key portKey) (*port, error) {
	wanted, ok := s.o.Publish[key.port]
	if !ok {
		wanted = defaultAddress(key.port)
	}
	if before, ok := s.last[key]; ok {
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
	p := &port{published: Published{Owner: key.owner, Port: key.port, Wanted: wanted}}
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
	f, err := l.File()
	if err != nil {
		return netip.AddrPort{}, err
	}
	p.files = append(p.files, f)
	host := l.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(host.Addr().Unmap(), host.Port()), nil
}

// release takes a user away; a port without users closes when it has lingered, or at once.
func (s *server) release(key portKey, p *port, brief bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.users--; p.users > 0 || s.closed {
		return
	}
	if brief {
		s.shut(key, p)
		return
	}
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

// shut closes a port that nobody has. The caller holds s.mu.
func (s *server) shut(key portKey, p *port) {
	delete(s.ports, key)
	p.close()
	gone := p.published
	gone.Closed = true
	s.tell(gone)
}

func (p *port) close() {
	for _, l := range p.listeners {
		l.Close()
	}
	closeFiles(p.files)
}

func (s *server) closePorts() {
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
func (s *server) resolve(ctx context.Context, c *net.UnixConn, q request, _ <-chan struct{}) {
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
