package patch

import (
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/model"
)

// The name by which filters within the HTTP connection manager are looked for.
const httpManager = "envoy.filters.network.http_connection_manager"

// A Listener changes listeners of one proxy in one context.
type Listener struct {
	Set     *Set
	Context model.PatchContext
	// Virtual listeners take what is for many ports: there a port is that of a filter chain.
	Virtual bool
	l       *listenerv3.Listener
}

// Changes reports whether a listener may be another one after Apply.
func (s *Set) Changes() bool {
	return s != nil && s.any(model.PatchListener, model.PatchListenerFilter, model.PatchFilterChain, model.PatchNetworkFilter, model.PatchHTTPFilter,
		model.PatchRouteTable, model.PatchVirtualHost, model.PatchRoute)
}

// RemovesListeners reports whether a patch may take a listener away.
func (s *Set) RemovesListeners() bool {
	return s != nil && slices.ContainsFunc(slices.Concat(s.by[model.PatchListener], s.by[model.PatchFilterChain]), func(p *model.Patch) bool {
		return p.Op == model.PatchRemove
	})
}

// AddedListeners are those that patches add, by the contexts of a proxy.
func (s *Set) AddedListeners(contexts ...model.PatchContext) []*listenerv3.Listener {
	return added[*listenerv3.Listener](s, model.PatchListener, contexts)
}

// Apply changes a listener. It reports whether it is still there: one that has no filter
// chains left is not, since Envoy refuses it.
func (c Listener) Apply(l *listenerv3.Listener) bool {
	c.l = l
	for _, p := range c.Set.in(c.Context, model.PatchListener) {
		switch {
		case !c.matches(p):
		case p.Op == model.PatchRemove:
			return false
		case isMerge(p):
			merge(l, p)
		}
	}
	for _, p := range c.Set.in(c.Context, model.PatchListenerFilter) {
		if c.matches(p) {
			l.ListenerFilters = edit(l.ListenerFilters, p, func(f *listenerv3.ListenerFilter) bool {
				return !p.Selects() || f.GetName() == p.Listener.Inspector
			})
		}
	}
	c.chains()
	return len(l.FilterChains) > 0 || l.DefaultFilterChain != nil
}

// matches reports whether a patch is for the listener.
func (c Listener) matches(p *model.Patch) bool {
	m := p.Listener
	switch {
	case m == nil:
		return true
	case m.Name != "" && m.Name != c.l.GetName():
		return false
	case m.Port == 0, c.Virtual && p.Target != model.PatchListener:
		return true
	}
	return c.l.GetAddress().GetSocketAddress().GetPortValue() == m.Port
}

// matchesChain reports whether a patch that is for the listener is for one of its chains.
func (c Listener) matchesChain(p *model.Patch, f *listenerv3.FilterChain) bool {
	if p.Listener == nil {
		return true
	}
	match := f.GetFilterChainMatch()
	if c.Virtual && p.Listener.Port != 0 && match.GetDestinationPort().GetValue() != p.Listener.Port {
		return false
	}
	m := p.Listener.Chain
	switch {
	case m == nil:
		return true
	case m.Name != "" && m.Name != f.GetName(),
		m.SNI != "" && !slices.Contains(match.GetServerNames(), m.SNI),
		m.Transport != "" && m.Transport != match.GetTransportProtocol(),
		m.Port != 0 && m.Port != match.GetDestinationPort().GetValue():
		return false
	}
	return !slices.ContainsFunc(m.ALPN, func(a string) bool { return !slices.Contains(match.GetApplicationProtocols(), a) })
}

func (c Listener) chains() {
	patches := c.Set.in(c.Context, model.PatchFilterChain)
	c.l.FilterChains = slices.DeleteFunc(c.l.FilterChains, func(f *listenerv3.FilterChain) bool { return !c.chain(f, patches) })
	if f := c.l.DefaultFilterChain; f != nil && !c.chain(f, patches) {
		c.l.DefaultFilterChain = nil
	}
	for _, p := range patches {
		if p.Op == model.PatchAdd && c.matches(p) {
			c.l.FilterChains = append(c.l.FilterChains, copyOf[*listenerv3.FilterChain](p))
		}
	}
}

// chain changes a filter chain and reports whether it is still there.
func (c Listener) chain(f *listenerv3.FilterChain, patches []*model.Patch) bool {
	for _, p := range patches {
		switch {
		case !c.matches(p) || !c.matchesChain(p, f):
		case p.Op == model.PatchRemove:
			return false
		case isMerge(p):
			mergeChain(f, p)
		}
	}
	c.filters(f)
	return true
}

// mergeChain merges into a chain; transport security of the same sort is merged where it stands.
func mergeChain(f *listenerv3.FilterChain, p *model.Patch) {
	value := p.Value.(*listenerv3.FilterChain)
	socket := value.GetTransportSocket()
	if socket == nil || f.GetTransportSocket().GetName() != socket.GetName() {
		merge(f, p)
		return
	}
	value = proto.Clone(value).(*listenerv3.FilterChain)
	value.TransportSocket = nil
	mergeOver(f, value, p)
	mergeSocket(f.TransportSocket, socket, p)
}

// isFilter reports whether a patch that is for the chain is for one of its filters.
func isFilter(f *listenerv3.Filter, p *model.Patch) bool {
	return p.Listener == nil || p.Listener.Chain == nil || p.Listener.Chain.Filter == nil || *p.Listener.Chain.Filter == f.GetName()
}

func (c Listener) filters(chain *listenerv3.FilterChain) {
	c.inlineRoutes(chain)
	here := func(target model.PatchTarget) []*model.Patch {
		return slices.DeleteFunc(slices.Clone(c.Set.in(c.Context, target)), func(p *model.Patch) bool { return !c.matches(p) || !c.matchesChain(p, chain) })
	}
	patches := here(model.PatchNetworkFilter)
	places := classes[*listenerv3.Filter]{after: networkPlaces}
	for _, p := range patches {
		if isMerge(p) {
			continue
		}
		if p.Class != model.PatchLast {
			chain.Filters = places.insert(chain.Filters, p)
			continue
		}
		chain.Filters = edit(chain.Filters, p, func(f *listenerv3.Filter) bool { return isFilter(f, p) })
	}
	inner := here(model.PatchHTTPFilter)
	for _, f := range chain.Filters {
		for _, p := range patches {
			if isMerge(p) && isFilter(f, p) {
				mergeFilter(f, p)
			}
		}
		if f.GetName() == httpManager {
			patchManager(f, slices.DeleteFunc(slices.Clone(inner), func(p *model.Patch) bool { return !isFilter(f, p) }))
		}
	}
}

// mergeFilter merges into the configuration of a filter. A name is replaced.
func mergeFilter(f *listenerv3.Filter, p *model.Patch) {
	value := p.Value.(*listenerv3.Filter)
	if f.GetTypedConfig() == nil {
		return
	}
	if value.GetName() != "" {
		f.Name = value.GetName()
	}
	f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: mergeAny(f.GetTypedConfig(), value.GetTypedConfig(), p)}
}

// inlineRoutes changes route tables that stand in the listener: those of what a sidecar receives.
func (c Listener) inlineRoutes(chain *listenerv3.FilterChain) {
	if !c.Set.any(model.PatchRouteTable, model.PatchVirtualHost, model.PatchRoute) {
		return
	}
	changeManager(chain, func(m *hcmv3.HttpConnectionManager) bool {
		r := m.GetRouteConfig()
		if r == nil {
			return false
		}
		before := proto.Clone(r).(*routev3.RouteConfiguration)
		c.Set.Routes(Table{Context: c.Context}, r)
		return !proto.Equal(before, r)
	})
}

// changeManager hands a chain's HTTP connection managers to f, which reports whether it changed one.
func changeManager(chain *listenerv3.FilterChain, f func(*hcmv3.HttpConnectionManager) bool) {
	for _, filter := range chain.Filters {
		m := new(hcmv3.HttpConnectionManager)
		if !filter.GetTypedConfig().MessageIs(m) || filter.GetTypedConfig().UnmarshalTo(m) != nil || !f(m) {
			continue
		}
		filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed(m)}
	}
}
