package shard

import (
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/bandwidthlimit"
	"github.com/mallamesh/malla/proxy/filter/fault"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// bandwidth is a bandwidth limit of so many KiB a second each way.
func bandwidth(b *bench, kib uint64) (stream.Factory, *stats.BandwidthLimit) {
	set, _ := b.reg.BandwidthLimit("b")
	return bandwidthlimit.New("b", &bandwidthlimit.Config{Requests: true, Responses: true, Rate: kib << 10, Every: 50 * time.Millisecond, Since: b.Loop.Time(), Stats: set}), set
}

// A fast filter that has room again does not set the response flowing that a slow one behind it has stopped.
func TestSlowestOfTwoThrottlesStopsTheServer(t *testing.T) {
	b := full(t)
	fast, _ := bandwidth(b, 256)
	slow := fault.New("f", &fault.Config{Rate: 1, RateShare: fault.Share{Numerator: 1, Denominator: 1}})
	b.config.Filters = []stream.Factory{slow, fast, router.New(router.Config{})}
	b.rt.Listeners[0].BufferLimit = 16 << 10
	var up *drive.Pipe
	b.answer = func(_ *bench, p *drive.Pipe, _ string) {
		up = p
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n")
	}
	p := b.dial()
	p.WriteString(get("/raw"))
	b.Step()
	taken := 0
	for range 200 {
		up.WriteString(strings.Repeat("x", 64<<10))
		taken += 64 << 10
		b.Advance(50 * time.Millisecond)
		p.Take()
	}
	if taken -= up.Unread(); taken > 128<<10 {
		t.Errorf("the proxy took %d bytes for a filter that passes on 1024 a second and holds 16384", taken)
	}
}

// Whoever goes in the middle of a slow body, in whatever direction, leaves nothing behind.
func TestEarlyEndsOfSlowBodies(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(b *bench, client, host *drive.Pipe)
	}{
		{"the client resets", func(_ *bench, c, _ *drive.Pipe) { c.Reset() }},
		{"the client ends", func(_ *bench, c, _ *drive.Pipe) { c.CloseWrite() }},
		{"the host resets", func(_ *bench, _, h *drive.Pipe) { h.Reset() }},
		{"the host answers", func(_ *bench, _, h *drive.Pipe) { h.WriteString("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n") }},
		{"the host answers slowly", func(b *bench, c, h *drive.Pipe) {
			h.WriteString("HTTP/1.1 500 No\r\ncontent-length: 100000\r\n\r\n" + strings.Repeat("x", 50000))
			b.Advance(time.Second)
			c.Reset()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := full(t)
			slow, set := bandwidth(b, 1)
			b.config.Filters = []stream.Factory{slow, router.New(router.Config{})}
			b.rt.Listeners[0].BufferLimit = 16 << 10
			var host *drive.Pipe
			b.Handle(app1, func(p *drive.Pipe) { host = p })
			client := b.dial()
			client.WriteString("POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
			for range 40 {
				client.WriteString(strings.Repeat("x", 1<<10))
				b.Advance(50 * time.Millisecond)
			}
			test.end(b, client, host)
			b.Advance(time.Minute)
			if p, q := set.RequestPending.Value(), set.ResponsePending.Value(); p != 0 || q != 0 {
				t.Errorf("%d requests and %d responses wait, want none", p, q)
			}
			if n := b.config.Stats.DownstreamRqActive.Value(); n != 0 {
				t.Errorf("%d requests are active, want none", n)
			}
		})
	}
}

// Of a body that waits for its turn as much is kept as the connection's limit allows, and a megabyte without one; the sender of
// more waits, whichever way the body goes.
func TestSlowBodiesWaitUpToALimit(t *testing.T) {
	const piece = 64 << 10 // what one read brings at most
	for _, limit := range []int{16 << 10, 0} {
		want := limit
		if limit == 0 {
			want = 1 << 20
		}
		for _, response := range []bool{false, true} {
			b, client, host := slowed(t, 1, limit)
			sender := begin(b, client, host, response)
			sent := 0
			for range 100 {
				sender.WriteString(strings.Repeat("x", piece))
				sent += piece
				b.Advance(10 * time.Millisecond)
			}
			if taken := sent - sender.Unread(); taken < want || taken > want+2*piece {
				t.Errorf("limit %d, response %v: the proxy took %d bytes, want %d and a little more", limit, response, taken, want)
			}
		}
	}
}

// What waits because its receiver is full goes on as soon as that takes more, not when somebody looks, and nothing runs until then.
func TestSlowBodiesGoOnWhenTheReceiverTakesMore(t *testing.T) {
	for _, response := range []bool{false, true} {
		b, client, host := slowed(t, 1<<20, 16<<10)
		sender := begin(b, client, host, response)
		for range 100 {
			sender.WriteString(strings.Repeat("x", 16<<10))
			b.Advance(50 * time.Millisecond)
		}
		set, _ := b.reg.BandwidthLimit("b")
		passed := func() uint64 { return set.RequestAllowedTotal.Value() + set.ResponseAllowedTotal.Value() }
		before := passed()
		b.Advance(time.Minute)
		if passed() != before {
			t.Fatalf("response %v: %d bytes went to a receiver that takes nothing", response, passed()-before)
		}
		receiver := client
		if !response {
			receiver = *host
		}
		for range 64 { // no time passes
			receiver.Take()
			b.Step()
		}
		if passed() == before {
			t.Errorf("response %v: nothing goes on although the receiver takes more", response)
		}
	}
}

// slowed is a bench with a bandwidth limit and a limit of what may wait, whose client and host hold 32 KiB each.
func slowed(t *testing.T, kib uint64, limit int) (b *bench, client *drive.Pipe, host **drive.Pipe) {
	b = full(t)
	slow, _ := bandwidth(b, kib)
	b.config.Filters = []stream.Factory{slow, router.New(router.Config{})}
	b.rt.Listeners[0].BufferLimit = limit
	host = new(*drive.Pipe)
	b.Handle(app1, func(p *drive.Pipe) { *host, p.Window = p, 32<<10 })
	client = b.dial()
	client.Window = 32 << 10
	return b, client, host
}

// begin begins with a large body, and returns who sends it.
func begin(b *bench, client *drive.Pipe, host **drive.Pipe, response bool) *drive.Pipe {
	if !response {
		client.WriteString("POST /raw HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n")
		b.Step()
		return client
	}
	client.WriteString(get("/raw"))
	b.Step()
	(*host).WriteString("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n")
	return *host
}
