package h2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/mallamesh/malla/proxy/header"
)

// A wire drives one end over a net.Conn, as a driver would: a reader, and a writer so that neither waits for the other.
type wire struct {
	mu   sync.Mutex
	cond *sync.Cond
	d    *side
	nc   net.Conn
	done bool
	err  error
}

func newWire(d *side, nc net.Conn) *wire {
	w := &wire{d: d, nc: nc}
	w.cond = sync.NewCond(&w.mu)
	d.quiet = true
	d.out.mark = 64 << 10
	go w.read()
	go w.write()
	return w
}

// do runs f as one turn of the loop.
func (w *wire) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	for w.d.onHeld {
		w.d.onHeld = false
		w.d.c.Deliver()
	}
	w.cond.Broadcast()
}

func (w *wire) read() {
	var have []byte
	buf := make([]byte, 20000)
	for {
		n, err := w.nc.Read(buf)
		have = append(have, buf[:n]...)
		w.do(func() {
			used, bad := w.d.c.Feed(have)
			have = append(have[:0], have[used:]...)
			if err != nil && bad == nil {
				w.d.c.Close()
			}
			if w.done = err != nil || bad != nil; w.done {
				w.err = bad
			}
		})
		if err != nil || w.done {
			return
		}
	}
}

func (w *wire) write() {
	for {
		w.mu.Lock()
		for len(w.d.out.b) == 0 && !w.done {
			w.cond.Wait()
		}
		b := append([]byte(nil), w.d.out.b...)
		w.d.out.b = w.d.out.b[:0]
		w.mu.Unlock()
		if len(b) == 0 {
			w.nc.Close()
			return
		}
		if _, err := w.nc.Write(b); err != nil {
			return
		}
		w.do(w.d.c.OnDrained)
	}
}

// unencrypted speaks HTTP/2 with prior knowledge.
func unencrypted() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// oneConn is a listener that has one connection to give.
type oneConn struct{ c net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.c; c != nil {
		l.c = nil
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// echo answers a request with its body, its trailers, and how it was asked.
func echo(f *flow) {
	started := false
	start := func(end bool) {
		if started {
			return
		}
		started = true
		m := new(header.Map)
		m.Add(header.Status, []byte("200"))
		m.AddNameCopy([]byte("x-asked"), []byte(string(f.headers.Get(header.Method))+" "+string(f.headers.Get(header.Path))))
		f.s.SendHeaders(m, end)
	}
	f.onData = func(f *flow, b []byte, end bool) {
		start(false)
		f.s.SendData(b, end)
		if !end && f.s.Full() {
			f.s.Pause()
		}
	}
	f.onEnd = func(f *flow) {
		start(f.data == 0 && f.trailers.Len() == 0)
		if f.trailers.Len() > 0 {
			f.s.SendTrailers(&f.trailers)
		}
		f.gone = true
		f.s.Release()
	}
}

// An echoSide is a server of echoes.
type echoSide struct{ *side }

func (d echoSide) OnStream(s *Stream) (StreamHandler, *header.Map, *header.Map) {
	f := &flow{d: d.side, s: s}
	echo(f)
	return &echoFlow{f}, &f.headers, &f.trailers
}

type echoFlow struct{ *flow }

func (f *echoFlow) OnDrained() { f.s.Resume() }

// net/http's client gets what it sent from our server, in hundreds of streams
// with bodies larger than every window.
func TestServesPeerClient(t *testing.T) {
	here, there := net.Pipe()
	d := &side{name: "server", streams: map[uint32]*flow{}}
	d.shard = NewShard(func() int64 { return 0 })
	d.c = NewServer(d.shard, &Options{StreamWindow: 70000, ConnWindow: 100000}, &d.out, echoSide{d})
	w := newWire(d, here)
	tr := &http.Transport{Protocols: unencrypted(), DialContext: func(context.Context, string, string) (net.Conn, error) { return there, nil }}
	cc, err := tr.NewClientConn(context.Background(), "http", "a.b:80")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			body := bytes.Repeat([]byte{byte(i)}, i*i*20)
			var r io.Reader = struct{ io.Reader }{bytes.NewReader(body)}
			if i%3 == 0 {
				r = bytes.NewReader(body) // with a content-length
			}
			req, _ := http.NewRequest("POST", fmt.Sprintf("http://a.b/echo/%d", i), r)
			if i%3 == 1 {
				req.Trailer = http.Header{"X-Sum": {fmt.Sprint(i)}}
			}
			req.Header.Set("Cookie", "a=b; c=d")
			resp, err := cc.RoundTrip(req)
			if err != nil {
				t.Errorf("request %d: %v", i, err)
				return
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("request %d: %d bytes, %v; want %d", i, len(got), err, len(body))
			}
			if want := fmt.Sprintf("POST /echo/%d", i); resp.Header.Get("X-Asked") != want {
				t.Errorf("request %d: asked %q, want %q", i, resp.Header.Get("X-Asked"), want)
			}
			if i%3 == 1 && resp.Trailer.Get("X-Sum") != fmt.Sprint(i) {
				t.Errorf("request %d: trailers %v", i, resp.Trailer)
			}
		}()
	}
	wg.Wait()
	w.do(func() {
		if w.err != nil {
			t.Errorf("the server ends with %v", w.err)
		}
		if d.c.Active() != 0 {
			t.Errorf("%d streams are left", d.c.Active())
		}
		balanced(t, d.c)
		d.c.GoAway(NoError)
	})
	cc.Close()
}

// balanced checks that every byte that was received has been paid for.
func balanced(t *testing.T, c *Conn) {
	t.Helper()
	if c.recvWindow+c.unsaid != c.o.ConnWindow {
		t.Errorf("the connection's window is %d and %d more, want %d together", c.recvWindow, c.unsaid, c.o.ConnWindow)
	}
}

// Our client gets what it sent from net/http's server.
func TestAsksPeerServer(t *testing.T) {
	here, there := net.Pipe()
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Trailer", "X-Sum")
		rw.WriteHeader(103)
		rw.Header().Set("X-Asked", r.Method+" "+r.URL.Path+" "+strings.Join(r.Header["X-Mine"], ","))
		n, _ := io.Copy(rw, r.Body)
		rw.Header().Set("X-Sum", fmt.Sprint(n))
	})
	server := &http.Server{Handler: handler, Protocols: unencrypted(), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10}}
	go server.Serve(&oneConn{there})
	d := newSide(false, &Options{StreamWindow: 70000, ConnWindow: 100000})
	w := newWire(d, here)
	finished := make(chan int, 100)
	next := 0
	start := func() {
		for next < 60 && d.c.PeerKnown() && d.c.CanOpen() {
			i := next
			next++
			f := &flow{d: d}
			body := bytes.Repeat([]byte{byte(i)}, i*i*30)
			a := &asker{flow: f, body: body}
			f.s = d.c.Open(a, &f.headers, &f.trailers)
			f.onData = func(f *flow, b []byte, end bool) {
				if a.paused = !a.paused; a.paused && !end {
					f.s.Pause()
					f.s.Resume()
				}
				for _, x := range b {
					a.wrong = a.wrong || x != byte(i)
				}
			}
			f.onEnd = func(f *flow) {
				want := fmt.Sprintf("POST /echo/%d yes", i)
				if got := string(f.headers.LookupString("x-asked")); got != want || f.data != len(body) || a.wrong {
					t.Errorf("request %d: asked %q, %d bytes; want %q, %d", i, got, f.data, want, len(body))
				}
				if got := string(f.trailers.LookupString("x-sum")); got != fmt.Sprint(len(body)) {
					t.Errorf("request %d: trailer %q, want %d", i, got, len(body))
				}
				f.s.Release()
				finished <- i
			}
			m := new(header.Map)
			m.Add(header.Method, []byte("POST"))
			m.Add(header.Scheme, []byte("http"))
			m.Add(header.Authority, []byte("a.b"))
			m.Add(header.Path, fmt.Appendf(nil, "/echo/%d", i))
			m.AddName([]byte("x-mine"), []byte("yes"))
			f.s.SendHeaders(m, len(body) == 0)
			if len(body) > 0 {
				a.feed()
			}
		}
	}
	w.do(func() { // the settings may have come already
		d.onSettings = start
		start()
	})
	for range 60 {
		<-finished
		w.do(start)
	}
	w.do(func() { balanced(t, d.c) })
	here.Close()
}

// An asker is a request that sends its body as far as it is not Full.
type asker struct {
	*flow
	body   []byte
	paused bool
	wrong  bool
}

func (a *asker) feed() {
	for len(a.body) > 0 && !a.s.Full() {
		n := min(len(a.body), 5000)
		b := a.body[:n]
		a.body = a.body[n:]
		a.s.SendData(b, len(a.body) == 0)
	}
}

func (a *asker) OnDrained() { a.feed() }
func (a *asker) OnReset(r Reset) {
	panic("reset: " + resetText(r))
}
