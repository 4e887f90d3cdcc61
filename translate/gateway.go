package translate

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/model"
)

// A gatewayPort is one listener of a gateway: the servers of all Gateways that
// select the proxy, have the port and can share it.
type gatewayPort struct {
	name    string
	bind    netip.Addr // zero: every address
	port    uint16     // on which the pod listens
	http    bool       // plain HTTP; else TLS by name, or bytes
	route   string     // of HTTP
	servers []gatewayServer
}

type gatewayServer struct {
	gateway *model.Gateway
	*model.Server
}

// A gatewayPlan is a gateway's listeners by name.
type gatewayPlan map[string]*gatewayPort

// gatewayPorts returns the listeners of the gateway. Where servers on one port
// cannot share it (plain text and TLS), the oldest Gateway has it.
func gatewayPorts(v *model.View) gatewayPlan {
	type key struct{}
	return v.Memo(key{}, func() any {
		plan := make(gatewayPlan)
		for _, g := range v.Gateways() {
			for _, s := range g.Servers {
				for _, port := range listenPorts(v, s.Port) {
					plan.add(gatewayServer{g, s}, port)
				}
			}
		}
		return plan
	}).(gatewayPlan)
}

// listenPorts returns the pod's ports behind a port of the gateway's Service; a
// port that no Service has is listened on as it is.
func listenPorts(v *model.View, port uint16) []uint16 {
	for _, s := range v.ServicesOf() {
		if p, ok := s.Port(port); ok {
			if target, found := v.TargetPort(s, p); found {
				return []uint16{target}
			}
		}
	}
	return []uint16{port}
}

func (plan gatewayPlan) add(s gatewayServer, port uint16) {
	bind, _ := netip.ParseAddr(s.Bind)
	if bind.IsUnspecified() {
		bind = netip.Addr{}
	}
	name := listenerName(bind, port)
	http := s.Protocol.IsHTTP()
	p := plan[name]
	if p == nil {
		p = &gatewayPort{name: name, bind: bind, port: port, http: http, route: "http." + strconv.Itoa(int(port))}
		if bind.IsValid() {
			p.route += "." + bind.String()
		}
		plan[name] = p
	}
	if p.http != http || !http && p.servers != nil && p.servers[0].Protocol.IsTLS() != s.Protocol.IsTLS() {
		return
	}
	if s.Protocol.IsTLS() && slices.ContainsFunc(p.servers, s.sameName) {
		return // clients that ask for the name get the older one
	}
	p.servers = append(p.servers, s)
}

// sameName reports whether a client that asks for a name may mean both servers.
func (s gatewayServer) sameName(other gatewayServer) bool {
	return slices.ContainsFunc(s.Hosts, func(h model.GatewayHost) bool {
		return slices.ContainsFunc(other.Hosts, func(o model.GatewayHost) bool { return o.Name == h.Name })
	})
}

func gatewayListenerNames(v *model.View) []string {
	var out []string
	for name, p := range gatewayPorts(v) {
		if p.http || len(p.chains(v)) > 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func gatewayListener(v *model.View, name string) (*listenerv3.Listener, bool) {
	p := gatewayPorts(v)[name]
	if p == nil {
		return nil, false
	}
	l := &listenerv3.Listener{Name: name, TrafficDirection: corev3.TrafficDirection_OUTBOUND, AccessLog: listenerLog(v)}
	at(v, l, []netip.Addr{p.bind}, p.port)
	l.ListenerFilters = fromBalancer(v)
	if p.http {
		l.FilterChains = []*listenerv3.FilterChain{{Filters: list1(httpManager(v, through, "outbound_"+name, p.route, nil))}}
		return l, true
	}
	l.FilterChains = p.chains(v)
	if len(l.FilterChains) == 0 {
		return nil, false // no rule says where the bytes go, and Envoy refuses a listener without chains
	}
	if p.servers[0].Protocol.IsTLS() {
		l.ListenerFilters = append(l.ListenerFilters, tlsInspector(nil))
		l.ListenerFiltersTimeout, l.ContinueOnListenerFiltersTimeout = span(v.Mesh.Config.DetectionTimeout), true
	}
	return l, true
}

// chains are those of a port that carries bytes or TLS.
func (p *gatewayPort) chains(v *model.View) []*listenerv3.FilterChain {
	seen := matches{}
	var out []*listenerv3.FilterChain
	for _, s := range p.servers {
		switch {
		case s.https():
			out = append(out, seen.fresh([]*listenerv3.FilterChain{p.httpsChain(v, s)})...)
			continue
		case s.TLS != nil && s.TLS.Mode == model.ServerAutoPassthrough:
			out = append(out, seen.fresh(autoPassthroughChains(v, s))...)
			continue
		}
		for _, r := range v.RulesAt(s.gateway.Key()) {
			hosts := commonHosts(s, r)
			if len(hosts) == 0 {
				continue
			}
			if s.Protocol.IsTLS() {
				out = append(out, seen.fresh(tlsChains(v, s, r, hosts))...)
			} else {
				out = append(out, seen.fresh(tcpChains(v, s, r))...)
			}
		}
	}
	return out
}

// tlsChains carry TLS by the name that the client asks for. A server that ends TLS
// carries what is inside, as rules for TCP say.
func tlsChains(v *model.View, s gatewayServer, r *model.RouteRules, hosts []string) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	for _, rule := range r.TLS {
		for _, m := range rule.Matches {
			if !tlsApplies(v, m, s.Port, s.gateway.Key()) {
				continue
			}
			names := slices.DeleteFunc(slices.Clone(m.SNI), func(n string) bool {
				return !slices.ContainsFunc(hosts, func(h string) bool { return model.HostMatches(h, n) })
			})
			if len(names) == 0 {
				continue
			}
			c := &listenerv3.FilterChain{FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: serverNames(names)}, Filters: bytesTo(v, rule.Forward, s.Port)}
			setPrefixes(c.FilterChainMatch, m.Subnets)
			out = append(out, c)
		}
	}
	if s.TLS == nil || !s.TLS.Mode.Ends() {
		return out
	}
	for _, rule := range r.TCP {
		if subnets, ok := tcpApplies(v, rule, s.Port, s.gateway.Key()); ok {
			c := &listenerv3.FilterChain{FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: serverNames(hosts)}, Filters: tcpFilters(v, tcpTo(v, rule.Forward, s.Port))}
			setPrefixes(c.FilterChainMatch, subnets)
			out = append(out, c)
		}
	}
	for _, c := range out {
		c.TransportSocket = gatewaySocket(v, s.TLS, tcpALPN(v, alpnTCPServer))
	}
	return out
}

// serverNames returns the names as a chain asks for them: none for any.
func serverNames(names []string) []string {
	if slices.Contains(names, "*") {
		return nil
	}
	return names
}

func tcpChains(v *model.View, s gatewayServer, r *model.RouteRules) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	for _, rule := range r.TCP {
		subnets, ok := tcpApplies(v, rule, s.Port, s.gateway.Key())
		if !ok {
			continue
		}
		c := &listenerv3.FilterChain{Filters: tcpFilters(v, tcpTo(v, rule.Forward, s.Port))}
		if len(subnets) > 0 {
			c.FilterChainMatch = &listenerv3.FilterChainMatch{}
			setPrefixes(c.FilterChainMatch, subnets)
		}
		out = append(out, c)
	}
	return out
}

// commonHosts returns the hosts that both the server accepts and the rules name.
func commonHosts(s gatewayServer, r *model.RouteRules) []string {
	var out []string
	for _, accepted := range s.Hosts {
		if accepted.Namespace != "*" && accepted.Namespace != r.From.Namespace {
			continue
		}
		for _, h := range r.Hosts {
			switch {
			case model.HostMatches(accepted.Name, h):
				out = append(out, h)
			case model.HostMatches(h, accepted.Name):
				out = append(out, accepted.Name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func gatewayRouteNames(v *model.View) []string {
	names := make(map[string]bool)
	for _, p := range gatewayPorts(v) {
		if p.http {
			names[p.route] = true
		}
		for _, s := range p.servers {
			if s.https() {
				names[p.httpsRoute(s)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// gatewayRoutes is the table of one HTTP port of a gateway. Rules for one host
// are put one after the other, the oldest first, those that take every request
// last.
func gatewayRoutes(v *model.View, name string) (*routev3.RouteConfiguration, bool) {
	for _, p := range gatewayPorts(v) {
		if p.http && p.route == name {
			return gatewayTable(name, p.servers[0].Port, gatewayHosts(v, p.servers)), true
		}
		for _, s := range p.servers {
			if s.https() && p.httpsRoute(s) == name {
				return gatewayTable(name, s.Port, misdirected(v, s, p.servers, gatewayHosts(v, []gatewayServer{s}))), true
			}
		}
	}
	return nil, false
}

func gatewayTable(name string, port uint16, hosts []*routev3.VirtualHost) *routev3.RouteConfiguration {
	if len(hosts) == 0 {
		hosts = []*routev3.VirtualHost{{Name: "blackhole:" + strconv.Itoa(int(port)), Domains: []string{"*"}}}
	}
	return &routev3.RouteConfiguration{
		Name: name, ValidateClusters: boolean(false), IgnorePortInHostMatching: true, MaxDirectResponseBodySizeBytes: u32(maxDirectResponse),
		VirtualHosts: hosts,
	}
}

// gatewayHosts are those of servers that share a table.
func gatewayHosts(v *model.View, servers []gatewayServer) []*routev3.VirtualHost {
	byHost := make(map[string]*routev3.VirtualHost)
	host := func(name string, s gatewayServer) *routev3.VirtualHost {
		h := byHost[name]
		if h == nil {
			h = outsideHost(v, name, s.Port)
			byHost[name] = h
		}
		if s.TLS != nil && s.TLS.Redirect {
			h.RequireTls = routev3.VirtualHost_ALL
		}
		return h
	}
	type once struct {
		host  string
		rules *model.RouteRules
	}
	done := make(map[once]bool)
	for _, s := range servers {
		for _, r := range v.RulesAt(s.gateway.Key()) {
			if len(r.HTTP) == 0 {
				continue
			}
			for _, name := range commonHosts(s, r) {
				if done[once{name, r}] {
					continue
				}
				done[once{name, r}] = true
				sc := ruleScope{v: v, gateway: []string{s.gateway.Key()}, port: s.Port}
				if routes := sc.routes(r); len(routes) > 0 {
					h := host(name, s)
					h.Routes = append(h.Routes, routes...)
				}
			}
		}
		if s.Alone || s.TLS != nil && s.TLS.Redirect {
			for _, accepted := range s.Hosts {
				host(accepted.Name, s)
			}
		}
	}
	var out []*routev3.VirtualHost
	for _, name := range slices.Sorted(maps.Keys(byHost)) {
		h := byHost[name]
		slices.SortStableFunc(h.Routes, func(a, b *routev3.Route) int { return order(takesAll(a)) - order(takesAll(b)) })
		out = append(out, h)
	}
	return distinct(out)
}

func order(last bool) int {
	if last {
		return 1
	}
	return 0
}
