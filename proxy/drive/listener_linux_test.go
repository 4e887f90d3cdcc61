package drive

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

func listening(t *testing.T) *Socket {
	t.Helper()
	s, err := Bind(netip.MustParseAddrPort("127.0.0.1:0"), BindOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func knock(t *testing.T, s *Socket) {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
}

// Loops that accept from one socket have as many connections, whoever the system wakes for them.
func TestLoopsShareConnections(t *testing.T) {
	const all = 60
	s := listening(t)
	var got [3]atomic.Int32
	come := make(chan struct{}, all)
	for i := range got {
		l, err := New()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Listen(s, func(*Conn) {
			got[i].Add(1)
			come <- struct{}{}
		}); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			l.Run()
			close(done)
		}()
		t.Cleanup(func() {
			l.Stop()
			<-done
		})
	}
	for range all {
		knock(t, s)
	}
	for range all {
		select {
		case <-come:
		case <-time.After(10 * time.Second):
			t.Fatal("a connection has got lost")
		}
	}
	for i := range got {
		if n := int(got[i].Load()); n < all/len(got)-4 || n > all/len(got)+4 {
			t.Errorf("loop %d has %d of %d connections, want about %d", i, n, all, all/len(got))
		}
	}
}

// A connection on its way to another loop is served there although its listener is closed by then: by who listens in its
// place, or else by the old one.
func TestConnectionsOnTheirWay(t *testing.T) {
	for _, replaced := range []bool{true, false} {
		s := listening(t)
		busy, calm := newLoops(t)
		busy.load.Add(5)
		var old, successor int
		if _, err := busy.Listen(s, func(*Conn) { t.Error("the busier loop keeps the connection") }); err != nil {
			t.Fatal(err)
		}
		ln, err := calm.Listen(s, func(*Conn) { old++ })
		if err != nil {
			t.Fatal(err)
		}
		knock(t, s)
		busy.back.wait(10 * time.Second)
		busy.turn()
		ln.Close()
		if replaced {
			if _, err := calm.Listen(s, func(*Conn) { successor++ }); err != nil {
				t.Fatal(err)
			}
		}
		calm.back.wait(0)
		calm.turn()
		if want := map[bool][2]int{true: {0, 1}, false: {1, 0}}[replaced]; [2]int{old, successor} != want {
			t.Errorf("replaced %t: old and new listener got %d and %d connections, want %v", replaced, old, successor, want)
		}
		if n := calm.load.Load(); n != 1 {
			t.Errorf("the load is %d, want 1", n)
		}
	}
}

// A loop that has enough is given nothing.
func TestPausedListenersAreGivenNothing(t *testing.T) {
	s := listening(t)
	busy, calm := newLoops(t)
	busy.load.Add(5)
	kept := 0
	if _, err := busy.Listen(s, func(*Conn) { kept++ }); err != nil {
		t.Fatal(err)
	}
	ln, err := calm.Listen(s, func(*Conn) { t.Error("a paused listener is given a connection") })
	if err != nil {
		t.Fatal(err)
	}
	ln.Pause(true)
	knock(t, s)
	busy.back.wait(10 * time.Second)
	busy.turn()
	if kept != 1 {
		t.Errorf("the other loop has %d connections, want 1", kept)
	}
}

func newLoops(t *testing.T) (a, b *Loop) {
	t.Helper()
	a, err := New()
	if err == nil {
		b, err = New()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.finish)
	t.Cleanup(b.finish)
	return a, b
}
