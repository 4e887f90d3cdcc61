package cluster

import (
	"math"
	"sync/atomic"
	"time"
)

// Rates of success, over the time between two sweeps, stand here: hosts that do worse than the
// others (success rate), or worse than a limit (failure percentage), are ejected.

// tally counts attempts since the last sweep.
type tally struct{ total, failed atomic.Uint32 }

func (t *tally) add(failed bool) {
	t.total.Add(1)
	if failed {
		t.failed.Add(1)
	}
}

// take returns what was counted and begins anew. What is reported meanwhile may count
// half, which no rate can feel.
func (t *tally) take() (total, failed uint32) { return t.total.Swap(0), t.failed.Swap(0) }

// A rate is how a host did.
type rate struct {
	host    *Host
	success float64 // percent
	volume  uint32
}

// Rates are how a cluster's hosts did between the last two sweeps.
type Rates struct {
	Average   float64 // percent of success
	Threshold float64 // below which a host was to be ejected
}

// SuccessRates says how the hosts did, as far as answers or, if local, connections go; nil: too few hosts had enough of them.
func (c *Cluster) SuccessRates(local bool) *Rates { return c.success[side(local)].Load() }

// SuccessRate is how the host did between the last two sweeps, in percent; nil: it had not enough to be judged.
func (s *State) SuccessRate(local bool) *float64 { return s.outlier.rates[side(local)].Load() }

func side(local bool) int {
	if local {
		return 1
	}
	return 0
}

// rates ejects hosts by what was counted since the last sweep. The caller holds c.mu. It reports whether
// the host set has to be made anew.
func (c *Cluster) rates(hosts []*Host, now time.Time) bool {
	changed := c.ratesOf(hosts, now, false)
	return c.ratesOf(hosts, now, true) || changed
}

func (c *Cluster) ratesOf(hosts []*Host, now time.Time, local bool) (changed bool) {
	o := c.Outlier
	var bySuccess, byFailure []rate
	sum := 0.0
	c.success[side(local)].Store(nil)
	enough := uint32(len(hosts)) >= min(*o.SuccessHosts, *o.FailureHosts)
	for _, h := range hosts {
		t := &h.outlier.external
		if local {
			t = &h.outlier.internal
		}
		h.outlier.rates[side(local)].Store(nil)
		total, failed := t.take()
		if !enough || total == 0 || h.ejected.Load() {
			continue
		}
		r := rate{h, 100 * float64(total-min(failed, total)) / float64(total), total}
		if total >= min(*o.SuccessVolume, *o.FailureVolume) {
			percent := r.success // its own: who reads it is not to keep the host alive
			h.outlier.rates[side(local)].Store(&percent)
		}
		if total >= *o.SuccessVolume {
			bySuccess = append(bySuccess, r)
			sum += r.success
		}
		if total >= *o.FailureVolume {
			byFailure = append(byFailure, r)
		}
	}
	if n := len(bySuccess); n > 0 && uint32(n) >= *o.SuccessHosts {
		limit := threshold(bySuccess, sum, float64(*o.SuccessDeviation)/1000)
		c.success[side(local)].Store(&Rates{sum / float64(n), limit})
		d := bySuccessRate
		if local {
			d = byLocalSuccessRate
		}
		for _, r := range bySuccess {
			if r.success < limit {
				changed = c.consider(r.host, finding{d, r.success, sum / float64(n), limit}, now) || changed
			}
		}
	}
	if n := len(byFailure); n > 0 && uint32(n) >= *o.FailureHosts {
		d := byFailureRate
		if local {
			d = byLocalFailureRate
		}
		for _, r := range byFailure {
			if 100-r.success >= float64(*o.FailureThreshold) {
				changed = c.consider(r.host, finding{by: d, success: r.success}, now) || changed
			}
		}
	}
	return changed
}

// threshold is the mean less so many standard deviations.
func threshold(rates []rate, sum, factor float64) float64 {
	mean := sum / float64(len(rates))
	variance := 0.0
	for _, r := range rates {
		variance += (r.success - mean) * (r.success - mean)
	}
	return mean - factor*math.Sqrt(variance/float64(len(rates)))
}
