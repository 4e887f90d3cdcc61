package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/stats"
)

// balancers are those whose tables know all hosts, and those that need none.
var balancers = map[string]lb.Policy{
	"round robin": {Kind: lb.RoundRobin}, "least request": {Kind: lb.LeastRequest}, "random": {Kind: lb.Random},
	"ring hash": {Kind: lb.RingHash}, "maglev": {Kind: lb.Maglev},
}

// eject measures, in this process, for how long a shard is busy when a host fails for the last time and goes: it reports the
// result of a request, and picks a host for the next from what has been made meanwhile. That is made aside, as in a proxy, which is
// not a shard's time.
func (b *bench) eject() {
	var worst series
	var who string
	for _, name := range slices.Sorted(maps.Keys(balancers)) {
		took := b.ejections(balancers[name])
		b.Logf("ejecting one of %d endpoints, %s: %s us (%s)", ejectable, name, number(took.median()), took.spread())
		if took.median() > worst.median() {
			worst, who = took, name
		}
	}
	b.report.add(line{what: fmt.Sprintf("ejecting one of %d endpoints: shard time", ejectable), value: worst.median(), must: 1000, goal: 100, unit: " us",
		spread: worst.spread(), how: fmt.Sprintf("median of %d, %s", len(worst), who), measured: true})
	b.report.notes = append(b.report.notes, "ejecting: the report of the error that is one too many, and the next choice of a host, in this process; of "+
		"round robin, least request, random, ring hash and Maglev the one that takes longest.")
}

const ejectable = 1000

// ejections are microseconds of single ejections, from clusters that are whole.
func (b *bench) ejections(p lb.Policy) (took series) {
	once, all := uint32(1), uint32(100)
	for range b.rounds(10, 1) {
		c, err := cluster.New(cluster.Config{Name: "c", Kind: cluster.Static, Policy: p, Outlier: &cluster.OutlierConfig{Consecutive5xx: &once, MaxEjectionPercent: &all}}, stats.NewRegistry(false), nil)
		if err != nil {
			b.Fatalf("%v", err)
		}
		var hosts []cluster.Endpoint
		for i := range ejectable {
			hosts = append(hosts, cluster.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80), Weight: uint32(1 + i%2)})
		}
		c.SetEndpoints(hosts)
		var aside []func()
		c.Aside = func(f func()) { aside = append(aside, f) }
		for _, h := range c.Hosts().All[:10] {
			begin := time.Now()
			c.Report(h, cluster.Result{Code: 500}, begin)
			busy := time.Since(begin)
			if !h.Ejected() {
				b.Fatalf("a host that has failed is not ejected")
			}
			for _, f := range aside {
				f()
			}
			aside = aside[:0]
			begin = time.Now()
			if _, why := c.Pick(&cluster.Pick{Random: rand.Uint64(), Hash: rand.Uint64(), HasHash: true}); why != cluster.OK {
				b.Fatalf("no host is picked: %v", why)
			}
			took = append(took, float64((busy+time.Since(begin)).Nanoseconds())/1e3)
		}
	}
	return took
}
