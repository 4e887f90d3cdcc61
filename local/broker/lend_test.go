//go:build unix

package broker

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lent returns the client of a pod's socket.
func lent(t *testing.T, from *Client, owner string) *Client {
	t.Helper()
	path := filepath.Join(filepath.Dir(from.path), strings.ReplaceAll(owner, "/", "-"))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Lend(t.Context(), l, from, owner, func() bool { return false }) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Errorf("Lend: %v", err)
		}
	})
	return NewClient(path)
}

func lease(t *testing.T, c *Client, owner string, port uint16) *Lease {
	t.Helper()
	l, err := c.Lease(t.Context(), ListenRequest{Owner: owner, Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A pod says what port it wants; whose port it is was said by who made its
// socket. So another's connections are not to be had.
func TestAPodCannotBeAnother(t *testing.T) {
	port := freePort(t)
	c, _, _ := start(t, Options{Linger: time.Hour})
	gw, thief := lent(t, c, "ns/gw"), lent(t, c, "ns/thief")
	own := lease(t, gw, "", port)
	stolen := lease(t, thief, "ns/gw", port)
	if own.Published.Owner != "ns/gw" || stolen.Published.Owner != "ns/thief" || stolen.Published.Host == own.Published.Host {
		t.Errorf("own %+v, stolen %+v: want two ports of two owners", own.Published, stolen.Published)
	}
	again := lent(t, c, "ns/gw-2")
	if replica := lease(t, lentAs(t, c, again, "ns/gw"), "ns/other", port); replica.Published.Host != own.Published.Host {
		t.Errorf("a replica got %+v, want the port that the first has, %s", replica.Published, own.Published.Host)
	}
	if _, err := thief.Dial(t.Context(), "tcp", own.Published.Host.String()); err == nil || !strings.Contains(err.Error(), `operation "dial", want families or listen`) {
		t.Errorf("a pod dialled past its sidecar: %v", err)
	}
	if v6, err := thief.IPv6(t.Context()); err != nil || v6 != hasLoopback6() {
		t.Errorf("families: %v, %v", v6, err)
	}
	// What the pod's end gives back, the broker hears of.
	own.Close()
	if conn, err := net.Dial("tcp", own.Published.Host.String()); err != nil {
		t.Errorf("the replica's port has gone: %v", err)
	} else {
		conn.Close()
	}
}

// lentAs is another pod of the same owner.
func lentAs(t *testing.T, c, near *Client, owner string) *Client {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: near.path + "-replica", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	go Lend(t.Context(), l, c, owner, func() bool { return false })
	return NewClient(near.path + "-replica")
}

// Who waits at the port of a pod that has no heir waits in vain.
func TestThePortOfAPodWithoutAnHeir(t *testing.T) {
	c, published, _ := start(t, Options{Linger: time.Hour})
	path := c.path + "-last"
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	go Lend(t.Context(), l, c, "ns/last", func() bool { return true })
	own := lease(t, NewClient(path), "", freePort(t))
	<-published
	own.Leave()
	if got := <-published; !got.Closed || got.Host != own.Published.Host {
		t.Errorf("OnPublish heard %+v, want that %s is closed", got, own.Published.Host)
	}
}

// One pod that takes all the ports it can, and opens connections without saying
// what it wants, keeps neither another pod nor the mesh's connections to the
// outside from anything.
func TestOnePodCannotStarveOthers(t *testing.T) {
	c, _, _ := start(t, Options{Publish: anywhere()})
	at := greeter(t, "tcp4", "127.0.0.1:0", "hello")
	greedy, modest := lent(t, c, "ns/greedy"), lent(t, c, "ns/modest")
	for i := range maxPodLeases {
		lease(t, greedy, "", uint16(20000+i))
	}
	if _, err := greedy.Lease(t.Context(), ListenRequest{Owner: "", Port: 21000}); err == nil || !strings.Contains(err.Error(), "under way already") {
		t.Errorf("the greedy pod has more than its %d ports: %v", maxPodLeases, err)
	}
	for range 50 {
		conn, err := net.Dial("unix", greedy.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	lease(t, modest, "", 20000)
	conn, err := c.Dial(t.Context(), "tcp", at.String())
	if got := read(t, conn, err); got != "hello" {
		t.Errorf("a connection to the outside: %s", got)
	}
}

// anywhere lets every port be any of the host's.
func anywhere() map[uint16]netip.AddrPort {
	m := map[uint16]netip.AddrPort{}
	for p := 20000; p < 22000; p++ {
		m[uint16(p)] = netip.AddrPortFrom(loopback4, 0)
	}
	return m
}

// A port is open on both loopbacks at one number, or on neither.
func TestBothLoopbacks(t *testing.T) {
	if !hasLoopback6() {
		t.Skip("this machine has no IPv6")
	}
	busy, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := uint16(busy.Addr().(*net.TCPAddr).Port)
	c, published, _ := start(t, Options{})
	l, p, err := c.Listen(t.Context(), ListenRequest{Owner: "ns/gw", Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go greet(l, "hello")
	if p.Host.Port() <= port || p.Host6 != netip.AddrPortFrom(netip.IPv6Loopback(), p.Host.Port()) {
		t.Errorf("%d is in use on ::1: published %+v, want the next number on both", port, p)
	}
	if got := <-published; got != p {
		t.Errorf("OnPublish heard %+v, want %+v", got, p)
	}
	for _, host := range []string{"127.0.0.1", "::1", "localhost"} {
		conn, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(p.Host.Port())))
		if got := read(t, conn, err); got != "hello" {
			t.Errorf("%s: %s", host, got)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); err != net.ErrClosed {
		t.Errorf("accept after close: %v", err)
	}
}

// Where there is no IPv6, a port is open on 127.0.0.1, and that is all.
func TestWithoutIPv6(t *testing.T) {
	s := &server{ports: map[portKey]*port{}}
	p, err := s.openAt(netip.AddrPortFrom(loopback4, 0), netip.AddrPort{}, portKey{"gw", 80})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if len(p.listeners) != 1 || p.published.Host6.IsValid() {
		t.Errorf("%+v with %d sockets, want 127.0.0.1 only", p.published, len(p.listeners))
	}
}
