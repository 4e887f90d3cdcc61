package shard

import (
	"strings"
	"testing"

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
