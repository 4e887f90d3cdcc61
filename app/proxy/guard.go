package proxy

import (
	"math"
	"os"
	"runtime/debug"
	"time"

	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/shard"
)

// protect makes the overload manager: the bootstrap's, or without one our own.
func (p *parts) protect(state *overload.State) {
	var c *overload.Config
	if p.boot != nil {
		c = p.boot.Overload
	}
	if c == nil {
		c = ownGuard(memoryLimit())
	}
	collectFor(c)
	if c != nil {
		p.guard = overload.New(*c, state, shard.Plane{Shards: p.shards}, p.stats, p.log)
	}
}

// Of the memory that a proxy may use:
const (
	collected = 0.80 // the collector works harder to stay below
	accepted  = 0.90 // no connections are accepted beyond
	served    = 0.95 // no requests are, and the largest streams are reset
	account   = 17   // that hold 128 KiB, at first 16 MiB
)

// memoryMonitor is the name of our own monitor.
const memoryMonitor = "malla.memory"

// ownGuard is what a proxy does about its memory when nobody says anything else: a limit that it knows of
// must not be what ends it.
func ownGuard(limit int64) *overload.Config {
	if limit == math.MaxInt64 {
		return nil
	}
	at := func(from, to float64) []overload.Trigger {
		return []overload.Trigger{{Resource: memoryMonitor, From: from, To: to}}
	}
	return &overload.Config{
		Every:    500 * time.Millisecond,
		Monitors: []overload.Named{{Name: memoryMonitor, Monitor: overload.Heap{Max: uint64(limit), Reserve: headroom}}},
		Actions: []overload.Action{
			{Kind: overload.StopAccepting, Name: overload.StopAccepting.String(), Triggers: at(accepted, accepted)},
			{Kind: overload.StopRequests, Name: overload.StopRequests.String(), Triggers: at(served, served)},
			{Kind: overload.ResetStreams, Name: overload.ResetStreams.String(), Triggers: at(served, 1)},
		},
		Account: account,
	}
}

// collectFor has the collector work harder before a monitor of memory speaks: garbage counts as used, so it must
// not be left until there is that much, whatever GOMEMLIMIT says.
func collectFor(c *overload.Config) {
	if c == nil {
		return
	}
	for _, m := range c.Monitors {
		if h, ok := m.Monitor.(overload.Heap); ok {
			debug.SetMemoryLimit(min(debug.SetMemoryLimit(-1), int64(collected*float64(min(h.Max, math.MaxInt64/2)))+headroom))
		}
	}
}

// memoryLimit is what the process may use, by its control groups and by GOMEMLIMIT.
func memoryLimit() int64 {
	limit := debug.SetMemoryLimit(-1)
	groups, _ := os.ReadFile("/proc/self/cgroup")
	if n, ok := overload.Limit(overload.CgroupRoot, string(groups)); ok {
		limit = min(limit, int64(n))
	}
	return limit
}

// ownConnections bounds the connections of clients where nobody has: a quarter of the descriptors is for
// those to hosts, and some are for the ports of our own, which stay answered.
func ownConnections() *listen.Connections {
	n, ok := descriptors()
	if !ok || n > math.MaxInt32 {
		return nil
	}
	return &listen.Connections{Max: max(int64(n)-128, 16) * 3 / 4}
}
