package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/script/mesh"
)

// stalled is how many peers do not move.
const stalled = 500

// A standstill is a kind of client that stops in the middle, or of a client whose server does. It has a connection to the hop's
// listener and returns when that is to end.
type standstill struct {
	hop   string
	stand func(c net.Conn)
}

// 500 peers that do not move, clients and servers, slow nobody else down. A proxy that has none of them is asked in turn, so
// that both feel the same machine. Peers that are turned away come again.
func TestStalledPeersSlowNobody(t *testing.T) {
	t.Parallel()
	flood := raw(t, func(c net.Conn, _ string) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
		_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10)
		endless(c)
	})
	silent := accepting(t, unread)
	windowless := accepting(t, func(c net.Conn) { // takes requests, and nothing of their bodies
		_ = http2.NewFramer(c, nil).WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		drain(c)
	})
	hops := []hop.Hop{
		{Name: "flood", To: flood, Cluster: unlimited}, {Name: "silent", To: silent, Cluster: unlimited},
		{Name: "silent2", To: silent, ToH2: true, Cluster: unlimited}, {Name: "windowless", To: windowless, ToH2: true, Cluster: unlimited},
		{Name: "handshake", To: silent, ToTLS: true, Cluster: unlimited}, {Name: "tls", To: flood, TLS: true, Cluster: unlimited},
	}
	for _, test := range []struct {
		name  string
		kinds []standstill
	}{
		{"HTTP1", []standstill{
			{"silent", says("GET / HTTP/1.1\r\nhost: x\r\n\r\n", wait)},
			{"flood", says("GET / HTTP/1.1\r\nhost: x\r\n\r\n", unread)},
			{"flood", says("GET / HTTP/1.1\r\nhost: x\r\n\r\n", byteASecond)},
			{"silent", says("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n0123", wait)},
			{"silent", says("GET / HTTP/1.1\r\nhos", wait)},
			{"silent", says("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n", endless)},
		}},
		{"HTTP2", []standstill{
			{"flood", says2(0, "GET", http2.FlagHeadersEndStream|http2.FlagHeadersEndHeaders, drain)},
			{"flood", says2(1<<30, "GET", http2.FlagHeadersEndStream|http2.FlagHeadersEndHeaders, unread)},
			{"flood", says2(1<<30, "GET", http2.FlagHeadersEndStream|http2.FlagHeadersEndHeaders, byteASecond)},
			{"silent", says2(1<<16, "POST", http2.FlagHeadersEndHeaders, drain)},
			{"silent", says2(1<<16, "POST", 0, drain)}, // the header block goes on, but nothing comes
			{"silent2", says2(1<<16, "GET", http2.FlagHeadersEndStream|http2.FlagHeadersEndHeaders, drain)},
			{"windowless", says2(1<<16, "POST", http2.FlagHeadersEndHeaders, bodyAsAllowed)},
			{"windowless", says("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n", endless)},
		}},
		{"TLS", []standstill{
			{"tls", wait},
			{"tls", says("\x16\x03\x01\x02\x00\x01", wait)}, // a ClientHello begins
			{"tls", says(clientHello(), wait)},
			{"tls", func(c net.Conn) {
				says("GET / HTTP/1.1\r\nhost: x\r\n\r\n", func(net.Conn) { wait(deaf{c}) })(tls.Client(c, insecure))
			}},
			{"handshake", says("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", wait)},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			good, _ := echoServer(t)
			p, all := hop.PKI(t), append([]hop.Hop{{Name: "good", To: good}}, hops...)
			x, control := hop.Malla(t, p, all...), hop.Malla(t, p, all...)
			ctx, stop := context.WithCancel(t.Context())
			var peers sync.WaitGroup
			defer peers.Wait()
			defer stop()
			for i := range stalled {
				k := test.kinds[i%len(test.kinds)]
				peers.Go(func() { standAgain(ctx, x.At[k.hop], k.stand) })
			}
			mesh.Until(t, 30*time.Second, "500 peers stand still", func() error {
				there, moved := standing(t, x)
				pause(300 * time.Millisecond)
				now, then := standing(t, x)
				if moved = then - moved; there < stalled*9/10 || now < stalled*9/10 || moved > 100<<10 {
					return fmt.Errorf("%d are there, and %d bytes moved", now, moved)
				}
				return nil
			})
			wantAsFast(t, x, control)
			if there, _ := standing(t, x); there < stalled*9/10 {
				t.Errorf("%d peers are there at the end", there)
			}
			if u := holds(t, x); u.memory > 800<<20 {
				t.Errorf("the proxy holds %d MB for 500 stalled peers", u.memory>>20)
			} else {
				t.Logf("the proxy holds %d MB", u.memory>>20)
			}
		})
	}
}

const unlimited = "circuit_breakers: {thresholds: [{max_connections: 5000, max_pending_requests: 5000, max_requests: 5000}]}"

var insecure = &tls.Config{InsecureSkipVerify: true}

// standing is how many clients there are besides those of good, and how many bytes have come from them and their servers.
func standing(t *testing.T, x *hop.Proxy) (clients, moved int64) {
	t.Helper()
	for name := range x.At {
		if name != "good" {
			clients += x.Stat(t, "listener."+strings.ReplaceAll(x.At[name], ":", "_")+".downstream_cx_active")
			moved += x.Stat(t, "cluster."+name+".upstream_cx_rx_bytes_total") + max(0, x.Stat(t, "http."+name+".downstream_cx_rx_bytes_total"))
		}
	}
	return clients, moved
}

// standAgain has a peer stand still until the context ends, by another connection when one has ended.
func standAgain(ctx context.Context, address string, stand func(net.Conn)) {
	for ctx.Err() == nil {
		c, err := net.Dial("tcp", address)
		if err != nil {
			pause(100 * time.Millisecond)
			continue
		}
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10) // or the systems hold gigabytes of what nobody takes
		end := context.AfterFunc(ctx, func() { c.Close() })
		stand(c)
		end()
		c.Close()
		select { // who is turned away at once is no crowd
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// accepting has f serve every connection, until the test ends.
func accepting(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, over := hop.Serve(t), make(chan struct{})
	t.Cleanup(func() { close(over) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				<-over
				c.Close()
			}()
			go f(c)
		}
	}()
	return l.Addr().String()
}

// clientHello is the first that a client of TLS says.
func clientHello() string {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() { _ = tls.Client(a, insecure).Handshake() }()
	hello := make([]byte, 16<<10)
	n, _ := b.Read(hello)
	return string(hello[:n])
}

// says sends a text first.
func says(text string, then func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := io.WriteString(c, text); err == nil {
			then(c)
		}
	}
}

// says2 begins a connection of HTTP/2 that gives each stream such a window, and on it a request.
func says2(window uint32, method string, flags http2.Flags, then func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		var block, b bytes.Buffer
		e := hpack.NewEncoder(&block)
		for _, f := range [][2]string{{":method", method}, {":scheme", "http"}, {":path", "/"}, {":authority", "x"}} {
			_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		b.WriteString(http2.ClientPreface)
		f := http2.NewFramer(&b, nil)
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
		_ = f.WriteWindowUpdate(0, 1<<30)
		_ = f.WriteRawFrame(http2.FrameHeaders, flags, 1, block.Bytes())
		says(b.String(), then)(c)
	}
}

// bodyAsAllowed sends as much of a body as the first windows allow.
func bodyAsAllowed(c net.Conn) {
	f := http2.NewFramer(c, nil)
	for range 6 {
		_ = f.WriteData(1, false, make([]byte, 10_000))
	}
	drain(c)
}

// drain takes all that comes, until the end.
func drain(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// wait is for who is told nothing: it ends with the connection.
func wait(c net.Conn) { drain(c) }

// unread leaves what comes untaken.
func unread(c net.Conn) { wait(deaf{c}) }

// endless writes for as long as it is taken.
func endless(c net.Conn) {
	for piece := make([]byte, 64<<10); ; {
		if _, err := c.Write(piece); err != nil {
			return
		}
	}
}

// byteASecond takes a byte a second.
func byteASecond(c net.Conn) {
	for b := make([]byte, 1); ; pause(time.Second) {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

// A deaf connection takes nothing off the wire. A read returns when the connection is closed here.
type deaf struct{ net.Conn }

func (d deaf) Read([]byte) (int, error) {
	for {
		pause(500 * time.Millisecond)
		if d.SetDeadline(time.Time{}) != nil {
			return 0, net.ErrClosed
		}
	}
}

// wantAsFast asks both proxies, until x is about as fast as the control. What else the machine does spoils some rounds, so
// the median of all of them counts: the more there are, the less it owes to chance. Of 320 it is nearer than a twentieth to the truth.
func wantAsFast(t *testing.T, x, control *hop.Proxy) {
	t.Helper()
	rounds, most := 20, 16
	if testing.Short() {
		rounds = 10
	}
	var with, without []time.Duration
	for try := 1; ; try++ {
		for range rounds {
			a, b, err := compare(t.Context(), 400, x.At["good"], control.At["good"])
			if err != nil {
				t.Fatal(err)
			}
			with, without = append(with, a), append(without, b)
		}
		a, b := mesh.Median(with), mesh.Median(without)
		t.Logf("99 of 100 requests take at most %v with, %v without", a, b)
		if a <= b*12/10 {
			return
		}
		if try == most {
			t.Errorf("99 of 100 requests take at most %v with stalled peers, %v without, want 1.2 times that at most", a, b)
			return
		}
	}
}

// compare asks each of two proxies n times, in turn, by eight clients, and returns the time in which 99 of 100 requests were answered by each.
func compare(ctx context.Context, n int, addresses ...string) (first, second time.Duration, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	took := make([][]time.Duration, 2)
	for c := range 8 {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			for i := range n / 8 * len(addresses) {
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addresses[(i+c)%2]+"/", nil)
				begun := time.Now()
				resp, e := client.Do(req)
				if e == nil {
					_, e = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				mu.Lock()
				took[(i+c)%2] = append(took[(i+c)%2], time.Since(begun))
				err = errors.Join(err, e)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for i := range took {
		slices.Sort(took[i])
	}
	return took[0][len(took[0])*99/100], took[1][len(took[1])*99/100], err
}
