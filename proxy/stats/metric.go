package stats

import (
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

// A Histogram counts values, mostly milliseconds, in Envoy's default buckets.
type Histogram struct {
	sum    atomic.Uint64 // in 1/1000 of the unit
	counts [numBuckets]atomic.Uint64
}

// Codes counts HTTP responses by status: "<name>_2xx" by class and, where asked for, "<name>_200" by code.
type Codes struct {
	class [5]Counter
	codes atomic.Pointer[codeTable]
}

// A codeTable is a copy-on-write list of the codes that were seen.
type codeTable struct {
	codes    []uint16
	counters []*Counter
}

// Record counts a value.
func (h *Histogram) Record(v uint64) {}

// Add counts a response.
func (c *Codes) Add(code int) {}

// Add counts a response.
func (c *ClassCodes) Add(code int) {}
