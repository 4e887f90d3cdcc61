package cluster

import (
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/stats"
)

// OutlierConfig says when a host is taken out for a while. Nil and zero fields take
// Envoy's defaults, given in the comments.
type OutlierConfig struct {
	Consecutive5xx     *uint32       // 5; 0: off
	ConsecutiveGateway *uint32       // 5; 0: off
	ConsecutiveLocal   *uint32       // 5; 0: off; only if Split
	Enforce5xx         *uint32       // 100 (percent)
	EnforceGateway     *uint32       // 0
	EnforceLocal       *uint32       // 100
	Interval           time.Duration // 10 s
	BaseEjection       time.Duration // 30 s
	MaxEjection        time.Duration // 300 s, at least BaseEjection
	Jitter             time.Duration // 0
	MaxEjectionPercent *uint32       // 10
	AlwaysEjectOne     bool          // one host may be ejected whatever the percentage
	Split              bool          // local errors count apart (split_external_local_origin_errors)

	SuccessHosts            *uint32 // 5: hosts with volume, below which rates of success say nothing
	SuccessVolume           *uint32 // 100 attempts in an interval
	SuccessDeviation        *uint32 // 1900: a thousandth of standard deviations below the mean
	EnforceSuccessRate      *uint32 // 100
	EnforceLocalSuccessRate *uint32 // 100; only if Split
	FailureHosts            *uint32 // 5
	FailureVolume           *uint32 // 50
	FailureThreshold        *uint32 // 85 (percent)
	EnforceFailure          *uint32 // 0
	EnforceLocalFailure     *uint32 // 0; only if Split

	IsError func(*header.Map) bool // of a response, in place of 5xx; nil: 5xx

	DetectDegraded bool // a response that is no error and has x-envoy-degraded makes its host a degraded one
}

func (o OutlierConfig) withDefaults() OutlierConfig {
	number := func(p **uint32, v uint32) {
		if *p == nil {
			*p = &v
		}
	}
	span := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	number(&o.Consecutive5xx, 5)
	number(&o.ConsecutiveGateway, 5)
	number(&o.ConsecutiveLocal, 5)
	number(&o.Enforce5xx, 100)
	number(&o.EnforceGateway, 0)
	number(&o.EnforceLocal, 100)
	number(&o.MaxEjectionPercent, 10)
	number(&o.SuccessHosts, 5)
	number(&o.SuccessVolume, 100)
	number(&o.SuccessDeviation, 1900)
	number(&o.EnforceSuccessRate, 100)
	number(&o.EnforceLocalSuccessRate, 100)
	number(&o.FailureHosts, 5)
	number(&o.FailureVolume, 50)
	number(&o.FailureThreshold, 85)
	number(&o.EnforceFailure, 0)
	number(&o.EnforceLocalFailure, 0)
	span(&o.Interval, 10*time.Second)
	span(&o.BaseEjection, 30*time.Second)
	span(&o.MaxEjection, 300*time.Second)
	o.MaxEjection = max(o.MaxEjection, o.BaseEjection)
	return o
}

// A ResultKind says how an attempt ended.
type ResultKind uint8

// The kinds.
const (
	Response       ResultKind = iota // a response came, with Code
	ConnectOK                        // a request has got a connection; more is to come (HTTP)
	ConnectOKFinal                   // a connection was made and that is all we will know (TCP)
	ConnectFailed                    // local origin: no connection, or it broke
	Timeout                          // local origin: no answer in time
	RequestFailed                    // the host answered something that is a failure without a code
	RequestOK
)

// A Result is the end of one attempt.
type Result struct {
	Kind     ResultKind
	Code     int
	Degraded bool // the response says that the host would rather be used last
}

// A detector is one of the counts that may eject a host.
type detector uint8

const (
	by5xx detector = iota
	byGateway
	byLocal
	bySuccessRate
	byLocalSuccessRate
	byFailureRate
	byLocalFailureRate
	byDegradation // which ejects nobody
)

// outlierState is what detection knows of a host.
type outlierState struct {
	errors, gateway, local atomic.Uint32              // consecutive
	external, internal     tally                      // since the last sweep; of answers, and if Split of connections
	rates                  [2]atomic.Pointer[float64] // of success, of answers and of connections, in the last interval; nil: there were not enough

	// Guarded by the cluster's mu.
	ejections           uint32 // in all
	ejected, lastResort term   // out, and degraded
}

// Report takes note of a result. It may eject the host at once. It takes a lock only if
// a limit is reached and the host is not out yet.
func (c *Cluster) Report(h *Host, r Result, now time.Time) {
	o := c.Outlier
	if o == nil {
		return
	}
	s := &h.outlier
	code := r.Code
	switch r.Kind {
	case ConnectOK:
		if o.Split {
			s.internal.add(false)
			s.clear(&s.local)
		}
		return
	case ConnectOKFinal:
		if o.Split {
			s.internal.add(false)
			s.clear(&s.local)
			return
		}
		code = 200
	case ConnectFailed, Timeout:
		if o.Split {
			s.internal.add(true)
			if reached(s.local.Add(1), *o.ConsecutiveLocal) {
				c.detected(h, byLocal, now)
			}
			return
		}
		code = 503 // as Envoy counts it: a gateway error
		if r.Kind == Timeout {
			code = 504
		}
	case RequestFailed:
		code = 500
	case RequestOK:
		code = 200
	}
	bad := code >= 500 && code <= 599
	s.external.add(bad)
	if !bad {
		s.clear(&s.errors)
		s.clear(&s.gateway)
		if r.Degraded {
			c.degrade(h, now)
		}
		return
	}
	if code >= 502 && code <= 504 {
		if reached(s.gateway.Add(1), *o.ConsecutiveGateway) {
			c.detected(h, byGateway, now)
		}
	} else {
		s.clear(&s.gateway)
	}
	if reached(s.errors.Add(1), *o.Consecutive5xx) {
		c.detected(h, by5xx, now)
	}
}

// reached reports whether a count is at its limit, or above one that was lowered; 0 is none.
func reached(n, limit uint32) bool { return limit > 0 && n >= limit }

// clear writes only if there is something to clear: the line is shared by all shards.
func (s *outlierState) clear(n *atomic.Uint32) {
	if n.Load() != 0 {
		n.Store(0)
	}
}

// detected is called by whoever brings a count to its limit. Who is under way through a cluster that was replaced tells
// its successor, whose hosts they are.
func (c *Cluster) detected(h *Host, d detector, now time.Time) {
	if h.ejected.Load() {
		return
	}
	c.mu.Lock()
	if next := c.next; next != nil {
		c.mu.Unlock()
		if next.Outlier != nil {
			next.detected(h, d, now)
		}
		return
	}
	defer c.mu.Unlock()
	n, limit := &h.outlier.errors, *c.Outlier.Consecutive5xx
	switch d {
	case byGateway:
		n, limit = &h.outlier.gateway, *c.Outlier.ConsecutiveGateway
	case byLocal:
		n, limit = &h.outlier.local, *c.Outlier.ConsecutiveLocal
	}
	if h.ejected.Load() || !c.member(h) || !reached(n.Load(), limit) { // another shard was here first
		return
	}
	if n.Store(0); d == by5xx { // so that the next limit is noticed, too
		c.Stats.Outlier.EjectionsConsecutive5xx.Inc()
	}
	if c.consider(h, finding{by: d}, now) {
		c.renew()
	}
}

// consider ejects a host that was detected, if that is allowed and enforced; the host set is then to be
// made anew. The caller holds c.mu.
func (c *Cluster) consider(h *Host, f finding, now time.Time) bool {
	d := f.by
	if h.ejected.Load() {
		return false
	}
	st := &c.Stats.Outlier
	detected, enforced, enforce := c.counters(d)
	detected.Inc()
	if !c.mayEject() {
		st.EjectionsOverflow.Inc()
		return false
	}
	if d == by5xx || d == bySuccessRate {
		st.EjectionsTotal.Inc()
	}
	if c.random.Uint32N(100) >= enforce {
		c.tellEject(h, f, false, now)
		return false
	}
	enforced.Inc()
	c.eject(h, now)
	c.tellEject(h, f, true, now)
	return true
}

// counters are what counts a kind of ejection, and the percentage of it that is enforced.
func (c *Cluster) counters(d detector) (detected, enforced *stats.Counter, enforce uint32) {
	st, o := &c.Stats.Outlier, c.Outlier
	switch d {
	case byGateway:
		return &st.EjectionsDetectedGateway, &st.EjectionsEnforcedGateway, *o.EnforceGateway
	case byLocal:
		return &st.EjectionsDetectedLocalOrigin, &st.EjectionsEnforcedLocalOrigin, *o.EnforceLocal
	case bySuccessRate:
		st.EjectionsSuccessRate.Inc()
		return &st.EjectionsDetectedSuccessRate, &st.EjectionsEnforcedSuccessRate, *o.EnforceSuccessRate
	case byLocalSuccessRate:
		st.EjectionsSuccessRate.Inc()
		return &st.EjectionsDetectedLocalSuccessRate, &st.EjectionsEnforcedLocalSuccessRate, *o.EnforceLocalSuccessRate
	case byFailureRate:
		return &st.EjectionsDetectedFailure, &st.EjectionsEnforcedFailure, *o.EnforceFailure
	case byLocalFailureRate:
		return &st.EjectionsDetectedLocalFailure, &st.EjectionsEnforcedLocalFailure, *o.EnforceLocalFailure
	}
	return &st.EjectionsDetectedConsecutive5xx, &st.EjectionsEnforcedConsecutive5xx, *o.Enforce5xx
}

// member reports whether a host with this state is still in the cluster.
func (c *Cluster) member(h *Host) bool {
	return indexOf(c.hosts.Load().All, h.State) >= 0
}

// mayEject applies the percentage of hosts that may be out at a time.
func (c *Cluster) mayEject() bool {
	if c.ejected == 0 && c.Outlier.AlwaysEjectOne {
		return true
	}
	return 100*(c.ejected+1) <= int(min(*c.Outlier.MaxEjectionPercent, 100))*len(c.hosts.Load().All)
}

// eject takes a host out, for longer each time. The caller holds c.mu and has the host set made anew.
func (c *Cluster) eject(h *Host, now time.Time) {
	h.outlier.ejected.begin(c, now)
	h.outlier.ejections++
	h.ejected.Store(true)
	h.failed()
	c.ejected++
	c.Stats.Outlier.EjectionsActive.Set(int64(c.ejected))
	c.Stats.Outlier.EjectionsEnforcedTotal.Inc()
}

// uneject lets a host back in. The caller holds c.mu and has the host set made anew.
func (c *Cluster) uneject(h *Host, now time.Time) {
	h.ejected.Store(false)
	s := &h.outlier
	s.ejected.ended = now
	s.clear(&s.errors)
	s.clear(&s.gateway)
	s.clear(&s.local)
	c.ejected--
	c.Stats.Outlier.EjectionsActive.Set(int64(c.ejected))
}

// Sweep does what is due: it ends ejections, lets the memory of old ones fade, makes weights of what hosts report, and
// forgets original destinations that nobody uses. It returns when something will be
// due again: the zero time is never.
func (c *Cluster) Sweep(now time.Time) time.Time {
	if c.ByAddress() {
		c.mu.Lock()
		due := !now.Before(c.sweepAt)
		if due {
			c.sweepAt = now.Add(originalSweep)
		}
		next := c.sweepAt
		c.mu.Unlock()
		if due {
			c.sweepOriginal()
		}
		return next
	}
	weigh, sweep := c.weighDue(now), c.sweepOutliers(now)
	if weigh.IsZero() || !sweep.IsZero() && sweep.Before(weigh) {
		return sweep
	}
	return weigh
}

// sweepOutliers does what is due of outlier detection, and returns when something will be due again.
func (c *Cluster) sweepOutliers(now time.Time) time.Time {
	if c.Outlier == nil {
		return time.Time{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.next != nil:
		return time.Time{}
	case c.sweepAt.IsZero():
		c.sweepAt = now.Add(c.Outlier.Interval)
		return c.sweepAt
	case now.Before(c.sweepAt):
		return c.sweepAt
	}
	c.sweepAt = now.Add(c.Outlier.Interval)
	changed := false
	hosts := c.hosts.Load().All
	for _, h := range hosts {
		if h.ejected.Load() && h.outlier.ejected.over(now) {
			c.uneject(h, now)
			c.tellUneject(h, now)
			changed = true
		}
		if h.lastResort.Load() && h.outlier.lastResort.over(now) {
			h.undegrade(now)
			c.tellUneject(h, now)
			changed = true
		}
	}
	changed = c.rates(hosts, now) || changed
	for _, h := range hosts {
		if !h.ejected.Load() {
			h.outlier.ejected.fade(c, now)
		}
		if !h.lastResort.Load() {
			h.outlier.lastResort.fade(c, now)
		}
	}
	if changed {
		c.renew()
	}
	return c.sweepAt
}

// originalSweep is how long an original destination is remembered unused, at least (cleanup_interval).
const originalSweep = 5 * time.Second
