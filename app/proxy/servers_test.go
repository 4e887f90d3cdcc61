package proxy

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are pipes.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// Who asks and then neither sends nor takes holds a handler of the proxy's own ports for a minute, not for ever.
func TestAStalledClientIsLeft(t *testing.T) {
	for name, request := range map[string]string{
		"takes nothing":      "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"sends half a body":  "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
		"ends in its fields": "GET / HTTP/1.1\r\nHost: a\r\nX: ",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := make(pipes, 1)
				s := httpServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = w.Write(make([]byte, 1<<20))
				}), slog.New(slog.DiscardHandler))
				go s.Serve(l)
				here, there := net.Pipe()
				l <- there
				if _, err := here.Write([]byte(request)); err != nil {
					t.Fatal(err)
				}
				from := time.Now()
				for waited := time.Duration(0); ; waited = time.Since(from) {
					if waited > 3*time.Minute {
						t.Fatal("the connection is still there after three minutes")
					}
					time.Sleep(10 * time.Second)
					if _, err := here.Write([]byte("x")); err != nil {
						break // it has been closed
					}
				}
				close(l)
				_ = s.Close()
			})
		})
	}
}
