package cluster

import "time"

// A term is the time for which something holds that outlier detection has decided of a host: that it is out, or that it
// is degraded. Each is longer than the last, unless the host was quiet in between. The cluster's mu guards it.
type term struct {
	times uint32    // begun, less the quiet intervals since
	began time.Time // last
	until time.Time
	ended time.Time // last
}

func (t *term) begin(c *Cluster, now time.Time) {
	o := c.Outlier
	if o.BaseEjection*time.Duration(t.times) < o.MaxEjection+o.BaseEjection {
		t.times++ // no higher: it fades by one an interval
	}
	span := min(o.BaseEjection*time.Duration(t.times), o.MaxEjection)
	if o.Jitter > 0 {
		span += time.Duration(c.random.Int64N(int64(o.Jitter) + 1))
	}
	t.began, t.until = now, now.Add(span)
}

func (t *term) over(now time.Time) bool { return !now.Before(t.until) }

// fade makes the next term shorter again after a quiet interval.
func (t *term) fade(c *Cluster, now time.Time) {
	if t.times > 0 && now.Sub(t.ended) >= c.Outlier.Interval {
		t.times--
	}
}
