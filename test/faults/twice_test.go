package faults

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/hop"
)

// begun counts how often an application has begun with each request, by path.
type begun struct {
	mu    sync.Mutex
	times map[string]int
}

func (b *begun) note(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.times[path]++
}

// twice lists requests that were begun more than once; n is how many there were of all.
func (b *begun) twice() (twice []string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for path, times := range b.times {
		if times > 1 {
			twice = append(twice, path)
		}
	}
	return twice, len(b.times)
}

// Nobody has asked for retries: a request that changes something reaches its application once at most, whenever the connection dies after the
// application has it, though it had carried requests before. Who asked is told that it has failed.
func TestNothingIsDoneTwice(t *testing.T) {
	t.Parallel()
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	ends := map[string]func(net.Conn){
		"closed":  func(c net.Conn) { c.Close() },
		"reset":   reset,
		"later":   func(c net.Conn) { pause(time.Duration(rand.IntN(20)) * time.Millisecond); reset(c) },
		"halved":  func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite(); pause(60 * time.Millisecond); reset(c) },
		"stopped": func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 2"); reset(c) },
	}
	done := &begun{times: map[string]int{}}
	one := func(end func(net.Conn), whole bool) func(net.Conn) {
		return func(c net.Conn) {
			for r := bufio.NewReader(c); ; {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				if req.Method == "POST" {
					done.note(req.URL.Path)
					if whole {
						_, _ = io.Copy(io.Discard, req.Body)
					}
					end(c)
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
			}
		}
	}
	var hops []hop.Hop
	for name, end := range ends {
		hops = append(hops,
			hop.Hop{Name: name, To: accept(t, one(end, true))},
			hop.Hop{Name: name + "_early", To: accept(t, one(end, false))},
			hop.Hop{Name: name + "_two", ToH2: true, To: two(t, done, end)})
	}
	x := hop.Malla(t, hop.PKI(t), hops...)
	var all sync.WaitGroup
	var failed, unready atomic.Int64
	for name, at := range x.At {
		all.Go(func() {
			tr := &http.Transport{}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: 20 * time.Second}
			for i := range rounds {
				if resp, err := client.Get("http://" + at + "/"); err != nil || resp.StatusCode != 200 {
					t.Errorf("%s: the request before: %v %v", name, resp, err)
					return
				} else {
					resp.Body.Close()
				}
				// The connection has been used, and is used again.
				size := []int{0, 4, 3000, 40_000, 300_000}[i%5]
				req, _ := http.NewRequest("POST", fmt.Sprintf("http://%s/%s/%d", at, name, i), strings.NewReader(strings.Repeat("x", size)))
				req.GetBody = nil // the client itself sends nothing twice
				resp, err := client.Do(req)
				switch {
				case err != nil: // broken off in the middle of its body
					unready.Add(1)
				case resp.StatusCode/100 != 5:
					t.Errorf("%s: request %d was answered %s, want an error", name, i, resp.Status)
				default:
					failed.Add(1)
				}
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
		})
	}
	all.Wait()
	twice, n := done.twice()
	t.Logf("%d requests were begun; %d clients were told of an error, %d were cut off", n, failed.Load(), unready.Load())
	if len(twice) > 0 {
		t.Errorf("%d of %d requests were begun twice, such as %s", len(twice), n, twice[0])
	}
	if want := rounds * len(hops); n < want*9/10 {
		t.Errorf("%d requests were begun, want %d", n, want)
	}
	for name := range x.At { // or nothing could have been sent again anyway
		if made, asked := x.Stat(t, "cluster."+name+".upstream_cx_total"), x.Stat(t, "cluster."+name+".upstream_rq_total"); asked < made+int64(rounds)/2 {
			t.Errorf("%s: %d connections were made for %d requests, want each to carry two", name, made, asked)
		}
	}
}

// two serves HTTP/2, by connections that die with their first POST.
func two(t *testing.T, done *begun, end func(net.Conn)) string {
	t.Helper()
	type key struct{}
	l := hop.Serve(t)
	s := &http.Server{
		Protocols:   both(),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) },
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				done.note(r.URL.Path)
				end(r.Context().Value(key{}).(net.Conn))
			}
		}),
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}
