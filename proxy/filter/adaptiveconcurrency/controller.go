package adaptiveconcurrency

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/stats"
)

// A Config says how the limit follows the latencies. It must not change.
type Config struct {
	Off    bool
	Status int // of answers

	Percentile         float64 // of the latencies of an interval that stands for them, as a part of 1
	Update             time.Duration
	MinLimit, MaxLimit int

	Fixed          time.Duration // the lowest latency, if it is not measured
	Every          time.Duration // between two measurements; 0: there is none
	Requests       int           // that a measurement takes
	MinConcurrency int           // the limit meanwhile
	Jitter         float64       // part of Every by which it may be longer
	Buffer         float64       // part of the lowest latency by which latencies may be higher
}

// A controller holds a limit for all shards. They share atomics only: whoever finds that something is due and that
// nobody else does it, does it. So there is no timer, and without requests nothing happens.
type controller struct {
	*Config
	stats *stats.Gradient

	outstanding atomic.Int64
	limit       atomic.Int64
	samples     histogram
	measuring   atomic.Bool
	epoch       atomic.Int64 // requests that came before are in no measurement
	due         atomic.Int64 // when something is to be done

	busy      atomic.Bool // guards what follows
	update    int64       // when the limit is calculated anew
	measure   int64       // when a measurement begins; 0: never
	lowest    int64       // latency, in microseconds
	deferred  int64       // the limit that counts when the measurement is over
	atMinimum int         // so many times one after another
}

// forgetAfter is how often the limit is the smallest one before the lowest latency is no longer believed.
const forgetAfter = 5

func newController(c *Config, s *stats.Gradient) *controller {
	out := &controller{Config: c, stats: s, lowest: c.Fixed.Microseconds()}
	first := int64(c.MinLimit)
	if c.Every > 0 { // the limit of the measurement stays in force after the first one, as in Envoy
		first = int64(c.MinConcurrency)
		out.deferred = first
		out.measuring.Store(true)
		s.Measuring.Set(1)
	}
	out.limit.Store(first)
	s.ConcurrencyLimit.Set(first)
	s.MinRTT.Set(c.Fixed.Milliseconds())
	return out
}

// enter admits a request, if there is room for it.
func (c *controller) enter() bool {
	if c.outstanding.Add(1) > c.limit.Load() {
		c.outstanding.Add(-1)
		c.stats.Blocked.Inc()
		return false
	}
	return true
}

// leave ends a request of which the latency says nothing.
func (c *controller) leave() { c.outstanding.Add(-1) }

// done ends a request.
func (c *controller) done(began, now int64, random uint64) {
	c.advance(now)
	c.leave()
	if began < c.epoch.Load() {
		return
	}
	c.samples.record((now - began) / int64(time.Microsecond))
	if c.measuring.Load() && c.samples.count() >= c.Requests && c.busy.CompareAndSwap(false, true) {
		if c.measuring.Load() && c.samples.count() >= c.Requests {
			c.measured(now, random)
		}
		c.busy.Store(false)
	}
}

// advance does what is due.
func (c *controller) advance(now int64) {
	if now < c.due.Load() || !c.busy.CompareAndSwap(false, true) {
		return
	}
	if c.update == 0 {
		c.update = now + int64(c.Update)
	}
	for !c.measuring.Load() && (now >= c.update || c.measure != 0 && now >= c.measure) {
		if c.measure != 0 && c.measure <= c.update {
			c.startMeasuring(now)
			break
		}
		c.update = now + int64(c.Update)
		c.calculate(now)
	}
	c.plan()
	c.busy.Store(false)
}

// plan notes when there is something to do next.
func (c *controller) plan() {
	switch {
	case c.measuring.Load():
		c.due.Store(math.MaxInt64)
	case c.measure != 0:
		c.due.Store(min(c.update, c.measure))
	default:
		c.due.Store(c.update)
	}
}

// startMeasuring begins to look for the lowest latency, with few requests at a time.
func (c *controller) startMeasuring(now int64) {
	c.deferred = c.limit.Load()
	c.measuring.Store(true)
	c.stats.Measuring.Set(1)
	c.setLimit(int64(c.MinConcurrency), now)
	c.samples.clear()
	c.epoch.Store(now)
}

// measured ends a measurement.
func (c *controller) measured(now int64, random uint64) {
	c.lowest = c.samples.quantile(c.Percentile)
	c.samples.clear()
	c.stats.MinRTT.Set(c.lowest / 1000)
	c.setLimit(c.deferred, now)
	c.measuring.Store(false)
	c.stats.Measuring.Set(0)
	c.update, c.measure = now+int64(c.Update), now+int64(c.Every)
	if c.Jitter > 0 {
		c.measure += int64(random % uint64(math.Ceil(float64(c.Every)*c.Jitter)))
	}
	c.plan()
}

// calculate has the limit follow the latencies since the last time, if there were any.
func (c *controller) calculate(now int64) {
	if c.samples.count() == 0 {
		return
	}
	latency := c.samples.quantile(c.Percentile)
	c.samples.clear()
	c.stats.SampleRTT.Set(latency / 1000)
	gradient := 2.0
	if latency > 0 {
		gradient = min(2, max(0.5, float64(c.lowest)*(1+c.Buffer)/float64(latency)))
	}
	c.stats.Gradient.Set(int64(gradient * 1000))
	limit := float64(c.limit.Load()) * gradient
	headroom := math.Sqrt(limit)
	c.stats.BurstQueueSize.Set(int64(headroom))
	c.setLimit(int64(max(float64(c.MinLimit), min(float64(c.MaxLimit), limit+headroom))), now)
}

// setLimit changes the limit. If it has been the smallest one for long, the lowest latency is measured anew: it may
// be that of a better day.
func (c *controller) setLimit(n, now int64) {
	old := c.limit.Swap(n)
	c.stats.ConcurrencyLimit.Set(n)
	if smallest := int64(c.MinLimit); c.measuring.Load() || old != smallest || n != smallest {
		c.atMinimum = 0
		return
	}
	if c.atMinimum++; c.atMinimum >= forgetAfter && c.Every > 0 {
		c.measure = now
	}
}
