// Package entry makes services and endpoints of ServiceEntries and WorkloadEntries.
//
// Each host of a ServiceEntry is a service of its own; all share the entry's addresses,
// ports and endpoints. A resolution by DNS without endpoints resolves the host.
//
// A selector of a ServiceEntry selects pods and WorkloadEntries of its namespace alike, and so
// does that of a Service ([Builder.Widen]).
package entry

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/registry/protocol"
)

// A Part is what ServiceEntries add to the registry.
type Part struct {
	Services  []*model.Service
	Endpoints map[model.ServiceKey]*model.EndpointSet
	Changed   bool // since the part before
}

// A Builder makes parts, and keeps what did not change from one to the next.
type Builder struct {
	last       *Part
	generation [2]uint64         // of ServiceEntry, WorkloadEntry in last
	pods       []*model.Workload // in last
	made       map[*config.Object]made
	entries    members // WorkloadEntries alone
	widened    map[model.ServiceKey]widened
	addressed  map[*model.Service]*model.Service // with the addresses that were allocated for them
}

// made is what came of one entry. Its services share one set of endpoints
// unless DNS resolves their hosts.
type made struct {
	selected []member
	services []*model.Service
	sets     []*model.EndpointSet
}

// Build returns the part of a snapshot, in which there are these pods. Of several entries in a
// namespace that name one host the oldest counts.
func (b *Builder) Build(s *config.Snapshot, mesh *model.MeshConfig, pods []*model.Workload) *Part {
	generation := [2]uint64{s.KindGeneration("ServiceEntry"), s.KindGeneration("WorkloadEntry")}
	if b.last != nil && generation == b.generation && slices.Equal(b.pods, pods) {
		same := *b.last
		same.Changed = false
		return &same
	}
	if b.widened == nil || generation[1] != b.generation[1] {
		b.entries = membersOf(s.List("WorkloadEntry"), nil)
		maps.DeleteFunc(b.widened, func(k model.ServiceKey, _ widened) bool { return len(b.entries[k.Namespace]) == 0 })
	}
	if b.widened == nil {
		b.widened = map[model.ServiceKey]widened{}
	}
	all := membersOf(s.List("WorkloadEntry"), pods)
	objects := slices.Clone(s.List("ServiceEntry"))
	slices.SortStableFunc(objects, func(x, y *config.Object) int {
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Namespace, y.Namespace))
	})
	next := make(map[*config.Object]made, len(objects))
	part := &Part{Endpoints: map[model.ServiceKey]*model.EndpointSet{}, Changed: true}
	taken := map[model.ServiceKey]bool{}
	for _, o := range objects {
		chosen := all.selected(o.Namespace, o.Value.(*networkingv1.ServiceEntry).Spec.GetWorkloadSelector().GetLabels())
		m, ok := b.made[o]
		if !ok || !slices.Equal(m.selected, chosen) {
			m = services(o, chosen, mesh).keep(m)
		}
		next[o] = m
		for i, svc := range m.services {
			key := svc.Key()
			if taken[key] {
				continue
			}
			taken[key] = true
			part.Services = append(part.Services, svc)
			if m.sets[i] != nil {
				part.Endpoints[key] = m.sets[i]
			}
		}
	}
	b.addressed = allocate(part.Services, b.addressed)
	part.Changed = b.last == nil || !slices.Equal(b.last.Services, part.Services) || !maps.Equal(b.last.Endpoints, part.Endpoints) || generation[1] != b.generation[1]
	b.made, b.last, b.generation, b.pods = next, part, generation, pods
	return part
}

// keep puts what is the same as before in the place of what was made anew.
func (m made) keep(old made) made {
	for i := range m.services {
		if i < len(old.services) && reflect.DeepEqual(old.services[i], m.services[i]) {
			m.services[i] = old.services[i]
		}
		if i < len(old.sets) && reflect.DeepEqual(old.sets[i], m.sets[i]) {
			m.sets[i] = old.sets[i]
		}
	}
	return m
}

// services makes what follows from one entry and from what its selector selects.
func services(o *config.Object, chosen []member, mesh *model.MeshConfig) made {
	m := made{selected: chosen}
	spec := &o.Value.(*networkingv1.ServiceEntry).Spec
	selector := spec.GetWorkloadSelector().GetLabels()
	shared := &model.EndpointSet{}
	for _, e := range spec.GetEndpoints() {
		shared.Endpoints = append(shared.Endpoints, endpoints(e, spec.GetPorts(), o.Namespace, mesh)...)
	}
	for _, x := range chosen {
		for _, p := range spec.GetPorts() {
			number := cmp.Or(ownPort(x, p.GetName()), uint16(p.GetTargetPort()), uint16(p.GetNumber()))
			shared.Endpoints = append(shared.Endpoints, endpoint(x, p.GetName(), number, mesh))
		}
	}
	sortEndpoints(shared)
	for _, host := range spec.GetHosts() {
		host = strings.ToLower(host)
		svc := &model.Service{
			Host: host, Name: host, Namespace: o.Namespace, Created: o.Created, Labels: o.Labels,
			From:       model.Ref{Kind: "ServiceEntry", Namespace: o.Namespace, Name: o.Name, Pos: o.Pos, Version: o.Version},
			Ports:      ports(spec.GetPorts()),
			Resolution: resolution(spec.GetResolution()),
			External:   spec.GetLocation() == networking.ServiceEntry_MESH_EXTERNAL,
			ExportTo:   slices.Clone(spec.GetExportTo()),
			SANs:       slices.Sorted(slices.Values(spec.GetSubjectAltNames())),
			Accounts:   accounts(shared),
			Selector:   selector,
		}
		svc.VIPs, svc.CIDRs = addresses(spec.GetAddresses())
		slices.Sort(svc.ExportTo)
		set := shared
		switch {
		case svc.Resolution == model.Passthrough || svc.Resolution == model.DynamicDNS:
			set, svc.Accounts = nil, nil
		case len(spec.GetEndpoints()) == 0 && len(selector) == 0 && svc.Resolution != model.ByEndpoints:
			set = itself(host, o.Namespace, spec.GetPorts())
		}
		m.services, m.sets = append(m.services, svc), append(m.sets, set)
	}
	return m
}

func resolution(r networking.ServiceEntry_Resolution) model.Resolution {
	switch r {
	case networking.ServiceEntry_STATIC:
		return model.ByEndpoints
	case networking.ServiceEntry_DNS:
		return model.DNSStrict
	case networking.ServiceEntry_DNS_ROUND_ROBIN:
		return model.DNSRoundRobin
	case networking.ServiceEntry_DYNAMIC_DNS:
		return model.DynamicDNS
	}
	return model.Passthrough
}

func ports(list []*networking.ServicePort) []model.Port {
	out := make([]model.Port, 0, len(list))
	for _, p := range list {
		speaks, _ := protocol.Parse(p.GetProtocol()) // what is not a name is sniffed; validation refuses it
		out = append(out, model.Port{Name: p.GetName(), Number: uint16(p.GetNumber()), Protocol: speaks, Target: model.TargetPort{Number: uint16(p.GetTargetPort())}})
	}
	return out
}

// addresses divides an entry's addresses into single ones, v4 first, and ranges.
func addresses(list []string) (vips []netip.Addr, cidrs []netip.Prefix) {
	for _, text := range list {
		if a, err := netip.ParseAddr(text); err == nil {
			vips = append(vips, a.Unmap())
		} else if p, err := netip.ParsePrefix(text); err == nil {
			if p.IsSingleIP() {
				vips = append(vips, p.Addr().Unmap())
			} else {
				cidrs = append(cidrs, p.Masked())
			}
		}
	}
	slices.SortStableFunc(vips, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return vips, cidrs
}

// endpoints makes one endpoint for each port.
func endpoints(e *networking.WorkloadEntry, ports []*networking.ServicePort, namespace string, mesh *model.MeshConfig) []*model.Endpoint {
	var out []*model.Endpoint
	for _, p := range ports {
		ep := ofEntry(e, e.GetLabels(), namespace, mesh)
		ep.PortName = p.GetName()
		if ep.Path == "" {
			ep.Port = uint16(portOf(e, p))
		}
		out = append(out, ep)
	}
	return out
}

// portOf returns an endpoint's port: its own for the port's name, else the
// entry's target port, else the entry's port.
func portOf(e *networking.WorkloadEntry, p *networking.ServicePort) uint32 {
	if own, ok := e.GetPorts()[p.GetName()]; ok {
		return own
	}
	return cmp.Or(p.GetTargetPort(), p.GetNumber())
}

// itself makes the endpoints of a host that DNS resolves.
func itself(host, namespace string, ports []*networking.ServicePort) *model.EndpointSet {
	set := &model.EndpointSet{}
	for _, p := range ports {
		set.Endpoints = append(set.Endpoints, &model.Endpoint{
			Hostname: host, Port: uint16(cmp.Or(p.GetTargetPort(), p.GetNumber())), PortName: p.GetName(), Namespace: namespace,
		})
	}
	sortEndpoints(set)
	return set
}

func sortEndpoints(set *model.EndpointSet) {
	addr := func(e *model.Endpoint) netip.Addr {
		if len(e.Addrs) > 0 {
			return e.Addrs[0]
		}
		return netip.Addr{}
	}
	slices.SortFunc(set.Endpoints, func(a, b *model.Endpoint) int {
		return cmp.Or(cmp.Compare(a.PortName, b.PortName), addr(a).Compare(addr(b)), cmp.Compare(a.Hostname, b.Hostname),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Port, b.Port))
	})
}

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
