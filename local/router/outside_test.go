//go:build linux

package router

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// spliced returns the two far ends of a splice, and a channel that closes with it.
func spliced(t *testing.T, idle time.Duration) (app, server *net.TCPConn, done chan struct{}) {
	app, a := tcpPair(t)
	b, server := tcpPair(t)
	done = make(chan struct{})
	go func() { splice(a, b, idle); close(done) }()
	return app, server, done
}

// The end of one direction is passed on and the other goes on.
func TestSpliceHalfClose(t *testing.T) {
	app, server, done := spliced(t, time.Minute)
	request, answer := bytes.Repeat([]byte("request "), 1<<18), bytes.Repeat([]byte("answer "), 1<<18)
	go func() {
		app.Write(request)
		app.CloseWrite()
	}()
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, request) {
		t.Fatalf("the server got %d bytes, %v; want %d", len(got), err, len(request))
	}
	go func() {
		server.Write(answer)
		server.Close()
	}()
	got, err = io.ReadAll(app)
	if err != nil || !bytes.Equal(got, answer) {
		t.Fatalf("the application got %d bytes, %v; want %d", len(got), err, len(answer))
	}
	<-done
}

// A reset on one side is a reset on the other, not an orderly end: a cut
// answer must not look whole.
func TestSpliceReset(t *testing.T) {
	app, server, done := spliced(t, time.Minute)
	server.Write([]byte("half an ans"))
	io.ReadFull(app, make([]byte, 11))
	server.SetLinger(0)
	server.Close()
	if _, err := io.ReadAll(app); err == nil {
		t.Error("the application saw an orderly end")
	}
	<-done
}

// inMemory is an end whose other end is in this process, so that a test's clock is its clock.
type inMemory struct{ net.Conn }

func (e inMemory) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{e.Conn}, r)
}
func (e inMemory) CloseWrite() error   { return e.Close() }
func (e inMemory) SetLinger(int) error { return nil }

func TestSpliceIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, a := net.Pipe()
		b, server := net.Pipe()
		ended := false
		go func() {
			splice(inMemory{a}, inMemory{b}, time.Hour)
			ended = true
		}()
		go io.Copy(io.Discard, app)
		// Traffic in one direction keeps both.
		for range 20 {
			if _, err := server.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour - time.Second)
		}
		synctest.Wait()
		if ended {
			t.Fatal("a connection with traffic was ended as idle")
		}
		time.Sleep(time.Hour/2 + time.Second)
		synctest.Wait()
		if !ended {
			t.Error("an idle connection was not ended")
		}
	})
}

func TestTarget(t *testing.T) {
	for in, want := range map[string]string{
		"10.96.255.254:80":               "host.malla.internal:80",
		"[fd00:6d61:6c6c:2::f:fffe]:443": "host.malla.internal:443",
		"192.0.2.1:80":                   "192.0.2.1:80",
		"[2001:db8::1]:80":               "[2001:db8::1]:80",
	} {
		if got := target(netip.MustParseAddrPort(in)); got != want {
			t.Errorf("a connection to %s is dialled as %s, want %s", in, got, want)
		}
	}
}

// Addresses of one kind are never those of another.
func TestAddressesAreApart(t *testing.T) {
	for _, list := range [][]netip.Addr{KubernetesIPs, DNSIPs, HostIPs} {
		for i, a := range list {
			if p := []netip.Prefix{ServiceCIDR4, ServiceCIDR6}[i]; !p.Contains(a) {
				t.Errorf("%s is not in %s", a, p)
			}
		}
	}
	if ServiceCIDR4.Overlaps(PodCIDR4) || ServiceCIDR6.Overlaps(PodCIDR6) {
		t.Error("pods and services overlap")
	}
	if PodCIDR4.Contains(gateway4) || ServiceCIDR4.Contains(gateway4) {
		t.Error("the gateway is a pod or a service")
	}
}
