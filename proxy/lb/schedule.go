package lb

import (
	"math"
	"sync"
)

// A schedule is an earliest-deadline-first queue, as Envoy's EdfScheduler: a host's
// next turn comes 1/weight after its last one, and of equal turns the one that was
// queued first comes first.
type schedule struct {
	now    float64
	queued uint64
	heap   []turn
	weight []float64
}

type turn struct {
	deadline float64
	order    uint64
	host     int
}

func newSchedule(weights []float64) *schedule {
	s := &schedule{weight: weights, heap: make([]turn, 0, len(weights))}
	for i := range weights {
		s.push(i, weights[i])
	}
	return s
}

// pick takes the host whose turn it is and queues it again, with its own weight or with what dynamic says.
func (s *schedule) pick(dynamic func(host int) float64) int {
	t := s.heap[0]
	s.now = t.deadline
	w := s.weight[t.host]
	if dynamic != nil {
		w = dynamic(t.host)
	}
	s.queued++
	s.heap[0] = turn{s.now + 1/w, s.queued, t.host}
	s.down(0)
	return t.host
}

func (s *schedule) push(host int, weight float64) {
	s.queued++
	s.heap = append(s.heap, turn{s.now + 1/weight, s.queued, host})
	for i := len(s.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !s.heap[i].before(s.heap[up]) {
			return
		}
		s.heap[i], s.heap[up] = s.heap[up], s.heap[i]
		i = up
	}
}

func (s *schedule) down(i int) {
	for {
		least, l, r := i, 2*i+1, 2*i+2
		if l < len(s.heap) && s.heap[l].before(s.heap[least]) {
			least = l
		}
		if r < len(s.heap) && s.heap[r].before(s.heap[least]) {
			least = r
		}
		if least == i {
			return
		}
		s.heap[i], s.heap[least] = s.heap[least], s.heap[i]
		i = least
	}
}

func (t turn) before(u turn) bool {
	if t.deadline != u.deadline {
		return t.deadline < u.deadline
	}
	return t.order < u.order
}

// A scheduled balancer runs a schedule that cannot be laid out beforehand.
type scheduled struct {
	mu       sync.Mutex // guards schedule and ahead
	schedule *schedule
	dynamic  func(host int) float64
	ahead    []int // picks that were foreseen, the next one first
}

func (s *scheduled) Pick(c Choice) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := int(c.Ahead); n > 0 {
		for len(s.ahead) < n {
			s.ahead = append(s.ahead, s.schedule.pick(s.dynamic))
		}
		return s.ahead[n-1]
	}
	if len(s.ahead) > 0 {
		i := s.ahead[0]
		s.ahead = append(s.ahead[:0], s.ahead[1:]...)
		return i
	}
	return s.schedule.pick(s.dynamic)
}

// newScheduled returns a schedule of n hosts whose weights are asked for at each turn.
func newScheduled(n int, weight func(i int) float64) *scheduled {
	weights := make([]float64, n)
	for i := range weights {
		weights[i] = weight(i)
	}
	return &scheduled{schedule: newSchedule(weights), dynamic: weight}
}

// Weighted returns a balancer that gives turns by weight alone: to localities, say. Old is
// the one it replaces, or nil.
func Weighted(weights []float64, old Balancer, seed uint64) Balancer {
	if len(weights) == 0 {
		return empty{}
	}
	entries := make([]Entry, len(weights))
	for i, w := range weights {
		if w != math.Trunc(w) || w < 1 || w > math.MaxUint32 {
			s := newSchedule(weights)
			for range seed % uint64(len(weights)) {
				s.pick(nil)
			}
			return &scheduled{schedule: s}
		}
		entries[i].Weight = uint32(w)
	}
	if equalWeights(entries) {
		return newRoundRobin(len(entries), old, seed)
	}
	return newWeightedRoundRobin(entries, old, seed)
}
