package lb

import (
	"slices"
	"strings"
)

// A table is a Maglev table (Eisenbud et al., "Maglev: a fast and reliable software network load balancer",
// section 3.4): hosts take turns in choosing slots, each by a permutation of its own.
// Permutations and turns are Envoy's to the bit.
type table struct {
	slots  []uint32
	spread Spread
}

func newTable(p *Policy, hosts []Entry, s shares) *table {
	size := p.table()
	t := &table{slots: make([]uint32, size), spread: Spread{Size: size, Min: size}}
	type builder struct {
		slot, skip uint64 // the next slot of the permutation, and the step to the one after
		target     float64
		count      uint64
	}
	build := make([]builder, len(hosts))
	order := make([]int, len(hosts)) // of turns: by key, so that the order of endpoints does not matter
	for i := range hosts {
		order[i] = i
		build[i].slot = HashString(hosts[i].Key) % size
		build[i].skip = HashOn(1, []byte(hosts[i].Key))%(size-1) + 1
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(hosts[a].Key, hosts[b].Key) })
	for filled, round := uint64(0), 1.0; filled < size; round++ {
		for _, i := range order {
			b := &build[i]
			// A host of a third of the greatest weight chooses in every third round.
			if filled == size || float64(round*s.of[i]) < b.target {
				continue
			}
			b.target += s.max
			for t.slots[b.slot] != 0 {
				b.slot = (b.slot + b.skip) % size
			}
			t.slots[b.slot] = uint32(i) + 1
			b.count++
			filled++
		}
	}
	for i := range t.slots {
		t.slots[i]--
	}
	for i := range build {
		t.spread.Min, t.spread.Max = min(t.spread.Min, build[i].count), max(t.spread.Max, build[i].count)
	}
	if len(hosts) == 1 { // Envoy makes no table then
		t.spread.Min, t.spread.Max = 1, 1
	}
	return t
}

func (t *table) Pick(c Choice) int {
	h := c.Hash
	if c.Attempt > 0 { // change many bits, so that retries spread
		h ^= ^uint64(0) - uint64(c.Attempt) + 1
	}
	return int(t.slots[h%uint64(len(t.slots))])
}
