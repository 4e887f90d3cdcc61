package stats

import (
	"slices"
	"sync/atomic"
)

// A Counter only grows.
type Counter struct{ n atomic.Uint64 }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Add adds n.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Value is the present count.
func (c *Counter) Value() uint64 { return c.n.Load() }

// A Gauge goes up and down.
type Gauge struct{ n atomic.Int64 }

// Inc adds one.
func (g *Gauge) Inc() { g.n.Add(1) }

// Dec takes one away.
func (g *Gauge) Dec() { g.n.Add(-1) }

// Add adds n, which may be negative, and returns the new value.
func (g *Gauge) Add(n int64) int64 { return g.n.Add(n) }

// Set replaces the value.
func (g *Gauge) Set(n int64) { g.n.Store(n) }

// Value is the present value.
func (g *Gauge) Value() int64 { return g.n.Load() }

// bounds are Envoy's default buckets: upper bounds, in milliseconds for times. A value
// counts in the first bucket whose bound it does not exceed.
var bounds = [...]float64{
	0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
}

const numBuckets = len(bounds) + 1 // the last is what lies above all bounds

// A Histogram counts whole values, mostly milliseconds or bytes, in Envoy's default buckets.
type Histogram struct {
	sum    atomic.Uint64
	counts [numBuckets]atomic.Uint64
}

// Record counts a value.
func (h *Histogram) Record(v uint64) {
	h.counts[bucketOf(v)].Add(1)
	h.sum.Add(v)
}

func bucketOf(v uint64) int {
	if v == 0 {
		return 0
	}
	lo, hi := 1, numBuckets-1
	for lo < hi {
		mid := (lo + hi) / 2
		if v <= uint64(bounds[mid]) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// Count is the number of values.
func (h *Histogram) Count() uint64 {
	n := uint64(0)
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Sum is the sum of all values.
func (h *Histogram) Sum() uint64 { return h.sum.Load() }

// Quantile estimates a quantile (0 to 1) by interpolation within its bucket.
func (h *Histogram) Quantile(q float64) float64 {
	var counts [numBuckets]uint64
	total := uint64(0)
	for i := range counts {
		counts[i] = h.counts[i].Load()
		total += counts[i]
	}
	rank, seen := q*float64(total), 0.0
	for i, n := range counts {
		if n == 0 || seen+float64(n) < rank {
			seen += float64(n)
			continue
		}
		low, high := 0.0, bounds[min(i, len(bounds)-1)]
		if i > 0 {
			low = bounds[i-1]
		}
		return low + (high-low)*(rank-seen)/float64(n)
	}
	return 0
}

// Codes counts HTTP responses by class ("<name>_2xx") and by code ("<name>_200").
type Codes struct {
	ClassCodes
	codes atomic.Pointer[codeTable]
}

// ClassCodes counts HTTP responses by class only ("<name>_2xx").
type ClassCodes struct{ class [5]Counter }

// A codeTable lists the codes that were seen, sorted. It is replaced, never written.
type codeTable struct {
	codes    []uint16
	counters []*Counter
}

// Add counts a response. Codes outside 100 to 599 are left out.
func (c *ClassCodes) Add(code int) {
	if i := code/100 - 1; i >= 0 && i < len(c.class) {
		c.class[i].Inc()
	}
}

// Add counts a response. Codes outside 100 to 599 are left out.
func (c *Codes) Add(code int) {
	if code < 100 || code > 599 {
		return
	}
	c.ClassCodes.Add(code)
	for {
		t := c.codes.Load()
		if t != nil {
			if i, found := slices.BinarySearch(t.codes, uint16(code)); found {
				t.counters[i].Inc()
				return
			}
		}
		c.grow(t, uint16(code))
	}
}

// Class is the number of responses of a class, 1 to 5.
func (c *ClassCodes) Class(n int) uint64 { return c.class[n-1].Value() }

func (c *Codes) grow(old *codeTable, code uint16) {
	t := &codeTable{}
	if old != nil {
		t.codes, t.counters = slices.Clone(old.codes), slices.Clone(old.counters)
	}
	i, _ := slices.BinarySearch(t.codes, code)
	t.codes = slices.Insert(t.codes, i, code)
	t.counters = slices.Insert(t.counters, i, new(Counter))
	c.codes.CompareAndSwap(old, t) // who loses looks again
}
