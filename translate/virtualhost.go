package translate

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/model"
)

const maxDirectResponse = 1 << 20

// routes returns the route table called name as v's proxy may see it, and
// whether there is one. A sidecar has one for each port of services that speak
// HTTP ("9080"), and one for each service's port that declares nothing
// ("reviews.prod.svc.cluster.local:9080").
func routes(v *model.View, name string) (*routev3.RouteConfiguration, bool) {
	if v.Proxy.Type != model.Sidecar {
		return gatewayRoutes(v, name)
	}
	if !slices.Contains(RouteNames(v), name) {
		return nil, false
	}
	out := &routev3.RouteConfiguration{
		Name: name, ValidateClusters: boolean(false), IgnorePortInHostMatching: true, MaxDirectResponseBodySizeBytes: u32(maxDirectResponse),
	}
	if host, port, ok := splitRouteName(name); ok {
		if s, found := v.Service(host); found {
			out.VirtualHosts = []*routev3.VirtualHost{serviceHost(v, s, port)}
			out.VirtualHosts[0].Domains = []string{"*"} // only connections to the service's address come here
		}
		return out, true
	}
	for _, l := range outboundListeners(v) {
		if l.door != nil && l.http && l.route == name && name == httpProxyRoute {
			out.VirtualHosts, out.IgnorePortInHostMatching = distinct(httpProxyTable(v)), false
			return out, true
		}
		if l.door != nil && l.http && l.route == name {
			out.VirtualHosts = distinct(append(doorTable(v, l), unknownHost(v)))
			return out, true
		}
	}
	port, err := strconv.ParseUint(name, 10, 16)
	if err != nil {
		return nil, false
	}
	out.VirtualHosts = distinct(append(openTable(v, uint16(port)), unknownHost(v)))
	return out, true
}

// RouteNames lists, sorted, the route tables that the proxy's listeners name.
func RouteNames(v *model.View) []string {
	if v.Proxy.Type != model.Sidecar {
		return gatewayRouteNames(v)
	}
	var out []string
	for _, l := range outboundListeners(v) {
		if l.http {
			out = append(out, l.route)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func splitRouteName(name string) (host string, port uint16, ok bool) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.ParseUint(name[i+1:], 10, 16)
	return name[:i], uint16(n), err == nil
}

// virtualHosts are those of one port: of every service that has a port there and
// may speak HTTP, and of hosts that only rules name; of those that are seen.
func virtualHosts(v *model.View, port uint16, sees func(namespace, host string, wide bool) bool, portOf func(*model.Service) (uint16, bool)) []*routev3.VirtualHost {
	var out []*routev3.VirtualHost
	covered := make(map[string]bool) // hosts of rules that stand for services
	for _, s := range v.Services() {
		if s.Resolution == model.Alias {
			continue
		}
		if r := v.MeshRules(s.Host); r != nil {
			covered[matchedHost(r, s.Host)] = true
		}
		if p, ok := portOf(s); ok && sees(s.Namespace, s.Host, false) {
			out = append(out, serviceHost(v, s, p))
		}
	}
	sc := ruleScope{v: v, gateway: []string{"mesh"}, port: port}
	for _, r := range v.Rules() {
		if !r.Applies("mesh") || len(r.HTTP) == 0 {
			continue
		}
		for _, h := range r.Hosts {
			if covered[h] || !sees(r.From.Namespace, h, true) {
				continue
			}
			covered[h] = true // the first rules have the host
			if routes := sc.routes(r); len(routes) > 0 {
				out = append(out, virtualHost(v, h, port, domainsOf(h, v.Proxy.Namespace), routes))
			}
		}
	}
	slices.SortFunc(out, func(a, b *routev3.VirtualHost) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// matchedHost returns the host by which the rules apply to a service.
func matchedHost(r *model.RouteRules, host string) string {
	best := ""
	for _, h := range r.Hosts {
		if model.HostMatches(h, host) && (best == "" || model.MoreSpecific(h, best)) {
			best = h
		}
	}
	return best
}

// serviceHost is the virtual host of a service's port: as rules say, else to
// the service's cluster.
func serviceHost(v *model.View, s *model.Service, port uint16) *routev3.VirtualHost {
	var routes []*routev3.Route
	if r := v.MeshRules(s.Host); r != nil {
		routes = ruleScope{v: v, gateway: []string{"mesh"}, port: port}.routes(r)
	}
	if len(routes) == 0 {
		routes = []*routev3.Route{defaultRoute(v, clusterName{port: port, host: s.Host})}
	}
	domains := domainsOf(s.Host, v.Proxy.Namespace)
	if s.Headless {
		for _, d := range domains {
			domains = append(domains, "*."+d)
		}
		if p, ok := s.Port(port); ok && !proxyless(v) { // who calls a pod by its address calls the service, and speaks its mutual TLS
			for _, a := range podAddresses(v, s, p) {
				domains = append(domains, domainOfAddr(a.Addr()))
			}
		}
	}
	for _, a := range v.Addresses(s) {
		domains = append(domains, domainOfAddr(a))
	}
	for _, alias := range aliases(v)[s.Host] {
		domains = append(domains, domainsOf(alias, v.Proxy.Namespace)...)
	}
	return virtualHost(v, s.Host, port, domains, routes)
}

// aliases returns the other names of services, by the service's host.
func aliases(v *model.View) map[string][]string {
	type key struct{}
	return v.Memo(key{}, func() any {
		out := make(map[string][]string)
		for _, s := range v.Services() {
			if s.Resolution == model.Alias {
				out[s.AliasOf] = append(out[s.AliasOf], s.Host)
			}
		}
		return out
	}).(map[string][]string)
}

func virtualHost(v *model.View, host string, port uint16, domains []string, routes []*routev3.Route) *routev3.VirtualHost {
	attempts := !headersOf(v).NoAttempts
	return &routev3.VirtualHost{
		Name: host + ":" + strconv.Itoa(int(port)), Domains: domains, Routes: routes, IncludeRequestAttemptCount: attempts,
	}
}

// domainsOf returns the names by which a client in the namespace may call a
// host: the full one, with a dot at its end, and for services of Kubernetes the
// short ones that DNS completes.
func domainsOf(host, namespace string) []string {
	if a, err := netip.ParseAddr(host); err == nil {
		return []string{domainOfAddr(a)}
	}
	if model.IsWildcard(host) {
		return []string{host}
	}
	out := []string{host, host + "."}
	short, _, ok := strings.Cut(host, ".svc.")
	name, ns, dotted := strings.Cut(short, ".")
	if !ok || !dotted || strings.Contains(ns, ".") {
		return out
	}
	if ns == namespace {
		out = append(out, name)
	}
	return append(out, short, short+".svc")
}

func domainOfAddr(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// unknownHost takes requests for hosts that nobody declared.
func unknownHost(v *model.View) *routev3.VirtualHost {
	attempts := !headersOf(v).NoAttempts
	if v.Outbound() == model.RegistryOnly {
		return &routev3.VirtualHost{
			Name: "block_all", Domains: []string{"*"}, IncludeRequestAttemptCount: attempts,
			Routes: []*routev3.Route{{
				Name: "block_all", Match: everything(),
				Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 502}},
			}},
		}
	}
	name, cluster := "allow_any", unknownCluster(v)
	if forwardsAny(v) {
		name, cluster = "allow_any_dynamic_dns", dynamicDNSCluster
	}
	return &routev3.VirtualHost{
		Name: name, Domains: []string{"*"}, IncludeRequestAttemptCount: attempts,
		Routes: []*routev3.Route{{
			Name: name, Match: everything(),
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}, Timeout: span(0),
			}},
		}},
	}
}

// distinct leaves every domain to the first virtual host that has it: Envoy
// refuses a table with two.
func distinct(hosts []*routev3.VirtualHost) []*routev3.VirtualHost {
	taken := make(map[string]bool)
	var out []*routev3.VirtualHost
	for _, h := range hosts {
		h.Domains = slices.DeleteFunc(h.Domains, func(d string) bool {
			d = strings.ToLower(d)
			if taken[d] {
				return true
			}
			taken[d] = true
			return false
		})
		if len(h.Domains) > 0 {
			out = append(out, h)
		}
	}
	return out
}
