package translate

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/mallamesh/malla/model"
)

// An endpoint of another network has no address that means anything here. In its place stand the gateways of
// its network, which carry mutual TLS of the mesh to whatever the server's name says; so what does not speak that cannot
// be reached from elsewhere. Where nobody has declared a gateway there is one network.

// networkOf returns the network that an endpoint is of.
func networkOf(v *model.View, e *model.Endpoint) string {
	return cmp.Or(e.Network, v.Mesh.NetworkOf(e.Labels, e.Addrs))
}

// gatewaysTo returns by what the proxy reaches an endpoint of another network, none for one that it reaches by its address. Who does
// not know of which network they are reach everything.
func gatewaysTo(v *model.View, e *model.Endpoint) []model.NetworkGateway {
	if len(v.Mesh.NetworkGateways) == 0 {
		return nil
	}
	own, network := v.Network(), networkOf(v, e)
	if own == "" || network == "" || own == network {
		return nil
	}
	return v.Mesh.GatewaysTo(network, e.Cluster)
}

// seesNetwork reports whether the proxy wants endpoints of that network: REQUESTED_NETWORK_VIEW lists those that it does.
func seesNetwork(v *model.View, network string) bool {
	view := v.Proxy.Metadata["REQUESTED_NETWORK_VIEW"]
	return view == "" || network == "" || slices.Contains(strings.Split(view, ","), network)
}

// reachable puts gateways in the place of endpoints of other networks. In each locality a gateway has its share of the weights
// of the endpoints behind it. What is outside of the mesh is reached from every network.
func reachable(v *model.View, s *model.Service, p model.TrafficPolicy, endpoints []*model.Endpoint) []*model.Endpoint {
	if len(v.Mesh.NetworkGateways) == 0 {
		return endpoints
	}
	nowhere := func(e *model.Endpoint) bool { return len(e.Addrs) == 0 && e.Path == "" && e.Hostname == "" }
	if s.External {
		return slices.DeleteFunc(endpoints, nowhere)
	}
	type door struct {
		locality string
		gateway  model.NetworkGateway
	}
	var out []*model.Endpoint
	doors := map[door]uint32{}
	scale, total := uint64(v.Mesh.NetworkScale()), uint64(0)
	for _, e := range endpoints {
		total += uint64(cmp.Or(e.Weight, 1)) * scale
	}
	by := divisor(total, len(endpoints)*(1+len(v.Mesh.NetworkGateways)))
	for _, e := range endpoints {
		if !seesNetwork(v, networkOf(v, e)) {
			continue
		}
		weight := lighter(uint64(cmp.Or(e.Weight, 1))*scale, by)
		gateways := gatewaysTo(v, e)
		switch {
		case len(gateways) == 0 && nowhere(e):
		case len(gateways) == 0:
			if weight != cmp.Or(e.Weight, 1) {
				own := *e
				own.Weight = weight
				e = &own
			}
			out = append(out, e)
		case speaksTLS(v.Mesh, e) && (p.TLS == nil || p.TLS.Mode == model.TLSIstioMutual):
			for _, g := range gateways {
				doors[door{e.Locality, g}] += max(1, weight/uint32(len(gateways)))
			}
		}
	}
	from := len(out)
	for d, weight := range doors {
		g := d.gateway
		out = append(out, &model.Endpoint{
			Addrs: []netip.Addr{g.Addr}, Port: g.Port, Weight: weight, Locality: d.locality, Network: g.Network, Cluster: g.Cluster, Gateway: true,
			Labels: map[string]string{model.NetworkLabel: g.Network},
		})
	}
	slices.SortFunc(out[from:], func(a, b *model.Endpoint) int {
		return cmp.Or(cmp.Compare(a.Locality, b.Locality), cmp.Compare(a.Network, b.Network), a.Addrs[0].Compare(b.Addrs[0]), cmp.Compare(a.Port, b.Port))
	})
	return out
}
