package shard

import (
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/drive"
)

// buffered is the output that waits for clients and upstreams.
func (b *bench) buffered() int {
	n := 0
	b.Loop.Each(func(c *drive.Conn) bool {
		n += c.Buffered()
		return true
	})
	return n
}

// A client that sends one request after the other and takes no answer is not read any more
// once its answers have filled their buffer, and is read again when it takes them.
func TestPipeliningStopsAtTheMark(t *testing.T) {
	for _, path := range []string{"/direct", "/none", "/raw"} {
		b := full(t)
		b.rt.Listeners[0].BufferLimit = 16 << 10
		p := b.dial()
		p.Window = 1000
		const requests = 20000
		for range requests / 100 {
			p.WriteString(strings.Repeat(get(path), 100))
			b.Step()
			if n := b.buffered(); n > 64<<10 {
				t.Fatalf("%s: %d bytes of answers wait for a client that takes 1000, want at most twice the mark or so", path, n)
			}
		}
		if p.Unread() == 0 {
			t.Fatalf("%s: everything was read", path)
		}
		p.Window = 1 << 20
		answers := 0
		for range requests {
			got := p.Take()
			answers += strings.Count(got, "HTTP/1.1 ")
			b.Step()
			if got == "" && p.Unread() == 0 && len(p.In) == 0 {
				break
			}
		}
		if answers != requests {
			t.Errorf("%s: %d answers to %d requests", path, answers, requests)
		}
	}
}

// An upstream that floods interim responses is read no faster than the client takes them.
func TestInterimResponsesStopAtTheMark(t *testing.T) {
	b := full(t)
	b.config.Expect100Here = false // else none would pass
	b.rt.Listeners[0].BufferLimit = 16 << 10
	b.config.Expect100Here = false // interim responses are for the client
	var up *drive.Pipe
	b.answer = func(_ *bench, p *drive.Pipe, _ string) { up = p }
	p := b.dial()
	p.Window = 1000
	p.WriteString(get("/raw"))
	b.Step()
	const each = 500
	for range 100 {
		up.WriteString(strings.Repeat("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", each))
		b.Step()
		if n := b.buffered(); n > 400<<10 {
			t.Fatalf("%d bytes wait for a client that takes 1000", n)
		}
	}
	up.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
	p.Window = 1 << 20
	var got strings.Builder
	for range 1000 {
		got.WriteString(p.Take())
		b.Step()
	}
	if n := strings.Count(got.String(), "HTTP/1.1 103 "); n != 100*each || !strings.HasSuffix(got.String(), "\r\n\r\nok") {
		t.Errorf("%d interim responses of %d, and at the end %q", n, 100*each, got.String()[max(0, got.Len()-40):])
	}
}

// A client that takes not a byte for the time of stream_flush_timeout is reset, whether its
// request is still being answered or not. One that takes a little now and then is not.
func TestClientThatTakesNothingIsReset(t *testing.T) {
	for _, whole := range []bool{false, true} {
		b := full(t)
		b.config.FlushTimeout = 30 * time.Second
		b.answer = func(_ *bench, p *drive.Pipe, _ string) {
			p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 500000\r\n\r\n" + strings.Repeat("x", 100000))
			if whole {
				p.WriteString(strings.Repeat("x", 400000))
			}
		}
		p := b.dial()
		p.Window = 1000
		p.WriteString(get("/raw"))
		for range 20 {
			b.Advance(10 * time.Second)
			if p.Take() == "" {
				t.Fatal("nothing came")
			}
		}
		if p.Closed {
			t.Fatal("a client that takes a little now and then was closed")
		}
		b.Step()
		b.Advance(25 * time.Second)
		if p.Closed {
			t.Fatal("the client was closed too early")
		}
		b.Advance(10 * time.Second)
		if !p.Closed || !p.Broken || b.Open() != 0 {
			t.Errorf("whole response %v: closed %v, reset %v, %d open connections; want a reset", whole, p.Closed, p.Broken, b.Open())
		}
		if n := b.rt.Clusters["app"].Stats.UpstreamRqActive.Value(); n != 0 {
			t.Errorf("%d upstream requests are still in flight", n)
		}
	}
}

// A client that has been told to go and still takes what was written gets all of it.
func TestSlowClientGetsTheEndOfItsLastAnswer(t *testing.T) {
	b := full(t)
	b.answer = func(_ *bench, p *drive.Pipe, _ string) {
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 50000\r\n\r\n" + strings.Repeat("x", 50000))
	}
	p := b.dial()
	p.Window = 1000
	p.WriteString(get("/raw", "Connection: close"))
	b.Step()
	got := 0
	for !p.Closed && got < 60000 {
		got += strings.Count(p.Take(), "x")
		b.Advance(time.Second)
	}
	got += strings.Count(p.Take(), "x")
	if got < 50000 {
		t.Errorf("%d bytes came before the connection was closed, want 50000", got)
	}
}

// A head may be as long as the configuration says.
func TestLongHeads(t *testing.T) {
	for _, kb := range []int{96, 200, 1024, 8192} {
		b := full(t)
		b.config.MaxHeaderBytes = kb << 10
		p := b.dial()
		request := get("/raw", "X: "+strings.Repeat("a", kb<<10-100))
		for len(request) > 0 {
			n := min(len(request), 50000)
			p.WriteString(request[:n])
			request = request[n:]
			b.Step()
		}
		if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Errorf("%d KiB: answer %.60q", kb, got)
		}
		if len(b.requests) != 1 || len(b.requests[0]) < kb<<10-100 {
			t.Errorf("%d KiB: the application got %d requests", kb, len(b.requests))
		}
		p = b.dial()
		p.WriteString(get("/raw", "X: "+strings.Repeat("a", kb<<10)))
		b.Step()
		if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
			t.Errorf("%d KiB and more: answer %.60q, want 431", kb, got)
		}
	}
}
