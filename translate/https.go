package translate

import (
	"slices"
	"strconv"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/model"
)

// https reports whether the server ends TLS and reads the HTTP inside.
func (s gatewayServer) https() bool {
	return s.Protocol == model.HTTPS && s.TLS != nil && s.TLS.Mode.Ends()
}

// httpsRoute names the table of a server that reads HTTPS; each has its own.
func (p *gatewayPort) httpsRoute(s gatewayServer) string {
	name := "https." + strconv.Itoa(int(s.Port)) + "." + s.PortName + "." + s.gateway.From.Name + "." + s.gateway.From.Namespace
	if p.bind.IsValid() {
		name += "." + p.bind.String()
	}
	return name
}

// httpsChain takes the connections of clients that ask for one of the server's names.
func (p *gatewayPort) httpsChain(v *model.View, s gatewayServer) *listenerv3.FilterChain {
	var names []string
	for _, h := range s.Hosts {
		names = append(names, h.Name)
	}
	slices.Sort(names)
	return &listenerv3.FilterChain{
		FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: serverNames(slices.Compact(names))},
		Filters:          list1(httpManager(v, through, "outbound_"+p.name, p.httpsRoute(s), nil)),
		TransportSocket:  gatewaySocket(v, s.TLS, alpnHTTPServer),
	}
}

// misdirected completes the virtual hosts of a server that reads HTTPS. A client may
// send requests for another host over its connection, if the certificate is good for
// both (RFC 9113, section 9.1.1). Those of hosts that the server does not have, or that
// another server of the port has alone, are answered by 421, upon which the client makes a
// connection for them; hosts without a rule are not found, as ever.
func misdirected(v *model.View, s gatewayServer, port []gatewayServer, hosts []*routev3.VirtualHost) []*routev3.VirtualHost {
	var domains []string
	for _, other := range port {
		if !other.Alone || !other.https() || other.Server == s.Server {
			continue
		}
		for _, h := range other.Hosts {
			if h.Name != "*" {
				domains = append(domains, outsideHost(v, h.Name, s.Port).Domains...)
			}
		}
	}
	if !slices.ContainsFunc(s.Hosts, func(h model.GatewayHost) bool { return h.Name == "*" }) {
		domains = append(domains, "*")
		for _, h := range s.Hosts {
			hosts = append(hosts, outsideHost(v, h.Name, s.Port)) // of which distinct leaves what nobody has
		}
	}
	if len(domains) == 0 {
		return hosts
	}
	other := virtualHost(v, "misdirected", s.Port, domains, []*routev3.Route{{
		Name: "misdirected", Match: everything(),
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 421}},
	}})
	return distinct(append(hosts, other))
}

// outsideHost is a virtual host without routes, by the names that it has outside of
// the mesh: short ones mean nothing there.
func outsideHost(v *model.View, name string, port uint16) *routev3.VirtualHost {
	domains := domainsOf(name, "")
	return virtualHost(v, name, port, domains[:min(2, len(domains))], nil)
}
