package stats

import (
	"cmp"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A Tag is a part of a name that varies: it is a label in the Prometheus form and
// stays part of the name in the text form. Name is Envoy's, such as "envoy.cluster_name".
type Tag struct{ Name, Value string }

// Envoy's names of tags.
const (
	TagCluster        = "envoy.cluster_name"
	TagHTTP           = "envoy.http_conn_manager_prefix"
	TagListener       = "envoy.listener_address"
	TagTCP            = "envoy.tcp_prefix"
	TagRDS            = "envoy.rds_route_config"
	TagScopedRDS      = "envoy.scoped_rds_config"
	TagResource       = "envoy.xds_resource_name"
	TagVirtualHost    = "envoy.virtual_host"
	TagRoute          = "envoy.route"
	TagVirtualCluster = "envoy.virtual_cluster"
	TagAlternative    = "alternative"
	TagResponseCode   = "envoy.response_code"
	TagCodeClass      = "envoy.response_code_class"
)

// istioLabels are the names under which Istio's bootstrap extracts the same parts; dashboards read these.
var istioLabels = map[string]string{
	TagCluster: "cluster_name", TagHTTP: "http_conn_manager_prefix", TagListener: "listener_address",
	TagTCP: "tcp_prefix", TagResponseCode: "response_code", TagCodeClass: "response_code_class",
}

// A Registry knows every set of metrics.
type Registry struct {
	label map[string]string // tag -> label of the Prometheus form

	mu   sync.Mutex // guards sets and the Scopes' users
	sets map[setKey]*Scope
}

// NewRegistry returns an empty registry. Its Prometheus form has the label names of Istio's bootstrap
// ("cluster_name") if istio is set, else Envoy's own ("envoy_cluster_name").
func NewRegistry(istio bool) *Registry {
	r := &Registry{sets: map[setKey]*Scope{}}
	if istio {
		r.label = istioLabels
	}
	return r
}

// A Scope is one registered set. It goes away when its last user closes it.
type Scope struct {
	registry *Registry
	prefix   string // "cluster.outbound|80||x."
	family   string // the same without what the tags hold: "cluster."
	tags     []Tag
	set      reflect.Value
	fields   []metric
	users    int
}

// A metric is one field of a set.
type metric struct {
	name  string
	index []int
	kind  metricKind
	late  bool   // shown from its first count on
	tag   string // of what varies behind the name
	part  []int  // the Optional that it belongs to; nil: none
}

// An Optional is the first field of a part of a set that is shown only after Show: where there is something to count.
// An alert that asks for "ejections" of a cluster that ejects nobody should find nothing, as in Envoy.
type Optional struct{ on atomic.Bool }

// Show has the part shown.
func (o *Optional) Show() { o.on.Store(true) }

// hidden reports whether a metric is not to be shown, whatever is asked for.
func (s *Scope) hidden(m *metric) bool {
	return m.part != nil && !s.set.FieldByIndex(m.part).Addr().Interface().(*Optional).on.Load()
}

type metricKind uint8

const (
	kindCounter metricKind = iota
	kindGauge
	kindHistogram
	kindCodes
	kindClassCodes
	kindNamed
	kindMade
	kindText
	kindHash
)

// Close gives the set back; when the last user has, it is not shown any more.
func (s *Scope) Close() {
	if s == nil {
		return
	}
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(s.registry.sets, setKey{s.prefix, s.set.Type()})
	}
}

// Cluster returns the set of "cluster.<name>.", made by the first call and shared by later ones.
func (r *Registry) Cluster(name string) (*Cluster, *Scope) {
	s := r.scope("cluster.", name, ".", Tag{TagCluster, name}, func() any { return new(Cluster) })
	return s.set.Addr().Interface().(*Cluster), s
}

// Remaining returns the set of "cluster.<name>.circuit_breakers.<priority>." that only clusters which track it have.
func (r *Registry) Remaining(name, priority string) (*Remaining, *Scope) {
	level := "circuit_breakers." + priority + "."
	s := r.add("cluster."+name+"."+level, "cluster."+level, func() any { return new(Remaining) }, Tag{TagCluster, name})
	return s.set.Addr().Interface().(*Remaining), s
}

// Responses returns the set of "cluster.<name>.<alternative>.", whose second name requests have given. In the Prometheus form
// that name is a label, so that none makes a metric of another's name.
func (r *Registry) Responses(name, alternative string) (*Responses, *Scope) {
	s := r.add("cluster."+name+"."+alternative+".", "cluster.alternative.", func() any { return new(Responses) }, Tag{TagCluster, name}, Tag{TagAlternative, alternative})
	return s.set.Addr().Interface().(*Responses), s
}

// Budget returns the set of "cluster.<name>.upstream_rq_timeout_budget_", which only clusters that track it have.
func (r *Registry) Budget(name string) (*Budget, *Scope) {
	s := r.add("cluster."+name+".upstream_rq_timeout_budget_", "cluster.upstream_rq_timeout_budget_", func() any { return new(Budget) }, Tag{TagCluster, name})
	return s.set.Addr().Interface().(*Budget), s
}

// Sizes returns the set of "cluster.<name>.upstream_", which only clusters that track it have.
func (r *Registry) Sizes(name string) (*Sizes, *Scope) {
	s := r.add("cluster."+name+".upstream_", "cluster.upstream_", func() any { return new(Sizes) }, Tag{TagCluster, name})
	return s.set.Addr().Interface().(*Sizes), s
}

// InternalUpstream returns the set of "cluster.<name>.internal_upstream.", which only clusters that lead inside have.
func (r *Registry) InternalUpstream(name string) (*InternalUpstream, *Scope) {
	s := r.add("cluster."+name+".internal_upstream.", "cluster.internal_upstream.", func() any { return new(InternalUpstream) }, Tag{TagCluster, name})
	return s.set.Addr().Interface().(*InternalUpstream), s
}

// RingHash returns the set of "cluster.<name>.ring_hash_lb.", which only clusters with a ring have.
func (r *Registry) RingHash(name string) (*RingHash, *Scope) {
	s := r.add("cluster."+name+".ring_hash_lb.", "cluster.ring_hash_lb.", func() any { return new(RingHash) }, Tag{TagCluster, name})
	return s.set.Addr().Interface().(*RingHash), s
}

// HealthChecks returns the set of "cluster.<name>.health_check.".
func (r *Registry) HealthChecks(name string) (*HealthChecks, *Scope) {
	s := r.add("cluster."+name+".health_check.", "cluster.health_check.", func() any { return new(HealthChecks) }, Tag{TagCluster, name})
	return s.set.Addr().Interface().(*HealthChecks), s
}

// Maglev returns the set of "cluster.<name>.maglev_lb.", which only clusters with a table have.
func (r *Registry) Maglev(name string) (*Maglev, *Scope) {
	s := r.add("cluster."+name+".maglev_lb.", "cluster.maglev_lb.", func() any { return new(Maglev) }, Tag{TagCluster, name})
	return s.set.Addr().Interface().(*Maglev), s
}

// HTTP returns the set of "http.<prefix>.".
func (r *Registry) HTTP(prefix string) (*HTTP, *Scope) {
	s := r.scope("http.", prefix, ".", Tag{TagHTTP, prefix}, func() any { return new(HTTP) })
	return s.set.Addr().Interface().(*HTTP), s
}

// HTTP1 returns the set of "http1.": all connections of clients share it, as Envoy's do.
func (r *Registry) HTTP1() (*HTTP1, *Scope) { return Shared[HTTP1](r, "http1.") }

// HTTP2 returns the set of "http2.": all connections of clients share it, as Envoy's do.
func (r *Registry) HTTP2() (*HTTP2, *Scope) {
	s := r.add("http2.", "http2.", func() any { return new(HTTP2) })
	return s.set.Addr().Interface().(*HTTP2), s
}

// ClusterHTTP2 returns the set of "cluster.<name>.http2.", which only clusters that may speak it have.
func (r *Registry) ClusterHTTP2(name string) (*HTTP2, *Scope) {
	s := r.add("cluster."+name+".http2.", "cluster.http2.", func() any { return new(HTTP2) }, Tag{TagCluster, name})
	return s.set.Addr().Interface().(*HTTP2), s
}

// Listener returns the set of "listener.<address>."; address is written as Envoy does ("0.0.0.0_15006").
func (r *Registry) Listener(address string) (*Listener, *Scope) {
	s := r.scope("listener.", address, ".", Tag{TagListener, address}, func() any { return new(Listener) })
	return s.set.Addr().Interface().(*Listener), s
}

// TCP returns the set of "tcp.<prefix>.".
func (r *Registry) TCP(prefix string) (*TCP, *Scope) {
	s := r.scope("tcp.", prefix, ".", Tag{TagTCP, prefix}, func() any { return new(TCP) })
	return s.set.Addr().Interface().(*TCP), s
}

// ListenerHTTP returns the set of "listener.<address>.http.<prefix>.".
func (r *Registry) ListenerHTTP(address, prefix string) (*ListenerHTTP, *Scope) {
	full := "listener." + address + ".http." + prefix + "."
	s := r.add(full, "listener.http.", func() any { return new(ListenerHTTP) }, Tag{TagHTTP, prefix}, Tag{TagListener, address})
	return s.set.Addr().Interface().(*ListenerHTTP), s
}

// A RouteUse holds the statistics of a route for as long as somebody holds the use: a table of routes goes without a
// word, when the last request that it serves has gone.
type RouteUse struct{ *Route }

// Route returns the set of "vhost.<virtual host>.route.<prefix>.", shared by all who ask for it.
func (r *Registry) Route(virtualHost, prefix string) *RouteUse {
	s := r.add("vhost."+virtualHost+".route."+prefix+".", "vhost.route.", func() any { return new(Route) }, Tag{TagVirtualHost, virtualHost}, Tag{TagRoute, prefix})
	u := &RouteUse{s.set.Addr().Interface().(*Route)}
	runtime.AddCleanup(u, (*Scope).Close, s)
	return u
}

// A VirtualClusterUse holds the statistics of a virtual cluster, as a RouteUse does a route's.
type VirtualClusterUse struct{ *VirtualCluster }

// VirtualCluster returns the set of "vhost.<virtual host>.vcluster.<name>.", shared by all who ask for it.
func (r *Registry) VirtualCluster(virtualHost, name string) *VirtualClusterUse {
	s := r.add("vhost."+virtualHost+".vcluster."+name+".", "vhost.vcluster.", func() any { return new(VirtualCluster) }, Tag{TagVirtualHost, virtualHost}, Tag{TagVirtualCluster, name})
	u := &VirtualClusterUse{s.set.Addr().Interface().(*VirtualCluster)}
	runtime.AddCleanup(u, (*Scope).Close, s)
	return u
}

// Shared returns the set of a prefix, which ends with a dot and holds no tag; made by the first call and shared by
// later ones.
func Shared[T any](r *Registry, prefix string) (*T, *Scope) {
	s := r.add(prefix, prefix, func() any { return new(T) })
	return s.set.Addr().Interface().(*T), s
}

func (r *Registry) scope(before, name, after string, tag Tag, set func() any) *Scope {
	return r.add(before+name+after, before, set, tag)
}

// Add registers a set of metrics of the caller's own: set points to a struct whose fields
// carry `stat:"name"`. Prefix ends with a dot or is empty. The values of tags are parts of the
// prefix, which the Prometheus form takes out. A prefix can be used once at a time.
func (r *Registry) Add(prefix string, set any, tags ...Tag) *Scope {
	family := prefix
	for _, t := range tags {
		family = strings.Replace(family, t.Value+".", "", 1)
	}
	s := r.add(prefix, family, func() any { return set }, tags...)
	if s.set.Addr().Interface() != set {
		panic(fmt.Sprintf("stats: prefix %q has a set already", prefix))
	}
	return s
}

// FormatAddress writes a listener's address as names have it: colons would be read as separators.
func FormatAddress(address string) string { return strings.ReplaceAll(address, ":", "_") }

// A setKey finds a set. Sets of two types may have one prefix, if their metrics have other names.
type setKey struct {
	prefix string
	of     reflect.Type
}

func (r *Registry) add(prefix, family string, set func() any, tags ...Tag) *Scope {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := reflect.ValueOf(set()).Elem()
	key := setKey{prefix, v.Type()}
	s := r.sets[key]
	if s == nil {
		s = &Scope{registry: r, prefix: prefix, family: family, tags: tags, set: v, fields: metricsOf(v.Type())}
		r.sets[key] = s
	}
	s.users++
	return s
}

var (
	metricsMu     sync.Mutex
	metricsByType = map[reflect.Type][]metric{}
	metricKinds   = map[reflect.Type]metricKind{
		reflect.TypeFor[Counter](): kindCounter, reflect.TypeFor[Gauge](): kindGauge, reflect.TypeFor[Histogram](): kindHistogram,
		reflect.TypeFor[Codes](): kindCodes, reflect.TypeFor[ClassCodes](): kindClassCodes, reflect.TypeFor[Named](): kindNamed, reflect.TypeFor[Made](): kindMade,
		reflect.TypeFor[Text](): kindText, reflect.TypeFor[Hash](): kindHash,
	}
)

// metricsOf lists the metrics of a type of set, sets inside it included, once per type.
func metricsOf(t reflect.Type) []metric {
	metricsMu.Lock()
	defer metricsMu.Unlock()
	if m, ok := metricsByType[t]; ok {
		return m
	}
	m := listMetrics(t, "", nil, nil)
	slices.SortFunc(m, func(a, b metric) int { return cmp.Compare(a.name, b.name) })
	metricsByType[t] = m
	return m
}

func listMetrics(t reflect.Type, prefix string, at, part []int) []metric {
	var list []metric
	for i := range t.NumField() {
		f := t.Field(i)
		name, index := f.Tag.Get("stat"), append(slices.Clone(at), i)
		name, how, _ := strings.Cut(name, ",")
		if f.Type == reflect.TypeFor[Optional]() {
			part = index
		}
		if _, tagged := f.Tag.Lookup("stat"); !tagged {
			continue
		}
		kind, one := metricKinds[f.Type]
		if name == "" && !one { // embedded: its metrics are the set's own
			list = append(list, listMetrics(f.Type, prefix, index, part)...)
			continue
		}
		if one {
			list = append(list, metric{prefix + name, index, kind, how == "late", f.Tag.Get("tag"), part})
			continue
		}
		list = append(list, listMetrics(f.Type, prefix+name+".", index, part)...)
	}
	return list
}

// scopes returns the registered sets, sorted by prefix.
func (r *Registry) scopes() []*Scope {
	r.mu.Lock()
	list := make([]*Scope, 0, len(r.sets))
	for _, s := range r.sets {
		list = append(list, s)
	}
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b *Scope) int { return cmp.Compare(a.prefix, b.prefix) })
	return list
}
