package shard

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stream"
)

const (
	burst = 10_000 // requests that a client sends at once, each of which is answered here
	share = 2_000  // that may be answered before those of others: a turn has two helpings
)

// A costly filter makes so much work of every request.
type costly struct {
	b    *bench
	work time.Duration
}

func (f *costly) Name() string         { return "test.costly" }
func (f *costly) New(*pool.Worker) any { return f }

func (f *costly) OnRequest(*stream.Stream, *header.Map) stream.Verdict {
	f.b.Work(f.work)
	return stream.Continue
}

func (f *costly) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }

// A client whose requests cost much has a few of them served in a turn: what others wait for it is bounded by time, and
// not by how much it has sent, be its requests answered here or passed on.
func TestTurnsAreBoundedByTime(t *testing.T) {
	const many, work, bound = 400, 3 * time.Millisecond, 50 * time.Millisecond
	for _, path := range []string{"/nowhere", "/somewhere"} {
		for _, test := range []struct {
			protocol string
			send     func(b *bench) (answers func() int)
		}{
			{"HTTP/1.1", func(b *bench) func() int {
				p, n := b.dial(), 0
				p.OnData = func(p *drive.Pipe) { n += strings.Count(p.Take(), "HTTP/1.1 ") }
				p.WriteString(strings.Repeat(get(path), many))
				return func() int { return n }
			}},
			{"HTTP/2", func(b *bench) func() int {
				c := newPeer2(b.dial(), false)
				for i := range uint32(many) {
					c.get(2*i+1, path)
				}
				return func() int { return len(c.heads) }
			}},
		} {
			t.Run(test.protocol+path, func(t *testing.T) {
				b := newBench(t, []route.RouteConfig{prefix("app", "/somewhere", &route.ForwardConfig{Cluster: "app"})}, static("app"))
				b.endpoints("app", app1)
				b.config.Filters = []stream.Factory{&costly{b, work}, router.New(router.Config{})}
				answers := test.send(b)
				begun, waited := b.Loop.Now(), time.Duration(-1)
				other := b.dial()
				other.OnData = func(*drive.Pipe) { waited = time.Duration(b.Loop.Now() - begun) }
				other.WriteString(get("/nowhere"))
				b.Step()
				if waited < 0 || waited > bound {
					t.Errorf("a client has waited %v for the requests of another, want %v at most", waited, bound)
				}
				if n := answers(); n != many {
					t.Errorf("%d requests were answered, want %d", n, many)
				}
			})
		}
	}
}

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
