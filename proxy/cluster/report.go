package cluster

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/orca"
)

// Hosts may say of themselves how much they can bear (client_side_weighted_round_robin): a report in a response makes a weight,
// which counts from the next look at all hosts on. Shards write what was reported into the hosts, by atomics; the
// weights of all hosts are made beside them, and published as a new set of hosts.

// Reported says how hosts' reports make their weights.
type Reported struct {
	Metrics    orca.Metrics  // of utilization, before that of the application and that of the processor
	Penalty    float64       // what an error for each request is worth in utilization
	Blackout   time.Duration // how long a host has to report before its weight counts
	Expiration time.Duration // how long a weight counts without another report
	Update     time.Duration // how often weights are made
}

// reportedWeight is what a host has reported. Like Envoy's, its parts are written one by one: whoever reads between them sees a weight
// that is newer than its time, for one look.
type reportedWeight struct {
	weight      atomic.Uint32
	since, last atomic.Int64 // when reports began, and when the last came, as moments; 0: never
}

var epoch = time.Now()

// moment is a time in nanoseconds that nobody sets; never 0.
func moment(t time.Time) int64 { return int64(t.Sub(epoch)) | 1 }

// TakeReport takes note of what a response's headers or trailers say of a host's load, and reports whether they say something. An answer
// whose report cannot be read says nothing, so that its trailers may.
func (c *Cluster) TakeReport(h *Host, m *header.Map, now time.Time) bool {
	if c.Reported == nil || c.ByAddress() {
		return false
	}
	var r orca.Report
	there, err := r.Read(m, c.Reported.Metrics)
	if !there || err != nil {
		return false
	}
	if w, err := r.Weight(c.Reported.Penalty); err == nil {
		h.reported.take(w, now)
	}
	return true
}

func (s *reportedWeight) take(weight uint32, now time.Time) {
	s.weight.Store(weight)
	s.last.Store(moment(now))
	s.since.CompareAndSwap(0, moment(now))
}

// counting returns the weight if it counts now. After reports have stopped for too long they begin anew.
func (s *reportedWeight) counting(p *Reported, now time.Time) (uint32, bool) {
	since, at := s.since.Load(), moment(now)
	if since == 0 || at-since < int64(p.Blackout) {
		return 0, false
	}
	if at-s.last.Load() > int64(p.Expiration) {
		s.since.CompareAndSwap(since, 0)
		return 0, false
	}
	return s.weight.Load(), true
}

// reweigh returns the hosts with the weights that count now, and whether some are others than before. Hosts without one have the median of
// those of their priority, or 1.
func (c *Cluster) reweigh(hosts []*Host, now time.Time) ([]*Host, bool) {
	weights := make([]uint32, len(hosts))
	counts := make([]bool, len(hosts))
	byLevel := map[uint32][]uint32{}
	for i, h := range hosts {
		if weights[i], counts[i] = h.reported.counting(c.Reported, now); counts[i] {
			byLevel[h.Priority] = append(byLevel[h.Priority], weights[i])
		}
	}
	medians := make(map[uint32]uint32, len(byLevel))
	for level, list := range byLevel {
		medians[level] = median(list)
	}
	out, changed := make([]*Host, len(hosts)), false
	for i, h := range hosts {
		w := max(weights[i], 1)
		if !counts[i] {
			w = max(medians[h.Priority], 1)
		}
		if out[i] = h; h.Weight != w {
			other := *h
			other.Weight = w
			out[i], changed = &other, true
		}
	}
	return out, changed
}

// median is the middle of a list, or the mean of the two in the middle. It sorts the list.
func median(list []uint32) uint32 {
	slices.Sort(list)
	middle := len(list) / 2
	if len(list)%2 == 1 {
		return list[middle]
	}
	return uint32((uint64(list[middle-1]) + uint64(list[middle])) / 2)
}

// weigh makes the weights of all hosts anew, and the set of hosts if some are others. As in Envoy that is no change of the hosts.
func (c *Cluster) weigh(now time.Time) {
	c.building.Lock()
	defer c.building.Unlock()
	set := c.hosts.Load()
	hosts, changed := c.reweigh(set.All, now) // without mu: shards wait for that
	if !changed {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.rebuildAs(hosts, set.Change)
		c.tell(hosts)
	}
}

// weighDue has the weights made if it is time, beside the shard, and returns when it will be the next time; zero: never.
func (c *Cluster) weighDue(now time.Time) time.Time {
	if c.Reported == nil || c.ByAddress() {
		return time.Time{}
	}
	c.mu.Lock()
	if c.next != nil {
		c.mu.Unlock()
		return time.Time{}
	}
	due := !c.weighAt.IsZero() && !now.Before(c.weighAt)
	if due || c.weighAt.IsZero() {
		c.weighAt = now.Add(c.Reported.Update)
	}
	next := c.weighAt
	c.mu.Unlock()
	switch {
	case !due:
	case c.Aside != nil:
		c.Aside(func() { c.weigh(now) })
	default:
		c.weigh(now)
	}
	return next
}
