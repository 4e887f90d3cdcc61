package drive

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mallamesh/malla/pki"
)

var (
	shakeClient = netip.MustParseAddrPort("10.0.0.1:1000")
	shakeServer = netip.MustParseAddrPort("10.0.0.2:443")
)

// serverTLS is a server that accepts everybody and asks verify, which may be nil.
func serverTLS(t *testing.T, verify func() error) *tls.Config {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewCA("cluster.local", now)
	if err != nil {
		t.Fatal(err)
	}
	key, chain, err := ca.Serve(pki.ID{TrustDomain: "cluster.local", Namespace: "n", Account: "a"}, []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{chain[0].Raw}, PrivateKey: key, Leaf: chain[0]}}, SessionTicketsDisabled: true}
	if verify != nil {
		c.VerifyConnection = func(tls.ConnectionState) error { return verify() }
	}
	return c
}

// A meeting is two connections of one loop that shake hands with each other.
type meeting struct {
	*Memory
	client, server *Conn
	heard          script // by the server
	outcome        error  // at the server
	over           bool
}

func meet(t *testing.T, m *Memory, config func(*Conn) *tls.Config) *meeting {
	t.Helper()
	x := &meeting{Memory: m}
	m.Join(shakeServer, func(c *Conn) {
		x.server = c
		c.SetHandler(&x.heard)
		c.StartTLS(true, config(c), time.Minute, func(_ *Conn, err error) { x.outcome, x.over = err, true })
	})
	x.client = m.Loop.Dial(Dial{Addr: shakeServer}, &script{})
	x.client.StartTLS(false, &tls.Config{InsecureSkipVerify: true}, time.Minute, func(c *Conn, err error) {
		if err == nil {
			c.Write([]byte("hello"))
		}
	})
	return x
}

func TestHandshake(t *testing.T) {
	config := serverTLS(t, nil)
	synctest.Test(t, func(t *testing.T) { // which fails if a coroutine outlives it
		m := NewMemory(time.Now())
		for range 5 {
			x := meet(t, m, func(*Conn) *tls.Config { return config })
			m.Step()
			if !x.over || x.outcome != nil {
				t.Fatalf("handshake over: %v, with %v", x.over, x.outcome)
			}
			want(t, &x.heard, "data hello")
			if x.server.TLS().Version != tls.VersionTLS13 {
				t.Errorf("version %#x", x.server.TLS().Version)
			}
		}
	})
}

func TestStacksAreKept(t *testing.T) {
	config := serverTLS(t, nil)
	m := NewMemory(time.Now())
	m.Loop.keepFibers = spareFibers
	for range 10 {
		meet(t, m, func(*Conn) *tls.Config { return config })
	}
	m.Step()
	if n := len(m.Loop.fibers); n != spareFibers {
		t.Errorf("%d stacks are kept, want %d", n, spareFibers)
	}
	m.Loop.finish()
}

// However many want to shake hands, a turn computes no more than one step of one of them.
func TestTurnGivesOneHandshakeOneStep(t *testing.T) {
	config := serverTLS(t, nil)
	m := NewMemory(time.Now())
	var all []*meeting
	for range 8 {
		all = append(all, meet(t, m, func(*Conn) *tls.Config { return config }))
	}
	ended := func() (n int) {
		for _, x := range all {
			if x.over {
				n++
			}
		}
		return n
	}
	for before := 0; before < len(all); {
		m.back.wait(0)
		m.Loop.turn()
		now := ended()
		if now > before+1 {
			t.Fatalf("%d handshakes ended in one turn", now-before)
		}
		before = now
	}
}

func TestHandshakeAside(t *testing.T) {
	started, finish := make(chan bool), make(chan bool)
	refused := errors.New("refused")
	var served *Conn
	m := NewMemory(time.Now())
	config := serverTLS(t, func() (err error) {
		served.Aside(func() {
			started <- true
			<-finish
			err = refused
		})
		return err
	})
	x := meet(t, m, func(c *Conn) *tls.Config { served = c; return config })
	other := &script{}
	p := m.Accept(shakeClient, shakeServer, func(c *Conn) { c.SetHandler(other) })
	turns := func() {
		for range 10 {
			m.back.wait(0)
			m.Loop.turn()
		}
	}
	turns()
	<-started
	p.WriteString("x")
	turns()
	want(t, other, "data x") // served while the handshake waits
	if x.over {
		t.Error("the handshake did not wait")
	}
	close(finish)
	m.Step()
	if !errors.Is(x.outcome, refused) {
		t.Errorf("outcome %v, want what was found aside", x.outcome)
	}
}

func TestHandshakeEndsWithItsConnection(t *testing.T) {
	finish := make(chan bool)
	var served *Conn
	waited := true
	m := NewMemory(time.Now())
	config := serverTLS(t, func() error {
		waited = served.Aside(func() { <-finish })
		return nil
	})
	x := meet(t, m, func(c *Conn) *tls.Config { served = c; return config })
	for range 10 {
		m.back.wait(0)
		m.Loop.turn()
	}
	served.Abort()
	close(finish)
	m.Step()
	if waited || x.over {
		t.Errorf("the callback heard %v, ready was called: %v; want false and no", waited, x.over)
	}
	if m.Loop.asides != 0 || len(m.Loop.shaking) != 0 {
		t.Error("something of the handshake is left")
	}
}

func TestHandshakeTimesOut(t *testing.T) {
	config := serverTLS(t, nil)
	m := NewMemory(time.Now())
	for _, sent := range []string{"", "\x16\x03\x01\x00\xff"} {
		var got error
		p := m.Accept(shakeClient, shakeServer, func(c *Conn) {
			c.SetHandler(&script{})
			c.StartTLS(true, config, time.Second, func(c *Conn, err error) { got = err; c.Close() })
		})
		p.WriteString(sent)
		m.Advance(2 * time.Second)
		if !errors.Is(got, ErrHandshakeTimeout) || !p.Closed {
			t.Errorf("after %q: %v, closed: %v", sent, got, p.Closed)
		}
	}
}
