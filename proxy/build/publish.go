package build

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// What is complete becomes the runtime.

// publish hands the picture of now to the data plane.
func (s *Store) publish() {
	r := &shard.Runtime{Generation: s.runtime.Generation + 1, Clusters: make(map[string]*cluster.Cluster, len(s.clusters)), Routes: make(map[string]*route.Table, len(s.routes)), Scopes: map[string]*route.Scopes{}}
	r.Who = s.node
	for _, name := range s.listenerNames() {
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
	for place, set := range s.scopes {
		r.Scopes[scopeSource(place)] = scopesOf(set.sorted(), r.Routes)
	}
	s.runtime = r
	s.env.current.Store(r)
	s.env.Publish(r)
}

// listenerNames lists listeners in the order in which they came into force, and those that wait behind them in the order in which
// they came. Who looks at a proxy finds them as they were written.
func (s *Store) listenerNames() []string {
	return slices.SortedFunc(maps.Keys(s.listeners), func(a, b string) int {
		return cmp.Compare(s.listeners[a].order, s.listeners[b].order)
	})
}

func (s *Store) arrival() uint64 {
	s.arrivals++
	return s.arrivals
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
		if r.leaves < 0 {
			listeners++
		} else {
			chains += int64(r.leaves)
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

// Taken reports whether clusters and listeners have each come whole once, and if not, why. Envoy has started by then, refused
// or not; what stands in for Istio's agent must not say so: a workload whose first configuration is refused serves nothing, and
// replaces one that serves. What is refused later leaves in force what there was.
func (s *Store) Taken() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, typeURL := range []string{xdsclient.ClusterType, xdsclient.ListenerType} {
		if !s.dynamic[typeURL] || !s.acked[typeURL] || s.whole[typeURL] {
			continue
		}
		if lacking := s.lacking(typeURL); len(lacking) > 0 {
			return false, "config received from XDS server, but was rejected: " + short(typeURL) + ": " + strings.Join(lacking, "; ")
		}
	}
	return true, ""
}

// lacking lists the listeners or clusters that were refused and of which there is no earlier version, each with why. The caller holds mu.
func (s *Store) lacking(typeURL string) (out []string) {
	look := func(name string, r *Record, gone bool) {
		if r.Refused != nil && r.Body == nil && !gone {
			reason, _, _ := strings.Cut(r.Refused.Detail, "\n")
			out = append(out, name+": "+reason)
		}
	}
	switch typeURL {
	case xdsclient.ListenerType:
		for name, e := range s.listeners {
			look(name, &e.Record, e.removed)
		}
	case xdsclient.ClusterType:
		for name, e := range s.clusters {
			look(name, &e.Record, !e.gone.IsZero())
		}
	}
	slices.Sort(out)
	return out
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
