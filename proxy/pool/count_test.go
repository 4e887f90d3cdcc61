package pool

import (
	"net/netip"
	"testing"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/stats"
)

// A pool that nobody uses makes room for another to the same host, one that requests wait in does not. (Envoy 1.40 aborts
// where it would make room, so that there is nobody to be compared with.)
func TestUnusedPoolMakesRoom(t *testing.T) {
	one := uint32(1)
	c, err := cluster.New(cluster.Config{Name: "c", Kind: cluster.Static, Policy: lb.Policy{Kind: lb.RoundRobin}, SameProtocol: true,
		Breakers: [2]cluster.Limits{{Pools: &one}, {Pools: &one}}}, stats.NewRegistry(false), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetEndpoints([]cluster.Endpoint{{Addr: netip.MustParseAddrPort("192.0.2.1:80")}, {Addr: netip.MustParseAddrPort("192.0.2.2:80")}})
	loop, err := drive.New()
	if err != nil {
		t.Fatal(err)
	}
	w := NewWorker(0, loop, nil)
	h, other := c.Hosts().All[0], c.Hosts().All[1]
	old, new := &Pending{}, &Pending{HTTP2: true}
	admits := func(what string, p *Pending, h *cluster.Host, prio cluster.Priority, want bool) {
		t.Helper()
		if got := w.Admits(p, c, h, prio, nil); got != want {
			t.Errorf("%s: admitted is %v, want %v", what, got, want)
		}
	}
	admits("the first", old, h, cluster.Default, true)
	admits("again", old, h, cluster.Default, true)
	admits("of another host", old, other, cluster.Default, false)
	admits("of another priority", old, h, cluster.High, true)
	admits("of the same host", new, h, cluster.Default, true)
	w.pool(c, h, cluster.Default, nil, new).waits++
	admits("while requests wait", old, h, cluster.Default, false)
	if n := c.Stats.UpstreamCxPoolOverflow.Value(); n != 2 {
		t.Errorf("%d overflows are counted, want 2", n)
	}
	if n := c.Limit(cluster.Default).Pools.Used(); n != 1 {
		t.Errorf("%d pools count, want 1", n)
	}
}

// Who is refused leaves nothing behind: of clients that each ask for a pool of their own, the thousandth costs what the first did.
func TestRefusedPoolsLeaveNothing(t *testing.T) {
	two := uint32(2)
	c, err := cluster.New(cluster.Config{Name: "c", Kind: cluster.Static, Policy: lb.Policy{Kind: lb.RoundRobin},
		Breakers: [2]cluster.Limits{{Pools: &two}, {Pools: &two}}}, stats.NewRegistry(false), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetEndpoints([]cluster.Endpoint{{Addr: netip.MustParseAddrPort("192.0.2.1:80")}})
	loop, err := drive.New()
	if err != nil {
		t.Fatal(err)
	}
	w, h := NewWorker(0, loop, nil), c.Hosts().All[0]
	of := func(i int) *Pending {
		return &Pending{Origin: Origin{Transparent: true, Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)}}
	}
	var pools []*Pool
	for i := range 1000 {
		if got := w.Admits(of(i), c, h, cluster.Default, nil); got != (i < 2) {
			t.Fatalf("client %d: admitted is %v", i, got)
		}
		if i < 2 {
			p := w.pool(c, h, cluster.Default, nil, of(i))
			p.waits++
			pools = append(pools, p)
		}
	}
	if w.Len() != 2 {
		t.Errorf("%d pools are there, want the 2 that there may be", w.Len())
	}
	pools[1].waits--
	if !w.Admits(of(1000), c, h, cluster.Default, nil) || pools[1].counted != nil || pools[0].counted == nil {
		t.Error("the pool that nobody uses does not make room")
	}
	for _, p := range w.pools {
		p.uncount()
	}
	if len(w.crowds) != 0 || c.Limit(cluster.Default).Pools.Used() != 0 {
		t.Errorf("%d crowds and %d pools count, want none", len(w.crowds), c.Limit(cluster.Default).Pools.Used())
	}
}
