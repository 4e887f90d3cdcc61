package patch

import (
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/model"
)

// isSub reports whether a patch that is for the connection manager is for one of its filters.
func isSub(f *hcmv3.HttpFilter, p *model.Patch) bool {
	return !p.Selects() || *p.Listener.Chain.Sub == f.GetName()
}

// patchManager changes the filters of an HTTP connection manager: it puts in and takes out
// first, then it merges.
func patchManager(f *listenerv3.Filter, patches []*model.Patch) {
	if len(patches) == 0 {
		return
	}
	m := new(hcmv3.HttpConnectionManager)
	if f.GetTypedConfig().UnmarshalTo(m) != nil {
		return
	}
	places := classes[*hcmv3.HttpFilter]{after: httpPlaces}
	for _, p := range patches {
		switch {
		case isMerge(p):
		case p.Class != model.PatchLast:
			m.HttpFilters = places.insert(m.HttpFilters, p)
		default:
			m.HttpFilters = edit(m.HttpFilters, p, func(f *hcmv3.HttpFilter) bool { return isSub(f, p) })
		}
	}
	for _, sub := range m.HttpFilters {
		for _, p := range patches {
			if isMerge(p) && isSub(sub, p) {
				mergeHTTPFilter(sub, p)
			}
		}
	}
	f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed(m)}
}

// mergeHTTPFilter merges into the configuration of a filter. A name is replaced.
func mergeHTTPFilter(f *hcmv3.HttpFilter, p *model.Patch) {
	value := p.Value.(*hcmv3.HttpFilter)
	if f.GetTypedConfig() == nil {
		return
	}
	config := mergeAny(f.GetTypedConfig(), value.GetTypedConfig(), p)
	rest := proto.Clone(value).(*hcmv3.HttpFilter)
	rest.ConfigType = nil
	mergeOver(f, rest, p) // the name, and whether it may be missing or is off
	f.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: config}
}

// Inline puts the configurations that patches add in the places where filters of the listener
// ask for them by name, for proxies that do not ask: theirs comes with the listener.
func (s *Set) Inline(l *listenerv3.Listener) {
	extensions := s.Extensions()
	if len(extensions) == 0 {
		return
	}
	for _, chain := range append(slices.Clone(l.FilterChains), l.DefaultFilterChain) {
		if chain == nil {
			continue
		}
		changeManager(chain, func(m *hcmv3.HttpConnectionManager) (changed bool) {
			for _, f := range m.HttpFilters {
				for _, e := range extensions {
					if f.GetConfigDiscovery() != nil && f.GetName() == e.GetName() {
						f.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: e.GetTypedConfig()}
						changed = true
					}
				}
			}
			return changed
		})
	}
}

// A place is where filters of a class stand: after the last filter of one of the names, or
// before the first.
type place struct {
	names  []string
	before bool
}

var (
	httpPlaces = map[model.PatchClass]place{
		model.PatchAuthentication: {names: []string{"istio.metadata_exchange", "envoy.filters.http.jwt_authn", "istio_authn"}},
		model.PatchAuthorization:  {names: []string{"istio.metadata_exchange", "envoy.filters.http.jwt_authn", "istio_authn", "envoy.filters.http.ext_authz", "envoy.filters.http.rbac"}},
		model.PatchStatistics:     {names: []string{"istio.stats"}, before: true},
	}
	networkPlaces = map[model.PatchClass]place{
		model.PatchAuthentication: {names: []string{"istio.metadata_exchange"}},
		model.PatchAuthorization:  {names: []string{"istio.metadata_exchange", "envoy.filters.network.ext_authz", "envoy.filters.network.rbac"}},
		model.PatchStatistics:     {names: []string{"istio.stats"}, before: true},
	}
)

// classes puts filters where their class says, those of one class in the order in which they come.
type classes[M interface {
	proto.Message
	GetName() string
}] struct {
	after    map[model.PatchClass]place
	inserted []M
	class    []model.PatchClass
}

func (c *classes[M]) insert(list []M, p *model.Patch) []M {
	where := c.after[p.Class]
	named := func(m M) bool { return slices.Contains(where.names, m.GetName()) }
	value := copyOf[M](p)
	i := 0
	if where.before {
		if i = slices.IndexFunc(list, named); i < 0 {
			i = max(len(list)-1, 0) // before the last, which ends the chain
		}
	} else {
		for at, m := range list {
			if named(m) || c.earlier(m, p.Class) {
				i = at + 1
			}
		}
	}
	c.inserted, c.class = append(c.inserted, value), append(c.class, p.Class)
	return slices.Insert(list, i, value)
}

// earlier reports whether m was put in for the class, or for one that comes before it.
func (c *classes[M]) earlier(m M, class model.PatchClass) bool {
	for i, x := range c.inserted {
		if proto.Message(x) == proto.Message(m) {
			return c.class[i] <= class
		}
	}
	return false
}
