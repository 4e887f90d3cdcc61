package shard

import (
	"runtime"
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/route"
)

const (
	burst = 10_000 // requests that a client sends at once, each of which is answered here
	share = 2_000  // that may be answered before those of others: a turn has two helpings
)

// Who sends thousands of requests at once waits in line like everybody else, and they are not all in memory at a time.
func TestBurstsAreServedInTurns(t *testing.T) {
	for _, test := range []struct {
		protocol string
		send     func(b *bench) (answers func() int)
	}{
		{"HTTP/1.1", func(b *bench) func() int {
			p, n := b.dial(), 0
			p.OnData = func(p *drive.Pipe) { n += strings.Count(p.Take(), "HTTP/1.1 404 ") }
			p.WriteString(strings.Repeat(get("/nowhere"), burst))
			return func() int { return n }
		}},
		{"HTTP/2", func(b *bench) func() int {
			c := newPeer2(b.dial(), false)
			for i := range uint32(burst) {
				c.get(2*i+1, "/nowhere")
			}
			return func() int { return len(c.heads) }
		}},
	} {
		t.Run(test.protocol, func(t *testing.T) {
			b := newBench(t, []route.RouteConfig{prefix("app", "/somewhere", &route.ForwardConfig{Cluster: "app"})}, static("app"))
			answers := test.send(b)
			before := -1
			other := b.dial()
			other.OnData = func(*drive.Pipe) { before = answers() }
			other.WriteString(get("/nowhere"))
			var old, now runtime.MemStats
			runtime.ReadMemStats(&old)
			b.Step()
			runtime.ReadMemStats(&now)
			if before < 0 || before > share {
				t.Errorf("%d requests of one client were answered before the one of another", before)
			}
			if n := answers(); n != burst {
				t.Errorf("%d requests were answered, want %d", n, burst)
			}
			if n := now.TotalAlloc - old.TotalAlloc; test.protocol == "HTTP/1.1" && n > burst*2000 {
				t.Errorf("%d bytes of memory were made for %d requests", n, burst)
			}
		})
	}
}
