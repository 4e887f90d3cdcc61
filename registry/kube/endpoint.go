package kube

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
)

// endpoints makes the endpoint set of a service. A pod that stands in a slice for
// v4 and in one for v6 is one endpoint with both addresses.
func endpoints(svc *service, mesh *model.MeshConfig) *model.EndpointSet {
	type key struct {
		workload *model.Workload
		addr     netip.Addr // of an endpoint that is no pod
		port     string
		number   uint16
	}
	found := map[key]*model.Endpoint{}
	set := &model.EndpointSet{}
	next := 0 // in svc.workloads
	for _, o := range svc.slices {
		slice := o.Value.(*discoveryv1.EndpointSlice)
		for i := range slice.Endpoints {
			e, w := &slice.Endpoints[i], svc.workloads[next]
			next++
			health, ok := healthOf(e)
			addrs := parseAddrs(e.Addresses[:min(1, len(e.Addresses))]) // the further ones have no meaning: discovery/v1
			if !ok || len(addrs) == 0 || slice.AddressType == discoveryv1.AddressTypeFQDN {
				continue
			}
			for _, p := range slice.Ports {
				if p.Port == nil || *p.Port < 1 || *p.Port > 65535 || p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
					continue
				}
				k := key{workload: w, number: uint16(*p.Port)}
				if p.Name != nil {
					k.port = *p.Name
				}
				if w == nil {
					k.addr = addrs[0]
				}
				if old := found[k]; old != nil {
					old.Addrs = merge(old.Addrs, addrs)
					old.Health = min(old.Health, health)
					continue
				}
				ep := &model.Endpoint{Addrs: addrs, Port: k.number, PortName: k.port, Health: health, Cluster: "Kubernetes", Namespace: o.Namespace}
				if e.NodeName != nil {
					ep.Node = *e.NodeName
				}
				Describe(ep, w, mesh)
				found[k] = ep
				set.Endpoints = append(set.Endpoints, ep)
			}
		}
	}
	slices.SortFunc(set.Endpoints, func(a, b *model.Endpoint) int {
		return cmp.Or(cmp.Compare(a.PortName, b.PortName), a.Addrs[0].Compare(b.Addrs[0]), cmp.Compare(a.Port, b.Port))
	})
	return set
}

// healthOf says whether an endpoint takes new requests; false if it is on its way
// out. Unknown readiness counts as ready (discovery/v1, EndpointConditions).
// With publishNotReadyAddresses the slice says ready from the start.
func healthOf(e *discoveryv1.Endpoint) (model.Health, bool) {
	c := e.Conditions
	if c.Terminating != nil && *c.Terminating {
		return model.Draining, false
	}
	if c.Ready != nil && !*c.Ready {
		return model.Unhealthy, true
	}
	return model.Healthy, true
}

// Describe adds what the pod behind an endpoint says, if there is one.
func Describe(e *model.Endpoint, w *model.Workload, mesh *model.MeshConfig) {
	if w == nil {
		return
	}
	e.Namespace, e.Pod, e.Workload, e.Labels, e.Locality = w.Namespace, w.Name, w.Owner, w.Labels, w.Locality
	e.Canonical, e.Revision = Canonical(w.Labels, w.Owner)
	e.Node = cmp.Or(w.Node, e.Node)
	e.ServiceAccount = Account(mesh.TrustDomain, w.Namespace, w.ServiceAccount)
	e.TLS = w.Labels[TLSModeLabel] == "istio"
}

// Account returns the SPIFFE id of a service account.
func Account(trustDomain, namespace, name string) string {
	return pki.ID{TrustDomain: trustDomain, Namespace: namespace, Account: name}.String()
}

func merge(a, b []netip.Addr) []netip.Addr {
	all := slices.Concat(a, b)
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// accounts returns the SPIFFE ids that the endpoints have, sorted.
func accounts(set *model.EndpointSet) []string {
	var ids []string
	for _, e := range set.Endpoints {
		if e.ServiceAccount != "" {
			ids = append(ids, e.ServiceAccount)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
