package shard

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/route"
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

// The same holds for a client of HTTP/2, whose windows do not bound headers.
func TestInterimResponsesStopAtTheMarkOfHTTP2(t *testing.T) {
	b := full(t)
	b.config.Expect100Here = false // else none would pass
	b.rt.Listeners[0].BufferLimit = 16 << 10
	var up *drive.Pipe
	b.answer = func(_ *bench, p *drive.Pipe, _ string) { up = p }
	c := newPeer2(b.Dial("in", client, local), false)
	b.Step()
	c.p.Window, c.p.OnData = 1000, nil
	c.get(1, "/raw")
	b.Step()
	for range 200 {
		up.WriteString(strings.Repeat("HTTP/1.1 103 Early Hints\r\nlink: "+strings.Repeat("x", 100)+"\r\n\r\n", 500))
		b.Step()
		if n := b.buffered(); n > 400<<10 {
			t.Fatalf("%d bytes wait for a client that takes 1000", n)
		}
	}
	up.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
	c.p.Window = 1 << 20
	c.p.OnData = func(*drive.Pipe) { c.read() }
	for range 2000 {
		c.read()
		b.Step()
	}
	if got := c.take(); !strings.Contains(got, ":status=200") {
		t.Errorf("the response did not come after them")
	}
}

// A client of HTTP/2 that asks and takes no answer is not read any more, and is when it takes them.
func TestHTTP2StopsAtTheMark(t *testing.T) {
	b := full(t)
	b.rt.Listeners[0].BufferLimit = 16 << 10
	c := newPeer2(b.Dial("in", client, local), false)
	b.Step()
	c.p.Window, c.p.OnData = 1000, nil
	const requests = 8000
	for i := range requests {
		c.get(uint32(1+2*i), "/none")
		if i%100 == 0 {
			b.Step()
		}
		if n := b.buffered(); n > 400<<10 {
			t.Fatalf("%d bytes of answers wait for a client that takes 1000", n)
		}
	}
	b.Step()
	if c.p.Unread() == 0 {
		t.Fatal("everything was read")
	}
	c.p.Window = 1 << 20
	c.p.OnData = func(*drive.Pipe) { c.read() }
	for range 2000 {
		c.read()
		b.Step()
	}
	if n := strings.Count(c.take(), ":status=404"); n != requests {
		t.Errorf("%d answers to %d requests", n, requests)
	}
}

// A host that takes nothing, with its kernel saying that it lives, is not fed for ever with requests whose time
// is up.
func TestHostThatHangsIsGivenUp(t *testing.T) {
	b := newTwo(t, cluster.Config{}, prefix("app", "/", &route.ForwardConfig{Cluster: "app", Timeout: ptr(time.Second)}))
	hang := false
	b.Handle(app1, func(p *drive.Pipe) {
		if hang {
			p.Window = 1000
			return
		}
		newPeer2(p, true).onEnd = func(uint32, map[string]string) { hang = true; p.Window, p.OnData = 1000, nil }
	})
	c := b.client()
	for i := range 3000 {
		c.get(uint32(1+2*i), "/x", "x-much", strings.Repeat("m", 5000))
		if i%100 == 0 {
			b.Step()
			b.Advance(time.Second)
			c.take()
		}
		if n := b.buffered(); n > 8<<20 {
			t.Fatalf("after %d requests %d bytes wait for a host that takes nothing", i, n)
		}
	}
}

// A mirror that hangs has us keep so many copies and no more.
func TestMirrorThatHangs(t *testing.T) {
	b := full(t)
	b.Handle(app2, func(p *drive.Pipe) { p.Window = 1000 })
	body := strings.Repeat("m", 500<<10)
	request := "POST /mir HTTP/1.1\r\nHost: a.b\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	shadow := b.rt.Clusters["shadow"]
	for range 150 {
		if got := b.do(request); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Fatalf("the mirror changed the answer: %q", got)
		}
	}
	if n := b.buffered(); n > 80<<20 {
		t.Errorf("%d MB wait for a mirror that takes nothing", n>>20)
	}
	if n := shadow.Stats.RetryOrShadowAbandoned.Value(); n == 0 {
		t.Error("the copies that were not sent are not counted")
	}
	b.Advance(time.Minute) // their time is up
	before := shadow.Stats.RetryOrShadowAbandoned.Value()
	b.serve(app2)
	b.do(request)
	b.Step()
	if shadow.Stats.RetryOrShadowAbandoned.Value() != before {
		t.Error("copies are still dropped when the others are over")
	}
}
