package shard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stream"
)

// A taster notes what it is given of bodies.
type taster struct {
	shouter
	most int // of a piece
	all  strings.Builder
}

func (g *taster) New(*pool.Worker) any { return g }

func (g *taster) OnRequestData(_ *stream.Stream, b *stream.Buffer, _ bool) stream.Verdict {
	return g.taste(b.Bytes)
}

func (g *taster) OnResponseData(_ *stream.Stream, b *stream.Buffer, _ bool) stream.Verdict {
	return g.taste(b.Bytes)
}

func (g *taster) taste(b []byte) stream.Verdict {
	g.most = max(g.most, len(b))
	g.all.Write(b)
	return stream.Continue
}

const untilClose = -1 // in place of the size of chunks: the end of the connection ends the body

// message is a message's head, some numbers as its body in chunks of a size, 0: none, and the body.
func message(start string, chunk int) (wire, body string) {
	var numbers, out strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&numbers, "%d,", i)
	}
	body = numbers.String()
	out.WriteString(start)
	switch {
	case chunk == untilClose:
		out.WriteString("\r\n" + body)
	case chunk == 0:
		fmt.Fprintf(&out, "Content-Length: %d\r\n\r\n%s", len(body), body)
	default:
		out.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for rest := body; len(rest) > 0; rest = rest[min(len(rest), chunk):] {
			piece := rest[:min(len(rest), chunk)]
			fmt.Fprintf(&out, "%x\r\n%s\r\n", len(piece), piece)
		}
		out.WriteString("0\r\n\r\n")
	}
	return out.String(), body
}

// Filters are given bodies in small pieces, so that one of which much is made (a decompressor may make a hundred times as
// much) is held up before there is no memory. Wherever the pieces end the body is what it was.
func TestFiltersAreGivenSmallPieces(t *testing.T) {
	check := func(t *testing.T, g *taster, body string) {
		t.Helper()
		if g.most > pool.Helping {
			t.Errorf("a piece had %d bytes", g.most)
		}
		if g.all.String() != body {
			t.Errorf("%d bytes came, other ones than the %d that were sent", g.all.Len(), len(body))
		}
	}
	for _, chunk := range []int{0, 1, 777, pool.Helping - 6, 50_000} {
		t.Run(fmt.Sprint("request", chunk), func(t *testing.T) {
			b, g := waiting(t, &caller{}), &taster{}
			b.config.Filters = []stream.Factory{g, router.New(router.Config{})}
			wire, body := message("POST / HTTP/1.1\r\nHost: a\r\n", chunk)
			b.do(wire)
			check(t, g, body+"ok")
		})
	}
	for _, chunk := range []int{0, 1, 777, pool.Helping - 6, 50_000, untilClose} {
		t.Run(fmt.Sprint("response", chunk), func(t *testing.T) {
			b, g := waiting(t, &caller{}), &taster{}
			b.config.Filters = []stream.Factory{g, router.New(router.Config{})}
			wire, body := message("HTTP/1.1 200 OK\r\n", chunk)
			b.answer = func(_ *bench, p *drive.Pipe, _ string) {
				if p.WriteString(wire); chunk == untilClose {
					p.CloseWrite()
				}
			}
			b.do(get("/"))
			check(t, g, body)
		})
	}
}

// A watcher is a taster that says that it only watches.
type watcher struct{ taster }

func (g *watcher) New(*pool.Worker) any { return g }
func (g *watcher) Watches()             {}

// Filters that make nothing of bodies are no reason to take them in small pieces.
func TestWatchersAreGivenLargePieces(t *testing.T) {
	request, body := message("POST / HTTP/1.1\r\nHost: a\r\n", 0)
	response, _ := message("HTTP/1.1 200 OK\r\n", 0)
	b, g := waiting(t, &caller{}), &watcher{}
	b.config.Filters = []stream.Factory{g, router.New(router.Config{})}
	b.answer = func(_ *bench, p *drive.Pipe, _ string) { p.WriteString(response) }
	b.do(request)
	if want := 2 * len(body); g.all.Len() != want || g.most <= 4*pool.Helping {
		t.Errorf("%d bytes came, in pieces of up to %d, want %d in larger ones", g.all.Len(), g.most, want)
	}
}

// While filters work on a large answer of one host it is the turn of others.
func TestLargeAnswersAreTakenInTurns(t *testing.T) {
	b, g := newBench(t, []route.RouteConfig{prefix("app", "/somewhere", &route.ForwardConfig{Cluster: "app"})}, static("app")), &taster{}
	b.endpoints("app", app1)
	b.config.Filters = []stream.Factory{g, router.New(router.Config{})}
	wire, body := message("HTTP/1.1 200 OK\r\n", 0)
	first, other := b.dial(), b.dial()
	b.answer = func(_ *bench, p *drive.Pipe, _ string) {
		p.WriteString(wire)
		other.WriteString(get("/nowhere"))
	}
	before := -1
	other.OnData = func(*drive.Pipe) { before = g.all.Len() }
	first.WriteString(get("/somewhere"))
	b.Step()
	if before < 0 || before > 3*len(body)/4 {
		t.Errorf("%d bytes of %d were taken before it was the turn of another", before, len(body))
	}
}
