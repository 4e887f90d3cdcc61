package proxy

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// Connections that do nothing, or that do not take their answers, do not keep a probe out, however many they are; and no
// more of them are open than there may be.
func TestACrowdKeepsNobodyOut(t *testing.T) {
	for name, request := range map[string]string{
		"idle":              "",
		"half a request":    "GET / HTTP/1.1\r\nHo",
		"answered":          "GET /ready HTTP/1.1\r\nHost: a\r\n\r\n",
		"takes no answer":   "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"sends half a body": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := make(pipes)
				s := httpServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/ready" {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = w.Write(make([]byte, 1<<20))
				}), slog.New(slog.DiscardHandler))
				go s.Serve(l)
				var open atomic.Int32
				dial := func() net.Conn {
					here, there := net.Pipe()
					l <- counted{there, &open, new(sync.Once)}
					open.Add(1)
					return here
				}
				for range ownCrowd() + 20 {
					c := dial()
					if request != "" {
						_, _ = c.Write([]byte(request))
					}
					if name == "answered" {
						_, _ = http.ReadResponse(bufio.NewReader(c), nil)
					}
					synctest.Wait()
				}
				probe := dial()
				_, _ = probe.Write([]byte("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"))
				if res, err := http.ReadResponse(bufio.NewReader(probe), nil); err != nil || res.StatusCode != 200 {
					t.Errorf("the probe hears %v, %v", res, err)
				}
				synctest.Wait()
				if n := open.Load(); n > int32(ownCrowd()) {
					t.Errorf("%d connections are open, want %d", n, ownCrowd())
				}
				close(l)
				_ = s.Close()
			})
		})
	}
}

// A counted connection says when it is closed.
type counted struct {
	net.Conn
	open *atomic.Int32
	once *sync.Once
}

func (c counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}
