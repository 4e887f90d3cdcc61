package shard

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
)

// Without a policy a request of HTTP/1.1 is sent twice only if nothing of it has arrived, or if its method may be repeated, its
// connection had been used before, and that broke so soon that nobody can have worked on it. It goes again whole, or not at all.
func TestWhatIsSentAgainWithoutPolicy(t *testing.T) {
	whole := strings.Repeat("x", 1000)
	reset := func(_ *bench, p *drive.Pipe) { p.Reset() }
	proven := func(b *bench, p *drive.Pipe) { // the host's system had closed the connection and took none of it
		p.Unacked = 1 << 20
		p.CloseWrite()
		b.Step()
		p.Reset()
	}
	read := func(b *bench, p *drive.Pipe) { p.CloseWrite() } // its system had it all: this is no reset, so that it has been read
	crossed := func(b *bench, p *drive.Pipe) {
		p.Unacked = 1 << 20
		p.CloseWrite()
	}
	worked := func(b *bench, p *drive.Pipe) {
		b.Advance(time.Second)
		p.Reset()
	}
	begun := func(b *bench, p *drive.Pipe) {
		p.WriteString("HTTP/1.1 2")
		b.Step()
		p.Reset()
	}
	for _, test := range []struct {
		what   string
		fresh  bool // the connection has not been used before
		method string
		sent   string // of the body, when the connection ends
		rest   string
		end    func(*bench, *drive.Pipe)
		again  bool
	}{
		{"a body that has gone, by a method that may be repeated", false, "PUT", whole, "", reset, true},
		{"a body on its way, by a method that may be repeated", false, "PUT", whole[:400], whole[400:], reset, true},
		{"a body that has gone, by one that may not", false, "POST", whole, "", reset, false},
		{"a body that has gone nowhere", false, "POST", whole, "", proven, true},
		{"a body of which the first half has gone nowhere", false, "POST", whole[:400], whole[400:], proven, true},
		{"a method of which nobody says that it may be repeated", false, "REPORT", "", "", reset, false},
		{"a patch", false, "PATCH", whole, "", reset, false},
		{"one that the host has read", false, "GET", "", "", read, false},
		{"one that the host has worked on", false, "GET", "", "", worked, false},
		{"one that crossed with the end, by a method that may be repeated", false, "DELETE", "", "", crossed, true},
		{"a connection of its own", true, "GET", "", "", reset, false},
		{"an answer that has begun", false, "GET", "", "", begun, false},
		{"a body larger than what is kept", false, "PUT", strings.Repeat("x", 65<<10), "", reset, false},
	} {
		t.Run(test.what, func(t *testing.T) {
			b := full(t)
			var last *drive.Pipe
			b.Handle(app1, func(p *drive.Pipe) {
				last = p
				got := ""
				p.OnData = func(p *drive.Pipe) {
					got += p.Take()
					if request, rest, ok := cut(got); ok {
						b.requests, got = append(b.requests, request), rest
					}
				}
			})
			ask := func(p *drive.Pipe, method, body string, length int) {
				p.WriteString(method + " /raw HTTP/1.1\r\nHost: a\r\nContent-Length: " + strconv.Itoa(length) + "\r\n\r\n" + body)
				b.Step()
			}
			p := b.dial()
			if !test.fresh {
				ask(p, "GET", "", 0)
				last.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
				b.Step()
				p.Take()
			}
			b.requests = nil
			ask(p, test.method, test.sent, len(test.sent)+len(test.rest))
			first, before := last, len(b.requests)
			if first == nil {
				t.Fatal("the application got nothing")
			}
			test.end(b, first)
			b.Advance(time.Second)
			p.WriteString(test.rest)
			b.Step()
			if again := last != first; again != test.again {
				t.Fatalf("it was sent again: %v, want %v; the client got %q", again, test.again, p.Take())
			}
			if !test.again {
				if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 50") {
					t.Errorf("the client got %q, want 502 or 503", got)
				}
				return
			}
			if len(b.requests) != before+1 || !strings.HasSuffix(b.requests[before], "\r\n\r\n"+test.sent+test.rest) {
				t.Errorf("the application got %q after it, want the whole request", b.requests[before:])
			}
			last.Reset() // and not a third time
			b.Advance(time.Second)
			if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 503") {
				t.Errorf("the client got %q, want 503", got)
			}
		})
	}
}

// The same over HTTP/2, where a host can say what it has not taken.
func TestWhatIsSentAgainOverHTTP2WithoutPolicy(t *testing.T) {
	refuse := func(p *peer2, stream uint32) { p.reset(stream, http2.ErrCodeRefusedStream) }
	for _, test := range []struct {
		what   string
		fresh  bool
		method string
		end    func(p *peer2, stream uint32)
		again  bool
	}{
		{"a stream that is refused", true, "POST", refuse, true},
		{"a stream that comes after the last one", true, "POST", func(p *peer2, stream uint32) { p.goAway(stream-1, http2.ErrCodeNo) }, true},
		{"the last stream", true, "POST", func(p *peer2, stream uint32) { p.goAway(stream, http2.ErrCodeNo); p.p.Reset() }, false},
		{"a stream that is reset for another reason", true, "GET", func(p *peer2, stream uint32) { p.reset(stream, http2.ErrCodeInternal) }, false},
		{"a stream that is cancelled", true, "GET", func(p *peer2, stream uint32) { p.reset(stream, http2.ErrCodeCancel) }, false},
		{"a used connection that ends, by a method that may not be repeated", false, "POST", func(p *peer2, _ uint32) { p.p.Reset() }, false},
		{"a used connection that ends, by one that may", false, "PUT", func(p *peer2, _ uint32) { p.p.Reset() }, true},
		{"a connection of its own that ends", true, "GET", func(p *peer2, _ uint32) { p.p.Reset() }, false},
	} {
		t.Run(test.what, func(t *testing.T) {
			b := newTwo(t, cluster.Config{})
			got := 0
			b.reply = func(p *peer2, stream uint32, head map[string]string) {
				if head[":path"] == "/first" {
					p.headers(stream, true, ":status", "200")
					return
				}
				if n := p.body[stream]; test.method != "GET" && n != 4 {
					t.Errorf("the application got %d bytes, want the whole body", n)
				}
				if got++; got == 1 || !test.again {
					test.end(p, stream)
				} else {
					refuse(p, stream) // and not a third time
				}
			}
			c := b.client()
			if !test.fresh {
				c.get(1, "/first")
				b.Step()
				c.take()
			}
			c.headers(3, test.method == "GET", ":method", test.method, ":scheme", "http", ":authority", "a", ":path", "/second")
			if test.method != "GET" {
				c.data(3, []byte("body"), true)
			}
			b.Step()
			b.Advance(time.Second)
			want := 1
			if test.again {
				want = 2
			}
			if got != want {
				t.Errorf("the application got it %d times, want %d", got, want)
			}
			if answer := c.take(); !strings.Contains(answer, "HEADERS 3 :status=503") {
				t.Errorf("the client got\n%s\nwant 503", answer)
			}
		})
	}
}
