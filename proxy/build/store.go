package build

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// A Store keeps the configuration of one proxy. Its methods may be called from any
// goroutine.
type Store struct {
	env  *Env
	node *access.Node
	seed maphash.Seed

	manager  stats.ListenerManager
	clusterM stats.ClusterManager

	mu        sync.Mutex // guards what follows
	dynamic   map[string]bool
	files     []xdsclient.Source // of whole types
	listeners map[string]*listenerEntry
	retired   []retired
	clusters  map[string]*clusterEntry
	routes    map[string]*routeEntry
	endpoints map[string]*endpointEntry
	secrets   map[string]*secretEntry
	vhosts    map[string]*vhostEntry // by resource name, TABLE/HOST
	sds       map[string]*stats.SDSUse
	vhds      map[string]map[*stats.RDS]*stats.RDSUse // by table
	acked     map[string]bool                         // types of which an answer has been applied, or is waited for no more
	version   map[string]string
	runtime   *shard.Runtime
	timer     *time.Timer
	changed   func() // the interests may have changed
	started   bool
	closed    bool
}

// A Record is what is known of a resource beside its meaning: what config_dump shows.
type Record struct {
	Name    string
	Version string
	Updated time.Time
	Body    *anypb.Any // accepted last, nil if none was
	Static  bool
	Refused *RefusedRecord // nil if the newest version was accepted
	sum     uint64         // of the body
}

// A RefusedRecord is a version that does not count.
type RefusedRecord struct {
	Version string
	Detail  string
	At      time.Time
	Body    *anypb.Any
}

type listenerEntry struct {
	Record
	next    *Listener // accepted, and waiting for what it needs
	since   time.Time // next began to wait
	live    *Listener // in the runtime
	removed bool
}

type clusterEntry struct {
	Record
	next  *Cluster
	since time.Time
	live  *cluster.Cluster
	built *Cluster  // what live was made of
	stop  func()    // ends the resolving of names, and the checks
	warm  bool      // names were resolved once, and hosts checked, or that need not be
	gone  time.Time // the control plane has taken it away
}

type routeEntry struct {
	Record
	base  *route.Config // what RDS says, nil if nothing yet
	limit int           // of bodies of direct responses
	vhds  bool          // further virtual hosts come one by one
	stale bool          // some have come, or gone
	next  *route.Table
	needs Needs // of next
	used  Needs // of live

	baseNeeds Needs
	since     time.Time
	live      *route.Table
	absent    bool // the control plane says that there is none
}

type endpointEntry struct {
	Record
	list   cluster.Assignment
	there  bool
	absent bool
}

type secretEntry struct {
	Record
	files  []xdsclient.Place // that it refers to, and that are read again when they change
	absent bool
}

// NewStore returns an empty store. changed is called, possibly with a lock held,
// when [Store.Wants] may answer something else; it must not call back.
func NewStore(env *Env, changed func()) *Store {
	if env.Now == nil {
		env.Now = time.Now
	}
	s := &Store{
		env: env, node: whoWeAre(env.Node), seed: maphash.MakeSeed(), changed: changed,
		dynamic: map[string]bool{}, listeners: map[string]*listenerEntry{}, clusters: map[string]*clusterEntry{}, routes: map[string]*routeEntry{},
		endpoints: map[string]*endpointEntry{}, secrets: map[string]*secretEntry{}, vhosts: map[string]*vhostEntry{}, sds: map[string]*stats.SDSUse{},
		vhds: map[string]map[*stats.RDS]*stats.RDSUse{}, acked: map[string]bool{}, version: map[string]string{},
		runtime: &shard.Runtime{},
	}
	if env.LocalCluster != "" {
		l := env.Node.GetLocality()
		env.local = &cluster.Local{Locality: cluster.Locality{Region: l.GetRegion(), Zone: l.GetZone(), SubZone: l.GetSubZone()}}
	}
	env.demand = &demand{wishes: map[string]*wish{}, wake: changed}
	if changed == nil {
		env.demand.wake = func() {}
	}
	env.Stats.Add("listener_manager.", &s.manager)
	env.Stats.Add("cluster_manager.", &s.clusterM)
	return s
}

// Dynamic says that all listeners (ListenerType) or clusters (ClusterType) of the
// control plane are wanted, and how long the proxy is not ready without them (0: for ever).
func (s *Store) Dynamic(typeURL string, patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dynamic[typeURL] = true
	for _, l := range s.ledgers(typeURL, "") {
		l.attempt.Inc() // the question
	}
	if patience > 0 {
		time.AfterFunc(patience, func() { s.late(typeURL) })
	}
}

// late goes on without the first answer of the control plane.
func (s *Store) late(typeURL string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.acked[typeURL] {
		return
	}
	s.acked[typeURL] = true
	for _, l := range s.ledgers(typeURL, "") {
		l.attempt.Inc()
		l.timeout.Inc()
	}
}

// Static takes in what a bootstrap holds. Mistakes are returned, by their paths in the bootstrap; nothing
// is in force before [Store.Start].
func (s *Store) Static(b *Bootstrap) error {
	var problems field.List
	add := func(typeURL, name string, m proto.Message, at *field.Path) {
		body, err := anypb.New(m)
		if err == nil {
			err = s.take(typeURL, xdsclient.Resource{Name: name, Body: body}, true)
		}
		problems = append(problems, below(at, err).In(kindOf(typeURL)+" "+name)...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = b.Files
	static := field.At("static_resources")
	for i, m := range b.Secrets {
		s.env.Secrets.Local(m.GetName())
		add(xdsclient.SecretType, m.GetName(), m, static.Child("secrets").Index(i))
	}
	for i, m := range b.Clusters {
		add(xdsclient.ClusterType, m.GetName(), m, static.Child("clusters").Index(i))
	}
	for i, m := range b.Listeners {
		name := b.listenerName(i)
		if m.GetName() == "" {
			m = proto.CloneOf(m)
			m.Name = name
		}
		add(xdsclient.ListenerType, name, m, static.Child("listeners").Index(i))
	}
	return problems.Err()
}

// below tells mistakes of what stands at a place by their paths from the root.
func below(at *field.Path, err error) field.List {
	errs, ok := err.(field.List)
	switch {
	case err == nil:
		return nil
	case !ok:
		return field.List{{At: at, Msg: err.Error()}}
	}
	for _, e := range errs {
		e.At = e.At.Below(at)
	}
	return errs
}

// kindOf is the name of a type of resources.
func kindOf(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }

// Start puts in force what is there, and from now on what comes.
func (s *Store) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	s.settle()
}

// Close ends everything that goes on by itself.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	for _, c := range s.clusters {
		if c.stop != nil {
			c.stop()
		}
	}
}

// Apply takes an update in and returns what is refused of it.
func (s *Store) Apply(u xdsclient.Update) []xdsclient.Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	began := s.env.Now()
	var refused []xdsclient.Refusal
	for _, r := range u.Resources {
		if err := s.take(u.Type, r, false); err != nil {
			refused = append(refused, xdsclient.Refusal{Name: r.Name, Err: err})
		}
	}
	for _, name := range u.Removed {
		s.remove(u.Type, name)
	}
	refused = append(refused, s.assemble()...)
	if u.Version != "" {
		s.version[u.Type] = u.Version
	}
	s.acked[u.Type] = true
	s.tell(u, refused, s.env.Now().Sub(began))
	s.settle()
	return refused
}

// take reads one resource. The caller holds mu.
func (s *Store) take(typeURL string, r xdsclient.Resource, static bool) error {
	sum := maphash.Bytes(s.seed, r.Body.GetValue())
	record := s.record(typeURL, r.Name)
	if record == nil {
		return fmt.Errorf("type %q is not supported", typeURL)
	}
	if record.Static && !static {
		return fmt.Errorf("the bootstrap has a static resource of this name")
	}
	if record.Body != nil && record.sum == sum {
		record.Version, record.Refused = r.Version, nil
		s.present(typeURL, r.Name)
		return nil // the same again
	}
	if err := s.read(typeURL, r, sum, static); err != nil {
		record.Refused = &RefusedRecord{Version: r.Version, Detail: err.Error(), At: s.env.Now(), Body: r.Body}
		return err
	}
	*record = Record{Name: r.Name, Version: r.Version, Updated: s.env.Now(), Body: r.Body, Static: static, sum: sum}
	return nil
}

// record returns the record of a resource; the first call makes the entry.
func (s *Store) record(typeURL, name string) *Record {
	switch typeURL {
	case xdsclient.ListenerType:
		return &entry(s.listeners, name).Record
	case xdsclient.ClusterType:
		return &entry(s.clusters, name).Record
	case xdsclient.RouteType:
		return &entry(s.routes, name).Record
	case xdsclient.EndpointType:
		return &entry(s.endpoints, name).Record
	case xdsclient.SecretType:
		return &entry(s.secrets, name).Record
	case xdsclient.VirtualHostType:
		return &entry(s.vhosts, name).Record
	}
	return nil
}

func entry[E any](m map[string]*E, name string) *E {
	if m[name] == nil {
		m[name] = new(E)
	}
	return m[name]
}

// present notes that a resource is there (again), as it was.
func (s *Store) present(typeURL, name string) {
	switch typeURL {
	case xdsclient.ListenerType:
		s.listeners[name].removed = false
	case xdsclient.ClusterType:
		s.clusters[name].gone = time.Time{}
	case xdsclient.RouteType:
		s.routes[name].absent = false
	case xdsclient.EndpointType:
		s.endpoints[name].absent = false
	case xdsclient.VirtualHostType:
		s.vhosts[name].absent = false
	}
}

// read turns a resource into what is built of it.
func (s *Store) read(typeURL string, r xdsclient.Resource, sum uint64, static bool) error {
	switch typeURL {
	case xdsclient.ListenerType:
		return s.readListener(r, sum, static)
	case xdsclient.ClusterType:
		return s.readCluster(r, static)
	case xdsclient.RouteType:
		return s.readRoutes(r)
	case xdsclient.EndpointType:
		return s.readEndpoints(r)
	case xdsclient.SecretType:
		return s.readSecret(r, static)
	case xdsclient.VirtualHostType:
		return s.readVirtualHost(r)
	}
	return fmt.Errorf("type %q is not supported", typeURL)
}

// decode opens a resource and checks it field by field.
func decode[M proto.Message](r xdsclient.Resource, m M) error {
	if err := r.Body.UnmarshalTo(m); err != nil {
		return fmt.Errorf("does not parse: %w", err)
	}
	if errs := Check(m); len(errs) > 0 {
		return errs
	}
	return nil
}

func (s *Store) readListener(r xdsclient.Resource, sum uint64, static bool) error {
	m := &listenerv3.Listener{}
	if err := decode(r, m); err != nil {
		return err
	}
	var clusters func(string) bool
	if static {
		clusters = func(name string) bool { return s.clusters[name] != nil }
	}
	e := s.listeners[r.Name]
	var before *Listener
	if !e.removed {
		before = e.live
	}
	l, err := readListener(m, s.env, before, clusters)
	if err != nil {
		s.manager.ListenerCreateFailure.Inc()
		return err
	}
	if l.InPlace {
		s.manager.ListenerInPlaceUpdated.Inc()
	}
	l.Config.Name, l.Config.Version = r.Name, fmt.Sprintf("%x", sum)
	if e.next != nil {
		e.next.close()
	}
	e.next, e.since, e.removed = l, s.env.Now(), false
	return nil
}

// readListener reads one listener that has been checked. before is the one that it is to follow, if there is one; clusters knows those of the
// bootstrap that it is in, if it is.
func readListener(m *listenerv3.Listener, env *Env, before *Listener, clusters func(name string) bool) (*Listener, error) {
	r := &listenerReader{reader: reader{env: env}, outbound: outbound(m), clusters: clusters}
	frame := frameSum(m)
	if before != nil && before.frame == frame && len(m.GetFilterChains()) > 0 { // one without chains follows nobody, as in Envoy
		r.before = before
	}
	out := &Listener{frame: frame, InPlace: r.before != nil}
	out.Config = r.listener(m)
	out.Config.InPlace = out.InPlace
	out.Needs, out.chains, out.scopes, out.closers, out.tables = r.needs, r.chains, r.scopes, r.closers, r.tables
	err := r.errs.Err()
	if err == nil {
		err = out.Config.Check()
	}
	if err != nil {
		out.close()
		return nil, err
	}
	if env.Extra != nil && out.Config.Bind {
		out.Config.Addrs = append(out.Config.Addrs, env.Extra(out.Config)...)
	}
	return out, nil
}

func (s *Store) readCluster(r xdsclient.Resource, static bool) error {
	m := &clusterv3.Cluster{}
	if err := decode(r, m); err != nil {
		return err
	}
	reader := &reader{env: s.env}
	c := reader.cluster(m, s.env.Secrets)
	c.Needs = reader.needs
	if err := reader.errs.Err(); err != nil {
		return err
	}
	c.Config.Added, c.Config.OutlierLog = !static, s.env.OutlierLog
	e := s.clusters[r.Name]
	e.next, e.since, e.gone = c, s.env.Now(), time.Time{}
	return nil
}

func (s *Store) readRoutes(r xdsclient.Resource) error {
	m := &routev3.RouteConfiguration{}
	if err := decode(r, m); err != nil {
		return err
	}
	reader := &reader{env: s.env}
	config := reader.table(m, nil)
	reader.unvalidated(m, nil)
	vhds := reader.vhds(m.GetVhds(), field.At("vhds"))
	if err := reader.errs.Err(); err != nil {
		return err
	}
	config.OnDemand = vhds
	table, err := route.NewTable(config)
	if err != nil {
		return err
	}
	e := s.routes[r.Name]
	e.next, e.needs, e.since, e.absent = table, reader.needs, s.env.Now(), false
	e.base, e.baseNeeds, e.limit, e.vhds = nil, Needs{}, directBody(m), vhds
	if vhds {
		e.base, e.baseNeeds, e.stale = &config, reader.needs, len(s.hostsOf(r.Name)) > 0
	}
	return nil
}

func (s *Store) readEndpoints(r xdsclient.Resource) error {
	m := &endpointv3.ClusterLoadAssignment{}
	if err := decode(r, m); err != nil {
		return err
	}
	reader := &reader{env: s.env}
	if m.GetClusterName() != r.Name {
		reader.errs.Addf(field.At("cluster_name"), "found %q, want %q, which was asked for", m.GetClusterName(), r.Name)
	}
	list := reader.endpoints(m, false, nil)
	if err := reader.errs.Err(); err != nil {
		return err
	}
	e := s.endpoints[r.Name]
	e.list, e.there, e.absent = list, true, false
	// Endpoints go into clusters that are in force at once: no new runtime is needed.
	for _, c := range s.clusters {
		if c.live != nil && c.live.Kind == cluster.EDS && c.live.EDSName == r.Name {
			c.live.Assign(list)
		}
	}
	return nil
}

func (s *Store) readSecret(r xdsclient.Resource, static bool) error {
	m := &tlsv3.Secret{}
	if err := decode(r, m); err != nil {
		return err
	}
	reader := &reader{env: s.env}
	secret := reader.secretResource(m)
	if err := reader.errs.Err(); err != nil {
		return err
	}
	secret.Name = r.Name
	if !static {
		secret.Place = "" // what a secret that comes refers to is read into it, and then stands there
	}
	if s.secrets[r.Name].files = secret.Files; len(secret.Files) > 0 {
		s.changed() // there is something to watch
	}
	return s.env.Secrets.set(secret)
}

// Reread reads a secret again that refers to files of which one has changed.
func (s *Store) Reread(typeURL, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.secrets[name]
	if typeURL != xdsclient.SecretType || e == nil || e.Body == nil {
		return nil
	}
	if err := s.readSecret(xdsclient.Resource{Name: name, Body: e.Body}, e.Static); err != nil {
		return err
	}
	e.Updated = s.env.Now()
	return nil
}

// remove takes a resource away. The caller holds mu.
func (s *Store) remove(typeURL, name string) {
	switch typeURL {
	case xdsclient.ListenerType:
		if e := s.listeners[name]; e != nil && !e.Static {
			e.removed = true
		}
	case xdsclient.ClusterType:
		if e := s.clusters[name]; e != nil && !e.Static && e.gone.IsZero() {
			e.gone, e.next = s.env.Now(), nil
		}
	case xdsclient.RouteType:
		// Envoy keeps a route table that the server says is gone; so a mistake at the
		// control plane does not turn into 404s.
		entry(s.routes, name).absent = true
	case xdsclient.EndpointType:
		e := entry(s.endpoints, name)
		e.absent = true
	case xdsclient.SecretType:
		entry(s.secrets, name).absent = true
	case xdsclient.VirtualHostType:
		s.removeVirtualHost(name)
	}
}
