// Package kube makes services, endpoints and workloads of Kubernetes' objects.
//
// Addresses come from EndpointSlices, which know what is ready; everything else
// about an endpoint (labels, identity, whether its proxy speaks mutual TLS) comes
// from the pod behind it. An address that is no pod's is an endpoint all the same.
package kube

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// A Part is what Kubernetes' objects add to the registry.
type Part struct {
	Services  []*model.Service
	Endpoints map[model.ServiceKey]*model.EndpointSet
	Workloads []*model.Workload
	Changed   bool // since the part before
}

// A Builder makes parts, and keeps what did not change from one to the next.
type Builder struct {
	last       *Part
	generation [3]uint64 // of Service, EndpointSlice, Pod in last

	workloads map[*config.Object]*model.Workload
	byName    map[name]*model.Workload
	byAddr    map[netip.Addr]*model.Workload
	services  map[name]*service
}

type name struct{ namespace, name string }

// service is what is known of one Service.
type service struct {
	object    *config.Object
	base      *model.Service // without accounts
	full      *model.Service
	slices    []*config.Object
	workloads []*model.Workload // behind the slices' endpoints, in their order
	set       *model.EndpointSet
}

// Build returns the part of a snapshot.
func (b *Builder) Build(s *config.Snapshot, mesh *model.MeshConfig) *Part {
	generation := [3]uint64{s.KindGeneration("Service"), s.KindGeneration("EndpointSlice"), s.KindGeneration("Pod")}
	if b.last != nil && generation == b.generation {
		same := *b.last
		same.Changed = false
		return &same
	}
	part := &Part{Endpoints: map[model.ServiceKey]*model.EndpointSet{}}
	if b.last != nil && generation[2] == b.generation[2] {
		part.Workloads = b.last.Workloads
	} else {
		part.Workloads = b.buildWorkloads(s)
	}
	behind := map[name][]*config.Object{}
	for _, o := range s.List("EndpointSlice") {
		if svc := o.Labels[discoveryv1.LabelServiceName]; svc != "" {
			n := name{o.Namespace, svc}
			behind[n] = append(behind[n], o)
		}
	}
	objects := s.List("Service")
	next := make(map[name]*service, len(objects))
	part.Services = make([]*model.Service, 0, len(objects))
	for _, o := range objects {
		n := name{o.Namespace, o.Name}
		svc := b.buildService(b.services[n], o, behind[n], mesh)
		next[n] = svc
		part.Services = append(part.Services, svc.full)
		if svc.set != nil {
			part.Endpoints[svc.full.Key()] = svc.set
		}
	}
	b.services, b.generation = next, generation
	if b.last != nil && slices.Equal(b.last.Services, part.Services) {
		part.Services = b.last.Services
	}
	part.Changed = b.last == nil || !same(b.last, part)
	b.last = part
	return part
}

// same reports whether nothing changed from a to b but generations.
func same(a, b *Part) bool {
	if !slices.Equal(a.Services, b.Services) || !slices.Equal(a.Workloads, b.Workloads) || len(a.Endpoints) != len(b.Endpoints) {
		return false
	}
	for k, set := range a.Endpoints {
		if b.Endpoints[k] != set {
			return false
		}
	}
	return true
}

// buildWorkloads reads all pods. A pod whose status moved in a way that matters
// to nobody here keeps its workload.
func (b *Builder) buildWorkloads(s *config.Snapshot) []*model.Workload {
	pods := s.List("Pod")
	workloads := make(map[*config.Object]*model.Workload, len(pods))
	byName := make(map[name]*model.Workload, len(pods))
	b.byAddr = make(map[netip.Addr]*model.Workload, len(pods))
	list := make([]*model.Workload, 0, len(pods))
	for _, o := range pods {
		w, ok := b.workloads[o]
		if !ok {
			w = Workload(o)
			if old := b.byName[name{o.Namespace, o.Name}]; w != nil && old != nil && reflect.DeepEqual(old, w) {
				w = old
			}
		}
		workloads[o] = w
		if w == nil {
			continue
		}
		byName[name{o.Namespace, o.Name}] = w
		list = append(list, w)
		if !w.HostNetwork { // else the address is the machine's
			for _, a := range w.Addrs {
				b.byAddr[a] = w
			}
		}
	}
	b.workloads, b.byName = workloads, byName
	if b.last != nil && slices.Equal(b.last.Workloads, list) {
		return b.last.Workloads
	}
	return list
}

// buildService makes what follows from a Service and its slices, or keeps what
// was made of the same ones before.
func (b *Builder) buildService(old *service, o *config.Object, slicesOf []*config.Object, mesh *model.MeshConfig) *service {
	svc := &service{object: o, slices: slicesOf}
	if old != nil && old.object == o {
		svc.base = old.base
	} else {
		svc.base = Service(o, mesh)
		if old != nil && reflect.DeepEqual(old.base, svc.base) {
			svc.base = old.base
		}
	}
	if svc.base.Resolution == model.Alias {
		svc.full = svc.base
		return svc
	}
	for _, s := range slicesOf {
		for _, e := range s.Value.(*discoveryv1.EndpointSlice).Endpoints {
			svc.workloads = append(svc.workloads, b.workloadOf(s.Namespace, &e))
		}
	}
	if old != nil && old.set != nil && slices.Equal(old.slices, svc.slices) && slices.Equal(old.workloads, svc.workloads) {
		svc.set = old.set
	} else {
		svc.set = endpoints(svc, mesh)
		if old != nil && old.set != nil && reflect.DeepEqual(old.set, svc.set) {
			svc.set = old.set
		}
	}
	if old != nil && old.base == svc.base && old.set == svc.set {
		svc.full = old.full
		return svc
	}
	full := *svc.base
	full.Accounts = accounts(svc.set)
	svc.full = &full
	if old != nil && reflect.DeepEqual(old.full, svc.full) {
		svc.full = old.full
	}
	return svc
}

// workloadOf returns the pod behind an endpoint, nil if there is none.
func (b *Builder) workloadOf(namespace string, e *discoveryv1.Endpoint) *model.Workload {
	if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" {
		return b.byName[name{cmp.Or(ref.Namespace, namespace), ref.Name}]
	}
	if len(e.Addresses) > 0 {
		if a, err := netip.ParseAddr(e.Addresses[0]); err == nil {
			return b.byAddr[a.Unmap()]
		}
	}
	return nil
}
