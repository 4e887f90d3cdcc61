package cluster

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/stats"
)

// policies are all there are, by name.
var policies = map[string]lb.Policy{
	"round robin": {Kind: lb.RoundRobin}, "least request": {Kind: lb.LeastRequest}, "random": {Kind: lb.Random},
	"ring hash": {Kind: lb.RingHash}, "maglev": {Kind: lb.Maglev},
	"slow start": {Kind: lb.RoundRobin, SlowStart: &lb.SlowStart{Window: time.Minute}},
}

// thousand is a cluster of a thousand hosts of two weights.
func thousand(t testing.TB, p lb.Policy) *Cluster {
	t.Helper()
	one, all := uint32(1), uint32(100)
	c, err := New(Config{Name: "c", Kind: Static, Policy: p, Outlier: &OutlierConfig{Consecutive5xx: &one, MaxEjectionPercent: &all}}, stats.NewRegistry(false), nil)
	if err != nil {
		t.Fatal(err)
	}
	var list []Endpoint
	for i := range 1000 {
		list = append(list, Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80), Weight: uint32(1 + i%2)})
	}
	c.SetEndpoints(list)
	return c
}

// To take out one of a thousand hosts costs a shard less than a millisecond, whatever picks among them: who builds tables is
// somebody else. The least of some tries counts, because the machine does other things, too.
func TestEjectionTakesNoTimeOfShards(t *testing.T) {
	for name, p := range policies {
		t.Run(name, func(t *testing.T) {
			c := thousand(t, p)
			var aside []func()
			c.Aside = func(f func()) { aside = append(aside, f) }
			best, whole := time.Hour, time.Duration(0)
			for i, h := range c.Hosts().All[:20] {
				begin := time.Now()
				c.Report(h, Result{Code: 500}, begin)
				best = min(best, time.Since(begin))
				if !h.Ejected() {
					t.Fatalf("host %d is not ejected", i)
				}
				begin = time.Now()
				for _, f := range aside {
					f()
				}
				whole, aside = max(whole, time.Since(begin)), nil
			}
			t.Logf("a shard: %v; all of it: up to %v", best, whole)
			if best > time.Millisecond {
				t.Errorf("an ejection takes %v of a shard, want less than 1ms", best)
			}
			for _, h := range c.Hosts().Levels[0].Healthy {
				if h.Ejected() {
					t.Fatal("an ejected host is among the healthy ones")
				}
			}
			if n := len(c.Hosts().Levels[0].Healthy); n != 980 {
				t.Errorf("%d hosts are left, want 980", n)
			}
		})
	}
}

// Hosts that are taken out at the same time as others come and go are out in the end, and none is counted twice.
func TestEjectionsBesideChanges(t *testing.T) {
	c := thousand(t, lb.Policy{Kind: lb.Maglev})
	var all sync.WaitGroup
	c.Aside = func(f func()) { all.Go(f) }
	var endpoints []Endpoint
	for _, h := range c.Hosts().All {
		endpoints = append(endpoints, Endpoint{Addr: h.Addr, Weight: h.Weight})
	}
	hosts := c.Hosts().All
	all.Go(func() {
		for i := range 20 {
			c.SetEndpoints(endpoints[i*10:])
		}
	})
	for from := range 2 {
		all.Go(func() {
			for i := from; i < 1000; i += 50 {
				c.Report(hosts[i], Result{Code: 500}, time.Now())
			}
		})
	}
	all.Wait()
	ejected := 0
	for _, h := range c.Hosts().All {
		if h.Ejected() {
			ejected++
		}
	}
	if healthy := len(c.Hosts().Levels[0].Healthy); healthy != len(c.Hosts().All)-ejected || int64(ejected) != c.Stats.Outlier.EjectionsActive.Value() {
		t.Errorf("%d of %d hosts are healthy, %d ejected, and %d counted", healthy, len(c.Hosts().All), ejected, c.Stats.Outlier.EjectionsActive.Value())
	}
}

func BenchmarkEjection(b *testing.B) {
	for name, p := range policies {
		b.Run(fmt.Sprint(name), func(b *testing.B) {
			c := thousand(b, p)
			c.Aside = func(func()) {}
			hosts := c.Hosts().All
			for i := 0; b.Loop(); i++ {
				h := hosts[i%len(hosts)]
				c.Report(h, Result{Code: 500}, time.Now())
				c.mu.Lock()
				c.uneject(h, time.Now())
				c.mu.Unlock()
			}
		})
	}
}
