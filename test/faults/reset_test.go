package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/script/mesh"
)

// A cut is a connection that is reset after so many bytes, of both directions together.
type cut struct {
	net.Conn
	left atomic.Int64
}

func (c *cut) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left.Add(-int64(n)) < 0 {
		reset(c.Conn)
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *cut) Write(b []byte) (int, error) {
	left := c.left.Add(-int64(len(b))) + int64(len(b))
	if left >= int64(len(b)) {
		return c.Conn.Write(b)
	}
	n, _ := c.Conn.Write(b[:max(0, left)])
	reset(c.Conn)
	return n, io.ErrClosedPipe
}

// reset ends a connection as a process does that is killed.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// somewhere is a number of bytes that is as often below a thousand as it is above.
func somewhere() int64 { return int64(math.Exp(rand.Float64() * math.Log(1e6))) }

// cutting makes connections that are cut somewhere.
type cutting struct{ net.Listener }

func (l cutting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newCut(c), nil
}

func newCut(c net.Conn) net.Conn {
	x := &cut{Conn: c}
	x.left.Store(somewhere())
	return x
}

// usage is what a proxy holds.
type usage struct {
	descriptors int
	threads     int64
	goroutines  int64
	memory      int64  // resident bytes of its own: those of its program come and go as the system likes
	most        int64  // resident bytes that there have ever been, those of its program with them
	busy        string // gauges of connections and requests that are not 0
}

var gauge = regexp.MustCompile(`(?m)^(?:cluster|http|listener|tcp)\..*(?:_active|_buffered|total_connections): -?[1-9].*$`)

// holds looks at a proxy.
func holds(t *testing.T, x *hop.Proxy) usage {
	t.Helper()
	var u usage
	dir := fmt.Sprintf("/proc/%d/", x.Cmd.Process.Pid)
	files, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Skip(err)
	}
	u.descriptors = len(files)
	text, err := os.ReadFile(dir + "status")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		for field, to := range map[string]*int64{"RssAnon:": &u.memory, "VmHWM:": &u.most} {
			if v, ok := strings.CutPrefix(l, field); ok {
				_, _ = fmt.Sscan(v, to)
				*to <<= 10
			}
		}
		if v, ok := strings.CutPrefix(l, "Threads:"); ok {
			_, _ = fmt.Sscan(v, &u.threads)
		}
	}
	stats, err := peer.Ask(x.Admin, "/stats")
	if err != nil {
		t.Fatal(err)
	}
	u.goroutines = number(stats, "server.goroutines")
	u.busy = strings.Join(gauge.FindAllString(stats, -1), ", ")
	return u
}

// garbage is how many bytes the collector lets be.
const garbage = 20 << 20

// slack is how many goroutines and descriptors there may be more than before: the admin interface has some while it is asked.
const slack = 5

// number is a statistic in a page of them.
func number(page, name string) (n int64) {
	_, after, _ := strings.Cut("\n"+page, "\n"+name+": ")
	_, _ = fmt.Sscan(after, &n)
	return n
}

// wantBack waits until a proxy holds no more than before.
func wantBack(t *testing.T, x *hop.Proxy, before usage) {
	t.Helper()
	mesh.Until(t, 15*time.Second, "everything is given back", func() error {
		now := holds(t, x)
		if now.busy != "" || now.descriptors > before.descriptors || now.goroutines > before.goroutines+slack || now.memory > before.memory+before.memory/4+garbage/2 {
			return fmt.Errorf("it holds %+v, before %+v", now, before)
		}
		return nil
	})
}

// wantCounted sees the gauges of each hop count a request that is not over: they would stay 0 too if nobody raised them.
func wantCounted(t *testing.T, x *hop.Proxy) {
	t.Helper()
	var up []string
	for name, at := range x.At {
		p := both()
		p.SetUnencryptedHTTP2(false)
		scheme := "http"
		if name == "tls" {
			scheme = "https"
		}
		if strings.HasPrefix(name, "bad") { // might be cut before it is seen
			continue
		}
		tr := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer tr.CloseIdleConnections()
		body, more := io.Pipe()
		defer more.Close()
		go func() {
			resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Post(scheme+"://"+at+"/", "text/plain", body)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			body.CloseWithError(io.ErrClosedPipe)
		}()
		for _, g := range []string{"http.%s.downstream_cx_active", "http.%s.downstream_rq_active", "cluster.%s.upstream_cx_active", "cluster.%s.upstream_rq_active"} {
			up = append(up, fmt.Sprintf(g, name))
		}
	}
	mesh.Until(t, 15*time.Second, "requests are counted that are not over", func() error {
		busy := ", " + holds(t, x).busy
		missing := slices.DeleteFunc(slices.Clone(up), func(g string) bool { return strings.Contains(busy, ", "+g+": 1") })
		if len(missing) > 0 {
			return fmt.Errorf("not 1: %s; what is counted: %s", strings.Join(missing, ", "), busy[2:])
		}
		return nil
	})
}

// A thousand connections of clients and of servers, with and without TLS, in both versions of HTTP, are reset after random
// numbers of bytes. Nothing of them stays.
func TestResetsLeaveNothing(t *testing.T) {
	t.Parallel()
	p := hop.PKI(t)
	serve := func(l net.Listener) string {
		s := &http.Server{Handler: http.HandlerFunc(echo), Protocols: both(), IdleTimeout: 300 * time.Millisecond, ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { s.Close() })
		return l.Addr().String()
	}
	whole, cutOff := hop.Serve(t), hop.Serve(t)
	good, bad := serve(whole), serve(cutting{cutOff})
	x := hop.Malla(t, p,
		hop.Hop{Name: "one", To: good}, hop.Hop{Name: "two", To: good, ToH2: true}, hop.Hop{Name: "tls", To: good, TLS: true},
		hop.Hop{Name: "bad_one", To: bad}, hop.Hop{Name: "bad_two", To: bad, ToH2: true})
	ways := []struct {
		hop, scheme string
		h2, cut     bool
	}{
		{"one", "http", false, true}, {"two", "http", false, true}, {"two", "http", true, true},
		{"tls", "https", false, true}, {"tls", "https", true, true},
		{"bad_one", "http", false, false}, {"bad_one", "http", true, false}, {"bad_two", "http", false, false}, {"bad_two", "http", true, false},
	}
	body := bytes.Repeat([]byte("0123456789"), 10_000)
	one := func(i int) bool {
		w := ways[i%len(ways)]
		pr := new(http.Protocols)
		pr.SetHTTP1(!w.h2)
		pr.SetUnencryptedHTTP2(w.h2 && w.scheme == "http")
		pr.SetHTTP2(w.h2 && w.scheme == "https")
		tr := &http.Transport{Protocols: pr, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil || !w.cut {
				return c, err
			}
			return newCut(c), nil
		}}
		defer tr.CloseIdleConnections()
		client := &http.Client{Transport: tr, Timeout: 20 * time.Second}
		for range 3 { // the same connection may live through some requests
			resp, err := client.Post(w.scheme+"://"+x.At[w.hop]+"/", "text/plain", bytes.NewReader(body[:rand.IntN(len(body))]))
			if err != nil {
				return false
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 {
				return false
			}
		}
		return true
	}
	many := func(n int) (failed int64) {
		var next, bad atomic.Int64
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
					if !one(i) {
						bad.Add(1)
					}
				}
			})
		}
		all.Wait()
		return bad.Load()
	}
	wantCounted(t, x)
	many(300) // so that what is kept for the next connection is there
	mesh.Until(t, 15*time.Second, "the connections end", func() error {
		if u := holds(t, x); u.busy != "" {
			return fmt.Errorf("%s", u.busy)
		}
		return nil
	})
	before := holds(t, x)
	if n := many(1500); n < 1000 {
		t.Errorf("%d of 1500 connections have failed, want a thousand or more", n)
	} else {
		t.Logf("%d of 1500 connections have failed", n)
	}
	wantBack(t, x, before)
}
