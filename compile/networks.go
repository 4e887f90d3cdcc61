package compile

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// defaultGatewayPort is where a Service that is a network's gateway takes connections if nobody says it.
const defaultGatewayPort = 15443

// networks finds out of which network the cluster is, and by which gateways networks are reached: those with addresses of
// MeshNetworks; and Services, by their label or because MeshNetworks names them, at their addresses outside of the cluster.
func networks(s *config.Snapshot, m *model.Mesh) {
	if ns, ok := s.Get("Namespace", "", m.Config.RootNamespace); ok {
		m.Network = ns.Labels[model.NetworkLabel]
	}
	m.NetworkGateways = slices.Clone(m.Config.Networks.Gateways)
	for _, svc := range m.Registry.Services {
		if !svc.Kubernetes {
			continue
		}
		for _, g := range gatewaysOf(m.Config, svc) {
			for _, a := range outside(svc) {
				g.Addr = a
				m.NetworkGateways = append(m.NetworkGateways, g)
			}
		}
	}
	slices.SortFunc(m.NetworkGateways, model.CompareGateways)
	m.NetworkGateways = slices.Compact(m.NetworkGateways)
}

// gatewaysOf returns what gateways a Service is, but for the addresses. The label counts before MeshNetworks.
func gatewaysOf(cfg *model.MeshConfig, svc *model.Service) (out []model.NetworkGateway) {
	if n := svc.Labels[model.NetworkLabel]; n != "" {
		port := uint16(defaultGatewayPort)
		if said, ok := svc.Labels[model.GatewayPortLabel]; ok {
			if p, err := strconv.ParseUint(said, 10, 16); err == nil && p > 0 { // validation refuses what is none
				port = uint16(p)
			}
		}
		return []model.NetworkGateway{{Network: n, Cluster: ourCluster, Port: port}}
	}
	for _, g := range cfg.Networks.Services {
		if g.Host == svc.Host {
			out = append(out, model.NetworkGateway{Network: g.Network, Cluster: ourCluster, Port: g.Port})
		}
	}
	return out
}

// ourCluster is what the registry calls the cluster that it is of.
const ourCluster = "Kubernetes"

// outside returns where a Service is reached from elsewhere. Where its load balancer is this machine's loopback, which is a
// mesh on one machine, elsewhere is here, and its address in the cluster is as good.
func outside(svc *model.Service) []netip.Addr {
	if slices.ContainsFunc(svc.Outside, netip.Addr.IsLoopback) {
		return svc.VIPs
	}
	return svc.Outside
}
