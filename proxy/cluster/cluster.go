package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/h1"
	"github.com/mallamesh/malla/proxy/h2"
	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/matcher"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/proxyproto"
	"github.com/mallamesh/malla/proxy/stats"
)

// A Kind says where the hosts of a cluster come from.
type Kind uint8

// The kinds.
const (
	Static Kind = iota
	EDS
	StrictDNS
	LogicalDNS
	OriginalDst
	DynamicForward // to the host that a request names
)

var kindNames = [...]string{"STATIC", "EDS", "STRICT_DNS", "LOGICAL_DNS", "ORIGINAL_DST", "envoy.clusters.dynamic_forward_proxy"}

// String returns Envoy's name.
func (k Kind) String() string { return kindNames[k] }

// A Transport says how to talk to hosts.
type Transport struct {
	Name   string
	Match  map[string]string  // endpoints whose Metadata.Match holds all of these use it; empty matches all
	Socket any                // *tls.Client configuration of proxy/tls; nil: plain text
	Proxy  *proxyproto.Sender // of the PROXY protocol's header before that; nil: none
	Passed *Passed            // what listeners inside of the proxy are told; nil: nothing
}

// A Config describes a cluster. It is immutable once it is given to New.
type Config struct {
	Name     string
	StatName string // alt_stat_name; empty: Name
	EDSName  string // service_name of EDS; empty: Name
	Kind     Kind
	Added    bool // came from CDS, not from the bootstrap

	ConnectTimeout time.Duration // 0: 5 s
	Policy         lb.Policy
	Panic          *float64 // healthy_panic_threshold in percent; nil: 50
	FailOnPanic    bool     // fail_traffic_on_panic
	Localities     Localities
	Subsets        *Subsets // nil: none
	HashByName     bool     // use_hostname_for_hashing
	// OverrideHealth are the states of health in which a host may be asked for by name
	// (override_host_status), as a set of 1 << Health; 0: UNKNOWN, HEALTHY and DEGRADED.
	OverrideHealth uint8
	Breakers       [2]Limits
	Outlier        *OutlierConfig // nil: off
	Maintenance    uint32         // percent of requests that are told that the cluster is being worked on
	OutlierLog     Journal        // where ejections are told; nil: nowhere
	Check          *CheckPolicy   // of active health checks; nil: there are none
	Transports     []Transport    // transport_socket_matches in order, the default last; empty: plain text
	// Transport finds one of Transports by what is said of a host, the last where it finds none (transport_socket_matcher); nil: their
	// Match does.
	Transport matcher.Tree[*Metadata, int]
	Eyeballs  Eyeballs     // the order of a host's addresses
	DNS       DNSConfig    // for StrictDNS and LogicalDNS
	Override  OverrideHost // for OriginalDst
	Names     *NameCache   // for DynamicForward

	CloseOnChange              bool           // close_connections_on_host_set_change: none outlives the set of hosts that it was made for
	Preconnect                 float64        // per_upstream_preconnect_ratio; 0: 1
	TrackBudget, TrackSizes    bool           // of track_cluster_stats
	PreconnectNext             float64        // predictive_preconnect_ratio; 0: 1
	MaxRequestsPerConnection   uint32         // 0: any number
	IdleTimeout                *time.Duration // of connections; nil: 1 h; 0: none
	MaxConnectionDuration      time.Duration  // 0: none
	HTTP2                      bool           // speaks HTTP/2 to its hosts
	ALPN                       bool           // speaks what a host chooses in the TLS handshake (auto_config)
	HTTP2Options               h2.Options
	SameProtocol               bool                 // use_downstream_protocol
	AutoSNI, AutoSANValidation bool                 // SNI and expected name follow the request's host
	BufferLimit                uint32               // per_connection_buffer_limit_bytes; 0: 1 MiB
	Bind                       netip.Addr           // upstream_bind_config source address
	BindV6                     netip.Addr           // extra source address for v6 hosts
	SocketOptions              []drive.SocketOption // of connections to hosts
	Trailers                   bool                 // requests to HTTP/1.1 servers may carry trailers, and their answers
	AbsoluteURL                bool                 // targets are in absolute form: the hosts are proxies
	Spelling                   h1.Spelling
	ProperCase                 bool // names of headers are written with capitals over HTTP/1.1

	Policies          any           // *route.Policies of proxy/route: what goes before those of routes; nil: nothing
	MaxStreamDuration time.Duration // of a try; 0: any

	HTTPFilters any // *upstream.Chain of proxy/filter/upstream: what requests pass on their way; nil: the router says

	Destination *stats.Destination // Istio's cluster metadata: the service behind it; nil: unknown
	Metadata    *metadata.Set      // for logs and header operations
}

// OverrideHost says which other sources than the socket may name an original destination.
type OverrideHost struct {
	Header    string // x-envoy-original-dst-host by default if UseHeader
	UseHeader bool
	Port      uint16        // upstream_port_override, 0: none
	Metadata  *metadata.Key // of the request's own; nil: none
}

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

// SetEndpoints replaces the endpoints. It is cheap if nothing has changed, and reports whether
// something has. Endpoints without an address are left out: they belong to DNS.
func (c *Cluster) SetEndpoints(endpoints []Endpoint) bool {
	return c.Assign(Assignment{Endpoints: endpoints})
}

// An Assignment is what the control plane says of a cluster's endpoints.
type Assignment struct {
	Endpoints     []Endpoint
	Overprovision uint32 // overprovisioning_factor in percent; 0: 140
	Drop          Part   // of the requests, which are refused because there are too many
}

// A Part is a share of all; the zero value is none.
type Part struct{ Numerator, Denominator uint32 }

// Drops reports whether some requests are refused because there are too many.
func (c *Cluster) Drops() bool { return c.drop.Load() != nil }

// Dropped reports whether a request with a random number is one of those that are refused, and whether all are.
func (c *Cluster) Dropped(random uint64) (dropped, all bool) {
	p := c.drop.Load()
	if p == nil {
		return false, false
	}
	return uint32(random%uint64(p.Denominator)) < p.Numerator, p.Numerator >= p.Denominator
}

// Assign is SetEndpoints with what else an assignment says.
func (c *Cluster) Assign(a Assignment) bool {
	c.building.Lock()
	defer c.building.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil { // a look-up that was under way
		return false
	}
	factor := a.Overprovision
	if factor == 0 {
		factor = defaultOverprovision
	}
	c.drop.Store(nil)
	if a.Drop.Numerator > 0 {
		c.drop.Store(&a.Drop)
	}
	same := factor == c.overprovision
	c.overprovision = factor
	return c.setEndpoints(a.Endpoints, same)
}

// showHeaviest sets the greatest weight of a host. Envoy shows that of the last priority that there ever was.
func (c *Cluster) showHeaviest(hosts []*Host) {
	if c.Kind != EDS && c.Kind != StrictDNS {
		return
	}
	if c.Kind == EDS {
		for _, h := range hosts {
			c.last = max(c.last, h.Priority)
		}
	}
	heaviest := uint32(1)
	for _, h := range hosts {
		if c.Kind == StrictDNS || h.Priority == c.last {
			heaviest = max(heaviest, h.Weight)
		}
	}
	c.Stats.MaxHostWeight.Set(int64(heaviest))
}

func (c *Cluster) setEndpoints(endpoints []Endpoint, sameFactor bool) bool {
	old := make(map[netip.AddrPort]*Host, len(c.hosts.Load().All))
	for _, h := range c.hosts.Load().All {
		old[h.Addr] = h
	}
	changed, levels := !sameFactor, map[uint32]bool{}
	hosts := make([]*Host, 0, len(endpoints))
	seen := make(map[netip.AddrPort]bool, len(endpoints))
	for i := range endpoints {
		e := &endpoints[i]
		if !e.Addr.IsValid() || seen[e.Addr] {
			continue
		}
		seen[e.Addr] = true
		h := c.host(e, old[e.Addr])
		if was := old[e.Addr]; h != was {
			changed = true
			if was == nil || was.Priority != h.Priority || was.Locality != h.Locality { // for Envoy another host
				levels[h.Priority] = true
			}
			if was != nil && was.Priority != h.Priority {
				levels[was.Priority] = true
			}
		}
		hosts = append(hosts, h)
	}
	for addr, h := range old {
		switch {
		case seen[addr]:
			h.leaving(false)
		case c.stays(h):
			h.leaving(true)
			hosts, seen[addr] = append(hosts, h), true
		default:
			levels[h.Priority] = true
		}
	}
	if !changed && len(hosts) == len(old) {
		c.Stats.UpdateNoRebuild.Inc()
		return false
	}
	c.Stats.MembershipChange.Add(uint64(len(levels))) // Envoy counts each priority whose hosts are others
	c.showHeaviest(hosts)
	c.rebuild(hosts)
	for addr, h := range old { // until now it could have been taken out
		if !seen[addr] && h.ejected.Load() {
			c.uneject(h, time.Now())
		}
	}
	c.tell(hosts)
	return true
}

// host returns the host of an endpoint: the old one if nothing has changed, else a new one with the old one's state.
func (c *Cluster) host(e *Endpoint, old *Host) *Host {
	h := Host{
		Addr: e.Addr, Name: cmp.Or(e.Hostname, e.Name), Weight: max(e.Weight, 1), Priority: min(e.Priority, maxPriority),
		Locality: e.Locality, Health: e.Health, Metadata: e.Metadata, LocalityWeight: e.LocalityWeight, Target: e.Check,
		tried: c.order(e),
	}
	if h.Metadata == nil {
		h.Metadata = &noMetadata
	}
	h.Transport = c.transport(h.Metadata)
	if old != nil {
		if h.State = old.State; h.same(old) {
			return old // most endpoints of most updates: they cost nothing
		}
	} else {
		h.State = new(State)
		h.check.Store(uint32(c.newCheck(e)))
	}
	return h.copied()
}

func (h Host) copied() *Host { return &h }

var noMetadata Metadata

// maxPriority is the highest priority of Envoy's API; every level up to the highest costs memory.
const maxPriority = 128

func (h *Host) same(o *Host) bool {
	return h.Addr == o.Addr && h.Name == o.Name && h.Weight == o.Weight && h.Priority == o.Priority &&
		h.Locality == o.Locality && h.LocalityWeight == o.LocalityWeight && h.Health == o.Health && h.Transport == o.Transport && h.Metadata.same(o.Metadata) && sameAddresses(h, o) &&
		(h.Target == o.Target || h.Target != nil && o.Target != nil && *h.Target == *o.Target)
}

func (m *Metadata) same(o *Metadata) bool {
	return m == o || m.Peer == o.Peer && m.All == o.All && m.Around == o.Around && maps.Equal(m.Match, o.Match) &&
		m.HashKey == o.HashKey && m.Canary == o.Canary && maps.EqualFunc(m.LB, o.LB, Value.same)
}

func (c *Cluster) transport(m *Metadata) *Transport {
	if c.Transport != nil {
		i, ok := c.Transport.Match(m)
		if !ok {
			i = len(c.Transports) - 1
		}
		return &c.Transports[i]
	}
	for i := range c.Transports {
		if t := &c.Transports[i]; t.Matches(m.Match) {
			return t
		}
	}
	panic("cluster: no default transport") // New made sure that there is one
}

// Matches reports whether an endpoint with these labels uses it.
func (t *Transport) Matches(labels map[string]string) bool {
	for k, v := range t.Match {
		if labels[k] != v {
			return false
		}
	}
	return true
}

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
	c.rebuild(hosts)
}

func newRandom() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

// ByAddress reports whether the cluster has a host for any address that it is asked for.
func (c *Cluster) ByAddress() bool { return c.Kind == OriginalDst || c.Kind == DynamicForward }

// Secure reports whether its hosts speak TLS, as far as nothing else is said of a host.
func (c *Cluster) Secure() bool { return c.Transports[len(c.Transports)-1].Socket != nil }
