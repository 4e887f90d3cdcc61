//go:build unix

package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mesh "github.com/mallamesh/malla/node/dns"
	"github.com/miekg/dns"
)

// start serves and returns a client; published hears of every port.
func start(t *testing.T, o Options) (c *Client, published chan Published, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "broker") // short, for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "b.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	published = make(chan Published, 1000)
	o.OnPublish = func(p Published) { published <- p }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Serve(ctx, l, o) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return NewClient(path), published, stop
}

// greeter answers every connection with its name, until the end of the test.
func greeter(t *testing.T, network, addr, name string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Skipf("this machine has no %s: %v", addr, err)
	}
	t.Cleanup(func() { l.Close() })
	go greet(l, name)
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func greet(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, name)
		c.Close()
	}
}

func read(t *testing.T, c net.Conn, err error) string {
	t.Helper()
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestDial(t *testing.T) {
	c, _, _ := start(t, Options{})
	at := greeter(t, "tcp4", "127.0.0.1:0", "hello")
	for _, addr := range []string{at.String(), fmt.Sprintf("localhost:%d", at.Port()), fmt.Sprintf("%s:%d", Loopback, at.Port())} {
		conn, err := c.Dial(t.Context(), "tcp", addr)
		if got := read(t, conn, err); got != "hello" {
			t.Errorf("%s: %s", addr, got)
		}
	}
	at6 := greeter(t, "tcp6", "[::1]:0", "hello6")
	conn, err := c.Dial(t.Context(), "tcp", fmt.Sprintf("%s:%d", Loopback, at6.Port()))
	if got := read(t, conn, err); got != "hello6" {
		t.Errorf("a server on ::1 only: %s", got)
	}

	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	if _, err := c.Dial(t.Context(), "tcp", free.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v, want ECONNREFUSED inside", err)
	}
	for _, test := range []struct{ network, addr, want string }{
		{"udp", "127.0.0.1:53", "tcp only"},
		{"tcp", "127.0.0.1", "missing port"},
		{"tcp", "", "missing port"},
	} {
		if _, err := c.Dial(t.Context(), test.network, test.addr); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %q: %v, want %q", test.network, test.addr, err, test.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Dial(ctx, "tcp", at.String()); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := NewClient("/nowhere/b.sock").Dial(t.Context(), "tcp", at.String()); err == nil || !strings.Contains(err.Error(), "reach the broker") {
		t.Errorf("no broker: %v", err)
	}
}

// freePort is one that was free a moment ago, at least 1024.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func TestDefaultAddress(t *testing.T) {
	for port, want := range map[uint16]string{80: "127.0.0.1:8080", 443: "127.0.0.1:8443", 1023: "127.0.0.1:9023", 1024: "127.0.0.1:1024", 31400: "127.0.0.1:31400"} {
		if got := defaultAddress(port).String(); got != want {
			t.Errorf("mesh port %d is offered on %s, want %s", port, got, want)
		}
	}
}

func TestListen(t *testing.T) {
	port := freePort(t)
	c, published, _ := start(t, Options{Linger: time.Hour})
	l, p, err := c.Listen(t.Context(), ListenRequest{Owner: "ns/gw", Port: port})
	if err != nil {
		t.Fatal(err)
	}
	if want := defaultAddress(port); p.Host != want || p.Wanted != want || p.Owner != "ns/gw" || p.Port != port {
		t.Errorf("published %+v, want host %s", p, want)
	}
	if got := <-published; got != p {
		t.Errorf("OnPublish heard %+v, want %+v", got, p)
	}
	go greet(l, "one")
	dial := func() string {
		conn, err := net.Dial("tcp", p.Host.String())
		return read(t, conn, err)
	}
	if got := dial(); got != "one" {
		t.Errorf("got %s", got)
	}

	// A replica of the same gateway shares the port; when the first goes, the
	// second has every connection, also those that came between.
	l2, p2, err := c.Listen(t.Context(), ListenRequest{Owner: "ns/gw", Port: port})
	if err != nil || p2.Host != p.Host {
		t.Fatalf("the second replica: %+v, %v", p2, err)
	}
	l.Close()
	early, err := net.Dial("tcp", p.Host.String())
	if err != nil {
		t.Errorf("between two replicas: %v", err)
	}
	go greet(l2, "two")
	if got := read(t, early, err); got != "two" {
		t.Errorf("a connection from between: %s", got)
	}

	// Another gateway that wants the same port gets the next free one.
	l3, p3, err := c.Listen(t.Context(), ListenRequest{Owner: "ns/other", Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer l3.Close()
	if p3.Host.Port() <= port || p3.Wanted.Port() != port {
		t.Errorf("the other gateway: %+v, want the next free port, and the one it wanted", p3)
	}
	if got := <-published; got != p3 {
		t.Errorf("OnPublish heard %+v, want %+v", got, p3)
	}
	if _, _, err := c.Listen(t.Context(), ListenRequest{Owner: "ns/gw", Port: 0}); err == nil {
		t.Error("port 0 was opened")
	}
	l2.Close()
}

// A port outlives its last user for a while, and comes back to the same place.
func TestLinger(t *testing.T) {
	port := freePort(t)
	c, published, stop := start(t, Options{Linger: 30 * time.Millisecond})
	l, p, err := c.Listen(t.Context(), ListenRequest{Owner: "gw", Port: port})
	if err != nil {
		t.Fatal(err)
	}
	<-published
	l.(*joined).end(false)
	if got := <-published; !got.Closed || got.Host != p.Host {
		t.Errorf("OnPublish heard %+v, want that %s is closed", got, p.Host)
	}
	if conn, err := net.Dial("tcp", p.Host.String()); err == nil {
		conn.Close()
		t.Error("the port is still open")
	}
	l, again, err := c.Listen(t.Context(), ListenRequest{Owner: "gw", Port: port})
	if err != nil || again.Host != p.Host {
		t.Errorf("again: %+v, %v, want %s as before", again, err, p.Host)
	}
	defer l.Close()
	stop()
	// The broker's duplicate is closed with it; ours is the last.
	l.Close()
	if conn, err := net.Dial("tcp", p.Host.String()); err == nil {
		conn.Close()
		t.Error("the port is open after the broker ended")
	}
}

func TestPublish(t *testing.T) {
	wanted := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), freePort(t))
	c, _, _ := start(t, Options{Publish: map[uint16]netip.AddrPort{80: wanted, 81: netip.MustParseAddrPort("192.0.2.1:9")}})
	l, p, err := c.Listen(t.Context(), ListenRequest{Owner: "gw", Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if p.Host != wanted {
		t.Errorf("published %s, want %s", p.Host, wanted)
	}
	if _, _, err := c.Listen(t.Context(), ListenRequest{Owner: "gw", Port: 81}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("an address that is not the host's: %v", err)
	}
}

func TestResolve(t *testing.T) {
	s := &mesh.Server{}
	var many []netip.Addr
	for i := range 250 {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	s.SetTable(mesh.NewTable([]string{"test"}, map[string]mesh.Record{"many.test": {Addrs: many}}))
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	go s.ServeUDP(udp)
	go s.ServeTCP(tcp)
	nobody := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	c, _, _ := start(t, Options{Resolvers: []netip.AddrPort{nobody, netip.MustParseAddrPort(udp.LocalAddr().String())}})
	a, err := c.Resolve(t.Context(), new(dns.Msg).SetQuestion("many.test.", dns.TypeA))
	if err != nil || len(a.Answer) != 250 {
		t.Errorf("%v, want 250 answers: from the second resolver, by TCP", err)
	}
	none, _, _ := start(t, Options{Resolvers: []netip.AddrPort{}})
	if _, err := none.Resolve(t.Context(), new(dns.Msg).SetQuestion("a.test.", dns.TypeA)); err == nil || !strings.Contains(err.Error(), "no DNS resolver") {
		t.Errorf("without resolvers: %v", err)
	}
}

// A client that says nonsense, or nothing, harms nobody.
func TestNonsense(t *testing.T) {
	c, _, _ := start(t, Options{})
	at := greeter(t, "tcp4", "127.0.0.1:0", "hello")
	for _, bytes := range []string{"", "\xff\xff\xff\xff", "\x00\x00\x00\x02{]", "\x00\x00\x00\x0d{\"op\":\"nope\"}", "GET / HTTP/1.1\r\n\r\n"} {
		conn, err := net.Dial("unix", c.path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, bytes)
		conn.(*net.UnixConn).CloseWrite()
		io.ReadAll(conn)
		conn.Close()
	}
	conn, err := c.Dial(t.Context(), "tcp", at.String())
	if got := read(t, conn, err); got != "hello" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestManyAtOnce(t *testing.T) {
	c, _, _ := start(t, Options{})
	at := greeter(t, "tcp4", "127.0.0.1:0", "hello")
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			conn, err := c.Dial(t.Context(), "tcp", at.String())
			if got := read(t, conn, err); got != "hello" {
				t.Error(got)
			}
		})
	}
	wg.Wait()
}

// A port that is given back closes at once: nobody would answer there.
func TestGivenBack(t *testing.T) {
	c, published, _ := start(t, Options{Linger: time.Hour})
	pod := lent(t, c, "default/shop")
	for _, from := range []*Client{c, pod} {
		l, err := from.Lease(t.Context(), ListenRequest{Owner: "default/shop", Port: freePort(t)})
		if err != nil {
			t.Fatal(err)
		}
		<-published
		l.Close()
		if got := <-published; !got.Closed || got.Host != l.Published.Host {
			t.Errorf("OnPublish heard %+v, want that %s is closed", got, l.Published.Host)
		}
		if conn, err := net.Dial("tcp", l.Published.Host.String()); err == nil {
			conn.Close()
			t.Error("the port is still open")
		}
	}
}

// Who wanted an address that another had gets it as soon as that is gone, through a pod's
// socket, too.
func TestAPortMovesToWhereItIsWanted(t *testing.T) {
	port := freePort(t)
	c, published, _ := start(t, Options{Linger: time.Hour})
	first := lease(t, c, "ns/first", port)
	pod := lent(t, c, "ns/second")
	second := lease(t, pod, "ns/second", port)
	if <-published; (<-published).Host != second.Published.Host || second.Published.Host == first.Published.Host {
		t.Fatalf("first %+v, second %+v: want two addresses", first.Published, second.Published)
	}
	first.end(false) // as one that dies, whose address is kept if nobody else wants it
	<-second.Lost()
	again := lease(t, pod, "ns/second", port)
	if again.Published.Host != first.Published.Host || again.Published.Wanted != again.Published.Host {
		t.Errorf("asked again, it got %+v, want %s", again.Published, first.Published.Host)
	}
	for _, want := range []Published{{Owner: "ns/first", Host: first.Published.Host, Closed: true}, {Owner: "ns/second", Host: first.Published.Host}, {Owner: "ns/second", Host: second.Published.Host, Closed: true}} {
		if got := <-published; got.Owner != want.Owner || got.Host != want.Host || got.Closed != want.Closed {
			t.Errorf("OnPublish heard %+v, want %+v", got, want)
		}
	}
	second.Close()
	if conn, err := net.Dial("tcp", second.Published.Host.String()); err == nil {
		conn.Close()
		t.Error("the address from before is still open")
	}
	if conn, err := net.Dial("tcp", again.Published.Host.String()); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
}

// An address that only waits for somebody who died goes to who asks for it.
func TestALingeringPortMakesRoom(t *testing.T) {
	port := freePort(t)
	c, _, _ := start(t, Options{Linger: time.Hour})
	dead := lease(t, c, "ns/dead", port)
	dead.end(false)
	for {
		l, err := c.Lease(t.Context(), ListenRequest{Owner: "ns/new", Port: port})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if l.Published.Host == dead.Published.Host {
			return
		}
		<-l.Lost() // it came before the broker knew of the death, and is told
	}
}
