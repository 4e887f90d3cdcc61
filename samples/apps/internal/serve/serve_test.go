package serve

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are pipes, for fake time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.done:
		return nil, errors.New("connection refused")
	}
}

func ask(c net.Conn) (*http.Response, error) {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(c), nil)
}

// Whoever asks in the second after the stop is still answered, and told to
// close; after it nobody is.
func TestHTTPDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- HTTPOn(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})) }()
		c, err := l.dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if res, err := ask(c); err != nil || res.Close {
			t.Errorf("while running: %v, %v; want an answer that keeps the connection", res, err)
		}
		stop()
		time.Sleep(Drain / 2)
		if res, err := ask(c); err != nil || !res.Close {
			t.Errorf("an old connection while draining: %v, %v; want an answer with Connection: close", res, err)
		}
		fresh, err := l.dial()
		if err != nil {
			t.Fatalf("a new connection while draining: %v", err)
		}
		defer fresh.Close()
		if res, err := ask(fresh); err != nil || !res.Close {
			t.Errorf("a new connection while draining: %v, %v", res, err)
		}
		time.Sleep(Drain)
		synctest.Wait()
		if _, err := l.dial(); err == nil {
			t.Error("after the drain a connection is accepted")
		}
		if err := <-done; err != nil {
			t.Errorf("the server ends with %v", err)
		}
	})
}

func TestTCPDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- TCP(ctx, l, func(_ context.Context, c net.Conn) { _, _ = io.Copy(c, c) })
		}()
		c, err := l.dial()
		if err != nil {
			t.Fatal(err)
		}
		stop()
		time.Sleep(Drain / 2)
		buf := make([]byte, 2)
		if _, err := c.Write([]byte("hi")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hi" {
			t.Errorf("while draining the echo is %q, %v", buf, err)
		}
		time.Sleep(Drain)
		if err := <-done; err != nil {
			t.Errorf("the server ends with %v", err)
		}
		if _, err := c.Read(buf); err == nil {
			t.Error("after the drain the connection is open")
		}
	})
}

func TestPort(t *testing.T) {
	for v, want := range map[string]string{"": "80", "8080": "8080", "tcp://10.96.3.4:5000": "5000", "tcp://[fd00::1]:5000": "5000"} {
		if got := Port(func(string) string { return v }, "PROVIDER_PORT", "80"); got != want {
			t.Errorf("Port of %q = %s, want %s", v, got, want)
		}
	}
}
