package build

import (
	"time"

	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// A ledger is where one subscription is counted: those to all listeners and all clusters, to a route table for
// each connection manager that has it, and to the hosts of each cluster. Others have none, as in Envoy or near enough.
type ledger struct {
	attempt, success, failure, rejected *stats.Counter
	at                                  *stats.Gauge
	version                             *stats.Hash
	text                                *stats.Text
	reloads                             *stats.Reloads // nil: not counted
}

func ledgerOf(s *stats.Subscription, reloads *stats.Reloads) ledger {
	return ledger{&s.UpdateAttempt, &s.UpdateSuccess, &s.UpdateFailure, &s.UpdateRejected, &s.UpdateTime, &s.Version, &s.VersionText, reloads}
}

// ledgers finds those of a type, or of one resource of it. The caller holds mu.
func (s *Store) ledgers(typeURL, name string) (all []ledger) {
	switch typeURL {
	case xdsclient.ListenerType:
		return []ledger{ledgerOf(&s.manager.LDS, nil)}
	case xdsclient.ClusterType:
		return []ledger{ledgerOf(&s.clusterM.CDS.Subscription, &s.clusterM.CDS.Reloads)}
	case xdsclient.RouteType:
		seen := map[*stats.RDS]bool{}
		for _, e := range s.listeners {
			for _, l := range []*Listener{e.next, e.live} {
				if l == nil {
					continue
				}
				for _, use := range l.tables[name] {
					if !seen[use.RDS] {
						seen[use.RDS] = true
						all = append(all, ledgerOf(&use.Subscription, &use.Reloads))
					}
				}
			}
		}
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
			all = append(all, ledger{&st.UpdateAttempt, &st.UpdateSuccess, &st.UpdateFailure, &own.UpdateRejected, &own.UpdateTime, &st.Version, &own.VersionText, nil})
		}
	}
	return all
}

// told are the ledgers of an update, each with what it holds of it.
func (s *Store) told(typeURL string, names []string) map[string][]ledger {
	if typeURL == xdsclient.ListenerType || typeURL == xdsclient.ClusterType {
		return map[string][]ledger{"": s.ledgers(typeURL, "")}
	}
	all := map[string][]ledger{}
	for _, n := range names {
		all[n] = s.ledgers(typeURL, n)
	}
	return all
}

// tell counts an update, which may hold several names, and what was refused of it.
func (s *Store) tell(u xdsclient.Update, refused []xdsclient.Refusal) {
	bad := map[string]bool{}
	for _, r := range refused {
		bad[r.Name], bad[""] = true, true
	}
	var names []string
	for _, r := range u.Resources {
		names = append(names, r.Name)
	}
	now := s.env.Now()
	for name, ledgers := range s.told(u.Type, names) {
		for _, l := range ledgers {
			l.tell(now, u.Version, bad[name], len(u.Resources) > 0)
		}
	}
}

func (l *ledger) tell(now time.Time, version string, refused, news bool) {
	l.attempt.Inc()
	if refused {
		l.rejected.Inc()
		return
	}
	l.success.Inc()
	l.at.Set(now.UnixMilli())
	l.version.Set(lb.HashString(version))
	l.text.Set(version)
	if l.reloads != nil && news {
		l.reloads.ConfigReload.Inc()
		l.reloads.ConfigReloadTimeMS.Set(now.UnixMilli())
	}
}

// Failed counts a file that could not be read.
func (s *Store) Failed(source xdsclient.Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ledgers := range s.told(source.Type, source.Names) {
		for _, l := range ledgers {
			l.attempt.Inc()
			l.failure.Inc()
		}
	}
}
