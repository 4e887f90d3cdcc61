package build

import (
	"maps"
	"slices"

	"github.com/mallamesh/malla/proxy/xdsclient"
)

// What is asked for, by name, and what nobody names any more.

// Wants returns what has to be asked of the control plane. What is not among it any more is forgotten by that: it will be asked for
// anew when it is wanted again.
func (s *Store) Wants() map[string]xdsclient.Interest {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = s.names(asked)
	if tables := len(s.routes); s.started && !s.closed {
		if s.forgetUnwanted(); len(s.routes) < tables {
			s.publish() // without them
		}
	}
	return s.wants()
}

// asked reports whether the control plane is asked for something.
func asked(n Need) bool { return n.Place.Path == "" }

func (s *Store) wants() map[string]xdsclient.Interest {
	names := s.names(asked)
	list := func(typeURL string) xdsclient.Interest {
		return xdsclient.Interest{Names: slices.Sorted(maps.Keys(names[typeURL]))}
	}
	vhosts, hosts := s.env.demand.names(s.onDemand)
	slices.Sort(vhosts)
	s.asks(names[xdsclient.SecretType], hosts)
	return map[string]xdsclient.Interest{
		xdsclient.VirtualHostType: {Names: vhosts, Unasked: s.anyOnDemand()},
		xdsclient.ListenerType:    {Wildcard: s.dynamic[xdsclient.ListenerType]},
		xdsclient.ClusterType:     {Wildcard: s.dynamic[xdsclient.ClusterType]},
		xdsclient.ScopedRouteType: {Wildcard: len(s.scopeUses(xdsclient.Place{})) > 0},
		xdsclient.RouteType:       list(xdsclient.RouteType),
		xdsclient.EndpointType:    list(xdsclient.EndpointType),
		xdsclient.SecretType:      list(xdsclient.SecretType),
		xdsclient.ExtensionType:   list(xdsclient.ExtensionType),
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
	for place := range s.scopePlaces() {
		out = append(out, xdsclient.Source{Type: xdsclient.ScopedRouteType, Place: place, All: true})
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
	names := map[string]map[string]bool{xdsclient.RouteType: {}, xdsclient.EndpointType: {}, xdsclient.SecretType: {}, xdsclient.ExtensionType: {}}
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
				n := s.needsOf(l)
				add(&n)
			}
		}
	}
	for _, r := range s.retired {
		for _, need := range s.needsOf(r.Listener).Routes {
			f(xdsclient.RouteType, need)
		}
	}
	s.holders(func(l *Listener) {
		for p := range l.places() {
			f(xdsclient.ExtensionType, p.Need)
		}
	})
	for _, e := range s.clusters {
		for _, c := range []*Cluster{e.next, e.built} {
			if c != nil {
				add(&c.Needs)
			}
		}
	}
}

// forgetUnwanted forgets route tables, endpoints and secrets that nobody needs any more. What the control plane has been asked for last stays
// until somebody has heard that it is not: what is wanted again before that is not asked for again.
func (s *Store) forgetUnwanted() {
	names := s.names(func(Need) bool { return true })
	for typeURL, list := range s.asked {
		maps.Copy(names[typeURL], list)
	}
	forget(s.routes, names[xdsclient.RouteType], func(e *routeEntry) bool { return e.Static })
	forget(s.endpoints, names[xdsclient.EndpointType], func(e *endpointEntry) bool { return e.Static })
	forget(s.extensions, names[xdsclient.ExtensionType], func(*extensionEntry) bool { return false })
	s.forgetScopes()
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
	case xdsclient.ExtensionType:
		return "ecds"
	case xdsclient.ScopedRouteType:
		return "srds"
	}
	return typeURL
}
