package lb

import (
	"math"
	"sync"
)

// A bounded balancer is consistent hashing with bounded loads (Mirrokni et al., arXiv:1608.01350): a host takes at
// most so many times the average; what is above goes to others, tried in a random order
// that the hash seeds (arXiv:1908.08762), so that the same hash goes on to the same hosts.
type bounded struct {
	inner  Balancer
	hosts  []Entry
	shares []float64
	factor uint32
	total  func() int64
}

func (p *Policy) bounded(inner Balancer, hosts []Entry, s shares) Balancer {
	if p.Balance == 0 {
		return inner
	}
	return &bounded{inner, hosts, s.of, p.Balance, p.Total}
}

func (b *bounded) Pick(c Choice) int {
	chosen := b.inner.Pick(c)
	total := uint32(b.total())
	least, best := b.overload(chosen, total), chosen
	if least <= 1 {
		return chosen
	}
	p := probes.Get().(*probe)
	defer probes.Put(p)
	p.begin(uint32(c.Hash), len(b.hosts))
	for i := range b.hosts {
		k := p.next(i)
		if k == chosen {
			continue
		}
		o := b.overload(k, total)
		if o <= 1 {
			return k
		}
		if o < least {
			least, best = o, k
		}
	}
	return best
}

// overload is a host's load in parts of what it may have.
func (b *bounded) overload(i int, total uint32) float64 {
	slots := ((total+1)*b.factor + 99) / 100
	own := max(uint32(math.Ceil(float64(slots)*b.shares[i])), 1)
	return float64(b.hosts[i].Active.Load()) / float64(own)
}

// A probe draws the numbers of a list in an order that a seed fixes: Fisher and
// Yates' shuffle over the Mersenne Twister, because Envoy uses that.
type probe struct {
	state [624]uint32
	at    int
	order []uint32
}

var probes = sync.Pool{New: func() any { return new(probe) }}

func (p *probe) begin(seed uint32, n int) {
	p.state[0] = seed
	for i := uint32(1); i < uint32(len(p.state)); i++ {
		prev := p.state[i-1]
		p.state[i] = 1812433253*(prev^prev>>30) + i
	}
	p.at = len(p.state)
	p.order = p.order[:0]
	for i := range n {
		p.order = append(p.order, uint32(i))
	}
}

// next is the i-th number of the order.
func (p *probe) next(i int) int {
	j := i + int(p.below(uint32(len(p.order)-i)))
	p.order[i], p.order[j] = p.order[j], p.order[i]
	return int(p.order[i])
}

func (p *probe) below(n uint32) uint32 {
	bucket := uint32((1 << 32) / uint64(n)) // n is 1 at the last; then every number would do
	if n == 1 {
		p.draw()
		return 0
	}
	for {
		if x := p.draw() / bucket; x < n {
			return x
		}
	}
}

// draw is the next number of MT19937.
func (p *probe) draw() uint32 {
	const n, m = 624, 397
	if p.at == n {
		for i := range n {
			y := p.state[i]&0x80000000 | p.state[(i+1)%n]&0x7fffffff
			v := p.state[(i+m)%n] ^ y>>1
			if y&1 != 0 {
				v ^= 0x9908b0df
			}
			p.state[i] = v
		}
		p.at = 0
	}
	y := p.state[p.at]
	p.at++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}
