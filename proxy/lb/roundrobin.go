package lb

import (
	"math"
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

func (r *roundRobin) Pick(Choice) int { return int((r.turn.Add(1) - 1) % r.n) }

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
// needs no lock.
func newWeightedRoundRobin(hosts []Entry, old Balancer, seed uint64) Balancer {
	weights := make([]float64, len(hosts))
	g, sum := uint64(0), uint64(0)
	for i := range hosts {
		w := uint64(hosts[i].weight())
		weights[i], g, sum = float64(w), gcd(g, w), sum+w
	}
	for i := range weights {
		weights[i] /= float64(g)
	}
	period := sum / g
	if period > maxPeriod || len(hosts) > math.MaxUint16 {
		e := newSchedule(weights)
		for range seed % uint64(len(hosts)) {
			e.pick(nil)
		}
		return &scheduled{schedule: e}
	}
	s := &sequence{order: make([]uint16, period), turn: turnOf(old, seed)}
	e := newSchedule(weights)
	for i := range s.order {
		s.order[i] = uint16(e.pick(nil))
	}
	return s
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

func (s *sequence) Pick(Choice) int {
	return int(s.order[(s.turn.Add(1)-1)%uint64(len(s.order))])
}
