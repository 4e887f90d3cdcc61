package shard

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stream"
)

// A caller is a filter that waits for somebody's word, on requests, responses or both.
type caller struct {
	request, response bool
	asked             []func(apply func(*stream.Stream))
}

func (c *caller) Name() string         { return "test.caller" }
func (c *caller) New(*pool.Worker) any { return &call{c} }

type call struct{ *caller }

func (c *call) wait(s *stream.Stream) stream.Verdict {
	gen := s.Generation()
	c.asked = append(c.asked, func(apply func(*stream.Stream)) { s.Resume(gen, apply) })
	return stream.Stop
}

func (c *call) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict {
	if c.request {
		return c.wait(s)
	}
	return stream.Continue
}

func (c *call) OnResponse(s *stream.Stream, _ *header.Map) stream.Verdict {
	if c.response && !strings.HasPrefix(string(s.Response.Get(header.Status)), "4") {
		return c.wait(s)
	}
	return stream.Continue
}

func waiting(t *testing.T, c *caller) *bench {
	b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
	b.endpoints("app", app1)
	b.config.Filters = []stream.Factory{c, router.New(router.Config{})}
	return b
}

func TestFilterThatWaits(t *testing.T) {
	post := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
	for _, c := range []*caller{{request: true}, {response: true}, {request: true, response: true}} {
		b := waiting(t, c)
		p := b.dial()
		p.WriteString(post + "01234")
		b.Step()
		p.WriteString("56789")
		b.Step()
		for i := 0; i < len(c.asked); i++ {
			if got := p.Take(); got != "" {
				t.Fatalf("%+v: answer %q before the word", c, got)
			}
			c.asked[i](nil)
			b.Step()
		}
		if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\nok") {
			t.Errorf("answer %q", got)
		}
		if len(b.requests) != 1 || !strings.HasSuffix(b.requests[0], "\r\n\r\n0123456789") {
			t.Errorf("the application got %q", b.requests)
		}
	}
}

func TestFilterSaysNo(t *testing.T) {
	c := &caller{request: true}
	b := waiting(t, c)
	p := b.dial()
	p.WriteString(get("/"))
	b.Step()
	c.asked[0](func(s *stream.Stream) { s.Reply(403, "no", "denied") })
	b.Step()
	if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 403 Forbidden\r\n") || !strings.HasSuffix(got, "\r\n\r\nno") {
		t.Errorf("answer %q", got)
	}
	if len(b.requests) != 0 {
		t.Error("the application got the request")
	}
	p.WriteString(get("/"))
	b.Step()
	c.asked[1](nil)
	b.Step()
	if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("the next request's answer %q", got)
	}
}

// A word that comes too late must not touch the request that has taken the stream's place.
func TestLateWordIsIgnored(t *testing.T) {
	c := &caller{request: true}
	b := waiting(t, c)
	p := b.dial()
	p.WriteString(get("/first"))
	b.Step()
	p.Reset()
	b.Step()
	q := b.dial()
	q.WriteString(get("/second"))
	b.Step()
	c.asked[0](func(s *stream.Stream) { s.Reply(500, "late", "late") })
	b.Step()
	if got := q.Take(); got != "" {
		t.Fatalf("the second request was answered %q by the first one's word", got)
	}
	c.asked[1](nil)
	b.Step()
	if got := q.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("answer %q", got)
	}
}

// The word of a filter that waits comes from a goroutine of its own, while the shard goes on: on the
// client's side in plain text, and behind mutual TLS.
func TestFilterThatWaitsElsewhere(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		c := &caller{request: true, response: true}
		p := newPair(t, nil)
		if encrypted {
			p.in.Filters = append([]stream.Factory{c}, p.in.Filters...)
		} else {
			p.config.Filters = append([]stream.Factory{c}, p.config.Filters...)
		}
		client := p.dial()
		client.WriteString("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
		p.Step()
		client.WriteString("56789")
		for i := range 2 {
			for len(c.asked) == i {
				p.Step()
			}
			if got := client.Take(); got != "" {
				t.Fatalf("encrypted %v: answer %q before the word", encrypted, got)
			}
			said := make(chan struct{})
			go func() {
				c.asked[i](func(s *stream.Stream) { s.Request.AddCopy(header.XClientTraceID, []byte("word")) })
				close(said)
			}()
			p.Step() // whether the word is there or not
			<-said
			p.Step()
		}
		if got := client.Take(); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(got, "\r\n\r\nok") {
			t.Errorf("encrypted %v: answer %q", encrypted, got)
		}
		if len(p.requests) != 1 || !strings.Contains(p.requests[0], "x-client-trace-id: word\r\n") || !strings.HasSuffix(p.requests[0], "\r\n\r\n0123456789") {
			t.Errorf("encrypted %v: the application got %q", encrypted, p.requests)
		}
	}
}

// A client that goes while its request waits behind mutual TLS ends it; the word that comes afterwards is nobody's.
func TestClientGoesWhileFilterWaits(t *testing.T) {
	c := &caller{request: true}
	p := newPair(t, nil)
	p.in.Filters = append([]stream.Factory{c}, p.in.Filters...)
	client := p.dial()
	client.WriteString(get("/first"))
	for len(c.asked) == 0 {
		p.Step()
	}
	client.Reset()
	p.Step()
	if got := p.inLog.last(); !strings.Contains(got, " DC ") {
		t.Errorf("log %s", got)
	}
	c.asked[0](func(s *stream.Stream) { s.Reply(500, "late", "late") })
	p.Step()
	if len(p.requests) != 0 || len(p.inLog.lines) != 1 {
		t.Errorf("the application got %q, log %q", p.requests, p.inLog.lines)
	}
}

// While a filter waits, a client can send no more than a bounded part of its body; the rest stays where it
// is, and everything arrives once the filter has spoken.
func TestBodyWaitsOutside(t *testing.T) {
	const size = 8 << 20
	c := &caller{request: true}
	b := waiting(t, c)
	got := 0
	b.Handle(app1, func(p *drive.Pipe) {
		p.OnData = func(p *drive.Pipe) {
			if got += len(p.Take()); got > size {
				p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
				got = -1 << 30
			}
		}
	})
	p := b.dial()
	p.WriteString(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size))
	piece := strings.Repeat("x", 64<<10)
	for range size / len(piece) {
		p.WriteString(piece)
		b.Step()
	}
	if held := size - p.Unread(); held > 1<<20 {
		t.Errorf("%d bytes were read while the filter waited, want at most a mebibyte", held)
	}
	c.asked[0](nil)
	for range 1000 {
		b.Step()
	}
	if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200 OK") {
		t.Errorf("answer %q", got)
	}
}

// Of the streams of one connection only the one that a filter holds waits; its body is taken up to
// the window, and the word about a stream that was reset is nobody's.
func TestFilterHoldsOneStream(t *testing.T) {
	c := &caller{request: true}
	b := newTwo(t, cluster.Config{})
	b.config.Filters = []stream.Factory{c, router.New(router.Config{})}
	p := b.client()
	p.post(1, "/held")
	p.data(1, []byte("01234"), false)
	p.get(3, "/other")
	p.get(5, "/reset")
	b.Step()
	p.data(1, []byte("56789"), true)
	p.reset(5, http2.ErrCodeCancel)
	b.Step()
	if len(c.asked) != 3 {
		t.Fatalf("the filter was asked %d times, want 3", len(c.asked))
	}
	said := make(chan struct{})
	go func() {
		c.asked[2](func(s *stream.Stream) { s.Reply(500, "late", "late") })
		c.asked[1](nil)
		close(said)
	}()
	<-said
	b.Step()
	if got := p.take(); !strings.HasPrefix(got, "HEADERS 3 :status=200 x-path=/other ") || strings.Contains(got, "HEADERS 1") || strings.Contains(got, "HEADERS 5") {
		t.Errorf("the client got\n%s\nwant the answer to stream 3 only", got)
	}
	c.asked[0](nil)
	b.Step()
	if got := p.take(); !strings.HasPrefix(got, "HEADERS 1 :status=200 x-path=/held ") {
		t.Errorf("the client got\n%s", got)
	}
	if got := b.upstreams[0].take(); !strings.Contains(got, "0123456789") || strings.Contains(got, "/reset") {
		t.Errorf("the application got\n%s", got)
	}
}

// A shouter is a filter that sees bodies.
type shouter struct{}

func (shouter) Name() string                                              { return "test.shouter" }
func (shouter) New(*pool.Worker) any                                      { return shouter{} }
func (shouter) OnRequest(*stream.Stream, *header.Map) stream.Verdict      { return stream.Continue }
func (shouter) OnResponse(_ *stream.Stream, _ *header.Map) stream.Verdict { return stream.Continue }
func (shouter) OnRequestData(_ *stream.Stream, b *stream.Buffer, _ bool) stream.Verdict {
	b.Bytes = []byte(strings.ToUpper(string(b.Bytes)))
	return stream.Continue
}
func (s shouter) OnResponseData(_ *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	return s.OnRequestData(nil, b, end)
}

func TestDataFilter(t *testing.T) {
	b := waiting(t, &caller{})
	b.config.Filters = []stream.Factory{shouter{}, router.New(router.Config{})}
	got := b.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
	if !strings.HasSuffix(got, "\r\n\r\nOK") || !strings.HasSuffix(b.requests[0], "\r\n\r\nABC") {
		t.Errorf("request %q, answer %q", b.requests[0], got)
	}
}
