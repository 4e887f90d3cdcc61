package cluster

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/stats"
)

// A Priority chooses a set of circuit breakers.
type Priority uint8

// The priorities.
const (
	Default Priority = iota
	High
)

// A Cluster is an upstream: hosts, limits and what was counted. Its configuration never
// changes; its hosts do.
type Cluster struct {
	Config
	Stats  *stats.Cluster
	Budget *stats.Budget // nil: not tracked
	Sizes  *stats.Sizes  // nil: not tracked

	hosts    atomic.Pointer[HostSet]
	drop     atomic.Pointer[Part]     // nil: none
	last     uint32                   // the greatest priority that a host has had; guarded by building
	success  [2]atomic.Pointer[Rates] // of the hosts; see SuccessRates
	breakers [2]Breakers
	scopes   []*stats.Scope

	// Aside runs what takes longer than a shard has time, somewhere else; nil: it is done at once.
	Aside func(func())

	building      sync.Mutex // the changes of hosts pass here one by one; no shard waits for it. It guards what follows
	overprovision uint32     // the factor that the last assignment gave, in percent
	seeds         *rand.Rand

	mu       sync.Mutex // guards what follows; held for moments only, because shards take it, after building
	sweepAt  time.Time
	weighAt  time.Time // of hosts by what they report
	ejected  int
	renewing bool // somebody is about to look at all hosts anew
	random   *rand.Rand

	ring  *stats.RingHash // of RingHash
	table *stats.Maglev   // of Maglev

	inside *stats.InternalUpstream // nil: no transport passes anything on

	next    *Cluster                     // that has its hosts now; guarded by mu
	follow  func([]*Host)                // of [Cluster.Follow]; guarded by mu
	passive atomic.Pointer[func(*State)] // of [Cluster.OnFailCheck]

	named alternatives

	origMu   sync.RWMutex // guards original
	original map[netip.AddrPort]*Host
}

// New makes a cluster. If prev is set, the cluster replaces one of the same name: hosts
// that are in both keep their state. What is in flight stays counted against the limits of the cluster
// that it was sent through. The error names the field that is wrong.
func New(cfg Config, reg *stats.Registry, prev *Cluster) (*Cluster, error) {
	c := &Cluster{Config: cfg, random: newRandom(), seeds: newRandom(), overprovision: defaultOverprovision}
	if cfg.ConnectTimeout == 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if cfg.StatName == "" {
		c.StatName = cfg.Name
	}
	if cfg.EDSName == "" {
		c.EDSName = cfg.Name
	}
	if cfg.BufferLimit == 0 {
		c.BufferLimit = 1 << 20
	}
	if cfg.IdleTimeout == nil {
		hour := time.Hour
		c.IdleTimeout = &hour
	}
	if c.ByAddress() {
		c.Policy.Kind = lb.OriginalDst
		c.original = map[netip.AddrPort]*Host{}
		if c.Override.UseHeader && c.Override.Header == "" {
			c.Override.Header = "x-envoy-original-dst-host"
		}
	} else if err := cfg.Policy.Check(); err != nil {
		return nil, fmt.Errorf("cluster %s: lb_policy: %w", cfg.Name, err)
	}
	if c.OverrideHealth == 0 {
		c.OverrideHealth = 1<<HealthUnknown | 1<<Healthy | 1<<Degraded
	}
	if n := len(cfg.Transports); n == 0 {
		c.Transports = []Transport{{Name: "raw_buffer"}}
	} else if len(cfg.Transports[n-1].Match) != 0 {
		return nil, fmt.Errorf("cluster %s: transport_socket_matches: the last has a match, want a default without one", cfg.Name)
	}
	if cfg.Outlier != nil {
		o := cfg.Outlier.withDefaults()
		c.Outlier = &o
	}
	c.named.registry = reg
	set, scope := reg.Cluster(c.StatName)
	c.Stats, c.scopes = set, []*stats.Scope{scope}
	if c.Outlier != nil {
		set.Outlier.Show()
	}
	if slices.ContainsFunc(c.Transports, func(t Transport) bool { return t.Socket != nil }) {
		set.TLS.Show()
	}
	if slices.ContainsFunc(c.Transports, func(t Transport) bool { return t.Passed != nil }) {
		c.inside, scope = reg.InternalUpstream(c.StatName)
		c.scopes = append(c.scopes, scope)
	}
	c.Policy.Total = set.UpstreamRqActive.Value
	if c.HTTP2 || c.ALPN || c.SameProtocol {
		c.HTTP2Options.Stats, scope = reg.ClusterHTTP2(c.StatName)
		c.scopes = append(c.scopes, scope)
	}
	if c.TrackBudget {
		c.Budget, scope = reg.Budget(c.StatName)
		c.scopes = append(c.scopes, scope)
	}
	if c.TrackSizes {
		c.Sizes, scope = reg.Sizes(c.StatName)
		c.scopes = append(c.scopes, scope)
	}
	switch c.Policy.Kind {
	case lb.RingHash:
		c.ring, scope = reg.RingHash(c.StatName)
		c.scopes = append(c.scopes, scope)
	case lb.Maglev:
		c.table, scope = reg.Maglev(c.StatName)
		c.scopes = append(c.scopes, scope)
	}
	for p := range c.breakers {
		set := &c.Stats.DefaultBreakers
		if p == int(High) {
			set = &c.Stats.HighBreakers
		}
		var remaining *stats.Remaining
		if cfg.Breakers[p].TrackRemaining {
			var scope *stats.Scope
			remaining, scope = reg.Remaining(c.StatName, [...]string{"default", "high"}[p])
			c.scopes = append(c.scopes, scope)
		}
		c.breakers[p].init(cfg.Breakers[p], set, remaining)
	}
	c.hosts.Store(&HostSet{Levels: Levels{{Load: 100}}})
	if prev != nil {
		c.inherit(prev)
	}
	return c, nil
}

// Close gives the cluster's metrics back. Requests in flight may go on counting.
func (c *Cluster) Close() {
	for _, s := range c.scopes {
		s.Close()
	}
	c.named.close()
}

// Hosts returns the present hosts.
func (c *Cluster) Hosts() *HostSet { return c.hosts.Load() }

// Limit returns the circuit breakers of a priority.
func (c *Cluster) Limit(p Priority) *Breakers { return &c.breakers[p] }

// inherit takes over the hosts of a cluster that this one replaces. Who still tells that one of them tells this one.
func (c *Cluster) inherit(prev *Cluster) {
	prev.mu.Lock()
	defer prev.mu.Unlock()
	prev.next, c.Aside = c, prev.Aside
	hosts := make([]*Host, 0, len(prev.hosts.Load().All))
	for _, h := range prev.hosts.Load().All {
		copied := *h
		copied.Transport = c.transport(h.Metadata)
		hosts = append(hosts, &copied)
		if h.Ejected() {
			c.ejected++
		}
	}
	c.building.Lock()
	defer c.building.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Check == nil { // nobody would find them healthy
		for _, h := range hosts {
			h.check.Store(0)
		}
	}
	if c.Outlier == nil { // nobody would let them back in
		for _, h := range hosts {
			if h.Ejected() {
				c.uneject(h, time.Now())
			}
			if h.FoundDegraded() {
				h.undegrade(time.Now())
			}
		}
	}
	if c.Reported != nil {
		hosts, _ = c.reweigh(hosts, time.Now())
	}
	c.rebuild(hosts)
}

func newRandom() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

// ByAddress reports whether the cluster has a host for any address that it is asked for.
func (c *Cluster) ByAddress() bool { return c.Kind == OriginalDst || c.Kind == DynamicForward }

// Secure reports whether its hosts speak TLS, as far as nothing else is said of a host.
func (c *Cluster) Secure() bool { return c.Transports[len(c.Transports)-1].Socket != nil }

// NameFor is what a request calls its host, for the SNI of the connection that it goes over.
func (c *Cluster) NameFor(m *header.Map) []byte {
	if c.SNIHeader != "" {
		if v := m.LookupString(c.SNIHeader); len(v) > 0 {
			return v
		}
	}
	return m.Get(header.Authority)
}
