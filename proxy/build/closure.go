package build

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/healthcheck"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

const (
	// strangerGrace is how long routes wait for a cluster that nobody has told of. The
	// server may hold clusters back for the answer to an earlier response while
	// routes are on their way; but there are routes to clusters that will never be.
	// Nobody waits where the server's version shows that it has told of all.
	strangerGrace = time.Second
	// warmingGrace bounds how long routes wait for a cluster that is known and has no
	// endpoints yet, where its own fetch timeout is longer or none.
	warmingGrace = 5 * time.Second
	// namesGrace is how long a cluster of names waits for the first answer.
	namesGrace = 5 * time.Second
)

// settle puts in force what is complete, publishes it if it is new, and sets the
// timer for what waits. The caller holds mu.
func (s *Store) settle() {
	if !s.started || s.closed {
		return
	}
	now := s.env.Now()
	w := &waiting{now: now}
	changed := s.forgetRetired(w)
	changed = s.settleClusters(w) || changed
	s.forgetUnwanted()
	changed = s.settleRoutes(w) || changed
	changed = s.settleListeners(w) || changed
	changed = s.dropClusters(w) || changed
	if changed {
		s.publish()
	}
	s.settleDemand()
	s.forgetUnwanted()
	s.gauges()
	if s.timer != nil {
		s.timer.Stop()
	}
	if !w.next.IsZero() {
		s.timer = time.AfterFunc(w.next.Sub(now), s.tick)
	}
	if s.changed != nil {
		s.changed()
	}
}

func (s *Store) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
}

// waiting collects when to look again.
type waiting struct {
	now, next time.Time
}

// until reports whether something that began at since must still wait; timeout 0
// is forever.
func (w *waiting) until(since time.Time, timeout time.Duration) bool {
	if timeout == 0 {
		return true
	}
	end := since.Add(timeout)
	if !w.now.Before(end) {
		return false
	}
	if w.next.IsZero() || end.Before(w.next) {
		w.next = end
	}
	return true
}

// settleClusters replaces clusters whose successors are complete.
func (s *Store) settleClusters(w *waiting) (changed bool) {
	for _, name := range slices.Sorted(maps.Keys(s.clusters)) {
		e := s.clusters[name]
		if e.next == nil || s.clusterWaits(e, w) {
			continue
		}
		changed = s.activate(e) || changed
	}
	return changed
}

func (s *Store) clusterWaits(e *clusterEntry, w *waiting) bool {
	for _, n := range e.next.Needs.Endpoints {
		have := s.endpoints[n.Name]
		if (have == nil || !have.there && !have.absent) && w.until(e.since, n.Timeout) {
			return true
		}
	}
	return s.secretsWait(e.next.Needs.Secrets, e.since, w)
}

func (s *Store) secretsWait(needs []Need, since time.Time, w *waiting) bool {
	for _, n := range needs {
		if have := s.secrets[n.Name]; have != nil && have.absent {
			continue
		}
		if !s.env.Secrets.ready(n.Name) && w.until(since, n.Timeout) {
			return true
		}
	}
	return false
}

// activate makes a cluster of its configuration, in the place of its predecessor.
func (s *Store) activate(e *clusterEntry) bool {
	made, err := cluster.New(e.next.Config, s.env.Stats, e.live)
	if err != nil {
		// What New refuses should have been refused when it was read. Keep the old one.
		e.Refused = &RefusedRecord{Version: e.Version, Detail: err.Error(), At: s.env.Now(), Body: e.Body}
		s.env.Log.Warn("cluster refused", "cluster", e.next.Config.Name, "reason", err)
		e.next = nil
		return false
	}
	if made.Aside == nil { // otherwise it is the predecessor's, of whom shards know
		made.Aside = func(f func()) { go f() }
	}
	if e.live != nil {
		s.clusterM.ClusterModified.Inc()
		e.live.Close()
	} else {
		s.clusterM.ClusterAdded.Inc()
	}
	if e.stop != nil {
		e.stop()
	}
	e.live, e.built, e.next, e.warm = made, e.next, nil, false
	if s.env.local != nil && made.Name == s.env.LocalCluster {
		s.env.local.Set(made)
	}
	ctx, cancel := context.WithCancel(s.env.Context)
	work := &sync.WaitGroup{}
	e.stop = func() {
		cancel()
		work.Wait()
	}
	switch made.Kind {
	case cluster.EDS:
		if have := s.endpoints[made.EDSName]; have != nil && have.there {
			made.Assign(have.list)
		}
	case cluster.StrictDNS, cluster.LogicalDNS:
		names := made.DNS.Resolver
		if names == nil {
			names = s.env.Names
		}
		if names != nil {
			assignment := e.built.Assignment
			work.Go(func() { made.RunDNS(ctx, names, assignment, func() { go s.named(ctx, e, made, work) }) })
			return true
		}
	case cluster.Static:
		made.Assign(e.built.Assignment)
	}
	s.check(ctx, e, work)
	return true
}

// named goes on with a cluster whose names have been resolved for the first time.
func (s *Store) named(ctx context.Context, e *clusterEntry, made *cluster.Cluster, work *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.live == made && ctx.Err() == nil {
		s.check(ctx, e, work)
		s.settle()
	}
}

// check begins to check the hosts of a cluster, if it is to be, or says that it is warm. The caller holds mu.
func (s *Store) check(ctx context.Context, e *clusterEntry, work *sync.WaitGroup) {
	made := e.live
	if e.built.Checks == nil {
		e.warm = true
		return
	}
	set, scope := s.env.Stats.HealthChecks(made.StatName)
	checker := healthcheck.Start(ctx, made, e.built.Checks, set, s.env.Dial, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.live == made {
			e.warm = true
			s.settle()
		}
	})
	work.Go(func() {
		<-ctx.Done()
		checker.Close()
		scope.Close()
	})
}

// settleRoutes puts route tables in force whose clusters are there.
func (s *Store) settleRoutes(w *waiting) (changed bool) {
	for _, name := range slices.Sorted(maps.Keys(s.routes)) {
		e := s.routes[name]
		if e.next == nil || s.clustersWait(xdsclient.RouteType, e.needs.Clusters, e.since, w) {
			continue
		}
		e.live, e.used, e.next, changed = e.next, e.needs, nil, true
	}
	return changed
}

// dropClusters takes clusters away that are gone. One that is still in use by what is
// in force stays for a while: the server takes clusters away before it sends the
// routes that do without them.
func (s *Store) dropClusters(w *waiting) (changed bool) {
	var used map[string]bool
	for name, e := range s.clusters {
		if e.gone.IsZero() {
			continue
		}
		if used == nil {
			used = s.usedClusters()
		}
		if used[name] && e.live != nil && w.until(e.gone, warmingGrace) {
			continue
		}
		if e.stop != nil {
			e.stop()
		}
		if e.live != nil {
			s.clusterM.ClusterRemoved.Inc()
			e.live.Close()
			changed = true
		}
		delete(s.clusters, name)
	}
	return changed
}

// usedClusters are those that listeners and route tables in force, or about to be, name.
func (s *Store) usedClusters() map[string]bool {
	used := map[string]bool{}
	add := func(n Needs) {
		for _, c := range n.Clusters {
			used[c] = true
		}
	}
	for _, e := range s.listeners {
		for _, l := range []*Listener{e.live, e.next} {
			if l != nil {
				add(l.Needs)
			}
		}
	}
	for _, e := range s.routes {
		add(e.needs)
		add(e.used)
	}
	return used
}

// toldAll reports whether the newest clusters are of the same version of the server's
// whole configuration as what names them: then one that is not there is not in it.
func (s *Store) toldAll(typeURL string) bool {
	v := s.version[xdsclient.ClusterType]
	return v != "" && v == s.version[typeURL]
}

// clustersWait reports whether one of the clusters, which a resource of the type
// names, is not ready and may yet be.
func (s *Store) clustersWait(typeURL string, names []string, since time.Time, w *waiting) bool {
	for _, n := range names {
		e := s.clusters[n]
		switch {
		case e == nil:
			if !s.toldAll(typeURL) && w.until(since, strangerGrace) {
				return true
			}
		case e.live == nil && e.next == nil: // never accepted: nothing to wait for
		case e.live == nil:
			if w.until(since, warmingGrace) {
				return true
			}
		case !e.warm:
			if w.until(since, namesGrace) {
				return true
			}
		}
	}
	return false
}

// settleListeners puts listeners in force that are complete, and takes away those
// that are gone.
func (s *Store) settleListeners(w *waiting) (changed bool) {
	for _, name := range slices.Sorted(maps.Keys(s.listeners)) {
		e := s.listeners[name]
		if e.removed {
			changed = e.live != nil || changed
			s.drop(name, e, w)
			continue
		}
		if e.next == nil || s.listenerWaits(e, w) {
			continue
		}
		if e.live != nil {
			s.retire(e.live, e.next, w)
			s.manager.ListenerModified.Inc()
		} else {
			s.manager.ListenerAdded.Inc()
		}
		s.manager.ListenerCreateSuccess.Inc()
		e.live, e.next, changed = e.next, nil, true
	}
	return changed
}

func (s *Store) drop(name string, e *listenerEntry, w *waiting) {
	if e.live != nil {
		s.retire(e.live, nil, w)
		s.manager.ListenerRemoved.Inc()
	}
	if e.next != nil {
		e.next.close()
	}
	delete(s.listeners, name)
}

// A retired listener takes no connections any more, and those that it has are served until it ends: what
// it names stays in force.
type retired struct {
	needs  Needs
	since  time.Time
	chains int // that its successor has not taken over; -1: it has none, or one that is not in its place
}

// retire closes a listener that was in force. to follows it, if anything does.
func (s *Store) retire(l, to *Listener, w *waiting) {
	chains := -1
	if to != nil && to.InPlace {
		chains = l.leaves(to)
	}
	l.close()
	if chains != 0 && s.env.Drain > 0 && w.until(w.now, s.env.Drain) {
		s.retired = append(s.retired, retired{l.Needs, w.now, chains})
	}
}

// forgetRetired forgets the listeners whose connections have been served for long enough.
func (s *Store) forgetRetired(w *waiting) (changed bool) {
	before := len(s.retired)
	s.retired = slices.DeleteFunc(s.retired, func(r retired) bool { return !w.until(r.since, s.env.Drain) })
	return len(s.retired) < before
}

func (s *Store) listenerWaits(e *listenerEntry, w *waiting) bool {
	for _, n := range e.next.Needs.Routes {
		have := s.routes[n.Name]
		if (have == nil || have.live == nil && !have.absent) && w.until(e.since, n.Timeout) {
			return true
		}
	}
	return s.clustersWait(xdsclient.ListenerType, e.next.Needs.Clusters, e.since, w) || s.secretsWait(e.next.Needs.Secrets, e.since, w)
}

// forgetUnwanted forgets route tables, endpoints and secrets that nobody needs any more.
func (s *Store) forgetUnwanted() {
	names := s.names(func(Need) bool { return true })
	forget(s.routes, names[xdsclient.RouteType], func(e *routeEntry) bool { return e.Static })
	forget(s.endpoints, names[xdsclient.EndpointType], func(e *endpointEntry) bool { return e.Static })
	forget(s.secrets, names[xdsclient.SecretType], func(e *secretEntry) bool { return e.Static })
	for name := range s.vhosts {
		if !s.onDemand(tableOf(name)) {
			delete(s.vhosts, name)
		}
	}
}

func forget[E any](m map[string]*E, wanted map[string]bool, keep func(*E) bool) {
	for name, e := range m {
		if !wanted[name] && !keep(e) {
			delete(m, name)
		}
	}
}

// Wants returns what has to be asked of the control plane.
func (s *Store) Wants() map[string]xdsclient.Interest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wants()
}

func (s *Store) wants() map[string]xdsclient.Interest {
	names := s.names(func(n Need) bool { return n.Place.Path == "" })
	list := func(typeURL string) xdsclient.Interest {
		return xdsclient.Interest{Names: slices.Sorted(maps.Keys(names[typeURL]))}
	}
	vhosts, asked := s.env.demand.names(s.onDemand)
	slices.Sort(vhosts)
	s.asks(names[xdsclient.SecretType], asked)
	return map[string]xdsclient.Interest{
		xdsclient.VirtualHostType: {Names: vhosts, Unasked: s.anyOnDemand()},
		xdsclient.ListenerType:    {Wildcard: s.dynamic[xdsclient.ListenerType]},
		xdsclient.ClusterType:     {Wildcard: s.dynamic[xdsclient.ClusterType]},
		xdsclient.RouteType:       list(xdsclient.RouteType),
		xdsclient.EndpointType:    list(xdsclient.EndpointType),
		xdsclient.SecretType:      list(xdsclient.SecretType),
	}
}

// Sources returns what has to be read from files.
func (s *Store) Sources() []xdsclient.Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	type key struct {
		typeURL string
		place   xdsclient.Place
	}
	names := map[key][]string{}
	s.needed(func(typeURL string, n Need) {
		if k := (key{typeURL, n.Place}); n.Place.Path != "" && !slices.Contains(names[k], n.Name) {
			names[k] = append(names[k], n.Name)
		}
	})
	out := slices.Clone(s.files)
	for k, list := range names {
		slices.Sort(list)
		out = append(out, xdsclient.Source{Type: k.typeURL, Place: k.place, Names: list})
	}
	for name, e := range s.secrets {
		for _, place := range e.files {
			if !e.Static { // what the bootstrap refers to is read once, as by Envoy
				out = append(out, xdsclient.Source{Type: xdsclient.SecretType, Place: place, Names: []string{name}, Data: true})
			}
		}
	}
	return out
}

// names lists what is needed of each type, as far as it is meant.
func (s *Store) names(meant func(Need) bool) map[string]map[string]bool {
	names := map[string]map[string]bool{xdsclient.RouteType: {}, xdsclient.EndpointType: {}, xdsclient.SecretType: {}}
	s.needed(func(typeURL string, n Need) {
		if meant(n) {
			names[typeURL][n.Name] = true
		}
	})
	return names
}

// needed calls f for everything that listeners and clusters need, of now and to be.
func (s *Store) needed(f func(typeURL string, n Need)) {
	add := func(n *Needs) {
		for _, need := range n.Routes {
			f(xdsclient.RouteType, need)
		}
		for _, need := range n.Endpoints {
			f(xdsclient.EndpointType, need)
		}
		for _, need := range n.Secrets {
			f(xdsclient.SecretType, need)
		}
	}
	for _, e := range s.listeners {
		for _, l := range []*Listener{e.next, e.live} {
			if l != nil && (!e.removed || l == e.live) { // what is in force has yet to retire
				add(&l.Needs)
			}
		}
	}
	for _, r := range s.retired {
		for _, need := range r.needs.Routes {
			f(xdsclient.RouteType, need)
		}
	}
	for _, e := range s.clusters {
		for _, c := range []*Cluster{e.next, e.built} {
			if c != nil {
				add(&c.Needs)
			}
		}
	}
}

// publish hands the picture of now to the data plane.
func (s *Store) publish() {
	r := &shard.Runtime{Generation: s.runtime.Generation + 1, Clusters: make(map[string]*cluster.Cluster, len(s.clusters)), Routes: make(map[string]*route.Table, len(s.routes))}
	r.Who = s.node
	for _, name := range slices.Sorted(maps.Keys(s.listeners)) {
		if l := s.listeners[name].live; l != nil {
			r.Listeners = append(r.Listeners, l.Config)
		}
	}
	for name, e := range s.clusters {
		if e.live != nil {
			r.Clusters[name] = e.live
		}
	}
	for name, e := range s.routes {
		if e.live != nil {
			r.Routes[name] = e.live
		}
	}
	s.runtime = r
	s.env.current.Store(r)
	s.env.Publish(r)
}

func (s *Store) gauges() {
	var active, warming int64
	for _, e := range s.listeners {
		if e.live != nil {
			active++
		}
		if e.next != nil {
			warming++
		}
	}
	var listeners, chains int64
	for _, r := range s.retired {
		if r.chains < 0 {
			listeners++
		} else {
			chains += int64(r.chains)
		}
	}
	s.manager.TotalListenersDraining.Set(listeners)
	s.manager.TotalFilterChainsDraining.Set(chains)
	s.manager.WorkersStarted.Set(1)
	s.manager.TotalListenersActive.Set(active)
	s.manager.TotalListenersWarming.Set(warming)
	active, warming = 0, 0
	for _, e := range s.clusters {
		if e.live != nil {
			active++
		}
		if e.next != nil {
			warming++
		}
	}
	s.clusterM.ActiveClusters.Set(active)
	s.clusterM.WarmingClusters.Set(warming)
}

// Ready reports whether the first configuration is complete, or what is missing.
func (s *Store) Ready() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, typeURL := range []string{xdsclient.ClusterType, xdsclient.ListenerType} {
		inFile := slices.ContainsFunc(s.files, func(f xdsclient.Source) bool { return f.Type == typeURL })
		if (s.dynamic[typeURL] || inFile) && !s.acked[typeURL] {
			return false, "config not fully received from XDS server: " + short(typeURL) + " updates: none"
		}
	}
	var waits []string
	for name, e := range s.listeners {
		if e.live == nil && e.next != nil {
			waits = append(waits, name)
		}
	}
	if len(waits) > 0 {
		slices.Sort(waits)
		return false, "listeners wait for what they need: " + strings.Join(waits, ", ")
	}
	return s.started, "starting"
}

// Runtime returns what is in force.
func (s *Store) Runtime() *shard.Runtime {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runtime
}

// outbound reports whether a listener serves what the workload sends.
func outbound(m *listenerv3.Listener) bool {
	return m.GetTrafficDirection() == corev3.TrafficDirection_OUTBOUND
}

// short returns the name that people know a type by.
func short(typeURL string) string {
	switch typeURL {
	case xdsclient.ClusterType:
		return "cds"
	case xdsclient.EndpointType:
		return "eds"
	case xdsclient.ListenerType:
		return "lds"
	case xdsclient.RouteType:
		return "rds"
	case xdsclient.SecretType:
		return "sds"
	case xdsclient.VirtualHostType:
		return "vhds"
	}
	return typeURL
}
