package shard

import (
	"runtime"
	"sync/atomic"

	"github.com/mallamesh/malla/base/resident"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/overload"
)

// A Plane is the shards as the overload manager sees them.
type Plane struct{ *Shards }

var _ overload.Plane = Plane{}

// Accept stops accepting connections, or goes on.
func (p Plane) Accept(on bool) { p.each(func(o *one) { o.set.Accepting(on) }) }

// Rescale has times looked at again.
func (p Plane) Rescale() { p.each(func(o *one) { o.set.Rescale() }) }

// Reset resets streams that hold so many bytes or more, the largest of all shards first and until they held enough, and gives back what
// they held.
func (p Plane) Reset(least int, enough int64) int {
	n := reset(p.each, least, enough)
	if n > 0 {
		runtime.GC()
	}
	return n
}

// reset is one decision for all shards, which each then carries out on its own.
func reset(each func(func(*one)), least int, enough int64) int {
	var toll listen.Toll
	each(func(o *one) { o.set.Weigh(least, &toll) })
	least = toll.Decide(least, enough)
	var n atomic.Int64
	each(func(o *one) { n.Add(int64(o.set.Reset(least, &toll))) })
	return int(n.Load())
}

// Shrink gives unused memory back if there is more of it than that.
func (p Plane) Shrink(most int64) bool {
	if int64(overload.Memory().Free) <= most {
		return false
	}
	resident.Trim()
	return true
}
