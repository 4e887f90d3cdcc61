package cluster

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/stats"
)

// Limits are the thresholds of one priority. Nil fields take Envoy's defaults: 1024,
// retries 3.
type Limits struct {
	Connections, Pending, Requests, Retries *uint32
	PerHost                                 *uint32 // connections to one host; nil: any number
	Pools                                   *uint32 // connection pools, which are by worker, host and way to speak to it; nil: any number
	TrackRemaining                          bool    // fill the remaining_* gauges
	Budget                                  *Budget // replaces Retries
}

// A Budget bounds retries by a share of the requests in flight.
type Budget struct {
	Percent float64 // nil in Envoy: 20
	Min     uint32  // min_retry_concurrency, 3
	// Interval makes it a share of the requests that began in the last so long; 0: of those that are under way.
	Interval time.Duration
}

// Breakers are the limits of a cluster at one priority with their present use.
// All shards share them.
type Breakers struct {
	Connections, Pending, Requests Resource
	Retries                        Resource
	Pools                          Resource
	perHost                        int64 // connections to one host
	budget                         *Budget
	begun                          *window // of the budget; nil: it is of what is under way
}

// unlimited is the limit that nobody has set.
const unlimited = math.MaxInt64

// A Resource is something of which a limited number may be in use.
type Resource struct {
	max       int64
	used      atomic.Int64
	open      *stats.Gauge // 1 while nothing is left
	remaining *stats.Hash  // nil: not tracked
}

// TryAcquire takes one if there is one.
func (r *Resource) TryAcquire() bool {
	if n := r.used.Add(1); n > r.max {
		r.used.Add(-1)
		return false
	} else {
		r.changed(n)
	}
	return true
}

// Acquire takes one beyond the limit too: a pool that has no connection may always
// make one, else its requests would wait forever.
func (r *Resource) Acquire() { r.changed(r.used.Add(1)) }

// Release gives one back.
func (r *Resource) Release() { r.changed(r.used.Add(-1)) }

// Free reports whether one is left.
func (r *Resource) Free() bool { return r.used.Load() < r.max }

// Used is the number in use.
func (r *Resource) Used() int64 { return r.used.Load() }

// Limited reports whether somebody has set a limit.
func (r *Resource) Limited() bool { return r.max != unlimited }

// Max is the limit.
func (r *Resource) Max() int64 { return r.max }

func (r *Resource) changed(n int64) {
	if !r.Limited() && r.remaining == nil {
		return // nobody set a limit
	}
	open := int64(0)
	if n >= r.max {
		open = 1
	}
	if r.open.Value() != open {
		r.open.Set(open)
	}
	if r.remaining != nil {
		r.remaining.Set(r.left(n))
	}
}

// left is what remains of the limit when n are in use. No limit is one of 2^64-1 in Envoy.
func (r *Resource) left(n int64) uint64 {
	if !r.Limited() {
		return math.MaxUint64 - uint64(n)
	}
	return uint64(max(r.max-n, 0))
}

// TryConnect takes a place for a connection to a host, if there is one.
func (b *Breakers) TryConnect(h *Host) bool {
	return h.Connections.Value() < b.perHost && b.Connections.TryAcquire()
}

// init sets the limits. Remaining is nil unless the limits are to be tracked.
func (b *Breakers) init(l Limits, open *stats.Breakers, remaining *stats.Remaining) {
	limit := func(r *Resource, v *uint32, def int64, open *stats.Gauge) {
		r.max, r.open = def, open
		if v != nil {
			r.max = int64(*v)
		}
		open.Set(0) // of a limit of 0, too, until somebody asks: as Envoy's
	}
	if b.perHost = math.MaxInt64; l.PerHost != nil {
		b.perHost = int64(*l.PerHost)
	}
	limit(&b.Connections, l.Connections, 1024, &open.CxOpen)
	limit(&b.Pending, l.Pending, 1024, &open.RqPendingOpen)
	limit(&b.Requests, l.Requests, 1024, &open.RqOpen)
	limit(&b.Retries, l.Retries, 3, &open.RqRetryOpen)
	limit(&b.Pools, l.Pools, unlimited, &open.CxPoolOpen)
	if remaining != nil {
		b.Connections.remaining, b.Pending.remaining, b.Requests.remaining = &remaining.Cx, &remaining.Pending, &remaining.Rq
		b.Retries.remaining, b.Pools.remaining = &remaining.Retries, &remaining.CxPools
		for _, r := range [...]*Resource{&b.Connections, &b.Pending, &b.Requests, &b.Retries, &b.Pools} {
			r.remaining.Set(r.left(0))
		}
	}
	if b.budget = l.Budget; b.budget != nil && b.budget.Interval > 0 {
		b.begun = &window{step: max(1, b.budget.Interval/slots)}
	}
}

// Begin takes note of a request, for budgets that look back.
func (b *Breakers) Begin(now time.Time) {
	if b.begun != nil {
		b.begun.add(now)
	}
}

// TryRetry takes a place among the retries in flight if the limit, or the budget, allows one more.
func (b *Breakers) TryRetry(now time.Time) bool {
	if b.budget == nil {
		return b.Retries.TryAcquire()
	}
	active := b.Requests.Used() + b.Pending.Used()
	if b.begun != nil {
		active = b.begun.sum(now)
	}
	allowed := max(int64(b.budget.Percent/100*float64(active)), int64(b.budget.Min))
	n := b.Retries.used.Add(1)
	if n > allowed {
		b.retrying(b.Retries.used.Add(-1))
		return false
	}
	b.retrying(n)
	return true
}

// retrying sets the gauges under a budget as Envoy does: whether the limit would be reached that the budget replaces, and that
// nothing remains of it.
func (b *Breakers) retrying(n int64) {
	b.Retries.changed(n)
	if b.Retries.remaining != nil {
		b.Retries.remaining.Set(0)
	}
}

// EndRetry gives the place back.
func (b *Breakers) EndRetry() {
	if b.budget == nil {
		b.Retries.Release()
		return
	}
	b.retrying(b.Retries.used.Add(-1))
}
