package drive

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	named "github.com/mallamesh/malla/base/pipe" // our pipe is a kernel's
)

// A loop connects to itself in turns: who accepts is called when the one who dials has returned, so a listener that
// leads to itself is no recursion.
func TestInside(t *testing.T) {
	m := NewMemory(time.Unix(0, 0))
	client, server := &script{take: 100}, &script{take: 100}
	to := named.Internal("main", "one")
	var other *Conn
	c := m.Loop.Inside(named.Client, to, client, func(c *Conn) {
		other = c
		c.SetHandler(server)
	})
	if other != nil {
		t.Fatal("the other end is accepted before the first is there")
	}
	m.Step()
	c.Write([]byte("ping"))
	m.Step()
	other.Write([]byte("pong"))
	other.CloseWrite()
	m.Step()
	want(t, client, "connect", "data pong", "end")
	want(t, server, "data ping")
	if c.LocalAddr() != named.Client || c.RemoteAddr() != to || other.LocalAddr() != to || other.RemoteAddr().IsValid() {
		t.Errorf("the ends are at %v and %v, %v and %v", c.LocalAddr(), c.RemoteAddr(), other.LocalAddr(), other.RemoteAddr())
	}
}

func TestNobodyInside(t *testing.T) {
	m := NewMemory(time.Unix(0, 0))
	var failed error
	c := m.Loop.Inside(named.Client, named.Internal("nowhere", ""), failing{&script{}, &failed}, nil)
	m.Step()
	if now, ok := errors.AsType[*ImmediateError](failed); !ok || now.Err != syscall.EINVAL || c.Alive() {
		t.Errorf("found %v, want an invalid argument at once", failed)
	}
}

type failing struct {
	*script
	err *error
}

func (f failing) OnConnect(_ *Conn, err error) { *f.err = err }

// The kernel's pair carries more than it holds, both ways.
func TestInsideIsHeldBack(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	const size = 4 << 20
	got := make(chan int, 2)
	text := []byte(strings.Repeat("x", size))
	l.Post(func() {
		a := &counting{size: size, done: got}
		c := l.Inside(named.Client, named.Internal("main", ""), a, func(c *Conn) {
			c.SetHandler(&counting{size: size, done: got})
			c.Write(text)
		})
		c.Write(text)
	})
	go l.Run()
	for range 2 {
		if n := <-got; n != size {
			t.Errorf("%d bytes came, want %d", n, size)
		}
	}
	l.Stop()
}

type counting struct {
	script
	n, size int
	done    chan int
}

func (c *counting) OnData(_ *Conn, b []byte) int {
	if c.n += len(b); c.n >= c.size {
		c.done <- c.n
	}
	return len(b)
}
