package app

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// How often names of gateways are looked up (Istio's least), and how long one may take.
const (
	lookupEvery   = 30 * time.Second
	lookupTimeout = 5 * time.Second
)

// gatewayNames finds the addresses of networks' gateways that have names: proxies are told addresses. What was found stays
// when a name can no longer be looked up.
type gatewayNames struct {
	lookup  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	log     *slog.Logger
	changed chan struct{} // holds one token: a name has other addresses than before
	wake    chan struct{} // and one: there are other names

	mu     sync.Mutex
	wanted []string                // guarded by mu
	found  map[string][]netip.Addr // guarded by mu; never written
}

func newGatewayNames(lookup func(ctx context.Context, network, host string) ([]netip.Addr, error), log *slog.Logger) *gatewayNames {
	return &gatewayNames{lookup: lookup, log: log, changed: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
}

// want says which names are to be known, sorted. It does not wait.
func (g *gatewayNames) want(names []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.Equal(names, g.wanted) {
		return
	}
	g.wanted = names
	token(g.wake)
}

// addresses are those that are known.
func (g *gatewayNames) addresses() map[string][]netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.found
}

// run looks up until ctx ends.
func (g *gatewayNames) run(ctx context.Context) {
	again := time.NewTicker(lookupEvery)
	defer again.Stop()
	for {
		select {
		case <-g.wake:
		case <-again.C:
		case <-ctx.Done():
			return
		}
		g.look(ctx)
	}
}

func (g *gatewayNames) look(ctx context.Context) {
	g.mu.Lock()
	wanted, before := g.wanted, g.found
	g.mu.Unlock()
	next := map[string][]netip.Addr{}
	for _, name := range wanted {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		addrs, err := g.lookup(ctx, "ip", name)
		cancel()
		if err != nil {
			g.log.Warn("the name of a network's gateway cannot be looked up; what was known of it stays", "name", name, "err", err)
			addrs = before[name]
		}
		if len(addrs) == 0 {
			continue
		}
		all := make([]netip.Addr, len(addrs))
		for i, a := range addrs {
			all[i] = a.Unmap()
		}
		slices.SortFunc(all, netip.Addr.Compare)
		next[name] = slices.Compact(all)
	}
	if maps.EqualFunc(before, next, slices.Equal) {
		return
	}
	g.mu.Lock()
	g.found = next
	g.mu.Unlock()
	token(g.changed)
}

// token puts one into a channel that holds one.
func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
