package build

import (
	"fmt"
	"hash/maphash"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// What comes from files and control planes is read, and kept if it is right.

// Apply takes an update in and returns what is refused of it.
func (s *Store) Apply(u xdsclient.Update) []xdsclient.Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	began := s.env.Now()
	var refused []xdsclient.Refusal
	if u.Type == xdsclient.ScopedRouteType {
		refused = s.applyScopes(u)
		s.acked[u.Type] = true
		s.tell(u, refused, s.env.Now().Sub(began))
		s.settle()
		return refused
	}
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
	if len(s.lacking(u.Type)) == 0 {
		s.whole[u.Type] = true
	}
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
	case xdsclient.ExtensionType:
		return &entry(s.extensions, name).Record
	}
	return nil
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
	case xdsclient.ExtensionType:
		return s.readExtension(r)
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
	l.named(r.Name, sum, 0)
	if e.next != nil {
		e.next.close()
	}
	if e.next == nil && e.live == nil {
		e.order = s.arrival()
	}
	e.next, e.since, e.removed = l, s.env.Now(), false
	return nil
}

// named says who a listener is; generation tells apart what was made of one message.
func (l *Listener) named(name string, sum, generation uint64) {
	l.Config.Name, l.Config.Version, l.sum = name, fmt.Sprintf("%x", sum), sum
	if generation > 0 {
		l.Config.Version += fmt.Sprintf(".%d", generation)
	}
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
	out.held, out.chains, out.message, out.clusters = r.held(), r.chains, m, clusters
	out.own, out.held.slots = r.slots, nil
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
			e.gone = s.env.Now()
			e.giveUp()
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
	case xdsclient.ExtensionType:
		s.removeExtension(name)
	}
}
