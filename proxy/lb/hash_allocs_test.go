//go:build !race

package lb

import "testing"

// Under the race detector a sync.Pool forgets things at random, so these counts mean nothing there.

func TestHashAllocs(t *testing.T) {
	list := many(100)
	for _, e := range list {
		e.Active.Store(50)
	}
	for name, p := range map[string]Policy{
		"ring": {Kind: RingHash}, "maglev": {Kind: Maglev},
		"bounded": {Kind: RingHash, Balance: 100, Total: func() int64 { return 100 }},
		"scan":    {Kind: LeastRequest, FullScan: true},
	} {
		b := must(t, p, list, nil)
		c := Choice{}
		if n := testing.AllocsPerRun(200, func() { c.Hash += 0x9e3779b97f4a7c15; b.Pick(c) }); n != 0 {
			t.Errorf("%s: Pick allocates %v times, want 0", name, n)
		}
	}
}
