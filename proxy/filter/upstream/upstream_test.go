package upstream

import (
	"testing"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stream"
)

// counted makes filters that count the requests that they see.
type counted struct{ made, seen int }

func (c *counted) Name() string { return "counted" }

func (c *counted) New(*pool.Worker) any { c.made++; return &counting{c} }

type counting struct{ *counted }

func (c *counting) OnRequest(*stream.Stream, *header.Map) stream.Verdict {
	c.seen++
	return stream.Continue
}

func (*counting) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }

// Requests that go to clusters with filters of their own in turn have them made once, and each meets those of its cluster. Of
// many clusters some are made again.
func TestFiltersOfClustersInTurn(t *testing.T) {
	var f Filters
	var s stream.Stream
	var m header.Map
	kinds, chains := make([]counted, maxStock+1), make([]*Chain, maxStock+1)
	for i := range chains {
		chains[i] = &Chain{Factories: []stream.Factory{&kinds[i]}}
	}
	if n := testing.AllocsPerRun(9, func() { // after one that is not counted
		for _, c := range []*Chain{chains[0], nil, chains[1], chains[0], chains[2]} {
			f.Request(c, &s, &m)
		}
	}); n != 0 {
		t.Errorf("a turn allocates %v times, want 0", n)
	}
	for i, want := range []counted{{1, 20}, {1, 10}, {1, 10}} {
		if kinds[i] != want {
			t.Errorf("of cluster %d %d filters were made, which have seen %d requests; want %d and %d", i, kinds[i].made, kinds[i].seen, want.made, want.seen)
		}
	}
	for range 2 {
		for _, c := range chains {
			f.Request(c, &s, &m)
		}
	}
	if kinds[0].made != 2 || kinds[0].seen != 22 {
		t.Errorf("%d filters of the first cluster were made, which have seen %d requests; want 2 and 22", kinds[0].made, kinds[0].seen)
	}
}
