package shard

import (
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/fault"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// Somebody sets the clock by an hour, forwards or back: nothing that has to last a time notices (idle and request timeouts,
// ejections, tokens), and what is dated follows.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		ejecting := static("app")
		ejecting.Outlier = &cluster.OutlierConfig{Consecutive5xx: ptr(uint32(1)), Interval: time.Second, MaxEjectionPercent: ptr(uint32(100))}
		slow := prefix("slow", "/slow", &route.ForwardConfig{Cluster: "other", Timeout: ptr(10 * time.Second)})
		b := newBench(t, []route.RouteConfig{slow, to("app")}, ejecting, static("other"))
		b.config.IdleTimeout = 20 * time.Second
		bucket := &listen.RateLimit{Bucket: ratelimit.NewBucket(ratelimit.Fill{Max: 3, PerFill: 1, Interval: time.Minute}, b.Loop.Time()), Stats: &stats.ConnectionRate{}}
		b.rt.Listeners[0].RateLimit = bucket
		b.endpoints("app", app1)
		b.endpoints("other", app2)
		b.answer = func(_ *bench, p *drive.Pipe, request string) {
			if !strings.Contains(request, "slow") {
				p.WriteString("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
			}
		}
		idle, waiting := b.dial(), b.dial()
		waiting.WriteString(get("/slow"))
		idle.WriteString(get("/")) // whose answer has the host ejected
		b.Step()
		idle.Take()
		b.Advance(2 * time.Second)
		ejected := func() int64 { return b.rt.Clusters["app"].Stats.Outlier.EjectionsActive.Value() }
		if ejected() != 1 {
			t.Fatalf("%d hosts are ejected, want 1", ejected())
		}
		b.Jump(jump)
		b.Advance(5 * time.Second)
		if got := waiting.Take(); got != "" || idle.EOF || ejected() != 1 || b.Open() != 2 {
			t.Errorf("%v: after 7 s the client got %q, %d connections are open and %d hosts ejected, want nothing, 2 and 1", jump, got, b.Open(), ejected())
		}
		b.Advance(4 * time.Second)
		got := waiting.Take()
		if date := start.Add(jump + 10*time.Second).Format("date: Mon, 02 Jan 2006 15:04:0"); !strings.HasPrefix(got, "HTTP/1.1 504 ") || !strings.Contains(got, date[:len(date)-3]) {
			t.Errorf("%v: after 10 s the client got %q, want 504 with %q", jump, got, date)
		}
		b.Advance(11 * time.Second)
		if !idle.EOF {
			t.Errorf("%v: an idle connection lives on after 22 s, want 20", jump)
		}
		b.Advance(12 * time.Second)
		if ejected() != 0 {
			t.Errorf("%v: the host is ejected after 34 s, want it back after 30", jump)
		}
		for range 2 { // of three tokens two were taken, and half of one has come
			b.dial()
		}
		b.Step()
		if n := bucket.Stats.RateLimited.Value(); n != 1 {
			t.Errorf("%v: %d connections were refused, want 1", jump, n)
		}
	}
}

// What a new configuration brings is looked at soon, though nothing was due before for seconds.
func TestNewClustersAreSweptSoon(t *testing.T) {
	b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
	b.Advance(6 * time.Second)
	ejecting := static("app")
	ejecting.Outlier = &cluster.OutlierConfig{Consecutive5xx: ptr(uint32(1)), Interval: time.Second, BaseEjection: time.Second, MaxEjectionPercent: ptr(uint32(100))}
	c, err := cluster.New(ejecting, b.reg, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.rt.Clusters["app"] = c
	b.endpoints("app", app1)
	if err := b.Apply(b.rt); err != nil {
		t.Fatal(err)
	}
	b.answer = func(_ *bench, p *drive.Pipe, _ string) { p.WriteString("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n") }
	b.do(get("/"))
	if n := c.Stats.Outlier.EjectionsActive.Value(); n != 1 {
		t.Fatalf("%d hosts are ejected, want 1", n)
	}
	b.Advance(2500 * time.Millisecond)
	if n := c.Stats.Outlier.EjectionsActive.Value(); n != 0 {
		t.Errorf("%d hosts are ejected after 2.5 s, want none after 1 s", n)
	}
}

// How long a host leaves idle connections open is remembered, whatever the clock says meanwhile: the next one is given up
// before the host would close it.
func TestIdleTimesAreRememberedWhenTheClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
		b.endpoints("app", app1)
		var last *drive.Pipe
		b.answer = func(_ *bench, p *drive.Pipe, _ string) {
			last = p
			p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
		}
		b.Jump(jump)
		b.Advance(2 * time.Second)
		b.do(get("/"))
		b.Advance(2 * time.Second)
		last.CloseWrite() // the host is seen to keep a connection for two seconds
		b.Step()
		active := b.rt.Clusters["app"].Stats.UpstreamCxActive.Value
		if n := active(); n != 0 {
			t.Fatalf("%d connections are open, want none", n)
		}
		b.Jump(-jump)
		b.do(get("/"))
		b.Advance(1600 * time.Millisecond)
		if n := active(); n != 1 {
			t.Errorf("%v: after 1.6 s %d connections are kept, want 1", jump, n)
		}
		b.Advance(350 * time.Millisecond)
		if n := active(); n != 0 {
			t.Errorf("%v: after 1.95 s %d connections are kept, want none: the host closes them after 2", jump, n)
		}
	}
}

// While requests come every second the clock jumps to and fro: each is answered, by the one connection that there is, a delay
// takes as long as it is to take, and a connection whose host keeps it for five seconds without a request is given up
// before those are over, and not earlier.
func TestTrafficGoesOnWhileTheClockJumps(t *testing.T) {
	delayed := &fault.Config{Delay: 2500 * time.Millisecond, DelayShare: fault.Share{Numerator: 1, Denominator: 1}}
	slow := prefix("slow", "/slow", &route.ForwardConfig{Cluster: "app"})
	slow.PerFilter = map[string]any{"f": delayed}
	b := newBench(t, []route.RouteConfig{slow, to("app")}, static("app"))
	b.config.Filters = []stream.Factory{fault.New("f", nil), router.New(router.Config{})}
	b.config.StreamIdle = 5 * time.Second
	b.endpoints("app", app1)
	b.answer = func(_ *bench, p *drive.Pipe, _ string) {
		p.WriteString("HTTP/1.1 200 OK\r\nkeep-alive: timeout=5\r\ncontent-length: 2\r\n\r\nok")
	}
	st := b.rt.Clusters["app"].Stats
	fast, late := b.dial(), b.dial()
	for i, jump := range []time.Duration{time.Hour, -time.Hour, -time.Hour, time.Hour, 24 * time.Hour} {
		late.WriteString(get("/slow"))
		for second := range 3 {
			if second == 1 {
				b.Jump(jump)
			}
			if got := late.Take(); got != "" {
				t.Errorf("jump %d: the answer that is late by 2.5 s came after %d: %q", i, second, got)
			}
			fast.WriteString(get("/"))
			b.Step()
			if got := fast.Take(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
				t.Errorf("jump %d, second %d: answer %q", i, second, got)
			}
			b.Advance(time.Second)
		}
		if got := late.Take(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Errorf("jump %d: after 3 s the answer that is late by 2.5 is %q", i, got)
		}
	}
	if n := st.UpstreamCxTotal.Value(); n != 1 {
		t.Errorf("%d connections were made, want 1", n)
	}
	b.Jump(time.Hour)
	b.Advance(3 * time.Second) // of its five one has gone by
	if n := st.UpstreamCxActive.Value(); n != 1 {
		t.Errorf("after 4 s without a request %d connections are kept, want 1", n)
	}
	b.Advance(time.Second)
	if n := st.UpstreamCxActive.Value(); n != 0 {
		t.Errorf("after 5 s without a request %d connections are kept, want none", n)
	}
}
