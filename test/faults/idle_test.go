package faults

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/busy"
	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "4") // tests here wait more than they work; -parallel still goes before
	code := m.Run()
	process.Clean()
	os.Exit(code)
}

// A tally counts requests by their end.
type tally struct {
	mu  sync.Mutex
	ok  int
	bad map[string]int
}

func (c *tally) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if what == "" {
		c.ok++
		return
	}
	if c.bad == nil {
		c.bad = map[string]int{}
	}
	c.bad[what]++
}

// answered is how many requests have been.
func (c *tally) answered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ok
}

// ask makes a request and notes its end.
func (c *tally) ask(client *http.Client, method, url string, body []byte) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.GetBody = nil // the client itself sends nothing twice
	resp, err := client.Do(req)
	if err != nil {
		c.note(fmt.Sprintf("%s: %v", method, err))
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		c.note(fmt.Sprintf("%s: %v", method, err))
	case resp.StatusCode != 200:
		c.note(fmt.Sprintf("%s: %s %s", method, resp.Status, text))
	default:
		c.note("")
	}
}

// A punctual listener counts the connections that are closed with a request in them that nobody has read, because the machine
// had no time for the proxy or for the server when it was needed: nobody can know then what has become of the request.
type punctual struct {
	net.Listener
	late atomic.Int64
}

func (p *punctual) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &punctualConn{c.(*net.TCPConn), p}, nil
}

type punctualConn struct {
	*net.TCPConn
	l *punctual
}

func (c *punctualConn) Close() error {
	const before, enough = 250 * time.Millisecond, 50 * time.Millisecond // of the eighth of a second, or more, that the proxy leaves
	if now := time.Now(); c.unread() && busy.Held(now.Add(-before), now) > enough {
		c.l.late.Add(1)
	}
	return c.TCPConn.Close()
}

// unread reports whether something has come that was not read.
func (c *punctualConn) unread() (there bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		n, _, _ := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		there = n > 0
	})
	return there
}

// A server may close connections that nobody uses whenever it likes: no request fails for it, whatever its
// method. Requests come in waves whose distance is the server's own time, so that every connection is used again at just the
// moment at which it is closed.
func TestServersThatCloseIdleConnections(t *testing.T) {
	t.Parallel()
	length := min(*soak, 10*time.Minute) // 200 requests a second
	if testing.Short() {
		length = 6 * time.Second
	}
	for _, idle := range []time.Duration{time.Second, 5 * time.Second} {
		t.Run(idle.String(), func(t *testing.T) {
			t.Parallel()
			l := &punctual{Listener: hop.Serve(t)}
			server := &http.Server{IdleTimeout: idle, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(w, "ok")
			})}
			go func() { _ = server.Serve(l) }()
			defer server.Close()
			x := hop.Malla(t, hop.PKI(t), hop.Hop{Name: "main", To: l.Addr().String(),
				Cluster: "circuit_breakers: {thresholds: [{max_connections: 5000, max_pending_requests: 5000, max_requests: 5000}]}"})
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: new(net.Dialer).DialContext, MaxIdleConnsPerHost: 5000, DisableCompression: true}}
			defer client.CloseIdleConnections()
			var counts tally
			var all sync.WaitGroup
			// The first of its connections shows how long the server keeps one.
			counts.ask(client, "GET", "http://"+x.At["main"]+"/", nil)
			mesh.Until(t, 10*time.Second, "the first connection is closed", func() error {
				if n := x.Stat(t, "cluster.main.upstream_cx_active"); n != 0 {
					return fmt.Errorf("%d are open", n)
				}
				return nil
			})
			wave := int(240 * idle / time.Second / 2) // of which one in eight rests
			ticker := time.NewTicker(idle / 2)
			defer ticker.Stop()
			n := 0
			busy.Record()
			begun := time.Now()
			for end := time.Now().Add(length); time.Now().Before(end); n++ {
				<-ticker.C
				for i := range wave {
					// Half of the connections rest for one distance, half for two: just as long as the server lets them.
					if i%2 == n%2 && i%4 == 0 {
						continue
					}
					method := [...]string{"GET", "POST"}[i%2]
					all.Go(func() { counts.ask(client, method, "http://"+x.At["main"]+"/", []byte("body")) })
				}
			}
			all.Wait()
			t.Logf("%d requests; upstream connections %d", counts.ok, x.Stat(t, "cluster.main.upstream_cx_total"))
			bad := 0
			for what, n := range counts.bad {
				if bad += n; l.late.Load() > 0 {
					t.Logf("%s: %d; %d requests were with a server that had no processor to read them before their time was up", what, n, l.late.Load())
				}
			}
			if bad > int(l.late.Load()) || counts.ok < int(busy.Free(begun, time.Now())/time.Second)*150 { // a busy machine misses some ticks
				t.Errorf("%d requests were answered; failed: %v", counts.ok, counts.bad)
			}
		})
	}
}
