package cluster

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/lb"
)

// shareOf is the part of n picks that hosts for which want is true get.
func shareOf(c *Cluster, n int, want func(netip.AddrPort) bool) float64 {
	got := 0
	for a, k := range spreadOf(c, n) {
		if want(a) {
			got += k
		}
	}
	return float64(got) / float64(n)
}

// Degraded hosts get what the healthy ones cannot bear, at every priority, before panic is looked at.
func TestDegraded(t *testing.T) {
	for _, test := range []struct {
		what                       string
		healthy, degraded, useless int
		want                       float64 // for degraded ones
	}{
		{"enough are healthy", 8, 2, 0, 0},
		{"half are healthy", 5, 5, 0, 0.3},
		{"none is healthy", 0, 10, 0, 1},
		{"together not enough: by what each bears", 2, 2, 6, 0.5},
	} {
		c := newCluster(t, Config{Panic: percent(0)}, 0)
		list := endpoints(10)
		for i := range list {
			switch {
			case i < test.healthy:
			case i < test.healthy+test.degraded:
				list[i].Health = Degraded
			default:
				list[i].Health = Unhealthy
			}
		}
		c.SetEndpoints(list)
		got := shareOf(c, 10000, func(a netip.AddrPort) bool { return c.Hosts().Find(a).Health == Degraded })
		if math.Abs(got-test.want) > 0.02 {
			t.Errorf("%s: degraded hosts get %.2f, want %.2f", test.what, got, test.want)
		}
		if n := c.Stats.MembershipDegraded.Value(); int(n) != test.degraded {
			t.Errorf("%s: membership_degraded %d", test.what, n)
		}
	}
}

func TestOverprovision(t *testing.T) {
	c := newCluster(t, Config{}, 0)
	list := endpoints(4)
	list[0].Health, list[2].Priority, list[3].Priority = Unhealthy, 1, 1
	for _, test := range []struct{ factor, want uint32 }{{0, 70}, {100, 50}, {200, 100}} {
		c.Assign(Assignment{Endpoints: list, Overprovision: test.factor})
		if got := c.Hosts().Levels[0].Load; got != test.want {
			t.Errorf("factor %d: half of the first priority bears %d %%, want %d", test.factor, got, test.want)
		}
	}
}

// places makes two hosts in each of some localities, with weights.
func placesOf(weights ...uint32) []Endpoint {
	list := endpoints(2 * len(weights))
	for i := range list {
		list[i].Locality = Locality{Zone: string(rune('a' + i/2))}
		list[i].LocalityWeight = weights[i/2]
	}
	return list
}

func TestLocalityWeights(t *testing.T) {
	inFirst := func(a netip.AddrPort) bool { return a == addr(0) || a == addr(1) }
	for _, kind := range []lb.Kind{lb.RoundRobin, lb.LeastRequest, lb.Random, lb.Maglev} {
		cfg := Config{Policy: lb.Policy{Kind: kind}, Localities: Localities{Weighted: true}}
		c := newCluster(t, cfg, 0)
		c.SetEndpoints(placesOf(3, 1))
		if got := shareOf(c, 8000, inFirst); math.Abs(got-0.75) > 0.02 {
			t.Errorf("%v: weight 3 of 4 gets %.2f", kind, got)
		}
		c.SetEndpoints(placesOf(0, 1))
		if got := shareOf(c, 8000, inFirst); got != 0 {
			t.Errorf("%v: weight 0 gets %.2f", kind, got)
		}
		cfg.Localities.Weighted = false
		c = newCluster(t, cfg, 0)
		c.SetEndpoints(placesOf(3, 1))
		if got := shareOf(c, 8000, inFirst); math.Abs(got-0.5) > 0.02 {
			t.Errorf("%v: where weights do not count, half of the hosts get %.2f", kind, got)
		}
	}
	// A locality of which half has failed weighs 1.4 times the half.
	c := newCluster(t, Config{Localities: Localities{Weighted: true}}, 0)
	list := placesOf(1, 1)
	list[0].Health = Unhealthy
	c.SetEndpoints(list)
	if got := shareOf(c, 8000, inFirst); math.Abs(got-0.7/1.7) > 0.02 {
		t.Errorf("a locality of which half is healthy gets %.2f, want %.2f", got, 0.7/1.7)
	}
}

// A proxy keeps at home what its own locality can bear of its peers' requests.
func TestZoneAware(t *testing.T) {
	zones := func(sizes ...int) (list []Endpoint) {
		for z, n := range sizes {
			for range n {
				list = append(list, Endpoint{Addr: addr(len(list)), Locality: Locality{Zone: string(rune('a' + z))}})
			}
		}
		return list
	}
	for _, test := range []struct {
		what        string
		peers, ours []Endpoint
		min         uint32
		want        float64 // at home, zone a
	}{
		{"alike: all stay", zones(2, 2), zones(5, 5), 6, 1},
		{"few peers here: all stay", zones(1, 3), zones(5, 5), 6, 1},
		{"most peers are here: half stays, the rest has room elsewhere", zones(4, 0), zones(5, 5), 6, 0.5},
		{"too few hosts", zones(2, 2), zones(1, 3), 6, 0.25},
		{"nobody here", zones(2, 2), zones(0, 8), 6, 0},
		{"no peers are known", nil, zones(5, 5), 6, 0.5},
	} {
		home := &Local{Locality: Locality{Zone: "a"}}
		peers := newCluster(t, Config{Name: "peers"}, 0)
		peers.SetEndpoints(test.peers)
		home.Set(peers)
		c := newCluster(t, Config{Localities: Localities{Zone: &Zone{Local: home, Percent: 100, MinHosts: test.min}}}, 0)
		c.SetEndpoints(test.ours)
		got := shareOf(c, 10000, func(a netip.AddrPort) bool { return c.Hosts().Find(a).Locality.Zone == "a" })
		if math.Abs(got-test.want) > 0.02 {
			t.Errorf("%s: %.2f stay at home, want %.2f", test.what, got, test.want)
		}
	}
}

func text(kv ...string) *Metadata {
	m := &Metadata{LB: map[string]Value{}}
	for i := 0; i < len(kv); i += 2 {
		m.LB[kv[i]] = Value{Text: kv[i+1]}
	}
	return m
}

func TestSubsets(t *testing.T) {
	c := newCluster(t, Config{Subsets: &Subsets{
		Fallback: DefaultSubset, Default: []Has{{"v", "1"}},
		Selectors: []Selector{
			{Keys: []string{"v"}, Fallback: Undefined},
			{Keys: []string{"s", "v"}, Fallback: KeysSubset, FallbackKeys: []string{"v"}},
			{Keys: []string{"s"}, Fallback: NoFallback},
			{Keys: []string{"t"}, Fallback: AnyEndpoint},
		}}}, 0)
	list := endpoints(4)
	for i, m := range []*Metadata{text("v", "1", "s", "x"), text("v", "2", "s", "x"), text("v", "2", "s", "y"), text("t", "1")} {
		list[i].Metadata = m
	}
	c.SetEndpoints(list)
	for _, test := range []struct {
		ask  []Has
		want string
	}{
		{[]Has{{"v", "2"}}, "[1 2]"},
		{[]Has{{"v", "2"}, {"s", "y"}}, "[2]"},
		{[]Has{{"v", "2"}, {"s", "z"}}, "[1 2]"},
		{[]Has{{"s", "z"}}, "[]"},
		{[]Has{{"t", "9"}}, "[0 1 2 3]"},
		{[]Has{{"v", "9"}}, "[0]"},
		{[]Has{{"other", "9"}}, "[0]"},
		{nil, "[0]"},
	} {
		used := []int{}
		p := &Pick{Criteria: NewCriteria(test.ask)}
		seen := map[netip.AddrPort]bool{}
		for range 40 {
			if h, _ := c.Pick(p); h != nil {
				seen[h.Addr] = true
			}
		}
		for i := range list {
			if seen[addr(i)] {
				used = append(used, i)
			}
		}
		if got := fmt.Sprint(used); got != test.want {
			t.Errorf("%v: hosts %s, want %s", test.ask, got, test.want)
		}
		if n := testing.AllocsPerRun(50, func() { c.Pick(p) }); n != 0 {
			t.Errorf("%v: %v allocations, want 0", test.ask, n)
		}
	}
	before := c.Hosts().subsets.of[0]["2\x00"]
	list[0].Weight = 9
	c.SetEndpoints(list)
	if after := c.Hosts().subsets.of[0]["2\x00"]; after[0].healthy.balancer != before[0].healthy.balancer {
		t.Error("a subset that nothing has changed in was built again")
	}
	if c.Stats.LBSubsetsCreated.Value() != 8 || c.Stats.LBSubsetsActive.Value() != 8 {
		t.Errorf("%d created, %d active, want 8", c.Stats.LBSubsetsCreated.Value(), c.Stats.LBSubsetsActive.Value())
	}
	c.SetEndpoints(list[:1])
	if c.Stats.LBSubsetsRemoved.Value() != 5 {
		t.Errorf("%d removed, want 5", c.Stats.LBSubsetsRemoved.Value())
	}
}

// A retry keeps away from canaries, from hosts with some metadata, and from priorities that were tried.
func TestRetryElsewhere(t *testing.T) {
	c := newCluster(t, Config{}, 0)
	list := endpoints(3)
	list[0].Metadata, list[1].Metadata = &Metadata{Canary: true}, text("zone", `"bad"`)
	c.SetEndpoints(list)
	for range 50 {
		r := &Retry{Attempts: 5, OmitCanary: true, OmitHosts: []Has{{"zone", `"bad"`}}}
		if h, _ := c.Pick(&Pick{Retry: r}); h.Addr != addr(2) {
			t.Fatalf("a retry goes to %s", h.Addr)
		}
	}
	list = endpoints(4)
	list[2].Priority, list[3].Priority = 1, 1
	c.SetEndpoints(list)
	tried := []*Host{c.Hosts().Find(addr(0))}
	for i := range uint64(100) {
		h, _ := c.Pick(&Pick{Random: i, Retry: &Retry{Tried: tried, Attempts: 1, PreviousPriorities: 1}})
		if h.Priority != 1 {
			t.Fatal("a retry goes to a priority that was tried")
		}
	}
	tried = append(tried, c.Hosts().Find(addr(2)))
	if h, _ := c.Pick(&Pick{Retry: &Retry{Tried: tried, Attempts: 1, PreviousPriorities: 1}}); h.Priority != 0 {
		t.Error("when all priorities were tried, it begins anew")
	}
}

func TestOverride(t *testing.T) {
	c := newCluster(t, Config{}, 3)
	list := endpoints(3)
	list[1].Health, list[2].Health = Draining, Degraded
	c.SetEndpoints(list)
	for _, test := range []struct {
		host   int
		strict bool
		want   int // -1: none; -2: any
	}{{0, true, 0}, {2, true, 2}, {1, true, -1}, {1, false, -2}, {9, true, -1}, {9, false, -2}} {
		h, _ := c.Pick(&Pick{Override: addr(test.host), Strict: test.strict})
		if test.want == -2 && h == nil || test.want == -1 && h != nil || test.want >= 0 && (h == nil || h.Addr != addr(test.want)) {
			t.Errorf("%+v: %v", test, h)
		}
	}
}

// BenchmarkUpdate changes one of 1,000 endpoints.
func BenchmarkUpdate(b *testing.B) {
	for _, kind := range []lb.Kind{lb.RoundRobin, lb.LeastRequest, lb.RingHash, lb.Maglev} {
		b.Run(kind.String(), func(b *testing.B) {
			c := newCluster(b, Config{Policy: lb.Policy{Kind: kind}}, 1000)
			list := endpoints(1000)
			for b.Loop() {
				list[500].Weight = 1 + list[500].Weight%2
				c.SetEndpoints(list)
			}
		})
	}
}

// BenchmarkRemoveEjected takes one of 1,000 ejected endpoints away, and puts it back.
func BenchmarkRemoveEjected(b *testing.B) {
	for _, kind := range []lb.Kind{lb.RoundRobin, lb.Maglev} {
		b.Run(kind.String(), func(b *testing.B) {
			c := newCluster(b, Config{Panic: percent(0), Policy: lb.Policy{Kind: kind}, Outlier: &OutlierConfig{Consecutive5xx: num(1), MaxEjectionPercent: num(100)}}, 1000)
			for _, h := range c.Hosts().All {
				c.Report(h, Result{Code: 500}, time.Unix(0, 0))
			}
			list := endpoints(1000)
			for n := 0; b.Loop(); n++ {
				c.SetEndpoints(list[:999+n%2])
			}
		})
	}
}
