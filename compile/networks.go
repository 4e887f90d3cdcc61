package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config"
	meshconfig "github.com/mallamesh/malla/config/mesh"
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
	add := func(g model.NetworkGateway, addrs []netip.Addr) {
		for _, a := range addrs {
			g.Addr, g.Name = a, ""
			m.NetworkGateways = append(m.NetworkGateways, g)
		}
	}
	resolved := m.Config.Networks.Resolved
	for _, g := range m.Config.Networks.Gateways {
		if g.Name != "" {
			add(g, resolved[g.Name])
		} else {
			m.NetworkGateways = append(m.NetworkGateways, g)
		}
	}
	for _, svc := range m.Registry.Services {
		if !svc.Kubernetes {
			continue
		}
		for _, g := range gatewaysOf(m.Config, svc) {
			add(g, outside(svc, resolved))
		}
	}
	slices.SortFunc(m.NetworkGateways, model.CompareGateways)
	m.NetworkGateways = slices.Compact(m.NetworkGateways)
}

// GatewayNames lists, sorted, the names that gateways of networks have in the place of addresses: who finds these puts them into
// the mesh's settings.
func GatewayNames(m *model.Mesh) []string {
	var out []string
	for _, g := range m.Config.Networks.Gateways {
		if g.Name != "" {
			out = append(out, g.Name)
		}
	}
	for _, svc := range m.Registry.Services {
		if svc.Kubernetes && len(gatewaysOf(m.Config, svc)) > 0 {
			out = append(out, svc.OutsideNames...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// unknownGateways tells of Services that are to be gateways of networks and are not there.
func unknownGateways(s *config.Snapshot, m *model.Mesh) (out []Problem) {
	for _, g := range m.Config.Networks.Services {
		if len(m.Services(g.Host)) > 0 {
			continue
		}
		for _, name := range meshconfig.Names {
			o, ok := s.Get("ConfigMap", m.Config.RootNamespace, name)
			if !ok || o.Value.(*corev1.ConfigMap).Data[meshconfig.NetworksKey] == "" {
				continue
			}
			at := field.At("data", meshconfig.NetworksKey, "networks", g.Network, "gateways")
			out = append(out, noticed(o, at, true, fmt.Sprintf("there is no Service %s: nothing of network %s is reached by it", g.Host, g.Network)))
			break
		}
	}
	return out
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
func outside(svc *model.Service, resolved map[string][]netip.Addr) []netip.Addr {
	all := svc.Outside
	for _, name := range svc.OutsideNames {
		all = append(slices.Clip(all), resolved[name]...)
	}
	if slices.ContainsFunc(all, netip.Addr.IsLoopback) {
		return svc.VIPs
	}
	return all
}
