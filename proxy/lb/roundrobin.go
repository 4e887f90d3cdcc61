package lb

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// A roundRobin gives every host its turn, strictly, over all shards.
type roundRobin struct {
	n    uint64
	turn *atomic.Uint64 // shared with its successors
}

func newRoundRobin(n int, old Balancer, seed uint64) *roundRobin {
	return &roundRobin{n: uint64(n), turn: turnOf(old, seed)}
}

func (r *roundRobin) Pick(c Choice) int { return int(take(r.turn, c) % r.n) }

// take returns whose turn it is, and passes the turn on unless a pick that lies ahead is asked for.
func take(turn *atomic.Uint64, c Choice) uint64 {
	if c.Ahead > 0 {
		return turn.Load() + uint64(c.Ahead-1)
	}
	return turn.Add(1) - 1
}

// turnOf returns the counter of a predecessor, so that a change of hosts does not begin
// the round anew: with frequent changes the first hosts would get everything.
func turnOf(old Balancer, seed uint64) *atomic.Uint64 {
	switch b := old.(type) {
	case *roundRobin:
		return b.turn
	case *sequence:
		return b.turn
	}
	turn := new(atomic.Uint64)
	turn.Store(seed >> 32) // far from the end of the range
	return turn
}

// maxPeriod bounds the length of a schedule that is laid out beforehand.
const maxPeriod = 4096

// newWeightedRoundRobin returns the earliest-deadline-first schedule of hosts with
// unlike weights. The schedule repeats after as many picks as the weights, divided by
// their greatest common divisor, add up to; a short one is laid out as a list, which
// needs no lock and gives every host exactly its share in every period.
func newWeightedRoundRobin(hosts []Entry, old Balancer, seed uint64) Balancer {
	g, sum := uint64(0), uint64(0)
	for i := range hosts {
		w := uint64(hosts[i].weight())
		g, sum = gcd(g, w), sum+w
	}
	if sum/g <= maxPeriod {
		return &sequence{order: layOut(hosts, g), turn: turnOf(old, seed)}
	}
	weights := make([]float64, len(hosts))
	for i := range hosts {
		weights[i] = float64(hosts[i].weight())
	}
	s := newSchedule(weights)
	for range seed % uint64(len(hosts)) {
		s.pick(nil) // the shards of many proxies should not all begin with the same host
	}
	return &scheduled{schedule: s}
}

// layOut lists the turns of one period. A host of weight w has its k-th turn at k/w;
// of turns at the same time, the host that waits longer comes first, which is the one of
// less weight.
func layOut(hosts []Entry, g uint64) []uint16 {
	type turn struct {
		k, w uint64
		host int
	}
	var turns []turn
	for i := range hosts {
		w := uint64(hosts[i].weight()) / g
		for k := uint64(1); k <= w; k++ {
			turns = append(turns, turn{k, w, i})
		}
	}
	slices.SortStableFunc(turns, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.k*b.w, b.k*a.w), cmp.Compare(a.w, b.w))
	})
	order := make([]uint16, len(turns))
	for i, t := range turns {
		order[i] = uint16(t.host)
	}
	return order
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// A sequence repeats a list of turns.
type sequence struct {
	order []uint16
	turn  *atomic.Uint64
}

func (s *sequence) Pick(c Choice) int {
	return int(s.order[take(s.turn, c)%uint64(len(s.order))])
}
