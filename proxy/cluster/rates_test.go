package cluster

import (
	"slices"
	"testing"
	"time"
)

// attempts reports answers of a host in an interval, the failures first.
func attempts(c *Cluster, host, good, bad int, kind ResultKind, now time.Time) {
	for i := range good + bad {
		r := Result{Code: 500}
		if kind != Response {
			r = Result{Kind: kind}
		}
		if i >= bad {
			r = Result{Code: 200}
			if kind != Response {
				r = Result{Kind: ConnectOK}
			}
		}
		c.Report(c.Hosts().Find(addr(host)), r, now)
	}
}

// Hosts are compared with each other, or with a limit, once an interval.
func TestRates(t *testing.T) {
	all, off := num(100), num(0)
	base := OutlierConfig{MaxEjectionPercent: all, Consecutive5xx: off, ConsecutiveGateway: off, ConsecutiveLocal: off}
	with := func(f func(*OutlierConfig)) OutlierConfig { o := base; f(&o); return o }
	for _, test := range []struct {
		name      string
		cfg       OutlierConfig
		kind      ResultKind
		good, bad [6]int
		want      []int
	}{
		{"one does worse than the others", base, Response, [6]int{100, 100, 100, 100, 100, 50}, [6]int{5: 50}, []int{5}},
		{"they all do badly", base, Response, [6]int{50, 50, 50, 50, 50, 50}, [6]int{50, 50, 50, 50, 50, 50}, nil},
		{"too few attempts", base, Response, [6]int{99, 99, 99, 99, 99, 49}, [6]int{5: 50}, nil},
		{"too few hosts", with(func(o *OutlierConfig) { o.SuccessHosts = num(7) }), Response, [6]int{100, 100, 100, 100, 100, 50}, [6]int{5: 50}, nil},
		{"a wide deviation", with(func(o *OutlierConfig) { o.SuccessDeviation = num(3000) }), Response, [6]int{100, 100, 100, 100, 100, 50}, [6]int{5: 50}, nil},
		{"not enforced", with(func(o *OutlierConfig) { o.EnforceSuccessRate = off }), Response, [6]int{100, 100, 100, 100, 100, 50}, [6]int{5: 50}, nil},
		{"failures are not enforced unless asked", with(func(o *OutlierConfig) { o.EnforceSuccessRate = off }), Response, [6]int{60, 60, 60, 60, 60, 0}, [6]int{5: 60}, nil},
		{"more failures than the limit", with(func(o *OutlierConfig) { o.EnforceFailure, o.FailureThreshold = all, num(50) }), Response, [6]int{60, 60, 60, 60, 31, 30}, [6]int{4: 29, 5: 30}, []int{5}},
		{"all of them", with(func(o *OutlierConfig) { o.EnforceFailure = all }), Response, [6]int{}, [6]int{60, 60, 60, 60, 60, 60}, []int{0, 1, 2, 3, 4, 5}},
		{"connections, split", with(func(o *OutlierConfig) { o.Split = true }), ConnectFailed, [6]int{100, 100, 100, 100, 100, 50}, [6]int{5: 50}, []int{5}},
		{"connections, not enforced", with(func(o *OutlierConfig) { o.Split, o.EnforceLocalSuccessRate = true, off }), ConnectFailed, [6]int{100, 100, 100, 100, 100, 50}, [6]int{5: 50}, nil},
		{"connections, by the limit", with(func(o *OutlierConfig) { o.Split, o.EnforceLocalSuccessRate, o.EnforceLocalFailure = true, off, all }), ConnectFailed, [6]int{60, 60, 60, 60, 60, 0}, [6]int{5: 60}, []int{5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, Config{Outlier: &test.cfg, Panic: percent(0)}, 6)
			now := time.Unix(1000, 0)
			c.Sweep(now)
			for i := range 6 {
				attempts(c, i, test.good[i], test.bad[i], test.kind, now)
			}
			if got := ejected(c); got != nil {
				t.Errorf("ejected %v before the interval has ended", got)
			}
			c.Sweep(now.Add(10 * time.Second))
			if got := ejected(c); !slices.Equal(got, test.want) {
				t.Errorf("ejected %v, want %v", got, test.want)
			}
			if n := int(c.Stats.MembershipHealthy.Value()); n != 6-len(test.want) {
				t.Errorf("membership_healthy is %d, want %d", n, 6-len(test.want))
			}
		})
	}
}

// A host's rate is that of the last interval, and none if it had too few answers in it.
func TestRateOfAnIdleHost(t *testing.T) {
	c := newCluster(t, Config{Outlier: &OutlierConfig{MaxEjectionPercent: num(100), Consecutive5xx: num(0)}}, 6)
	now := time.Unix(1000, 0)
	c.Sweep(now)
	for i := range 6 {
		attempts(c, i, 100, 0, Response, now)
	}
	now = now.Add(10 * time.Second)
	c.Sweep(now)
	h := c.Hosts().Find(addr(0))
	if r := h.SuccessRate(false); r == nil || *r != 100 {
		t.Errorf("after an interval without failures the rate is %v, want 100", r)
	}
	c.Sweep(now.Add(10 * time.Second))
	if r := h.SuccessRate(false); r != nil {
		t.Errorf("after an interval without answers the rate is %v, want none", *r)
	}
}

// What was counted in one interval is forgotten in the next.
func TestRatesBeginAnew(t *testing.T) {
	c := newCluster(t, Config{Outlier: &OutlierConfig{MaxEjectionPercent: num(100), Consecutive5xx: num(0)}}, 6)
	now := time.Unix(1000, 0)
	c.Sweep(now)
	for range 2 {
		for i := range 5 {
			attempts(c, i, 60, 0, Response, now)
		}
		attempts(c, 5, 0, 60, Response, now)
		now = now.Add(10 * time.Second)
		c.Sweep(now)
	}
	if got := ejected(c); got != nil {
		t.Errorf("ejected %v by 60 attempts in each interval, want none below 100", got)
	}
}

// BenchmarkEject states the promise that one host of 1,000 goes, and comes back, within a millisecond each.
func BenchmarkEject(b *testing.B) {
	c := newCluster(b, Config{Outlier: &OutlierConfig{MaxEjectionPercent: num(100)}}, 1000)
	h, now := c.Hosts().All[500], time.Unix(1000, 0)
	for b.Loop() {
		c.mu.Lock()
		c.eject(h, now)
		c.rebuild(c.hosts.Load().All)
		c.uneject(h, time.Now())
		c.rebuild(c.hosts.Load().All)
		c.mu.Unlock()
	}
}
