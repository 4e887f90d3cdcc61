package faults

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	coder "github.com/coder/websocket"

	"github.com/mallamesh/malla/test/hop"
)

// both is HTTP/1.1 and HTTP/2 without TLS.
func both() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// echo answers with what it is sent, on a WebSocket too.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		_ = http.NewResponseController(w).EnableFullDuplex() // or 256 KB of the request would go where nobody sees them
		_, _ = io.Copy(w, r.Body)
		return
	}
	ws, err := coder.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	for {
		kind, text, err := ws.Read(r.Context())
		if err != nil || ws.Write(r.Context(), kind, text) != nil {
			return
		}
	}
}

// An echoing server knows how many connections it has, but for WebSockets.
type echoing struct {
	*http.Server
	open atomic.Int64
}

// echoServer runs an echo until stop is called or the test ends.
func echoServer(t *testing.T) (address string, server *echoing) {
	t.Helper()
	l := hop.Serve(t)
	server = &echoing{}
	server.Server = &http.Server{Handler: http.HandlerFunc(echo), Protocols: both(), ConnState: func(_ net.Conn, now http.ConnState) {
		switch now {
		case http.StateNew:
			server.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			server.open.Add(-1)
		}
	}}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return l.Addr().String(), server
}

// traffic asks a proxy at a steady rate, by connections that are kept: half of the requests by HTTP/1.1, half by HTTP/2, half of
// each to an upstream of either, beside WebSockets that talk.
type traffic struct {
	tally
	stop context.CancelFunc
	all  sync.WaitGroup
}

// quiet is for how long a client may say nothing and still use its connection: half of the shortest time to drain.
const quiet = time.Second

// begin starts some requests a second; no client sends anything twice.
func begin(t *testing.T, address string, rate int) *traffic {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	f := &traffic{stop: stop}
	one, two := new(http.Protocols), new(http.Protocols)
	one.SetHTTP1(true)
	two.SetUnencryptedHTTP2(true)
	const clients = 20
	for i := range clients {
		p := one
		if i%2 == 1 {
			p = two
		}
		tr := &http.Transport{Protocols: p, DisableCompression: true}
		client := &http.Client{Transport: tr, Timeout: 20 * time.Second}
		path := []string{"/", "/two"}[i/2%2]
		f.all.Go(func() {
			defer tr.CloseIdleConnections()
			tick := time.NewTicker(time.Second * clients / time.Duration(rate))
			defer tick.Stop()
			answered := time.Now()
			for n := 0; ctx.Err() == nil; n++ {
				<-tick.C
				// HTTP/1.1 says with an answer that a connection goes. Who was not run while listeners drained has had none: what
				// it would send now crosses the close, with any server.
				if time.Since(answered) > quiet {
					tr.CloseIdleConnections()
				}
				f.ask(client, []string{"GET", "POST"}[n%2], "http://"+address+path, fmt.Appendf(nil, "%d/%d", i, n))
				answered = time.Now()
			}
		})
	}
	for i := range 5 {
		f.all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := talk(address, fmt.Sprintf("%d/%d", i, n)); err != nil {
					f.note("WebSocket: " + err.Error())
				} else {
					f.note("")
				}
			}
		})
	}
	t.Cleanup(f.end)
	return f
}

// talk has a WebSocket carry text to and fro for half a second, on a busy machine less often.
func talk(address, text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ws, _, err := coder.Dial(ctx, "ws://"+address+"/", nil)
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	for begun := time.Now(); time.Since(begun) < 500*time.Millisecond; {
		pause(50 * time.Millisecond)
		if err := ws.Write(ctx, coder.MessageText, []byte(text)); err != nil {
			return err
		}
		if _, got, err := ws.Read(ctx); err != nil || string(got) != text {
			return fmt.Errorf("read %q, %w", got, err)
		}
	}
	return ws.Close(coder.StatusNormalClosure, "")
}

// end stops asking and waits for the last answers.
func (f *traffic) end() {
	f.stop()
	f.all.Wait()
}

// want ends the traffic; all of it must have been answered.
func (f *traffic) want(t *testing.T, atLeast int) {
	t.Helper()
	f.end()
	t.Logf("%d requests were answered", f.ok)
	if len(f.bad) > 0 || f.ok < atLeast {
		t.Errorf("%d requests were answered, want %d or more; failed: %v", f.ok, atLeast, f.bad)
	}
}
