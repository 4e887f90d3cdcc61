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
