package build

import (
	"maps"
	"time"

	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// A ledger is where one subscription is counted: those to all listeners and all clusters, to a route table for
// each connection manager that has it, and to the virtual hosts that come to it, to the hosts of each cluster, and to each secret.
type ledger struct {
	attempt, success, failure, rejected, timeout *stats.Counter

	took    *stats.Histogram
	at      *stats.Gauge
	version *stats.Hash
	text    *stats.Text
	reloads *stats.Reloads // nil: not counted
	fails   *stats.Counter // whatever was in vain; nil: not counted
}

func ledgerOf(s *stats.Subscription, reloads *stats.Reloads) ledger {
	return ledger{&s.UpdateAttempt, &s.UpdateSuccess, &s.UpdateFailure, &s.UpdateRejected, &s.InitFetchTimeout, &s.UpdateDuration, &s.UpdateTime, &s.Version, &s.VersionText, reloads, nil}
}

// ledgers finds those of a type, or of one resource of it. The caller holds mu.
func (s *Store) ledgers(typeURL, name string) (all []ledger) {
	switch typeURL {
	case xdsclient.ListenerType:
		return []ledger{ledgerOf(&s.manager.LDS.Subscription, nil)}
	case xdsclient.ClusterType:
		return []ledger{ledgerOf(&s.clusterM.CDS.Subscription, &s.clusterM.CDS.Reloads)}
	case xdsclient.RouteType:
		seen := map[*stats.RDS]bool{}
		for _, e := range s.listeners {
			for _, l := range []*Listener{e.next, e.live} {
				for _, use := range l.usesOf(name) {
					if !seen[use.RDS] {
						seen[use.RDS] = true
						all = append(all, ledgerOf(&use.Subscription, &use.Reloads))
					}
				}
			}
		}
	case xdsclient.VirtualHostType:
		for _, v := range s.vhds[name] {
			all = append(all, ledgerOf(&v.Subscription, &v.Reloads))
		}
	case xdsclient.ExtensionType:
		seen := map[*stats.Extension]bool{}
		for _, p := range s.slotsOf(name) {
			if !seen[p.use.Extension] {
				seen[p.use.Extension] = true
				l := ledgerOf(&p.use.Subscription, nil)
				l.fails = &p.use.ConfigFail
				all = append(all, l)
			}
		}
	case xdsclient.SecretType:
		all = append(all, ledgerOf(&s.sdsOf(name).Subscription, nil))
	case xdsclient.EndpointType:
		for _, e := range s.clusters {
			c := e.next
			if c == nil {
				c = e.built
			}
			if c == nil || c.updates == nil || len(c.Needs.Endpoints) == 0 || c.Needs.Endpoints[0].Name != name {
				continue
			}
			st, own := c.updates.Cluster, c.updates
			all = append(all, ledger{&st.UpdateAttempt, &st.UpdateSuccess, &st.UpdateFailure, &own.UpdateRejected, &own.InitFetchTimeout, &own.UpdateDuration, &own.UpdateTime, &st.Version, &own.VersionText, nil, nil})
		}
	}
	return all
}

// told are the ledgers of an update, each with what it holds of it.
func (s *Store) told(typeURL string, place xdsclient.Place, names []string) map[string][]ledger {
	all := map[string][]ledger{}
	if typeURL == xdsclient.ScopedRouteType {
		for _, u := range s.scopeUses(place) {
			all[""] = append(all[""], ledgerOf(&u.stats.Subscription, &u.stats.Reloads))
		}
		return all
	}
	if typeURL == xdsclient.ListenerType || typeURL == xdsclient.ClusterType {
		names = []string{""}
	}
	for _, n := range names {
		all[subscribed(typeURL, n)] = s.ledgers(typeURL, subscribed(typeURL, n))
	}
	return all
}

// subscribed is what the subscription is to that a resource comes by.
func subscribed(typeURL, name string) string {
	switch typeURL {
	case xdsclient.ListenerType, xdsclient.ClusterType, xdsclient.ScopedRouteType:
		return ""
	case xdsclient.VirtualHostType:
		return tableOf(name)
	}
	return name
}

// sdsOf is where the subscription to a secret is counted.
func (s *Store) sdsOf(name string) *stats.SDSUse {
	if s.sds[name] == nil {
		s.sds[name] = s.env.Stats.SDS(name)
	}
	return s.sds[name]
}

// asks counts the questions that are new among what is wanted of the control plane: to secrets, and for virtual hosts of tables that
// have them come one by one. Of what nobody needs any more nothing is kept.
func (s *Store) asks(secrets map[string]bool, hosts []string) {
	for name := range secrets {
		if s.sds[name] == nil {
			s.sdsOf(name).UpdateAttempt.Inc()
		}
	}
	needed := s.names(func(Need) bool { return true })[xdsclient.SecretType]
	maps.DeleteFunc(s.sds, func(name string, _ *stats.SDSUse) bool { return !needed[name] })
	maps.DeleteFunc(s.vhds, func(table string, _ map[*stats.RDS]*stats.RDSUse) bool { return !s.onDemand(table) })
	for table := range s.routes {
		if s.onDemand(table) {
			s.vhdsOf(table)
		}
	}
	for _, name := range hosts {
		for _, v := range s.vhds[tableOf(name)] {
			v.UpdateAttempt.Inc()
		}
	}
}

// vhdsOf has the subscriptions to a table's virtual hosts counted: one for each connection manager that has the table.
func (s *Store) vhdsOf(table string) {
	now := map[*stats.RDS]*stats.RDSUse{}
	for _, e := range s.listeners {
		for _, l := range []*Listener{e.next, e.live} {
			for _, use := range l.usesOf(table) {
				if now[use.RDS] = s.vhds[table][use.RDS]; now[use.RDS] == nil {
					now[use.RDS] = use.VHDS()
					now[use.RDS].UpdateAttempt.Inc()
				}
			}
		}
	}
	s.vhds[table] = now
}

// Lost counts that the control plane does not answer, for all that is wanted of it.
func (s *Store) Lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for typeURL, want := range s.wants() {
		names := want.Names
		switch typeURL {
		case xdsclient.ListenerType, xdsclient.ClusterType, xdsclient.ScopedRouteType:
			if !want.Wildcard {
				continue
			}
		case xdsclient.VirtualHostType:
			names = nil
			for table := range s.vhds {
				names = append(names, vhostName(table, ""))
			}
		}
		for _, ledgers := range s.told(typeURL, xdsclient.Place{}, names) {
			for _, l := range ledgers {
				l.attempt.Inc()
				l.failure.Inc()
			}
		}
	}
}

// tell counts an update, which may hold several names, what was refused of it, and how long it has taken.
func (s *Store) tell(u xdsclient.Update, refused []xdsclient.Refusal, took time.Duration) {
	bad := map[string]bool{}
	for _, r := range refused {
		bad[subscribed(u.Type, r.Name)] = true
	}
	var names []string
	for _, r := range u.Resources {
		names = append(names, r.Name)
	}
	if u.Type == xdsclient.VirtualHostType || u.Type == xdsclient.ExtensionType { // that there is none is an answer
		names = append(names, u.Removed...)
	}
	now := s.env.Now()
	for name, ledgers := range s.told(u.Type, u.Place, names) {
		for _, l := range ledgers {
			l.tell(now, u.Version, took, bad[name], len(u.Resources) > 0)
		}
	}
}

// failed counts what was in vain.
func (l *ledger) failed() {
	if l.fails != nil {
		l.fails.Inc()
	}
}

func (l *ledger) tell(now time.Time, version string, took time.Duration, refused, news bool) {
	l.attempt.Inc()
	if refused {
		l.rejected.Inc()
		l.failed()
		return
	}
	l.success.Inc()
	l.took.Record(uint64(max(0, took.Milliseconds())))
	l.at.Set(now.UnixMilli())
	l.version.Set(lb.HashString(version))
	l.text.Set(version)
	if l.reloads != nil && news {
		l.reloads.ConfigReload.Inc()
		l.reloads.ConfigReloadTimeMS.Set(now.UnixMilli())
	}
}

// Failed counts a file that cannot be read, or does not parse.
func (s *Store) Failed(source xdsclient.Source) {
	s.inVain(source, func(l ledger) *stats.Counter { return l.failure })
}

// Foreign counts a file that can be read and of which nothing is taken.
func (s *Store) Foreign(source xdsclient.Source) {
	s.inVain(source, func(l ledger) *stats.Counter { return l.rejected })
}

// inVain counts a file of which nothing was taken.
func (s *Store) inVain(source xdsclient.Source, why func(ledger) *stats.Counter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ledgers := range s.told(source.Type, source.Place, source.Names) {
		for _, l := range ledgers {
			l.attempt.Inc()
			why(l).Inc()
			l.failed()
		}
	}
	if source.Type == xdsclient.ScopedRouteType {
		entry(s.scopes, source.Place).told = true
		s.settle()
	}
	if source.Type == xdsclient.ExtensionType { // nobody waits for what is not in its file
		for _, name := range source.Names {
			entry(s.extensions, name).told = true
		}
		s.settle()
	}
}
