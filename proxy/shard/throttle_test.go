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
	return bandwidthlimit.New("b", &bandwidthlimit.Config{Requests: true, Responses: true, Rate: kib << 10, Every: 50 * time.Millisecond, Stats: set}), set
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
