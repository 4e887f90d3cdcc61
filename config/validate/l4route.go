package validate

import (
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

func (r *ruler) tlsRoute(at *field.Path, t *networking.TLSRoute, hosts []string, all allGateways) {
	if len(t.GetMatch()) == 0 {
		r.errorf(at.Child("match"), "missing; TLS is routed by the names that clients ask for: want sniHosts")
	}
	for i, m := range t.GetMatch() {
		p := at.Child("match").Index(i)
		if len(m.GetSniHosts()) == 0 {
			r.errorf(p.Child("sniHosts"), "missing; want the names that clients ask for")
		}
		for j, name := range m.GetSniHosts() {
			r.host(p.Child("sniHosts").Index(j), name, true)
			if !slices.ContainsFunc(hosts, func(h string) bool { return model.HostMatches(h, name) }) {
				r.errorf(p.Child("sniHosts").Index(j), "found %q, want a name that is among spec.hosts (%s)", name, strings.Join(hosts, ", "))
			}
		}
		r.l4Match(p, m.GetDestinationSubnets(), m.GetPort(), m.GetSourceLabels(), m.GetGateways(), all)
	}
	r.l4Split(at.Child("route"), t.GetRoute())
}

func (r *ruler) tcpRoute(at *field.Path, t *networking.TCPRoute, all allGateways) {
	for i, m := range t.GetMatch() {
		r.l4Match(at.Child("match").Index(i), m.GetDestinationSubnets(), m.GetPort(), m.GetSourceLabels(), m.GetGateways(), all)
	}
	r.l4Split(at.Child("route"), t.GetRoute())
}

func (r *ruler) l4Match(at *field.Path, subnets []string, port uint32, labels map[string]string, gateways []string, all allGateways) {
	for i, s := range subnets {
		_, err := netip.ParsePrefix(s)
		if _, addrErr := netip.ParseAddr(s); err != nil && addrErr != nil {
			r.errorf(at.Child("destinationSubnets").Index(i), "found %q, want an address or a range such as 10.0.0.0/8", s)
		}
	}
	if port != 0 {
		r.port(at.Child("port"), port)
	}
	r.labels(at.Child("sourceLabels"), labels)
	r.among(at.Child("gateways"), gateways, all)
}

func (r *ruler) l4Split(at *field.Path, routes []*networking.RouteDestination) {
	if len(routes) == 0 {
		r.errorf(at, "missing; want where connections go")
	}
	weights := make([]int32, len(routes))
	for i, d := range routes {
		r.destination(at.Index(i).Child("destination"), d.GetDestination())
		weights[i] = d.GetWeight()
	}
	r.weights(at, weights)
}
