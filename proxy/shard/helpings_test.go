package shard

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/pool"
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
	g.most = max(g.most, len(b.Bytes))
	g.all.Write(b.Bytes)
	return stream.Continue
}

// Filters are given bodies in small pieces, so that one of which much is made (a decompressor may make a hundred times as
// much) is held up before there is no memory. Wherever the pieces end the body is what it was.
func TestFiltersAreGivenSmallPieces(t *testing.T) {
	for _, chunk := range []int{0, 1, 777, 16<<10 - 6, 50_000} {
		t.Run(fmt.Sprint(chunk), func(t *testing.T) {
			b, g := waiting(t, &caller{}), &taster{}
			b.config.Filters = []stream.Factory{g, router.New(router.Config{})}
			var body, wire strings.Builder
			for i := range 20_000 {
				fmt.Fprintf(&body, "%d,", i)
			}
			wire.WriteString("POST / HTTP/1.1\r\nHost: a\r\n")
			if rest := body.String(); chunk == 0 {
				fmt.Fprintf(&wire, "Content-Length: %d\r\n\r\n%s", len(rest), rest)
			} else {
				wire.WriteString("Transfer-Encoding: chunked\r\n\r\n")
				for ; len(rest) > 0; rest = rest[min(len(rest), chunk):] {
					piece := rest[:min(len(rest), chunk)]
					fmt.Fprintf(&wire, "%x\r\n%s\r\n", len(piece), piece)
				}
				wire.WriteString("0\r\n\r\n")
			}
			b.do(wire.String())
			if g.most > 16<<10 {
				t.Errorf("a piece had %d bytes", g.most)
			}
			if g.all.String() != body.String() {
				t.Errorf("%d bytes came, other ones than the %d that were sent", g.all.Len(), body.Len())
			}
		})
	}
}
