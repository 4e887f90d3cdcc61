package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/stats"
)

// tooMany says that 429 is an error, and nothing else.
func tooMany(m *header.Map) bool { return string(m.Get(header.Status)) == "429" }

// status is the head of a response.
func status(code int) *header.Map {
	m := new(header.Map)
	m.Set(header.Status, strconv.AppendInt(nil, int64(code), 10))
	return m
}

func num(n uint32) *uint32       { return &n }
func percent(p float64) *float64 { return &p }

// addr is the n-th address of the tests.
func addr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 80)
}

func endpoints(n int) []Endpoint {
	list := make([]Endpoint, n)
	for i := range list {
		list[i] = Endpoint{Addr: addr(i)}
	}
	return list
}

func newCluster(t testing.TB, cfg Config, hosts int) *Cluster {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "c"
	}
	c, err := New(cfg, stats.NewRegistry(true), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetEndpoints(endpoints(hosts))
	return c
}

// spreadOf counts where n picks go.
func spreadOf(c *Cluster, n int) map[netip.AddrPort]int {
	random := rand.New(rand.NewPCG(1, 2))
	got := map[netip.AddrPort]int{}
	for range n {
		h, reason := c.Pick(&Pick{Random: random.Uint64()})
		if reason != OK {
			got[netip.AddrPort{}]++
			continue
		}
		got[h.Addr]++
	}
	return got
}

// A host keeps what is known of it through changes of membership, weight and metadata.
func TestCarriedOver(t *testing.T) {
	c := newCluster(t, Config{}, 3)
	h := c.Hosts().Find(addr(1))
	h.Active.Add(5)
	list := endpoints(2)
	list[1].Weight = 7
	if !c.SetEndpoints(list) {
		t.Fatal("a change was not noticed")
	}
	now := c.Hosts().Find(addr(1))
	if now == h || now.State != h.State || now.Active.Load() != 5 || now.Weight != 7 {
		t.Errorf("host %+v lost its state", now)
	}
	before := c.Hosts()
	if c.SetEndpoints(list) || c.Hosts() != before {
		t.Error("the same endpoints made a new set")
	}
	if c.Hosts().Find(addr(2)) != nil || c.Stats.MembershipTotal.Value() != 2 {
		t.Error("a removed endpoint is still there")
	}
	if c.SetEndpoints(append(list, list[0])) {
		t.Error("an address given twice is one host")
	}
}

// A cluster that replaces another takes its hosts over, with new transports.
func TestReplaced(t *testing.T) {
	old := newCluster(t, Config{Outlier: &OutlierConfig{MaxEjectionPercent: num(100), Consecutive5xx: num(1)}}, 2)
	old.Report(old.Hosts().All[0], Result{Code: 500}, time.Unix(0, 0))
	tls := []Transport{{Name: "tls", Match: map[string]string{"tlsMode": "istio"}, Socket: 1}, {Name: "raw"}}
	c, err := New(Config{Name: "c", Transports: tls, Outlier: &OutlierConfig{}}, stats.NewRegistry(true), old)
	if err != nil {
		t.Fatal(err)
	}
	h := c.Hosts().Find(addr(0))
	if h == nil || h.State != old.Hosts().Find(addr(0)).State || !h.Ejected() || h.Transport.Name != "raw" {
		t.Errorf("host %+v was not taken over", h)
	}
	c.SetEndpoints([]Endpoint{{Addr: addr(0), Metadata: &Metadata{Match: map[string]string{"tlsMode": "istio", "x": "y"}}}})
	if h := c.Hosts().All[0]; h.Transport.Name != "tls" {
		t.Errorf("transport %s, want the one whose labels match", h.Transport.Name)
	}
}

func TestPanic(t *testing.T) {
	for _, test := range []struct {
		name      string
		unhealthy int // of 10
		cfg       Config
		want      int // hosts that are used
	}{
		{"all are well", 0, Config{}, 10},
		{"half are enough", 5, Config{}, 5},
		{"below half, everybody gets some", 6, Config{}, 10},
		{"none is well, and still", 10, Config{}, 10},
		{"threshold 0: never", 9, Config{Panic: percent(0)}, 1},
		{"threshold 0 and none: nobody", 10, Config{Panic: percent(0)}, 0},
		{"or fail on panic", 6, Config{FailOnPanic: true}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Policy.Kind = lb.RoundRobin
			c := newCluster(t, test.cfg, 10)
			list := endpoints(10)
			for i := range test.unhealthy {
				list[i].Health = Unhealthy
			}
			c.SetEndpoints(list)
			got := spreadOf(c, 1000)
			none := got[netip.AddrPort{}]
			delete(got, netip.AddrPort{})
			if len(got) != test.want || (none > 0) != (test.want == 0) {
				t.Errorf("%d hosts are used (%d picks without), want %d", len(got), none, test.want)
			}
		})
	}
	c := newCluster(t, Config{}, 0)
	if _, reason := c.Pick(&Pick{}); reason != NoHosts {
		t.Errorf("an empty cluster says %v", reason)
	}
}

// Levels take over from each other as their hosts fail, by Envoy's table
// (overprovisioning factor 1.4).
func TestPriorities(t *testing.T) {
	for _, test := range []struct {
		healthy [2]int // of 10 each
		loads   [2]uint32
		panic   [2]bool
	}{
		{[2]int{10, 10}, [2]uint32{100, 0}, [2]bool{}},
		{[2]int{8, 10}, [2]uint32{100, 0}, [2]bool{}}, // 80 % x 1.4
		{[2]int{5, 10}, [2]uint32{70, 30}, [2]bool{}},
		{[2]int{0, 10}, [2]uint32{0, 100}, [2]bool{}}, // no panic while others can bear it all
		{[2]int{2, 2}, [2]uint32{50, 50}, [2]bool{true, true}},
		{[2]int{5, 1}, [2]uint32{84, 16}, [2]bool{false, true}},
		{[2]int{0, 0}, [2]uint32{50, 50}, [2]bool{true, true}},
	} {
		c := newCluster(t, Config{}, 0)
		var list []Endpoint
		for level, healthy := range test.healthy {
			for i := range 10 {
				e := Endpoint{Addr: addr(100*level + i), Priority: uint32(level)}
				if i >= healthy {
					e.Health = Unhealthy
				}
				list = append(list, e)
			}
		}
		c.SetEndpoints(list)
		for i, l := range c.Hosts().Levels {
			if diff := int(l.Load) - int(test.loads[i]); diff < -1 || diff > 1 || l.Panic != test.panic[i] {
				t.Errorf("%v healthy: level %d has %d %%, panic %v, want %d %%, %v", test.healthy, i, l.Load, l.Panic, test.loads[i], test.panic[i])
			}
		}
	}
}

// A retry draws again while it is given a host that was tried, as often as its policy says; then it takes what it gets.
func TestRetryAvoidsTried(t *testing.T) {
	c := newCluster(t, Config{Policy: lb.Policy{Kind: lb.RoundRobin}}, 3)
	retry := &Retry{Tried: []*Host{c.Hosts().Find(addr(0)), c.Hosts().Find(addr(1))}, PreviousHosts: true, Attempts: 2}
	for range 30 {
		if h, _ := c.Pick(&Pick{Retry: retry}); h.Addr != addr(2) {
			t.Fatalf("a retry goes to %s, which has failed", h.Addr)
		}
	}
	retry.Tried = c.Hosts().All
	if h, reason := c.Pick(&Pick{Retry: retry}); h == nil || reason != OK {
		t.Error("when all were tried, any will do")
	}
}

func TestOriginalDst(t *testing.T) {
	c := newCluster(t, Config{Kind: OriginalDst}, 0)
	h, reason := c.Pick(&Pick{Original: addr(9)})
	if reason != OK || h.Addr != addr(9) || h.Transport == nil {
		t.Fatalf("%+v, %v", h, reason)
	}
	if again, _ := c.Pick(&Pick{Original: addr(9)}); again != h {
		t.Error("one destination has two hosts")
	}
	if _, reason := c.Pick(&Pick{}); reason != NoOriginal {
		t.Errorf("no original destination: %v", reason)
	}
	now := time.Unix(0, 0)
	c.Sweep(now)
	h.Active.Add(1)
	c.Sweep(now.Add(6 * time.Second))
	if again, _ := c.Pick(&Pick{Original: addr(9)}); again != h {
		t.Error("a destination in use was forgotten")
	}
	h.Active.Add(-1)
	c.Sweep(now.Add(12 * time.Second))
	c.Sweep(now.Add(18 * time.Second))
	if len(c.original) != 0 {
		t.Error("a destination that nobody uses is remembered")
	}
}

// The hosts that requests have named are listed by address, at a price that does not grow with the square of how many they are.
func TestKnown(t *testing.T) {
	c := newCluster(t, Config{Kind: OriginalDst}, 0)
	for i := range 500 {
		c.Pick(&Pick{Original: addr((i * 7) % 500)})
	}
	known := c.Known()
	if len(known) != 500 || !slices.IsSortedFunc(known, func(a, b *Host) int { return a.Addr.Compare(b.Addr) }) {
		t.Errorf("found %d hosts, want 500 by address", len(known))
	}
	if n := testing.AllocsPerRun(5, func() { c.Known() }); n > 10 {
		t.Errorf("listing 500 hosts: %v allocations, want a few lists", n)
	}
}

func TestBreakers(t *testing.T) {
	reg := stats.NewRegistry(true)
	c, err := New(Config{Name: "c", Breakers: [2]Limits{{Requests: num(2), Retries: num(0), TrackRemaining: true}}}, reg, nil)
	if err != nil {
		t.Fatal(err)
	}
	remaining, _ := reg.Remaining("c", "default")
	b := c.Limit(Default)
	if !b.Requests.TryAcquire() || remaining.Rq.Value() != 1 || c.Stats.DefaultBreakers.RqOpen.Value() != 0 {
		t.Error("one of two: one is left, closed")
	}
	if !b.Requests.TryAcquire() || c.Stats.DefaultBreakers.RqOpen.Value() != 1 {
		t.Error("two of two: open")
	}
	if b.Requests.TryAcquire() || b.Requests.Used() != 2 {
		t.Error("the third is refused and leaves no trace")
	}
	b.Requests.Release()
	if c.Stats.DefaultBreakers.RqOpen.Value() != 0 || !b.Requests.Free() {
		t.Error("what was given back can be had again")
	}
	if b.TryRetry(time.Time{}) {
		t.Error("no retries are allowed")
	}
	if c.Limit(High).Connections.Max() != 1024 || c.Limit(High).Retries.Max() != 3 {
		t.Error("the defaults are not Envoy's")
	}
}

func TestRetryBudget(t *testing.T) {
	c := newCluster(t, Config{Breakers: [2]Limits{{Budget: &Budget{Percent: 20, Min: 3}}}}, 1)
	b := c.Limit(Default)
	n := 0
	for b.TryRetry(time.Time{}) {
		n++
	}
	if n != 3 {
		t.Errorf("%d retries without load, want the least, 3", n)
	}
	if c.Stats.DefaultBreakers.RqRetryOpen.Value() != 1 {
		t.Error("rq_retry_open does not tell that the limit would be reached which the budget replaces")
	}
	b.EndRetry()
	if c.Stats.DefaultBreakers.RqRetryOpen.Value() != 0 {
		t.Error("rq_retry_open stays when a retry has ended")
	}
	n--
	for range 100 {
		b.Requests.Acquire()
	}
	for b.TryRetry(time.Time{}) {
		n++
	}
	if n != 20 {
		t.Errorf("%d retries with 100 requests in flight, want 20", n)
	}
}

// TestRetryBudgetLooksBack: with an interval it is requests that began within it that count, also those that are
// over, and no others.
func TestRetryBudgetLooksBack(t *testing.T) {
	c := newCluster(t, Config{Breakers: [2]Limits{{Budget: &Budget{Percent: 20, Interval: 16 * time.Second}}}}, 1)
	b, now := c.Limit(Default), time.Unix(1000, 0)
	for range 50 {
		b.Begin(now)
	}
	for range 100 {
		b.Requests.Acquire() // long under way
	}
	retries := func(now time.Time) (n int) {
		for b.TryRetry(now) {
			n++
		}
		for range n {
			b.EndRetry()
		}
		return n
	}
	for _, at := range []struct {
		after time.Duration
		want  int
	}{{0, 10}, {15 * time.Second, 10}, {17 * time.Second, 0}} {
		if got := retries(now.Add(at.after)); got != at.want {
			t.Errorf("%s after 50 requests: %d retries, want %d", at.after, got, at.want)
		}
	}
}

func TestLimitsAreShared(t *testing.T) {
	c := newCluster(t, Config{Breakers: [2]Limits{{Requests: num(50)}}}, 1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if r := &c.Limit(Default).Requests; r.TryAcquire() {
					r.Release()
				}
			}
		})
	}
	wg.Wait()
	if n := c.Limit(Default).Requests.Used(); n != 0 {
		t.Errorf("%d are in use after all were given back", n)
	}
}

// fail reports n failures of one kind.
func fail(c *Cluster, host int, n int, r Result, now time.Time) {
	for range n {
		c.Report(c.Hosts().Find(addr(host)), r, now)
	}
}

func answer(c *Cluster, host int, n int, code int, now time.Time) {
	for range n {
		c.Answered(c.Hosts().Find(addr(host)), code, false, status(code), now)
	}
}

func ejected(c *Cluster) (list []int) {
	for i, h := range c.Hosts().All {
		if h.Ejected() {
			list = append(list, i)
		}
	}
	return list
}

func TestOutlierDetection(t *testing.T) {
	all := num(100)
	for _, test := range []struct {
		name string
		cfg  OutlierConfig
		do   func(c *Cluster, now time.Time)
		want []int
	}{
		{"five in a row", OutlierConfig{MaxEjectionPercent: all}, func(c *Cluster, now time.Time) { fail(c, 1, 5, Result{Code: 500}, now) }, []int{1}},
		{"four are not five", OutlierConfig{MaxEjectionPercent: all}, func(c *Cluster, now time.Time) { fail(c, 1, 4, Result{Code: 500}, now) }, nil},
		{"a success begins the count anew", OutlierConfig{MaxEjectionPercent: all}, func(c *Cluster, now time.Time) {
			fail(c, 1, 4, Result{Code: 500}, now)
			fail(c, 1, 1, Result{Code: 404}, now)
			fail(c, 1, 4, Result{Code: 500}, now)
		}, nil},
		{"0 is off", OutlierConfig{MaxEjectionPercent: all, Consecutive5xx: num(0)}, func(c *Cluster, now time.Time) { fail(c, 1, 50, Result{Code: 500}, now) }, nil},
		{"gateway errors are counted and not enforced unless asked", OutlierConfig{MaxEjectionPercent: all, Consecutive5xx: num(0)}, func(c *Cluster, now time.Time) { fail(c, 1, 5, Result{Code: 503}, now) }, nil},
		{"gateway errors", OutlierConfig{MaxEjectionPercent: all, EnforceGateway: all, ConsecutiveGateway: num(2), Consecutive5xx: num(0)}, func(c *Cluster, now time.Time) { fail(c, 1, 2, Result{Code: 503}, now) }, []int{1}},
		{"a 500 is no gateway error", OutlierConfig{MaxEjectionPercent: all, EnforceGateway: all, ConsecutiveGateway: num(2), Consecutive5xx: num(0)}, func(c *Cluster, now time.Time) {
			fail(c, 1, 1, Result{Code: 503}, now)
			fail(c, 1, 1, Result{Code: 500}, now)
			fail(c, 1, 1, Result{Code: 503}, now)
		}, nil},
		{"local errors count as 503 unless split", OutlierConfig{MaxEjectionPercent: all}, func(c *Cluster, now time.Time) { fail(c, 1, 5, Result{Kind: ConnectFailed}, now) }, []int{1}},
		{"split, they count apart", OutlierConfig{MaxEjectionPercent: all, Split: true, ConsecutiveLocal: num(3)}, func(c *Cluster, now time.Time) {
			fail(c, 1, 4, Result{Code: 500}, now)
			fail(c, 1, 2, Result{Kind: Timeout}, now)
			fail(c, 2, 3, Result{Kind: ConnectFailed}, now)
		}, []int{2}},
		{"split, a connection clears them", OutlierConfig{MaxEjectionPercent: all, Split: true, ConsecutiveLocal: num(3)}, func(c *Cluster, now time.Time) {
			fail(c, 1, 2, Result{Kind: ConnectFailed}, now)
			fail(c, 1, 1, Result{Kind: ConnectOK}, now)
			fail(c, 1, 2, Result{Kind: ConnectFailed}, now)
		}, nil},
		{"own errors replace 5xx", OutlierConfig{MaxEjectionPercent: all, IsError: tooMany, Consecutive5xx: num(2)}, func(c *Cluster, now time.Time) {
			answer(c, 1, 5, 500, now)
			answer(c, 2, 2, 429, now)
		}, []int{2}},
		{"no more than the percentage", OutlierConfig{MaxEjectionPercent: num(40)}, func(c *Cluster, now time.Time) {
			fail(c, 0, 5, Result{Code: 500}, now)
			fail(c, 1, 5, Result{Code: 500}, now)
			fail(c, 2, 5, Result{Code: 500}, now)
		}, []int{0, 1}},
		{"10 % of five is none", OutlierConfig{}, func(c *Cluster, now time.Time) { fail(c, 0, 5, Result{Code: 500}, now) }, nil},
		{"unless one may always go", OutlierConfig{AlwaysEjectOne: true}, func(c *Cluster, now time.Time) {
			fail(c, 0, 5, Result{Code: 500}, now)
			fail(c, 1, 5, Result{Code: 500}, now)
		}, []int{0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, Config{Outlier: &test.cfg, Panic: percent(0)}, 5)
			test.do(c, time.Unix(1000, 0))
			if got := ejected(c); !slices.Equal(got, test.want) {
				t.Errorf("ejected %v, want %v", got, test.want)
			}
			if n := c.Stats.MembershipHealthy.Value(); int(n) != 5-len(test.want) {
				t.Errorf("membership_healthy %d", n)
			}
		})
	}
}

// Each ejection lasts longer than the one before; quiet intervals shorten the next.
func TestEjectionTime(t *testing.T) {
	c := newCluster(t, Config{Outlier: &OutlierConfig{MaxEjectionPercent: num(100), MaxEjection: 60 * time.Second}}, 2)
	start := time.Unix(1000, 0)
	now := start
	c.Sweep(now)
	// out steps the clock by the second until the host is back and returns the seconds.
	out := func() int {
		fail(c, 0, 5, Result{Code: 500}, now)
		for n := 0; ; n++ {
			if len(ejected(c)) == 0 {
				return n
			}
			now = now.Add(time.Second)
			c.Sweep(now)
		}
	}
	for i, want := range []int{30, 60, 60} { // base x count, at most the maximum; looked at every 10 s
		if got := out(); got < want || got > want+10 {
			t.Errorf("ejection %d lasts %d s, want %d", i+1, got, want)
		}
	}
	for range 31 {
		now = now.Add(time.Second)
		c.Sweep(now)
	}
	if got := out(); got < 30 || got > 40 {
		t.Errorf("after three quiet intervals an ejection lasts %d s, want 30", got)
	}
	if c.Stats.Outlier.EjectionsEnforcedTotal.Value() != 4 || c.Stats.Outlier.EjectionsActive.Value() != 0 {
		t.Error("ejections are not counted right")
	}
}

// With a jitter, hosts that were ejected together come back one after another, none too early.
func TestEjectionJitter(t *testing.T) {
	c := newCluster(t, Config{Outlier: &OutlierConfig{MaxEjectionPercent: num(100), Jitter: 1000 * time.Second}}, 20)
	start := time.Unix(1000, 0)
	c.Sweep(start)
	for i := range 20 {
		fail(c, i, 5, Result{Code: 500}, start)
	}
	c.Sweep(start.Add(29 * time.Second))
	if n := len(ejected(c)); n != 20 {
		t.Errorf("after 29 s %d hosts are out, want 20", n)
	}
	returned := 0 // how often some came back
	for last, s := 20, 30; s <= 1050; s += 10 {
		c.Sweep(start.Add(time.Duration(s) * time.Second))
		if n := len(ejected(c)); n != last {
			last, returned = n, returned+1
		}
	}
	if n := len(ejected(c)); n != 0 || returned < 2 {
		t.Errorf("%d hosts are out at the end, others came back at %d moments; want 0, and several", n, returned)
	}
}

// An ejected host that leaves the cluster does not count against the percentage any more.
func TestEjectedLeaves(t *testing.T) {
	c := newCluster(t, Config{Outlier: &OutlierConfig{MaxEjectionPercent: num(50)}}, 2)
	fail(c, 1, 5, Result{Code: 500}, time.Unix(0, 0))
	c.SetEndpoints(endpoints(1))
	if c.ejected != 0 || c.Stats.Outlier.EjectionsActive.Value() != 0 {
		t.Error("a host that is gone counts as ejected")
	}
}

// Requests that are under way through a cluster that was replaced tell of hosts that its successor has.
func TestEjectionByTheOldCluster(t *testing.T) {
	cfg := Config{Name: "c", Outlier: &OutlierConfig{MaxEjectionPercent: num(50)}}
	old := newCluster(t, cfg, 2)
	c, err := New(cfg, stats.NewRegistry(true), old)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	c.Sweep(now)
	fail(old, 0, 3, Result{Code: 500}, now)
	fail(c, 0, 2, Result{Code: 500}, now)
	fail(old, 1, 5, Result{Code: 500}, now)
	if got := ejected(c); !slices.Equal(got, []int{0}) || len(c.Hosts().Levels[0].Healthy) != 1 {
		t.Errorf("ejected %v of the successor, %d hosts left, want [0] and 1", got, len(c.Hosts().Levels[0].Healthy))
	}
	old.Sweep(now.Add(40 * time.Second))
	c.Sweep(now.Add(40 * time.Second))
	if old.ejected != 0 || c.ejected != 0 || len(ejected(c)) != 0 || c.Stats.Outlier.EjectionsActive.Value() != 0 {
		t.Errorf("%d and %d hosts are ejected in the end, want none", old.ejected, c.ejected)
	}
}

// A limit that is lowered holds for errors that were counted before.
func TestLoweredLimit(t *testing.T) {
	old := newCluster(t, Config{Outlier: &OutlierConfig{Consecutive5xx: num(10), ConsecutiveGateway: num(10), EnforceGateway: num(100), MaxEjectionPercent: num(100)}}, 2)
	now := time.Unix(1000, 0)
	fail(old, 0, 5, Result{Code: 500}, now)
	fail(old, 1, 5, Result{Code: 503}, now)
	c, err := New(Config{Name: "c", Outlier: &OutlierConfig{Consecutive5xx: num(3), ConsecutiveGateway: num(3), EnforceGateway: num(100), MaxEjectionPercent: num(100)}}, stats.NewRegistry(true), old)
	if err != nil {
		t.Fatal(err)
	}
	fail(c, 0, 1, Result{Code: 500}, now)
	fail(c, 1, 1, Result{Code: 503}, now)
	if got := ejected(c); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("ejected %v, want both", got)
	}
}

func TestPickAllocs(t *testing.T) {
	for _, kind := range []lb.Kind{lb.RoundRobin, lb.LeastRequest, lb.Random} {
		c := newCluster(t, Config{Policy: lb.Policy{Kind: kind}, Outlier: &OutlierConfig{}}, 10)
		p, now := &Pick{Random: 1}, time.Unix(0, 0)
		run := func() {
			h, _ := c.Pick(p)
			c.Limit(Default).Requests.TryAcquire()
			c.Report(h, Result{Code: 200}, now)
			c.Limit(Default).Requests.Release()
		}
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%v: a request allocates %v times, want 0", kind, n)
		}
	}
	c := newCluster(t, Config{Kind: OriginalDst}, 0)
	p := &Pick{Original: addr(1)}
	c.Pick(p)
	if n := testing.AllocsPerRun(100, func() { c.Pick(p) }); n != 0 {
		t.Errorf("original destination: %v allocations, want 0", n)
	}
}

func BenchmarkPick(b *testing.B) {
	c := newCluster(b, Config{Policy: lb.Policy{Kind: lb.LeastRequest}, Outlier: &OutlierConfig{}}, 10)
	p := &Pick{Random: 1}
	for b.Loop() {
		p.Random += 0x9e3779b97f4a7c15
		c.Pick(p)
	}
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{Policy: lb.Policy{Kind: lb.Maglev, TableSize: 10}}, "lb_policy: table_size 10, want a prime"},
		{Config{Transports: []Transport{{Match: map[string]string{"a": "b"}}}}, "want a default without one"},
	} {
		if _, err := New(test.cfg, stats.NewRegistry(true), nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want one with %q", err, test.want)
		}
	}
}

// names is a name server of the tests.
type names struct {
	mu    sync.Mutex
	asked int
	addrs []string
	ttl   time.Duration
	err   error
}

func (n *names) set(err error, addrs ...string) {
	n.mu.Lock()
	n.addrs, n.err = addrs, err
	n.mu.Unlock()
}

func (n *names) Resolve(context.Context, string, Family) ([]netip.Addr, time.Duration, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	var list []netip.Addr
	for _, a := range n.addrs {
		list = append(list, netip.MustParseAddr(a))
	}
	return list, n.ttl, n.err
}

func addrsOf(c *Cluster) string {
	var list []string
	for _, h := range c.Hosts().All {
		list = append(list, h.Addr.String())
	}
	return strings.Join(list, " ")
}

func TestDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		server := &names{addrs: []string{"10.0.0.2", "10.0.0.1", "fd00::1"}}
		c := newCluster(t, Config{Kind: StrictDNS, DNS: DNSConfig{Family: V4Only}}, 0)
		logical := newCluster(t, Config{Kind: LogicalDNS, DNS: DNSConfig{Family: V4Preferred}}, 0)
		ready := make(chan bool, 2)
		var done sync.WaitGroup
		for _, c := range []*Cluster{c, logical} {
			done.Go(func() {
				c.RunDNS(ctx, server, Assignment{Endpoints: []Endpoint{{Name: "db.example", Port: 5432, Weight: 3}}}, func() { ready <- true })
			})
		}
		<-ready
		<-ready
		if got := addrsOf(c); got != "10.0.0.1:5432 10.0.0.2:5432" {
			t.Errorf("strict: %s, want all v4 addresses", got)
		}
		if h := c.Hosts().All[0]; h.Name != "db.example" || h.Weight != 3 {
			t.Errorf("host %+v does not know its name and weight", h)
		}
		if got := addrsOf(logical); got != "10.0.0.2:5432" {
			t.Errorf("logical: %s, want the first", got)
		}
		server.set(errors.New("away"))
		time.Sleep(time.Minute)
		if got := addrsOf(c); got != "10.0.0.1:5432 10.0.0.2:5432" {
			t.Errorf("with the name server away: %s, want what is known", got)
		}
		server.set(nil, "10.0.0.3")
		time.Sleep(time.Minute) // longer than the longest back-off
		if got := addrsOf(c); got != "10.0.0.3:5432" {
			t.Errorf("after a change: %s", got)
		}
		server.set(nil)
		time.Sleep(time.Minute)
		if got := addrsOf(c); got != "" {
			t.Errorf("a name without addresses: %s", got)
		}
		cancel()
		done.Wait()
	})
}

func TestDNSWait(t *testing.T) {
	d := DNSConfig{}
	for _, test := range []struct {
		cfg      DNSConfig
		failures int
		ttl      time.Duration
		min, max time.Duration
	}{
		{d, 0, time.Hour, 5 * time.Second, 5 * time.Second},
		{DNSConfig{RespectTTL: true}, 0, time.Hour, time.Hour, time.Hour},
		{DNSConfig{RespectTTL: true}, 0, time.Millisecond, time.Second, time.Second}, // never a busy loop
		{d, 9, 0, 5 * time.Second, 5 * time.Second},                                  // no back-off that nobody asked for
		{DNSConfig{Jitter: time.Second}, 0, 0, 5 * time.Second, 6 * time.Second},
		{DNSConfig{FailureBase: time.Second, FailureMax: 3 * time.Second}, 1, 0, 750 * time.Millisecond, time.Second},
		{DNSConfig{FailureBase: time.Second, FailureMax: 3 * time.Second}, 9, 0, 2250 * time.Millisecond, 3 * time.Second},
	} {
		for random := range uint64(100) {
			if got := test.cfg.wait(test.failures, test.ttl, random*0x9e3779b97f4a7c15); got < test.min || got > test.max {
				t.Errorf("%+v, %d failures: wait %s, want %s to %s", test.cfg, test.failures, got, test.min, test.max)
			}
		}
	}
}

// Changes of hosts while others pick and report are safe (run with -race).
func TestConcurrent(t *testing.T) {
	c := newCluster(t, Config{Outlier: &OutlierConfig{Consecutive5xx: num(3), MaxEjectionPercent: num(100), Interval: time.Millisecond, BaseEjection: time.Millisecond}}, 5)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(9, uint64(g)))
			for n := range 2000 {
				if h, reason := c.Pick(&Pick{Random: random.Uint64()}); reason == OK {
					h.Active.Add(1)
					c.Report(h, Result{Code: 200 + 300*int(random.Uint32N(2))}, time.Unix(int64(n), 0))
					h.Active.Add(-1)
				}
			}
		})
	}
	for n := range 200 {
		c.SetEndpoints(endpoints(1 + n%7))
		c.Sweep(time.Unix(int64(n), 0))
	}
	wg.Wait()
	total := 0
	for _, h := range c.Hosts().All {
		if h.Ejected() {
			total++
		}
	}
	if total != c.ejected {
		t.Errorf("%d hosts are ejected, %d are counted", total, c.ejected)
	}
}
