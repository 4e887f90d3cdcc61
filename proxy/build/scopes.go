package build

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

var scopeFields = []*Message{
	message((*hcmv3.ScopedRoutes)(nil), reads("name", "scope_key_builder", "rds_config_source", "scoped_route_configurations_list", "scoped_rds")),
	message((*hcmv3.ScopedRoutes_ScopeKeyBuilder)(nil), reads("fragments")),
	message((*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder)(nil), reads("header_value_extractor")),
	message((*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor)(nil), reads("name", "element_separator", "index", "element")),
	message((*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_KvElement)(nil), reads("separator", "key")),
	message((*hcmv3.ScopedRouteConfigurationsList)(nil), reads("scoped_route_configurations")),
	message((*hcmv3.ScopedRds)(nil), reads("scoped_rds_config_source")),
	message((*routev3.ScopedRouteConfiguration)(nil), reads("name", "route_configuration_name", "route_configuration", "key", "on_demand")),
	message((*routev3.ScopedRouteConfiguration_Key)(nil), reads("fragments")),
	message((*routev3.ScopedRouteConfiguration_Key_Fragment)(nil), reads("string_key")),
}

// A scope is a route table, or the name of one, for requests with a key.
type scope struct {
	name  string
	key   string
	table *route.Table // nil: the one of the name
	rds   string
	needs Needs
	body  *anypb.Any
}

// A scopeSet is the scopes of one source.
type scopeSet struct {
	scopes  map[string]*scope // by name
	version string
	updated time.Time
	told    bool // there was an answer, or it is waited for no more
}

// A scopeUse is a connection manager that has the scopes of a source.
type scopeUse struct {
	Source // of scopes
	name   string
	rds    Source // of tables
	owned  bool   // there is none: scopes have tables of their own
	prefix string
	stats  *stats.ScopedRDSUse
	tables map[string]*stats.RDSUse // of scopes, by name
}

// scopedRoutes reads routes by scope.
func (r *listenerReader) scopedRoutes(m *hcmv3.ScopedRoutes, c *stream.Config, at *field.Path) {
	c.ScopeKey = r.scopeKey(m.GetScopeKeyBuilder(), at.Child("scope_key_builder"))
	switch m.GetConfigSpecifier().(type) {
	case *hcmv3.ScopedRoutes_ScopedRouteConfigurationsList:
		at := at.Child("scoped_route_configurations_list").Child("scoped_route_configurations")
		var list []*scope
		for i, one := range m.GetScopedRouteConfigurationsList().GetScopedRouteConfigurations() {
			at := at.Index(i)
			if one.GetRouteConfigurationName() != "" {
				r.errs.Addf(at.Child("route_configuration_name"), "is not supported among scopes that stand in the listener, want route_configuration or scoped_rds")
				continue
			}
			if s := r.scope(one, at); s != nil {
				list = append(list, s)
			}
			r.routeClusters(one.GetRouteConfiguration(), at.Child("route_configuration"))
		}
		if err := distinctKeys(list); err != nil {
			r.errs.Addf(at, "%v", err)
		}
		c.Scopes = scopesOf(list, nil)
	case *hcmv3.ScopedRoutes_ScopedRds:
		use := &scopeUse{name: m.GetName(), prefix: c.StatPrefix, owned: m.GetRdsConfigSource() == nil,
			Source: r.source(m.GetScopedRds().GetScopedRdsConfigSource(), at.Child("scoped_rds").Child("scoped_rds_config_source")),
			tables: map[string]*stats.RDSUse{}}
		if !use.owned {
			use.rds = r.source(m.GetRdsConfigSource(), at.Child("rds_config_source"))
		}
		use.stats = r.env.Stats.ScopedRDS(c.StatPrefix, m.GetName())
		if use.Place.Path == "" {
			use.stats.UpdateAttempt.Inc() // the question
		}
		c.ScopeSource = scopeSource(use.Place)
		r.scoped = append(r.scoped, use)
	default:
		r.errs.Addf(at, "has no scopes, want scoped_route_configurations_list or scoped_rds")
	}
}

func (r *reader) scopeKey(m *hcmv3.ScopedRoutes_ScopeKeyBuilder, at *field.Path) *route.ScopeKey {
	out := &route.ScopeKey{}
	for i, f := range m.GetFragments() {
		at := at.Child("fragments").Index(i).Child("header_value_extractor")
		x := f.GetHeaderValueExtractor()
		made := route.ScopeFragment{Header: strings.ToLower(x.GetName()), Separator: []byte(x.GetElementSeparator())}
		switch x.GetExtractType().(type) {
		case *hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index:
			made.Index = int(x.GetIndex())
			if made.Index > 0 && len(made.Separator) == 0 {
				r.errs.Addf(at.Child("index"), "found %d without element_separator, want 0", made.Index)
			}
		case *hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Element:
			made.Named, made.Name, made.Equals = true, []byte(x.GetElement().GetKey()), []byte(x.GetElement().GetSeparator())
		default:
			r.errs.Addf(at, "says not which element counts, want index or element")
		}
		out.Fragments = append(out.Fragments, made)
	}
	return out
}

// scope reads one scope; nil if it is wrong.
func (r *reader) scope(m *routev3.ScopedRouteConfiguration, at *field.Path) *scope {
	own := &reader{env: r.env}
	out := &scope{name: m.GetName(), rds: m.GetRouteConfigurationName()}
	var key []byte
	for _, f := range m.GetKey().GetFragments() {
		key = route.AppendScope(key, []byte(f.GetStringKey()))
	}
	out.key = string(key)
	switch table := m.GetRouteConfiguration(); {
	case table != nil:
		at := at.Child("route_configuration")
		config := own.table(table, at)
		if table.GetVhds() != nil {
			own.errs.Addf(at.Child("vhds"), "is set in a table that does not come by rds")
		}
		if len(own.errs) > 0 {
			break
		}
		made, err := route.NewTable(config)
		if err != nil {
			own.errs.Addf(at, "%v", err)
		}
		out.table, out.rds = made, ""
	case m.GetOnDemand():
		own.errs.Addf(at.Child("on_demand"), "is not supported for a table that comes by rds: the tables of all scopes are fetched ahead")
	case out.rds == "":
		own.errs.Addf(at, "has no routes, want route_configuration_name or route_configuration")
	}
	if len(own.errs) > 0 {
		r.errs = append(r.errs, own.errs...)
		return nil
	}
	out.needs = own.needs
	r.needs.add(own.needs)
	return out
}

// distinctKeys refuses two scopes with one key.
func distinctKeys(list []*scope) error {
	first := map[string]*scope{}
	for _, s := range list {
		if other := first[s.key]; other != nil {
			return fmt.Errorf("scope key conflict found, first scope is '%s', second scope is '%s'", other.name, s.name)
		}
		first[s.key] = s
	}
	return nil
}

// scopesOf makes scopes of tables that are there, and of those that tables knows by name.
func scopesOf(list []*scope, tables map[string]*route.Table) *route.Scopes {
	all := make(map[string]*route.Table, len(list))
	for _, s := range list {
		t := s.table
		if t == nil {
			t = tables[s.rds]
		}
		if t != nil {
			all[s.key] = t
		}
	}
	return route.NewScopes(all)
}

// sorted are the scopes of a set by name.
func (s *scopeSet) sorted() []*scope {
	return slices.SortedFunc(maps.Values(s.scopes), func(a, b *scope) int { return cmp.Compare(a.name, b.name) })
}

// scopeUses are the connection managers that have scopes of a place.
func (s *Store) scopeUses(place xdsclient.Place) (out []*scopeUse) {
	seen := map[*scopeUse]bool{}
	s.holders(func(l *Listener) {
		for u := range l.scopeUses() {
			if u.Place == place && !seen[u] {
				seen[u] = true
				out = append(out, u)
			}
		}
	})
	return out
}

// scopePlaces are the files that scopes come from.
func (s *Store) scopePlaces() map[xdsclient.Place]bool {
	places := map[xdsclient.Place]bool{}
	s.holders(func(l *Listener) {
		for u := range l.scopeUses() {
			if u.Place.Path != "" {
				places[u.Place] = true
			}
		}
	})
	return places
}

// scopeSource names a place for the data plane.
func scopeSource(place xdsclient.Place) string { return place.Path + "\x00" + place.Directory }

// scopeUses are a listener's connection managers that have scopes which come by themselves.
func (l *Listener) scopeUses() iter.Seq[*scopeUse] {
	return func(yield func(*scopeUse) bool) {
		if l == nil {
			return
		}
		for _, b := range l.chains {
			for _, u := range b.scoped {
				if !yield(u) {
					return
				}
			}
		}
		for p := range l.places() {
			if p.live == nil {
				continue
			}
			for _, u := range p.live.scoped {
				if !yield(u) {
					return
				}
			}
		}
	}
}

// applyScopes takes in what has come of scopes. All of it counts, or nothing: a key that two scopes have may be either's mistake.
func (s *Store) applyScopes(u xdsclient.Update) []xdsclient.Refusal {
	set := entry(s.scopes, u.Place)
	set.told = true
	next := maps.Clone(set.scopes)
	if next == nil {
		next = map[string]*scope{}
	}
	var refused []xdsclient.Refusal
	for _, name := range u.Removed {
		delete(next, name)
	}
	for _, r := range u.Resources {
		if have := set.scopes[r.Name]; have != nil && bytes.Equal(have.body.GetValue(), r.Body.GetValue()) {
			continue
		}
		made, err := s.readScope(r)
		if err == nil && made.rds != "" && slices.ContainsFunc(s.scopeUses(u.Place), func(u *scopeUse) bool { return u.owned }) {
			err = field.List{{At: field.At("route_configuration_name"), Msg: "is set for a connection manager without rds_config_source, want route_configuration"}}
		}
		if err != nil {
			refused = append(refused, xdsclient.Refusal{Name: r.Name, Err: err})
			continue
		}
		next[r.Name] = made
	}
	if len(refused) == 0 {
		if err := distinctKeys((&scopeSet{scopes: next}).sorted()); err != nil {
			for _, r := range u.Resources {
				refused = append(refused, xdsclient.Refusal{Name: r.Name, Err: err})
			}
		}
	}
	if len(refused) > 0 {
		return refused
	}
	set.scopes, set.updated, s.stale = next, s.env.Now(), true
	if u.Version != "" || len(u.Resources) == 0 {
		set.version = u.Version
	} else {
		set.version = u.Resources[len(u.Resources)-1].Version
	}
	s.countScopes()
	return nil
}

func (s *Store) readScope(r xdsclient.Resource) (*scope, error) {
	m := &routev3.ScopedRouteConfiguration{}
	if err := decode(r, m); err != nil {
		return nil, err
	}
	reader := &reader{env: s.env}
	made := reader.scope(m, nil)
	if err := reader.errs.Err(); err != nil {
		return nil, err
	}
	made.body = r.Body
	return made, nil
}

// countScopes brings up to date what connection managers count of their scopes, and the subscriptions to their tables.
func (s *Store) countScopes() {
	for place, set := range s.scopes {
		for _, u := range s.scopeUses(place) {
			named := map[string]bool{}
			for _, one := range set.scopes {
				if one.rds == "" {
					continue
				}
				named[one.rds] = true
				if u.tables[one.rds] == nil {
					u.tables[one.rds] = s.env.Stats.RDS(u.prefix, one.rds)
					if u.rds.Place.Path == "" {
						u.tables[one.rds].UpdateAttempt.Inc()
					}
				}
			}
			maps.DeleteFunc(u.tables, func(name string, _ *stats.RDSUse) bool { return !named[name] })
			active := 0
			for _, one := range set.scopes {
				if one.rds != "" {
					active++
				}
			}
			u.stats.AllScopes.Set(int64(len(set.scopes)))
			u.stats.ActiveScopes.Set(int64(active))
		}
	}
}

// needsOf is all that a listener cannot work without, the tables and clusters of its scopes included.
func (s *Store) needsOf(l *Listener) Needs {
	n := l.needsAll()
	for u := range l.scopeUses() {
		set := s.scopes[u.Place]
		if set == nil {
			continue
		}
		for _, one := range set.sorted() {
			n.add(one.needs)
			if one.rds != "" {
				n.Routes = append(n.Routes, Need{one.rds, u.rds})
			}
		}
	}
	return n
}

// scopesWait reports whether a listener waits for scopes, and counts those that it waits for no longer.
func (s *Store) scopesWait(l *Listener, since time.Time, w *waiting) bool {
	waits := false
	for u := range l.scopeUses() {
		set := entry(s.scopes, u.Place)
		switch {
		case set.told:
		case w.until(since, u.Timeout):
			waits = true
		default:
			set.told = true
			for _, u := range s.scopeUses(u.Place) {
				u.stats.UpdateAttempt.Inc()
				u.stats.InitFetchTimeout.Inc()
			}
		}
	}
	return waits
}

// forgetScopes forgets the scopes of sources that nobody names any more.
func (s *Store) forgetScopes() {
	maps.DeleteFunc(s.scopes, func(place xdsclient.Place, _ *scopeSet) bool { return len(s.scopeUses(place)) == 0 })
}

// dumpScopes lists the scopes of connection managers, those that stand in listeners first.
func (s *Store) dumpScopes() proto.Message {
	out := &adminv3.ScopedRoutesConfigDump{}
	s.managers(func(e *listenerEntry, m *hcmv3.HttpConnectionManager) {
		list := m.GetScopedRoutes().GetScopedRouteConfigurationsList().GetScopedRouteConfigurations()
		if list == nil {
			return
		}
		dump := &adminv3.ScopedRoutesConfigDump_InlineScopedRouteConfigs{Name: m.GetScopedRoutes().GetName(), LastUpdated: stamp(e.Updated)}
		for _, one := range list {
			if body, err := anypb.New(one); err == nil {
				dump.ScopedRouteConfigs = append(dump.ScopedRouteConfigs, body)
			}
		}
		out.InlineScopedRouteConfigs = append(out.InlineScopedRouteConfigs, dump)
	})
	for _, place := range slices.SortedFunc(maps.Keys(s.scopes), func(a, b xdsclient.Place) int { return cmp.Compare(a.Path+a.Directory, b.Path+b.Directory) }) {
		set := s.scopes[place]
		if set.updated.IsZero() {
			continue
		}
		names := map[string]bool{}
		for _, u := range s.scopeUses(place) {
			names[u.name] = true
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			dump := &adminv3.ScopedRoutesConfigDump_DynamicScopedRouteConfigs{Name: name, VersionInfo: set.version, LastUpdated: stamp(set.updated)}
			for _, one := range set.sorted() {
				dump.ScopedRouteConfigs = append(dump.ScopedRouteConfigs, one.body)
			}
			out.DynamicScopedRouteConfigs = append(out.DynamicScopedRouteConfigs, dump)
		}
	}
	return out
}
