package translate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/model"
)

// What a TLS client hello says when a proxy of the mesh sent it.
var (
	meshALPNs     = []string{"istio-http/1.0", "istio-http/1.1", "istio-h2", "istio-peer-exchange", "istio"}
	meshHTTPALPNs = []string{"istio-http/1.0", "istio-http/1.1", "istio-h2"}
	plainHTTP     = []string{"http/1.0", "http/1.1", "h2c"}
)

// An inboundPort is a port on which the proxy's own pod serves.
type inboundPort struct {
	target   uint16
	port     model.Port       // of the first service that has it
	services []*model.Service // that have it, by host
	mode     model.MTLSMode
	ingress  *model.Ingress // what a Sidecar says of the port
}

// inboundPorts returns the ports on which the pod serves services, by number.
// Where services disagree about a port, the first by host is kept to.
func inboundPorts(v *model.View) []inboundPort {
	type key struct{}
	return v.Memo(key{}, func() any {
		if s := v.Scope(); s != nil && len(s.Ingress) > 0 {
			return ingressPorts(v, s)
		}
		if v.Interception() == model.Uncaptured {
			return []inboundPort(nil) // clients come to the application, whose ports the proxy cannot open
		}
		byTarget := make(map[uint16]*inboundPort)
		for _, s := range v.ServicesOf() {
			for _, p := range s.Ports {
				target, ok := v.TargetPort(s, p)
				if !ok || p.Protocol == model.UDP {
					continue
				}
				if q := byTarget[target]; q != nil {
					q.services = append(q.services, s)
					continue
				}
				byTarget[target] = &inboundPort{target: target, port: p, services: []*model.Service{s}, mode: v.MTLS(target)}
			}
		}
		var out []inboundPort
		for _, p := range byTarget {
			out = append(out, *p)
		}
		sort.Slice(out, func(i, j int) bool { return out[i].target < out[j].target })
		return out
	}).([]inboundPort)
}

// ingressPorts are those that a Sidecar names; others are not served. A workload
// of no service serves none.
func ingressPorts(v *model.View, s *model.Scope) []inboundPort {
	all := v.ServicesOf()
	if len(all) == 0 {
		return nil
	}
	var out []inboundPort
	for i := range s.Ingress {
		in := &s.Ingress[i]
		if in.Unsaid && v.Interception() == model.Uncaptured {
			own := *in
			own.Own = true
			in = &own
		}
		p := inboundPort{target: in.Port.Number, port: in.Port, mode: v.MTLS(in.Port.Number), ingress: in}
		if p.endsTLS() {
			p.port.Protocol = insideTLS(in.Port.Protocol)
		}
		for _, svc := range all {
			for _, port := range svc.Ports {
				if target, ok := v.TargetPort(svc, port); ok && target == p.target && port.Protocol != model.UDP {
					if len(p.services) == 0 {
						p.port.Number = port.Number // by which metrics know it
					}
					p.services = append(p.services, svc)
					break
				}
			}
		}
		if len(p.services) == 0 {
			p.services = all[:1]
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b inboundPort) int { return int(a.target) - int(b.target) })
	return slices.CompactFunc(out, func(a, b inboundPort) bool { return a.target == b.target })
}

// application returns where the application of a port is, nil for where the
// client dialled.
func (p inboundPort) application(v *model.View) *corev3.Address {
	switch in := p.ingress; {
	case in != nil && in.Path != "":
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: in.Path}}}
	case in != nil && in.Addr.IsValid():
		return address(in.Addr, in.To)
	case in != nil && in.To != 0 && len(v.Proxy.IPs) > 0:
		return address(v.Proxy.IPs[0], in.To)
	case v.Mesh.Config.Inbound == model.InboundLocalhost, in != nil && in.Own: // where the client dialled is the proxy
		return address(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.target)
	}
	return nil
}

// pool returns the limits towards the application: those of the Sidecar's port,
// else of the Sidecar, else those that a DestinationRule puts on the service.
func (p inboundPort) pool(v *model.View) *model.ConnectionPool {
	policy := policyFor(v, v.PolicyFor(p.services[0]), model.Subset{}, p.port.Number).Pool
	if s := v.Scope(); s != nil {
		policy = cmp.Or(s.Pool, policy)
	}
	if p.ingress != nil {
		policy = cmp.Or(p.ingress.Pool, policy)
	}
	return policy
}

// inboundListener takes everything that comes to the pod. Its chains are one
// matrix: the protocol that a port declares by what its policy accepts.
func inboundListener(v *model.View) *listenerv3.Listener {
	l := captured(v, virtualInbound, v.InboundPort())
	l.BindToPort, l.Transparent = nil, transparent(v)
	l.FilterChains = []*listenerv3.FilterChain{{
		Name: "virtualInbound-blackhole", FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: u32(uint32(v.InboundPort()))},
		Filters: []*listenerv3.Filter{tcpProxy(v, blackHoleCluster)},
	}}
	ports := inboundPorts(v)
	served := make(map[uint16]bool, len(ports))
	for _, p := range ports {
		if p.ingress != nil && p.ingress.Own && !slices.Contains(v.Proxy.IPs, ownAddress(v, p)) {
			continue // nothing of the proxy's is there where clients dial
		}
		served[p.target] = true
		if p.ingress != nil && p.ingress.Own { // what is captured all the same comes to the port's own listener as it is
			l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
				Name: listenerName(unspecified, p.target), FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: u32(uint32(p.target))},
				Filters: list1(tcpProxy(v, inboundPassthroughCluster)),
			})
			continue
		}
		l.FilterChains = append(l.FilterChains, p.chains(v, p.target)...)
	}
	mode, byPort := v.Mesh.MTLSPorts(v.Proxy.Namespace, v.Proxy.Labels)
	for _, port := range slices.Sorted(maps.Keys(byPort)) {
		if !served[port] {
			l.FilterChains = append(l.FilterChains, passthroughChains(v, port, v.MTLS(port))...)
		}
	}
	l.FilterChains = append(l.FilterChains, passthroughChains(v, 0, mode)...)
	l.ListenerFilters = inboundInspectors(v, ports)
	return l
}

// chains are those of a port; match is its number where a listener has several.
func (p inboundPort) chains(v *model.View, match uint16) []*listenerv3.FilterChain {
	c := inboundChain{
		v: v, name: listenerName(unspecified, p.target), port: match, mode: p.mode, protocol: carried(p.port.Protocol),
		tcp: tcpProxy(v, clusterName{inbound: true, port: p.target}.String()),
	}
	if c.protocol == model.HTTP || c.protocol == model.Sniffed {
		c.http = httpManager(v, inwards, "inbound_"+c.name, "", keepPeers(v, inboundRoutes(v, p)))
	}
	chains := c.chains()
	if p.endsTLS() {
		for _, chain := range chains {
			chain.TransportSocket = gatewaySocket(v, p.ingress.TLS, alpnTCPServer)
		}
	}
	return chains
}

// insideTLS is what a port of TLS carries once that has ended.
func insideTLS(p model.Protocol) model.Protocol {
	switch p {
	case model.HTTPS:
		return model.HTTP
	case model.TLS:
		return model.TCP
	}
	return p
}

// endsTLS reports whether the port speaks TLS with clients outside of the mesh, as a Sidecar says.
func (p inboundPort) endsTLS() bool {
	return p.ingress != nil && p.ingress.TLS != nil && p.mode == model.MTLSDisable
}

// ownPort is the port of the listener with that name that the proxy opens for its application.
func ownPort(v *model.View, name string) (inboundPort, bool) {
	for _, p := range inboundPorts(v) {
		if p.ingress != nil && p.ingress.Own && ownName(v, p) == name {
			return p, true
		}
	}
	return inboundPort{}, false
}

func ownName(v *model.View, p inboundPort) string { return listenerName(ownAddress(v, p), p.target) }

// ownAddress is where such a listener is: at the pod's address, if nothing else is said.
func ownAddress(v *model.View, p inboundPort) netip.Addr {
	if p.ingress.Bind.IsValid() || len(v.Proxy.IPs) == 0 {
		return p.ingress.Bind
	}
	return v.Proxy.IPs[0]
}

func ownListener(v *model.View, p inboundPort) *listenerv3.Listener {
	l := captured(v, ownName(v, p), p.target, ownAddress(v, p))
	l.BindToPort, l.TrafficDirection = nil, corev3.TrafficDirection_INBOUND
	l.FilterChains = p.chains(v, 0)
	if p.mode != model.MTLSDisable {
		l.ListenerFilters = append(l.ListenerFilters, tlsInspector(nil))
	}
	return l
}

// passthroughChains are for ports that no service declares; port 0 is all.
func passthroughChains(v *model.View, port uint16, mode model.MTLSMode) []*listenerv3.FilterChain {
	c := inboundChain{
		v: v, name: virtualInbound, httpName: "virtualInbound-catchall-http", port: port, mode: mode, protocol: model.Sniffed,
		tcp: tcpProxy(v, inboundPassthroughCluster),
		http: httpManager(v, inwards, inboundPassthroughCluster, "",
			keepPeers(v, inboundRouteTable(inboundPassthroughCluster, inboundPassthroughCluster, "inbound|http|"+strconv.Itoa(int(port)), "default"))),
	}
	return c.chains()
}

// inboundRoutes sends everything to the application.
func inboundRoutes(v *model.View, p inboundPort) *routev3.RouteConfiguration {
	name := clusterName{inbound: true, port: p.target}.String()
	return inboundRouteTable(name, name, "inbound|http|"+strconv.Itoa(int(p.port.Number)), "default")
}

func inboundRouteTable(name, cluster, host, route string) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name: name, ValidateClusters: boolean(false),
		VirtualHosts: []*routev3.VirtualHost{{
			Name: host, Domains: []string{"*"},
			Routes: []*routev3.Route{{
				Name: route, Match: everything(),
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}, Timeout: span(0),
					// The application closed a connection that the proxy kept: nothing was done, so it is safe.
					RetryPolicy: &routev3.RetryPolicy{RetryOn: "reset-before-request", NumRetries: u32(2)},
				}},
			}},
		}},
	}
}

// An inboundChain makes the filter chains of one port.
type inboundChain struct {
	v              *model.View
	name, httpName string
	port           uint16 // 0: any
	mode           model.MTLSMode
	protocol       model.Protocol // HTTP, Sniffed, or anything else for bytes
	http, tcp      *listenerv3.Filter
}

func (c *inboundChain) chains() []*listenerv3.FilterChain {
	if c.httpName == "" {
		c.httpName = c.name
	}
	const mesh, plain = true, false
	switch c.protocol {
	case model.HTTP:
		switch c.mode {
		case model.MTLSStrict:
			return list(c.chain(mesh, true, "tls", nil))
		case model.MTLSDisable:
			return list(c.chain(plain, true, "", nil))
		}
		return list(c.chain(mesh, true, "tls", meshALPNs), c.chain(plain, true, "raw_buffer", nil))
	case model.Sniffed:
		switch c.mode {
		case model.MTLSStrict:
			return list(c.chain(mesh, true, "tls", meshHTTPALPNs), c.chain(mesh, false, "tls", nil))
		case model.MTLSDisable:
			return list(c.chain(plain, true, "raw_buffer", plainHTTP), c.chain(plain, false, "", nil))
		}
		return list(
			c.chain(mesh, true, "tls", meshHTTPALPNs),
			c.chain(plain, true, "raw_buffer", plainHTTP),
			c.chain(mesh, false, "tls", []string{"istio-peer-exchange", "istio"}),
			c.chain(plain, false, "raw_buffer", nil),
			c.chain(plain, false, "tls", nil),
		)
	}
	switch c.mode {
	case model.MTLSStrict:
		return list(c.chain(mesh, false, "tls", nil))
	case model.MTLSDisable:
		return list(c.chain(plain, false, "", nil))
	}
	return list(
		c.chain(mesh, false, "tls", meshALPNs),
		c.chain(plain, false, "tls", nil),
		c.chain(plain, false, "raw_buffer", nil),
	)
}

func list(c ...*listenerv3.FilterChain) []*listenerv3.FilterChain { return c }

// chain is one cell of the matrix: mutual TLS that ends here or bytes as they
// are, HTTP or not, for what the inspectors saw.
func (c *inboundChain) chain(mesh, http bool, transport string, alpn []string) *listenerv3.FilterChain {
	out := &listenerv3.FilterChain{
		Name: c.name, Filters: tcpFilters(c.v, c.tcp),
		FilterChainMatch: &listenerv3.FilterChainMatch{TransportProtocol: transport, ApplicationProtocols: alpn},
	}
	if c.port != 0 {
		out.FilterChainMatch.DestinationPort = u32(uint32(c.port))
	}
	server := tcpALPN(c.v, alpnTCPServer)
	if http {
		out.Name, out.Filters, server = c.httpName, list1(c.http), alpnHTTPServer
	}
	if mesh {
		out.TransportSocket = meshServer(c.v, server)
	}
	return out
}

func list1(f *listenerv3.Filter) []*listenerv3.Filter { return []*listenerv3.Filter{f} }

// inboundInspectors look at the first bytes. A port where nothing depends on
// them is left alone, so that a server may speak first there.
func inboundInspectors(v *model.View, ports []inboundPort) []*listenerv3.ListenerFilter {
	var noTLS, noHTTP []uint16
	for _, p := range ports {
		if p.mode == model.MTLSDisable && carried(p.port.Protocol) != model.Sniffed {
			noTLS = append(noTLS, p.target)
		}
		if carried(p.port.Protocol) != model.Sniffed {
			noHTTP = append(noHTTP, p.target)
		}
	}
	filters := []*listenerv3.ListenerFilter{originalDstFilter()}
	if v.Interception() == model.Transparent {
		filters = append(filters, originalSrcFilter())
	}
	return append(filters, tlsInspector(noTLS), httpInspector(noHTTP))
}
