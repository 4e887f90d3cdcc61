package cluster

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/stats"
)

// NamesConfig says how a [NameCache] works; zero values are Envoy's defaults.
type NamesConfig struct {
	DNS        DNSConfig
	MinRefresh time.Duration // an answer is believed at least so long; 0: 5 s
	TTL        time.Duration // a name that nobody asks for is forgotten after that; 0: 5 min
	Timeout    time.Duration // of one look-up; 0: 5 s
	MaxNames   int           // 0: 1024
	MaxPending int           // requests that wait for a name; 0: 1024, less: none
	Preresolve []string
}

// A NameCache holds the addresses of the names that requests ask for (Envoy's DNS cache,
// for clusters that forward to whatever host a request names). It looks a name up when it is first
// asked for and again and again until nobody has asked for a while. All shards use it.
type NameCache struct {
	cfg   NamesConfig
	r     Resolver
	ctx   context.Context
	stats *stats.NameCache

	pending atomic.Int64
	mu      sync.RWMutex // guards names
	names   map[string]*name
}

// A name is what is known of one.
type name struct {
	addrs atomic.Pointer[[]netip.Addr] // empty: there is none; nil: not known yet
	used  atomic.Bool                  // since the last look
	late  atomic.Bool                  // the last answer did not come in time

	mu      sync.Mutex // guards waiting
	waiting []func()
}

// NewNameCache returns a cache that ends with ctx.
func NewNameCache(ctx context.Context, cfg NamesConfig, r Resolver, set *stats.NameCache) *NameCache {
	def := func(d *time.Duration, by time.Duration) {
		if *d == 0 {
			*d = by
		}
	}
	def(&cfg.DNS.Refresh, time.Minute)
	def(&cfg.MinRefresh, 5*time.Second)
	def(&cfg.TTL, 5*time.Minute)
	def(&cfg.Timeout, resolveTimeout)
	if cfg.MaxNames == 0 {
		cfg.MaxNames = 1024
	}
	if cfg.MaxPending == 0 {
		cfg.MaxPending = 1024
	}
	cfg.DNS.RespectTTL = true
	c := &NameCache{cfg: cfg, r: r, ctx: ctx, stats: set, names: map[string]*name{}}
	for _, n := range cfg.Preresolve {
		c.Ask(n, func() {})
	}
	return c
}

// Lookup returns what a name, or the address that it spells, means now: the addresses in the order
// of the answer. known is false if nobody knows yet.
func (c *NameCache) Lookup(host string) (addrs []netip.Addr, known bool) {
	if a, ok := pipe.ParseAddr(host); ok {
		return []netip.Addr{a}, true
	}
	c.mu.RLock()
	n := c.names[host]
	c.mu.RUnlock()
	if n == nil {
		return nil, false
	}
	if !n.used.Load() {
		n.used.Store(true)
	}
	if a := n.addrs.Load(); a != nil {
		return *a, true
	}
	return nil, false
}

// Late reports whether the last question for a name has had no answer in time.
func (c *NameCache) Late(host string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n := c.names[host]
	return n != nil && n.late.Load()
}

// An Answer says what became of [NameCache.Ask].
type Answer uint8

// The answers.
const (
	Asked   Answer = iota // f will be called, on some goroutine
	Full                  // the cache has as many names as it may
	Crowded               // too many requests wait
)

// Ask has f called once a name is known, or known not to be. It is called at least once if the answer is
// Asked, even if the name is known already.
func (c *NameCache) Ask(host string, f func()) Answer {
	if c.pending.Add(1) > int64(c.cfg.MaxPending) {
		c.pending.Add(-1)
		c.stats.PendingOverflow.Inc()
		return Crowded
	}
	done := func() {
		c.pending.Add(-1)
		f()
	}
	c.mu.Lock()
	n := c.names[host]
	if n == nil {
		if len(c.names) >= c.cfg.MaxNames {
			c.mu.Unlock()
			c.pending.Add(-1)
			c.stats.HostOverflow.Inc()
			return Full
		}
		n = &name{}
		n.used.Store(true)
		c.names[host] = n
		c.stats.HostAdded.Inc()
		c.stats.NumHosts.Set(int64(len(c.names)))
		go c.keep(host, n)
	}
	c.mu.Unlock()
	n.mu.Lock()
	if n.addrs.Load() == nil {
		n.waiting = append(n.waiting, done)
		n.mu.Unlock()
		return Asked
	}
	n.mu.Unlock()
	done()
	return Asked
}

// keep looks a name up again and again until nobody asks for it.
func (c *NameCache) keep(host string, n *name) {
	failures := 0
	for idle := time.Duration(0); ; {
		ttl, ok := c.resolve(host, n)
		if failures++; ok {
			failures = 0
		}
		wait := c.cfg.DNS.wait(failures, ttl, rand.Uint64())
		if failures == 0 {
			wait = min(max(wait, c.cfg.MinRefresh), c.cfg.TTL)
		}
		t := time.NewTimer(wait)
		select {
		case <-c.ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if idle += wait; n.used.Swap(false) {
			idle = 0
		}
		if idle >= c.cfg.TTL {
			break
		}
	}
	c.mu.Lock()
	delete(c.names, host)
	c.stats.HostRemoved.Inc()
	c.stats.NumHosts.Set(int64(len(c.names)))
	c.mu.Unlock()
}

// resolve looks a name up once. A failure keeps the address that is known.
func (c *NameCache) resolve(host string, n *name) (ttl time.Duration, ok bool) {
	c.stats.QueryAttempt.Inc()
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.Timeout)
	defer cancel()
	addrs, ttl, err := c.r.Resolve(ctx, host, c.cfg.DNS.Family)
	addrs = c.cfg.DNS.Family.Choose(addrs)
	late := ctx.Err() != nil && c.ctx.Err() == nil
	n.late.Store(late)
	switch {
	case late:
		c.stats.QueryTimeout.Inc()
		c.stats.QueryFailure.Inc()
	case err != nil:
		c.stats.QueryFailure.Inc()
	case len(addrs) > 0:
		c.stats.QuerySuccess.Inc()
		ok = true
	default:
		c.stats.QuerySuccess.Inc()
		ok = true
	}
	if old := n.addrs.Load(); old == nil || ok && !slices.Equal(*old, addrs) {
		c.stats.AddressChanged.Inc()
		n.addrs.Store(&addrs)
	}
	n.mu.Lock()
	waiting := n.waiting
	n.waiting = nil
	n.mu.Unlock()
	for _, f := range waiting {
		f()
	}
	return ttl, ok
}
