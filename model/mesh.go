package model

import (
	"net/netip"
	"sort"
)

// A Mesh is everything that is declared and everything that exists, compiled.
// It never changes; compile makes the next one from its predecessor.
type Mesh struct {
	Generation uint64
	Config     *MeshConfig
	Registry   *Registry

	Rules    []*RouteRules         // oldest first
	Policies []*DestinationRule    // merged per namespace and host; by namespace, then oldest first
	Gateways []*Gateway            // oldest first
	Peers    []*PeerAuthentication // oldest first
	Scopes   []*Scope              // oldest first
	Patches  []*Patches            // in the order in which they act
	Names    []*NamePolicy         // oldest first

	Network         string           // of everything here that does not say otherwise: the root namespace's label
	NetworkGateways []NetworkGateway // sorted

	Credentials map[CredentialKey]*Credential
	Namespaces  map[string]map[string]string // their labels, if the mesh's settings ask for them

	Sources any // what compile keeps from one mesh to the next

	services   map[string][]*Service            // by host, Kubernetes first, then oldest
	selectable map[string][]*Service            // by namespace: services with a selector
	policies   map[string][]*DestinationRule    // by namespace
	peers      map[string][]*PeerAuthentication // by namespace
	workloads  map[[2]string]*Workload
	byAddr     map[netip.Addr]*Workload
	behind     map[netip.Addr][]*Service // services without selector, and ServiceEntries, by endpoint address

	networkGateways map[NetworkGateway][]NetworkGateway // by network, and by network and cluster
	networkScale    uint32
}

// Index builds the lookups. Compile calls it once, before the mesh is published.
// Prev, which may be nil, is the mesh before: its indexes of unchanged parts
// are taken over.
func (m *Mesh) Index(prev *Mesh) {
	if prev != nil && sameSlice(prev.Registry.Services, m.Registry.Services) {
		m.services, m.selectable = prev.services, prev.selectable
	} else {
		m.indexServices()
	}
	if prev != nil && sameSlice(prev.Registry.Workloads, m.Registry.Workloads) {
		m.workloads, m.byAddr = prev.workloads, prev.byAddr
	} else {
		m.indexWorkloads()
	}
	m.indexBehind()
	m.indexNetworks()
	m.IndexPolicies()
	m.peers = make(map[string][]*PeerAuthentication)
	for _, p := range m.Peers {
		m.peers[p.From.Namespace] = append(m.peers[p.From.Namespace], p)
	}
}

// IndexPolicies builds the lookup of Policies anew, for who adds to them after Index.
func (m *Mesh) IndexPolicies() {
	m.policies = make(map[string][]*DestinationRule)
	for _, p := range m.Policies {
		m.policies[p.From.Namespace] = append(m.policies[p.From.Namespace], p)
	}
}

func sameSlice[T any](a, b []*T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (m *Mesh) indexServices() {
	m.services = make(map[string][]*Service, len(m.Registry.Services))
	m.selectable = make(map[string][]*Service)
	for _, s := range m.Registry.Services {
		m.services[s.Host] = append(m.services[s.Host], s)
		if len(s.Selector) > 0 {
			m.selectable[s.Namespace] = append(m.selectable[s.Namespace], s)
		}
	}
	for _, list := range m.services {
		sort.SliceStable(list, func(i, j int) bool {
			if a, b := list[i], list[j]; a.Kubernetes != b.Kubernetes {
				return a.Kubernetes
			}
			return Older(list[i].Created, list[i].From, list[j].Created, list[j].From)
		})
	}
}

func (m *Mesh) indexWorkloads() {
	m.workloads = make(map[[2]string]*Workload, len(m.Registry.Workloads))
	m.byAddr = make(map[netip.Addr]*Workload, len(m.Registry.Workloads))
	for _, w := range m.Registry.Workloads {
		m.workloads[[2]string{w.Namespace, w.Name}] = w
		if w.HostNetwork {
			continue // its address is not its own
		}
		for _, a := range w.Addrs {
			m.byAddr[a] = w
		}
	}
}

func (m *Mesh) indexBehind() {
	m.behind = make(map[netip.Addr][]*Service)
	for _, s := range m.Registry.Services {
		if len(s.Selector) > 0 && s.Kubernetes {
			continue
		}
		set := m.Registry.Endpoints[s.Key()]
		if set == nil {
			continue
		}
		for _, e := range set.Endpoints {
			for _, a := range e.Addrs {
				if list := m.behind[a]; len(list) == 0 || list[len(list)-1] != s {
					m.behind[a] = append(list, s)
				}
			}
		}
	}
}

// Services returns the services of all namespaces that have the host name.
func (m *Mesh) Services(host string) []*Service { return m.services[host] }

// Workload returns the pod of that namespace and name, nil if there is none.
func (m *Mesh) Workload(namespace, name string) *Workload {
	return m.workloads[[2]string{namespace, name}]
}

// WorkloadAt returns the pod that has the address, nil if there is none.
func (m *Mesh) WorkloadAt(a netip.Addr) *Workload { return m.byAddr[a] }

// Runs reports whether a pod of the namespace runs as the account and carries the
// labels of the selector.
func (m *Mesh) Runs(namespace, account string, selector map[string]string) bool {
	for _, w := range m.Registry.Workloads {
		if w.Namespace == namespace && w.ServiceAccount == account && Labels(w.Labels).Matches(selector) {
			return true
		}
	}
	return false
}

// Endpoints returns what is behind the service.
func (m *Mesh) Endpoints(s *Service) []*Endpoint {
	if set := m.Registry.Endpoints[s.Key()]; set != nil {
		return set.Endpoints
	}
	return nil
}

// ServicesOf returns the services of its namespace that a workload with these labels
// and addresses belongs to, in the order of their hosts. Who writes down an address of
// another namespace's pod does not change what that pod serves. Readiness does not matter:
// a proxy opens its ports before the first probe.
func (m *Mesh) ServicesOf(namespace string, labels map[string]string, addrs []netip.Addr) []*Service {
	var out []*Service
	seen := make(map[*Service]bool)
	for _, s := range m.selectable[namespace] {
		if Labels(labels).Matches(s.Selector) {
			seen[s] = true
			out = append(out, s)
		}
	}
	for _, a := range addrs {
		for _, s := range m.behind[a] {
			if !seen[s] && s.Namespace == namespace {
				seen[s] = true
				out = append(out, s)
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Host < out[j].Host })
	return out
}

// MTLS returns what a workload accepts on one of its ports. The mesh's rule,
// the namespace's and the workload's are laid over each other, each the oldest
// of its kind; what none says is PERMISSIVE. Rules with a selector in the root
// namespace do not count.
func (m *Mesh) MTLS(namespace string, labels map[string]string, port uint16) MTLSMode {
	mode, ports := m.workloadMTLS(namespace, labels)
	if p := ports[port]; p != MTLSUnset {
		return p
	}
	return mode
}

// MTLSPorts returns the mode of a workload and those ports that differ by name.
func (m *Mesh) MTLSPorts(namespace string, labels map[string]string) (MTLSMode, map[uint16]MTLSMode) {
	return m.workloadMTLS(namespace, labels)
}

func (m *Mesh) workloadMTLS(namespace string, labels map[string]string) (MTLSMode, map[uint16]MTLSMode) {
	mode := MTLSPermissive
	level := func(ns string) {
		for _, p := range m.peers[ns] { // oldest first
			if len(p.Selector) == 0 {
				if p.Mode != MTLSUnset {
					mode = p.Mode
				}
				return
			}
		}
	}
	root := m.Config.RootNamespace
	level(root)
	if namespace == root {
		return mode, nil
	}
	level(namespace)
	for _, p := range m.peers[namespace] {
		if len(p.Selector) > 0 && Labels(labels).Matches(p.Selector) {
			if p.Mode != MTLSUnset {
				mode = p.Mode
			}
			return mode, p.Ports
		}
	}
	return mode, nil
}
