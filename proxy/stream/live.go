package stream

import (
	"iter"
	"slices"
	"sync/atomic"
)

// A Live is a chain of which filters change while connections have it (config_discovery): requests that have begun keep the
// filters that they began with. One goroutine at a time changes it, and all shards read it.
type Live struct{ chain atomic.Pointer[Chain] }

// NewLive returns a chain that begins so.
func NewLive(filters []Factory, off uint64) *Live {
	l := &Live{}
	l.chain.Store(&Chain{Filters: filters, Off: off})
	return l
}

// Now is the chain for requests that begin now.
func (l *Live) Now() *Chain { return l.chain.Load() }

// Replace puts another filter in the place of the i-th.
func (l *Live) Replace(i int, f Factory) {
	c := l.Now()
	next := &Chain{Filters: slices.Clone(c.Filters), Off: c.Off}
	next.Filters[i] = f
	l.chain.Store(next)
}

// Factories are those of all chains of the moment.
func (c *Config) Factories() iter.Seq[Factory] {
	return func(yield func(Factory) bool) {
		chains := []*Chain{{Filters: c.Filters, Live: c.Live}}
		for _, own := range c.UpgradeChains {
			chains = append(chains, own)
		}
		for _, chain := range chains {
			for _, f := range chain.now().Filters {
				if !yield(f) {
					return
				}
			}
		}
	}
}
