package translate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mallamesh/malla/model"
)

// sniffedHTTP is what the inspector says of HTTP that the proxy reads. HTTP/1.0 would be
// refused; as bytes it gets through, as in Istio.
var sniffedHTTP = []string{"http/1.1", "h2c"}

// An outListener is one outbound listener as services ask for it. The one of
// the zero address takes every destination on its port: HTTP is told apart by
// the request's host, TLS by the name asked for, the rest by address.
type outListener struct {
	name  string
	addrs []netip.Addr // none: every address
	port  uint16

	http     bool             // some service speaks HTTP here
	sniff    bool             // HTTP must be told from bytes by looking
	route    string           // of HTTP
	byName   []namedService   // TLS without an address of its own
	byAddr   []addressService // bytes to addresses that belong to a service
	fallback *model.Service   // bytes to anywhere else; the oldest service wins

	door  *model.Door // that a Sidecar opens: only what is behind it is reached
	bound bool        // the proxy listens there itself; else what is captured comes to it
}

type namedService struct {
	service *model.Service
	names   []string
}

type addressService struct {
	service  *model.Service
	prefixes []netip.Prefix
	http     bool // sniffed: HTTP may come here too
}

// An outPlan is the outbound listeners by name.
type outPlan map[string]*outListener

// outboundListeners returns what the proxy's services ask for.
func outboundListeners(v *model.View) outPlan {
	type key struct{}
	return v.Memo(key{}, func() any {
		plan := make(outPlan)
		plan.doors(v)
		plan.httpProxy(v)
		for _, s := range v.Services() {
			if s.Resolution == model.Alias || !opensTo(v, s) {
				continue
			}
			for _, p := range s.Ports {
				plan.add(v, s, p)
			}
		}
		plan.disjoin()
		return plan
	}).(outPlan)
}

func outboundListenerNames(v *model.View) []string {
	return slices.Sorted(maps.Keys(outboundListeners(v)))
}

// at returns the listener of these addresses, of every address if there are none.
func (plan outPlan) at(port uint16, addrs ...netip.Addr) *outListener {
	first := unspecified
	if len(addrs) > 0 {
		first = addrs[0]
	}
	name := listenerName(first, port)
	if plan[name] == nil {
		plan[name] = &outListener{name: name, addrs: slices.Clone(addrs), port: port, route: strconv.Itoa(int(port))}
	}
	if plan[name].door != nil {
		return &outListener{} // which nobody sees: who opens a door on a port has it alone
	}
	return plan[name]
}

// add adds what one port of a service needs.
func (plan outPlan) add(v *model.View, s *model.Service, p model.Port) {
	kind := carried(p.Protocol)
	if kind == model.UDP {
		return
	}
	if v.Interception() == model.Uncaptured {
		plan.addLocal(v, s, p, kind)
		return
	}
	addrs := v.Addresses(s)
	if kind != model.HTTP && len(addrs) > 0 {
		l := plan.at(p.Number, addrs...)
		l.fallback = older(l.fallback, s)
		if kind == model.Sniffed {
			l.http, l.sniff, l.route = true, true, s.Host+":"+strconv.Itoa(int(p.Number))
		}
	}
	if p.Number == v.OutboundPort() || p.Number == v.InboundPort() {
		return // every address on these ports is the proxy's own
	}
	if kind == model.HTTP {
		plan.at(p.Number).http = true
		return
	}
	switch {
	case len(s.CIDRs) > 0:
		l := plan.at(p.Number)
		l.byAddr = append(l.byAddr, addressService{service: s, prefixes: s.CIDRs, http: kind == model.Sniffed})
	case len(addrs) > 0:
		return
	case s.Headless:
		if prefixes := podAddresses(v, s, p); len(prefixes) > 0 {
			l := plan.at(p.Number)
			l.byAddr = append(l.byAddr, addressService{service: s, prefixes: prefixes, http: kind == model.Sniffed})
		}
	case kind == model.TLS:
		l := plan.at(p.Number)
		l.byName = append(l.byName, namedService{service: s, names: []string{s.Host}})
	default:
		l := plan.at(p.Number)
		l.fallback = older(l.fallback, s)
	}
	if kind == model.Sniffed {
		l := plan.at(p.Number)
		l.http, l.sniff = true, true
	}
}

// disjoin leaves every address on a port to one listener: Envoy refuses others.
func (plan outPlan) disjoin() {
	taken := make(map[netip.AddrPort]bool)
	for _, l := range plan {
		if len(l.addrs) > 0 {
			taken[netip.AddrPortFrom(l.addrs[0], l.port)] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(plan)) {
		l := plan[name]
		if len(l.addrs) == 0 {
			continue
		}
		kept := l.addrs[:1]
		for _, a := range l.addrs[1:] {
			if at := netip.AddrPortFrom(a, l.port); !taken[at] {
				taken[at] = true
				kept = append(kept, a)
			}
		}
		l.addrs = kept
	}
}

// older returns the service that an address belongs to where two claim it.
func older(a, b *model.Service) *model.Service {
	if a != nil && !model.Older(b.Created, b.From, a.Created, a.From) {
		return a
	}
	return b
}

// podAddresses returns the addresses behind a headless service: clients dial
// them directly.
func podAddresses(v *model.View, s *model.Service, p model.Port) []netip.Prefix {
	var out []netip.Prefix
	for _, e := range v.Mesh.Endpoints(s) {
		if e.PortName != p.Name {
			continue
		}
		for _, a := range e.Addrs {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return slices.Compact(out)
}

func outboundListener(v *model.View, name string) (*listenerv3.Listener, bool) {
	p := outboundListeners(v)[name]
	if p == nil {
		return nil, false
	}
	l := captured(v, p.name, p.port, p.addrs...)
	if p.bound {
		l.BindToPort = nil
	}
	if d := p.door; d != nil && d.Path != "" {
		l.Address, l.AdditionalAddresses = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: d.Path}}}, nil
	}
	if p.http && !p.sniff && p.fallback == nil && len(p.byName)+len(p.byAddr) == 0 {
		l.FilterChains = []*listenerv3.FilterChain{{Filters: list1(p.manager(v))}}
		return l, true
	}
	names := p.addChains(v, l)
	if p.http {
		l.ListenerFilters = append(l.ListenerFilters, tlsInspector(nil), httpInspector(nil))
	} else if names {
		l.ListenerFilters = append(l.ListenerFilters, tlsInspector(nil))
	}
	return l, true
}

func (p *outListener) manager(v *model.View) *listenerv3.Filter {
	return httpManager(v, outwards, "outbound_"+p.name, p.route, nil)
}

// addChains adds the chains of a listener that tells several kinds of traffic
// apart. It reports whether a chain asks for the name in a TLS client hello.
func (p *outListener) addChains(v *model.View, l *listenerv3.Listener) (names bool) {
	var sniffed []netip.Prefix
	for _, a := range p.byAddr {
		if a.http {
			sniffed = append(sniffed, a.prefixes...)
		}
	}
	http := func(prefixes []netip.Prefix) {
		m := &listenerv3.FilterChainMatch{TransportProtocol: "raw_buffer", ApplicationProtocols: sniffedHTTP}
		setPrefixes(m, prefixes)
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{FilterChainMatch: m, Filters: list1(p.manager(v))})
	}
	if p.http {
		http(nil)
	}
	if len(sniffed) > 0 {
		slices.SortFunc(sniffed, func(a, b netip.Prefix) int {
			return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
		})
		sniffed = slices.Compact(sniffed)
		http(sniffed) // an address is asked about before the protocol, so these need a chain of their own
	}
	seen := matches{}
	for _, a := range p.byAddr {
		l.FilterChains = append(l.FilterChains, seen.fresh(bytesChains(v, a.service, p.port, a.prefixes, nil))...)
	}
	for _, n := range p.byName {
		names = true
		l.FilterChains = append(l.FilterChains, seen.fresh(bytesChains(v, n.service, p.port, nil, n.names))...)
	}
	if p.fallback == nil {
		l.DefaultFilterChain = &listenerv3.FilterChain{Name: "PassthroughFilterChain", Filters: tcpFilters(v, unknownDestination(v))}
		return names
	}
	names = names || p.fallback.Resolution == model.DynamicDNS // the name is where the bytes go
	chains := seen.fresh(bytesChains(v, p.fallback, p.port, nil, nil))
	for i, c := range chains {
		names = names || len(c.GetFilterChainMatch().GetServerNames()) > 0
		if i == len(chains)-1 && c.FilterChainMatch == nil && len(l.FilterChains) > 0 {
			l.DefaultFilterChain = c
			continue
		}
		l.FilterChains = append(l.FilterChains, c)
	}
	return names
}

func setPrefixes(m *listenerv3.FilterChainMatch, prefixes []netip.Prefix) {
	for _, p := range prefixes {
		m.PrefixRanges = append(m.PrefixRanges, cidr(p))
	}
}

// bytesChains are the chains that carry bytes to a service: as rules for TLS
// names and for TCP say, else to its cluster. The last chain takes the rest.
func bytesChains(v *model.View, s *model.Service, port uint16, prefixes []netip.Prefix, names []string) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	add := func(to []model.Split, prefixes []netip.Prefix, sni []string) {
		c := &listenerv3.FilterChain{Filters: bytesTo(v, to, port)}
		if sni = serverNames(sni); len(prefixes)+len(sni) > 0 {
			c.FilterChainMatch = &listenerv3.FilterChainMatch{ServerNames: sni}
			setPrefixes(c.FilterChainMatch, prefixes)
		}
		out = append(out, c)
	}
	rules := v.MeshRules(s.Host)
	p, _ := portBehind(s, port)
	if rules != nil {
		if carried(p.Protocol) == model.TLS {
			for _, r := range rules.TLS {
				for _, m := range r.Matches {
					if tlsApplies(v, m, port, "mesh") {
						add(r.Forward, orElse(m.Subnets, prefixes), m.SNI)
					}
				}
			}
		}
		for _, r := range rules.TCP {
			subnets, ok := tcpApplies(v, r, port, "mesh")
			if !ok {
				continue
			}
			add(r.Forward, orElse(subnets, prefixes), names)
			if len(subnets) == 0 {
				return out
			}
		}
	}
	add([]model.Split{{To: model.Destination{Host: s.Host, Port: p.Number}}}, prefixes, names)
	return out
}

func orElse[T any](a, b []T) []T {
	if len(a) > 0 {
		return a
	}
	return b
}

// tlsApplies reports whether the match is meant for the proxy on that port.
func tlsApplies(v *model.View, m *model.TLSMatch, port uint16, gateway string) bool {
	return (m.Port == 0 || m.Port == port) && forProxy(v, m.Gateways, gateway, m.SourceLabels, m.SourceNamespace)
}

// tcpApplies reports whether the rule is meant for the proxy on that port, and
// for which destinations; none are all.
func tcpApplies(v *model.View, r *model.TCPRule, port uint16, gateway string) ([]netip.Prefix, bool) {
	if len(r.Matches) == 0 {
		return nil, true
	}
	var subnets []netip.Prefix
	applies := false
	for _, m := range r.Matches {
		if m.Port != 0 && m.Port != port || !forProxy(v, m.Gateways, gateway, m.SourceLabels, m.SourceNamespace) {
			continue
		}
		if len(m.Subnets) == 0 {
			return nil, true
		}
		applies = true
		subnets = append(subnets, m.Subnets...)
	}
	return subnets, applies
}

// forProxy evaluates the parts of a match that choose proxies, not traffic.
func forProxy(v *model.View, gateways []string, gateway string, labels map[string]string, namespace string) bool {
	if len(gateways) > 0 && !slices.Contains(gateways, gateway) {
		return false
	}
	return model.Labels(v.Proxy.Labels).Matches(labels) && (namespace == "" || namespace == v.Proxy.Namespace)
}

// matches remembers which destinations and names the chains of a listener
// take. Envoy refuses a listener where two chains take the same, so the first
// has it.
type matches map[[2]string]bool

// fresh takes from the chains what others have, and drops those without a rest.
func (m matches) fresh(chains []*listenerv3.FilterChain) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	for _, c := range chains {
		if c.FilterChainMatch == nil {
			c.FilterChainMatch = &listenerv3.FilterChainMatch{}
		}
		match := c.FilterChainMatch
		prefixes, names := match.PrefixRanges, match.ServerNames
		taken := func(prefix, name string) bool { return m[[2]string{prefix, name}] }
		match.PrefixRanges = slices.DeleteFunc(slices.Clone(prefixes), func(p *corev3.CidrRange) bool {
			return !slices.ContainsFunc(orEmpty(names), func(n string) bool { return !taken(prefixKey(p), n) })
		})
		if len(prefixes) > 0 && len(match.PrefixRanges) == 0 {
			continue
		}
		match.ServerNames = slices.DeleteFunc(slices.Clone(names), func(n string) bool {
			return slices.ContainsFunc(prefixKeys(match.PrefixRanges), func(p string) bool { return taken(p, n) })
		})
		if len(names) > 0 && len(match.ServerNames) == 0 || len(prefixes)+len(names) == 0 && taken("", "") {
			continue
		}
		for _, p := range prefixKeys(match.PrefixRanges) {
			for _, n := range orEmpty(match.ServerNames) {
				m[[2]string{p, n}] = true
			}
		}
		if len(prefixes)+len(names) == 0 {
			c.FilterChainMatch = nil
		}
		out = append(out, c)
	}
	return out
}

func prefixKey(p *corev3.CidrRange) string {
	return p.AddressPrefix + "/" + strconv.Itoa(int(p.PrefixLen.GetValue()))
}

// prefixKeys and orEmpty make one empty entry of none, which stands for all.
func prefixKeys(in []*corev3.CidrRange) []string {
	var out []string
	for _, p := range in {
		out = append(out, prefixKey(p))
	}
	return orEmpty(out)
}

func orEmpty(in []string) []string {
	if len(in) == 0 {
		return []string{""}
	}
	return in
}
