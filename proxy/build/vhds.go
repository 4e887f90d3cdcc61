package build

import (
	"maps"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

var vhdsFields = []*Message{
	message((*routev3.Vhds)(nil), reads("config_source")),
	message((*ondemandv3.OnDemand)(nil)),
}

// A vhostEntry is a virtual host that came by itself, of a table that says vhds.
type vhostEntry struct {
	Record
	config route.VirtualHostConfig
	needs  Needs
	absent bool // the control plane says that there is none
}

// vhds notes that virtual hosts of a table come one by one.
func (r *reader) vhds(m *routev3.Vhds, at *field.Path) bool {
	if m == nil {
		return false
	}
	at = at.Child("config_source")
	if m.GetConfigSource().GetAds() == nil {
		r.errs.Addf(at, "says not where from, want ads")
	} else if r.env.WholeWorld {
		r.errs.Addf(at.Child("ads"), "is a control plane that speaks the state of the world, want DELTA_GRPC: virtual hosts come one by one")
	}
	return true
}

// readVirtualHost reads one virtual host, and sees whether its table can have it.
func (s *Store) readVirtualHost(r xdsclient.Resource) error {
	m := &routev3.VirtualHost{}
	if err := decode(r, m); err != nil {
		return err
	}
	reader := &reader{env: s.env}
	e := s.vhosts[r.Name]
	limit := defaultDirectBody
	t := s.routes[tableOf(r.Name)]
	if t != nil {
		limit = t.limit
	}
	config := reader.virtualHost(m, limit, nil)
	if err := reader.errs.Err(); err != nil {
		return err
	}
	if t != nil && t.vhds { // all others of this response may be checked together with it later, but who is to blame is known now
		if _, err := route.NewTable(route.Config{Name: t.base.Name, IgnorePort: t.base.IgnorePort, VirtualHosts: []route.VirtualHostConfig{config}}); err != nil {
			return err
		}
		t.stale = true
	}
	e.config, e.needs, e.absent = config, reader.needs, false
	return nil
}

// assemble makes the tables anew that virtual hosts have come to, or gone from. It returns what
// cannot be part of its table.
func (s *Store) assemble() []xdsclient.Refusal {
	var refused []xdsclient.Refusal
	for _, name := range slices.Sorted(maps.Keys(s.routes)) {
		t := s.routes[name]
		if !t.stale {
			continue
		}
		t.stale = false
		if t.base == nil {
			continue
		}
		hosts := s.hostsOf(name)
		table, needs, err := s.tableWith(t, hosts)
		if err != nil { // two of them want one domain: the first that came keeps it
			hosts, refused = s.compatible(t, hosts, refused)
			if table, needs, err = s.tableWith(t, hosts); err != nil {
				continue
			}
		}
		t.next, t.needs, t.since = table, needs, s.env.Now()
	}
	return refused
}

// hostsOf are the names of the virtual hosts that have come for a table, in order.
func (s *Store) hostsOf(table string) []string {
	var out []string
	for name, e := range s.vhosts {
		if tableOf(name) == table && e.Body != nil && !e.absent {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (s *Store) tableWith(t *routeEntry, hosts []string) (*route.Table, Needs, error) {
	config, needs := *t.base, t.baseNeeds
	config.OnDemand = t.vhds
	config.VirtualHosts = slices.Clone(config.VirtualHosts)
	needs.Clusters = slices.Clone(needs.Clusters)
	for _, name := range hosts {
		e := s.vhosts[name]
		config.VirtualHosts = append(config.VirtualHosts, e.config)
		for _, c := range e.needs.Clusters {
			if !slices.Contains(needs.Clusters, c) {
				needs.Clusters = append(needs.Clusters, c)
			}
		}
	}
	table, err := route.NewTable(config)
	return table, needs, err
}

// compatible leaves out the virtual hosts that do not fit to those that came before.
func (s *Store) compatible(t *routeEntry, hosts []string, refused []xdsclient.Refusal) ([]string, []xdsclient.Refusal) {
	slices.SortStableFunc(hosts, func(a, b string) int { return s.vhosts[a].Updated.Compare(s.vhosts[b].Updated) })
	var good []string
	for _, name := range hosts {
		if _, _, err := s.tableWith(t, append(good[:len(good):len(good)], name)); err != nil {
			e := s.vhosts[name]
			e.Refused = &RefusedRecord{Version: e.Version, Detail: err.Error(), At: s.env.Now(), Body: e.Body}
			e.Body, e.absent = nil, true
			refused = append(refused, xdsclient.Refusal{Name: name, Err: err})
			continue
		}
		good = append(good, name)
	}
	return good, refused
}

// removeVirtualHost takes a virtual host away, or notes that there is none.
func (s *Store) removeVirtualHost(name string) {
	e := entry(s.vhosts, name)
	e.Body, e.absent = nil, true
	if t := s.routes[tableOf(name)]; t != nil {
		t.stale = true
	}
}

// onDemand reports whether a table's virtual hosts come one by one.
func (s *Store) onDemand(table string) bool {
	t := s.routes[table]
	return t != nil && t.vhds
}

// settleDemand answers requests that wait for virtual hosts. What they are told is in force.
func (s *Store) settleDemand() {
	s.env.demand.settle(func(table, host string) bool {
		t := s.routes[table]
		return t != nil && t.live != nil && t.live.HasHost(host)
	}, func(name string) bool {
		t, e := s.routes[tableOf(name)], s.vhosts[name]
		if t == nil || !t.vhds {
			return true
		}
		return e != nil && e.absent || t.next == nil && e != nil
	})
}

func (s *Store) anyOnDemand() bool {
	for _, t := range s.routes {
		if t.vhds {
			return true
		}
	}
	return false
}
