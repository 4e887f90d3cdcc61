package model

import (
	"cmp"
	"net/netip"
	"slices"
)

// NetworkLabel says of which network a pod, an entry or what is in a cluster is, and of a Service
// that its addresses are gateways of that network.
const NetworkLabel = "topology.istio.io/network"

// GatewayPortLabel says on which port such a Service takes connections.
const GatewayPortLabel = "networking.istio.io/gatewayPort"

// Networks say what MeshNetworks say: of which network the endpoints are that do not say so themselves,
// and how those of other networks are reached.
type Networks struct {
	Here     string                  // of what this cluster's registry has; empty: Ranges say
	Ranges   []NetworkRange          // the narrowest first
	Gateways []NetworkGateway        // by address; sorted
	Services []NetworkService        // of this cluster, whose addresses outside are gateways; sorted
	Resolved map[string][]netip.Addr // addresses of names of gateways, as somebody has found them; nil: none is known
}

// A NetworkRange holds the addresses of a network.
type NetworkRange struct {
	Range   netip.Prefix
	Network string
}

// A NetworkGateway carries connections from elsewhere into its network: mutual TLS of the mesh, unopened, to the
// service that the server's name is of (AUTO_PASSTHROUGH).
type NetworkGateway struct {
	Network string
	Cluster string // whose endpoints it is for; empty: anybody's of the network
	Addr    netip.Addr
	Name    string // in the place of an address that is not known yet; of those of a mesh none has one
	Port    uint16
}

// A NetworkService is a Service that is a network's gateway.
type NetworkService struct {
	Host    string
	Network string
	Port    uint16
}

// CompareGateways orders gateways of networks.
func CompareGateways(a, b NetworkGateway) int {
	return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Cluster, b.Cluster), a.Addr.Compare(b.Addr), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port))
}

// NetworkOf returns the network of something with these labels at that address: what they say, else what the
// root namespace does, else MeshNetworks. Empty is that nobody says it.
func (m *Mesh) NetworkOf(labels map[string]string, addrs []netip.Addr) string {
	if n := cmp.Or(labels[NetworkLabel], m.Network, m.Config.Networks.Here); n != "" {
		return n
	}
	for _, r := range m.Config.Networks.Ranges {
		if slices.ContainsFunc(addrs, r.Range.Contains) {
			return r.Network
		}
	}
	return ""
}

// GatewaysTo returns the gateways by which endpoints of a network and a cluster are reached from other networks.
func (m *Mesh) GatewaysTo(network, cluster string) []NetworkGateway {
	if own := m.networkGateways[NetworkGateway{Network: network, Cluster: cluster}]; cluster != "" && len(own) > 0 {
		return own
	}
	return m.networkGateways[NetworkGateway{Network: network}]
}

// NetworkScale is what weights are multiplied by, so that each can be divided among the gateways of any network.
func (m *Mesh) NetworkScale() uint32 { return m.networkScale }

// maxNetworkScale keeps weights from growing beyond what a proxy can add up.
const maxNetworkScale = 1000

// indexNetworks groups the gateways by network, and by network and cluster.
func (m *Mesh) indexNetworks() {
	m.networkGateways, m.networkScale = nil, 1
	if len(m.NetworkGateways) == 0 {
		return
	}
	m.networkGateways = map[NetworkGateway][]NetworkGateway{}
	for _, g := range m.NetworkGateways {
		all := NetworkGateway{Network: g.Network}
		m.networkGateways[all] = append(m.networkGateways[all], g)
		if g.Cluster != "" {
			own := NetworkGateway{Network: g.Network, Cluster: g.Cluster}
			m.networkGateways[own] = append(m.networkGateways[own], g)
		}
	}
	for _, list := range m.networkGateways {
		if n := multiple(m.networkScale, uint32(len(list))); n <= maxNetworkScale {
			m.networkScale = n
		} else {
			m.networkScale = maxNetworkScale // shares are about right
		}
	}
}

// multiple returns the least number that both divide.
func multiple(a, b uint32) uint32 {
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// Network returns the proxy's own network: what it says of itself, else what is said of its pod.
func (v *View) Network() string {
	return cmp.Or(v.Proxy.Metadata["NETWORK"], v.Mesh.NetworkOf(v.Proxy.Labels, v.Proxy.IPs))
}
