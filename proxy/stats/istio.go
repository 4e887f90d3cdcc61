package stats

import (
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Peer is what Istio's metrics say about a workload: this proxy's own, or the one at the
// other end as metadata exchange, the certificate or endpoint metadata told. Peers are interned with
// [Istio.Peer], once per connection; equal ones are the same pointer. Empty fields are written
// "unknown", an empty revision "latest".
type Peer struct {
	Workload, Namespace                 string
	CanonicalService, CanonicalRevision string
	App, Version, Cluster               string
	Principal                           string // SPIFFE id, from the TLS connection
}

// A Destination is the service that a request was for.
type Destination struct {
	Service   string // reviews.default.svc.cluster.local
	Name      string // reviews
	Namespace string
}

// A Reporter is the side that counts.
type Reporter uint8

// The reporters.
const (
	Source Reporter = iota
	Dest
	Waypoint
)

// A Security is the value of connection_security_policy.
type Security uint8

// The values. A source does not know, even if it did the TLS itself; at the
// destination it is mutual TLS if both ends have a name.
const (
	SecurityUnknown Security = iota
	SecurityNone
	SecurityMutualTLS
)

// A RequestProtocol is the value of request_protocol.
type RequestProtocol uint8

// The values.
const (
	ProtocolHTTP RequestProtocol = iota
	ProtocolGRPC
	ProtocolTCP
)

// A Key is one combination of labels. It is comparable and small.
type Key struct {
	Peer        *Peer        // the other end, interned; nil: unknown
	Destination *Destination // interned; nil: unknown
	Local       string       // our own principal on the connection
	Flags       uint64       // access.Flags
	Code        uint16
	GRPCStatus  int16 // below 0: none
	Reporter    Reporter
	Protocol    RequestProtocol
	Security    Security
}

// HTTPSeries are the metrics of one combination of labels for requests.
type HTTPSeries struct {
	Requests         Counter
	RequestMessages  Counter // gRPC messages
	ResponseMessages Counter
	Duration         Histogram // milliseconds
	RequestBytes     Histogram
	ResponseBytes    Histogram
}

// TCPSeries are the metrics of one combination of labels for TCP connections.
type TCPSeries struct {
	Opened, Closed, Sent, Received Counter
}

// IstioOptions are the options of [NewIstio].
type IstioOptions struct {
	Local   Peer                // this proxy's own workload
	Version string              // of the proxy, for istio_build
	Flags   func(uint64) string // the text of Key.Flags
	Limit   int                 // combinations of labels, peers and destinations that are kept apart; 0: 10,000
}

// Istio holds Istio's standard metrics. Combinations of labels beyond the limit are
// counted together, under "overflow" in place of the names: a client that invents
// names costs a bounded amount of memory.
type Istio struct {
	o IstioOptions

	mu    sync.Mutex // guards what follows
	peers map[Peer]*Peer
	dests map[Destination]*Destination
	http  map[Key]*HTTPSeries
	tcp   map[Key]*TCPSeries
}

const overflow = "overflow"

var (
	overflowPeer = &Peer{overflow, overflow, overflow, overflow, overflow, overflow, overflow, overflow}
	overflowDest = &Destination{overflow, overflow, overflow}
	nobody       = &Peer{}
	nowhere      = &Destination{}
)

// NewIstio returns metrics without any series.
func NewIstio(o IstioOptions) *Istio {
	if o.Limit == 0 {
		o.Limit = 10000
	}
	return &Istio{
		o: o, peers: map[Peer]*Peer{}, dests: map[Destination]*Destination{},
		http: map[Key]*HTTPSeries{}, tcp: map[Key]*TCPSeries{},
	}
}

// Local is this proxy's own workload.
func (m *Istio) Local() Peer { return m.o.Local }

// Peer interns a peer.
func (m *Istio) Peer(p Peer) *Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return intern(m.peers, p, m.o.Limit, overflowPeer)
}

// Destination interns a destination.
func (m *Istio) Destination(d Destination) *Destination {
	m.mu.Lock()
	defer m.mu.Unlock()
	return intern(m.dests, d, m.o.Limit, overflowDest)
}

func intern[T comparable](known map[T]*T, v T, limit int, rest *T) *T {
	p := known[v]
	if p == nil {
		if len(known) >= limit {
			return rest
		}
		p = &v
		known[v] = p
	}
	return p
}

// A Cache finds series for one shard: a look-up in its own map, no lock, no allocation.
type Cache struct {
	m     *Istio
	http  map[Key]*HTTPSeries
	tcp   map[Key]*TCPSeries
	hosts map[string]*Destination
}

// NewCache returns a shard's cache.
func (m *Istio) NewCache() *Cache {
	return &Cache{m: m, http: map[Key]*HTTPSeries{}, tcp: map[Key]*TCPSeries{}, hosts: map[string]*Destination{}}
}

// HTTP returns the series of a combination of labels.
func (c *Cache) HTTP(k Key) *HTTPSeries {
	s := c.http[k]
	if s == nil {
		s = series(c.m, c.m.http, k)
		keep(c.http, k, s)
	}
	return s
}

// TCP is HTTP for connections. The code and gRPC's status are not among its labels.
func (c *Cache) TCP(k Key) *TCPSeries {
	k.Code, k.GRPCStatus, k.Protocol = 0, -1, ProtocolTCP
	s := c.tcp[k]
	if s == nil {
		s = series(c.m, c.m.tcp, k)
		keep(c.tcp, k, s)
	}
	return s
}

// maxCached bounds a shard's maps; they hold what the shard has seen lately.
const maxCached = 4096

func keep[K comparable, V any](cache map[K]V, k K, v V) {
	if len(cache) >= maxCached {
		clear(cache)
	}
	cache[k] = v
}

func series[T any](m *Istio, all map[Key]*T, k Key) *T {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := all[k]
	if s == nil {
		if len(all) >= m.o.Limit {
			k = Key{Peer: overflowPeer, Destination: overflowDest, Code: k.Code / 100 * 100, GRPCStatus: -1, Reporter: k.Reporter, Protocol: k.Protocol, Security: k.Security}
			if s = all[k]; s != nil {
				return s
			}
		}
		s = new(T)
		all[k] = s
	}
	return s
}

// maxHost is how much of a host that somebody asked for is kept: names in DNS have at most 253 bytes, and a port.
const maxHost = 253 + len(":65535")

// Host returns the destination of a request whose cluster belongs to no known service:
// the host it asked for, and the name of the cluster ("PassthroughCluster", "BlackHoleCluster") or,
// if that is empty, the host again.
func (c *Cache) Host(host []byte, cluster string) *Destination {
	host = host[:min(len(host), maxHost)]
	if d := c.hosts[string(host)]; d != nil && (cluster == "" && d.Name == d.Service || d.Name == cluster) {
		return d
	}
	d := Destination{Service: string(host), Name: cluster}
	if cluster == "" {
		d.Name = d.Service
	}
	p := c.m.Destination(d)
	keep(c.hosts, d.Service, p)
	return p
}

// customSpace begins the names of these metrics in Envoy, which are what a filter is tried on.
const customSpace = "istiocustom."

// AppendPrometheus appends the series of the families that o shows in the text exposition format, for the extra writers of
// [Registry.WritePrometheus].
func (m *Istio) AppendPrometheus(b []byte, o Options, flush Flush) []byte {
	m.mu.Lock()
	requests, connections := list(m, m.http), list(m, m.tcp)
	m.mu.Unlock()
	counters := func(name string) bool { return o.wants(Counters) && o.shows(customSpace+name, true) }
	if o.wants(Gauges) && o.shows(customSpace+"istio_build", true) {
		b = append(b, "# TYPE istio_build gauge\n"...)
		b = append(appendLabel(append(b, `istio_build{component="proxy",`...), "tag", known(m.o.Version)), "} 1\n"...)
	}
	for _, f := range requestCounters {
		if counters(f.name) {
			b = appendCounters(b, f.name, requests, f.of, f.zeros, flush)
		}
	}
	for _, f := range connectionCounters {
		if counters(f.name) {
			b = appendCounters(b, f.name, connections, f.of, true, flush)
		}
	}
	for _, f := range requestHistograms {
		if o.wants(Histograms) && o.shows(customSpace+f.name, true) {
			b = appendHistograms(b, f.name, requests, f.of, flush)
		}
	}
	return b
}

var requestCounters = []struct {
	name  string
	of    func(*HTTPSeries) *Counter
	zeros bool
}{
	{"istio_requests_total", func(s *HTTPSeries) *Counter { return &s.Requests }, true},
	{"istio_request_messages_total", func(s *HTTPSeries) *Counter { return &s.RequestMessages }, false},
	{"istio_response_messages_total", func(s *HTTPSeries) *Counter { return &s.ResponseMessages }, false},
}

var connectionCounters = []struct {
	name string
	of   func(*TCPSeries) *Counter
}{
	{"istio_tcp_connections_opened_total", func(s *TCPSeries) *Counter { return &s.Opened }},
	{"istio_tcp_connections_closed_total", func(s *TCPSeries) *Counter { return &s.Closed }},
	{"istio_tcp_sent_bytes_total", func(s *TCPSeries) *Counter { return &s.Sent }},
	{"istio_tcp_received_bytes_total", func(s *TCPSeries) *Counter { return &s.Received }},
}

var requestHistograms = []struct {
	name string
	of   func(*HTTPSeries) *Histogram
}{
	{"istio_request_duration_milliseconds", func(s *HTTPSeries) *Histogram { return &s.Duration }},
	{"istio_request_bytes", func(s *HTTPSeries) *Histogram { return &s.RequestBytes }},
	{"istio_response_bytes", func(s *HTTPSeries) *Histogram { return &s.ResponseBytes }},
}

type labeled[T any] struct {
	labels string
	series *T
}

func list[T any](m *Istio, all map[Key]*T) []labeled[T] {
	l := make([]labeled[T], 0, len(all))
	for k, s := range all {
		l = append(l, labeled[T]{m.labels(k), s})
	}
	slices.SortFunc(l, func(a, b labeled[T]) int { return compareNames(a.labels, b.labels) })
	return l
}

func appendCounters[T any](b []byte, name string, list []labeled[T], of func(*T) *Counter, zeros bool, flush Flush) []byte {
	first := true
	for _, l := range list {
		n := of(l.series).Value()
		if n == 0 && !zeros {
			continue // messages are counted for gRPC only
		}
		if first {
			b, first = append(append(append(b, "# TYPE "...), name...), " counter\n"...), false
		}
		b = flush.take(append(strconv.AppendUint(appendRow(b, name, "", l.labels, ""), n, 10), '\n'))
	}
	return b
}

func appendHistograms[T any](b []byte, name string, list []labeled[T], of func(*T) *Histogram, flush Flush) []byte {
	for i, l := range list {
		if i == 0 {
			b = append(append(append(b, "# TYPE "...), name...), " histogram\n"...)
		}
		b = flush.take(appendHistogram(b, name, l.labels, of(l.series)))
	}
	return b
}

// labels writes a combination as Istio's filter does: names, order, and what stands for a missing value.
func (m *Istio) labels(k Key) string {
	peer, dest, local := k.Peer, k.Destination, &m.o.Local
	if peer == nil {
		peer = nobody
	}
	if dest == nil {
		dest = nowhere
	}
	source, target := local, peer
	sourceID, targetID := k.Local, peer.Principal
	if k.Reporter != Source {
		source, target = peer, local
		sourceID, targetID = peer.Principal, k.Local
	}
	service, name, namespace := dest.Service, dest.Name, dest.Namespace
	if k.Reporter == Source {
		namespace = first(namespace, target.namespace())
	} else {
		service, name, namespace = first(service, local.CanonicalService), first(name, local.CanonicalService), local.Namespace
		if dest == overflowDest {
			namespace = overflow
		}
	}
	b := make([]byte, 0, 1024)
	label := func(name, value string) {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = appendLabel(b, name, value)
	}
	label("reporter", [...]string{"source", "destination", "waypoint"}[k.Reporter])
	label("source_workload", known(source.Workload))
	label("source_canonical_service", known(source.CanonicalService))
	label("source_canonical_revision", first(source.CanonicalRevision, "latest"))
	label("source_workload_namespace", known(source.namespace()))
	label("source_principal", known(sourceID))
	label("source_app", known(source.App))
	label("source_version", known(source.Version))
	label("source_cluster", known(source.Cluster))
	label("destination_workload", known(target.Workload))
	label("destination_workload_namespace", known(target.namespace()))
	label("destination_principal", known(targetID))
	label("destination_app", known(target.App))
	label("destination_version", known(target.Version))
	label("destination_service", known(service))
	label("destination_canonical_service", known(target.CanonicalService))
	label("destination_canonical_revision", first(target.CanonicalRevision, "latest"))
	label("destination_service_name", known(name))
	label("destination_service_namespace", known(namespace))
	label("destination_cluster", known(target.Cluster))
	label("request_protocol", [...]string{"http", "grpc", "tcp"}[k.Protocol])
	if k.Protocol != ProtocolTCP {
		label("response_code", strconv.Itoa(int(k.Code)))
		status := ""
		if k.GRPCStatus >= 0 {
			status = strconv.Itoa(int(k.GRPCStatus))
		}
		label("grpc_response_status", status)
	}
	label("response_flags", m.flags(k.Flags))
	label("connection_security_policy", [...]string{"unknown", "none", "mutual_tls"}[k.Security])
	return string(b)
}

func (m *Istio) flags(f uint64) string {
	if m.o.Flags == nil || f == 0 {
		return "-"
	}
	return m.o.Flags(f)
}

// namespace is that of the certificate if there is one: it is proven, the rest is only said.
func (p *Peer) namespace() string {
	if _, after, found := strings.Cut(p.Principal, "/ns/"); found {
		if ns, _, found := strings.Cut(after, "/sa/"); found && ns != "" {
			return ns
		}
	}
	return p.Namespace
}

func known(s string) string { return first(s, "unknown") }

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
