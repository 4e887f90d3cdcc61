package lb

import (
	"cmp"
	"math"
	"slices"
	"strconv"
)

// shares are the hosts' parts of all requests, which add up to 1.
type shares struct {
	of       []float64
	min, max float64
}

func newShares(hosts []Entry) shares {
	s := shares{of: make([]float64, len(hosts)), min: 1}
	sum, given := uint64(0), false
	for i := range hosts {
		sum += uint64(hosts[i].weight())
		given = given || hosts[i].Share > 0
	}
	for i := range hosts {
		if s.of[i] = hosts[i].Share; !given {
			s.of[i] = float64(hosts[i].weight()) / float64(sum)
		}
		s.min, s.max = min(s.min, s.of[i]), max(s.max, s.of[i])
	}
	return s
}

// A Spread says how a ring or table is divided among hosts.
type Spread struct{ Size, Min, Max uint64 }

// SpreadOf returns the division of a ring or table, and false for other balancers.
func SpreadOf(b Balancer) (Spread, bool) {
	switch b := b.(type) {
	case *ring:
		return b.spread, true
	case *table:
		return b.spread, true
	case *bounded:
		return SpreadOf(b.inner)
	}
	return Spread{}, false
}

// A ring is a Ketama ring: each host stands at many points, and a hash belongs to the
// first point at or after it. Points and search are Envoy's to the bit.
type ring struct {
	hashes []uint64
	host   []uint32
	spread Spread
}

type point struct {
	hash uint64
	host uint32
}

// newRing places the hosts. The size is such that the host of least weight has a
// whole number of points.
func newRing(p *Policy, hosts []Entry, s shares) *ring {
	scale := min(math.Ceil(s.min*float64(p.minRing()))/s.min, float64(p.maxRing()))
	size := uint64(math.Ceil(scale))
	points := make([]point, 0, size)
	r := &ring{spread: Spread{Size: size, Min: size}}
	var key []byte
	current, target := 0.0, 0.0
	for i := range hosts {
		key = append(append(key[:0], hosts[i].Key...), '_')
		prefix := len(key)
		target += float64(scale * s.of[i]) // converted: never fused, so that all machines agree
		n := uint64(0)
		for ; current < target; current++ {
			key = strconv.AppendUint(key[:prefix], n, 10)
			h := Hash(key)
			if p.Murmur {
				h = murmur2(key, murmurSeed)
			}
			points = append(points, point{h, uint32(i)})
			n++
		}
		r.spread.Min, r.spread.Max = min(r.spread.Min, n), max(r.spread.Max, n)
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	r.hashes, r.host = make([]uint64, len(points)), make([]uint32, len(points))
	for i, p := range points {
		r.hashes[i], r.host[i] = p.hash, p.host
	}
	return r
}

func (r *ring) Pick(c Choice) int {
	i, found := slices.BinarySearch(r.hashes, c.Hash)
	// The first point is never met exactly by Ketama's search, which compares with 0 there;
	// wrapping around gives it all the same.
	if !found && i == len(r.hashes) {
		i = 0
	}
	if c.Attempt > 0 { // as if the host before were not on the ring
		i = (i + int(c.Attempt)) % len(r.hashes)
	}
	return int(r.host[i])
}
