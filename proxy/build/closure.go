package build

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/healthcheck"
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
	changed := s.forgetRetired(w) || s.stale
	s.stale = false
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

// giveUp forgets a version that waits. If it comes again it is read again.
func (e *clusterEntry) giveUp() {
	if e.next != nil {
		e.next, e.sum = nil, 0
	}
}

// activate makes a cluster of its configuration, in the place of its predecessor.
func (s *Store) activate(e *clusterEntry) bool {
	made, err := cluster.New(e.next.Config, s.env.Stats, e.live)
	if err != nil {
		// What New refuses should have been refused when it was read. Keep the old one.
		e.Refused = &RefusedRecord{Version: e.Version, Detail: err.Error(), At: s.env.Now(), Body: e.Body}
		s.env.Log.Warn("cluster refused", "cluster", e.next.Config.Name, "reason", err)
		e.giveUp()
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
				add(s.needsOf(l))
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
	for _, name := range s.listenerNames() {
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
			e.order = s.arrival()
		}
		s.manager.ListenerCreateSuccess.Add(uint64(max(1, s.env.Shards))) // each worker has it, and Envoy's workers each tell
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

// A retired listener takes no connections any more, and those that it has are served until it ends: the route tables that
// it names stay up to date, and what it counts stays. Clusters that go meanwhile have gone for them too, as in Envoy.
type retired struct {
	*Listener
	since  time.Time
	leaves int // chains that its successor has not taken over; -1: it has none, or one that is not in its place
}

// retire ends a listener that was in force, when its connections have been served. to follows it, if anything does.
func (s *Store) retire(l, to *Listener, w *waiting) {
	leaves := -1
	if to != nil && to.InPlace {
		leaves = l.leaves(to)
	}
	if leaves == 0 || s.env.Drain <= 0 {
		l.close()
		return
	}
	w.until(w.now, s.env.Drain)
	s.retired = append(s.retired, retired{l, w.now, leaves})
}

// forgetRetired forgets the listeners whose connections have been served for long enough.
func (s *Store) forgetRetired(w *waiting) (changed bool) {
	before := len(s.retired)
	s.retired = slices.DeleteFunc(s.retired, func(r retired) bool {
		over := !w.until(r.since, s.env.Drain)
		if over {
			r.close()
		}
		return over
	})
	return len(s.retired) < before
}

func (s *Store) listenerWaits(e *listenerEntry, w *waiting) bool {
	if s.extensionsWait(e.next, e.since, w) || s.scopesWait(e.next, e.since, w) {
		return true
	}
	needs := s.needsOf(e.next)
	for _, n := range needs.Routes {
		have := s.routes[n.Name]
		if (have == nil || have.live == nil && !have.absent) && w.until(e.since, n.Timeout) {
			return true
		}
	}
	return s.clustersWait(xdsclient.ListenerType, needs.Clusters, e.since, w) || s.secretsWait(needs.Secrets, e.since, w)
}
