// Package registry says what exists in the mesh: services, the endpoints behind
// them, and workloads.
//
// They are made from Kubernetes' Services, EndpointSlices and Pods (package kube)
// and from ServiceEntries and WorkloadEntries (package entry). A [Builder] makes one
// [model.Registry] after another and keeps what did not change: an endpoint that
// moves makes one new endpoint set, and every service, workload and other set is
// the same pointer as before. That is the short way of endpoints: whoever sees
// that Services is the same slice and only some sets differ has nothing else to
// do.
//
// What people say about services (routes, policies) is not known here.
package registry

import (
	"cmp"
	"slices"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/registry/entry"
	"github.com/mallamesh/malla/registry/kube"
)

// State is what exists at one moment.
type State = model.Registry

// A Builder makes states. The zero Builder is ready; it is not safe for several goroutines.
type Builder struct {
	kube  kube.Builder
	entry entry.Builder
	last  *State
	mesh  identity
}

// identity is what of the mesh's settings goes into a state.
type identity struct{ clusterDomain, trustDomain string }

// Kinds are those whose objects a state is made from.
var Kinds = []string{"Service", "EndpointSlice", "Pod", "ServiceEntry", "WorkloadEntry"}

// Build returns the state of a snapshot. Parts that did not change are those of
// the state before; if nothing did, it is the same state.
func (b *Builder) Build(s *config.Snapshot, mesh *model.MeshConfig) *State {
	if id := (identity{mesh.ClusterDomain, mesh.TrustDomain}); id != b.mesh {
		*b = Builder{mesh: id}
	}
	k := b.kube.Build(s, mesh)
	e := b.entry.Build(s, mesh, k.Workloads)
	if b.last != nil && !k.Changed && !e.Changed {
		return b.last
	}
	next := &State{
		Services:  slices.Concat(k.Services, e.Services),
		Endpoints: make(map[model.ServiceKey]*model.EndpointSet, len(k.Endpoints)+len(e.Endpoints)),
		Workloads: k.Workloads,
	}
	slices.SortFunc(next.Services, func(a, b *model.Service) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Namespace, b.Namespace), kubernetesFirst(a, b))
	})
	// A Service beats a ServiceEntry of its namespace that takes its name.
	next.Services = slices.CompactFunc(next.Services, func(a, b *model.Service) bool { return a.Key() == b.Key() })
	for i, svc := range next.Services {
		key := svc.Key()
		set := k.Endpoints[key]
		if svc.Kubernetes {
			next.Services[i], set = b.entry.Widen(svc, set, mesh)
		}
		if svc.Kubernetes && set != nil {
			next.Endpoints[key] = set
		} else if set := e.Endpoints[key]; !svc.Kubernetes && set != nil {
			next.Endpoints[key] = set
		}
	}
	if b.last != nil && slices.Equal(b.last.Services, next.Services) {
		next.Services = b.last.Services
	}
	b.last = next
	return next
}

func kubernetesFirst(a, b *model.Service) int {
	switch {
	case a.Kubernetes == b.Kubernetes:
		return 0
	case a.Kubernetes:
		return -1
	}
	return 1
}

// Build returns the state of a snapshot, from scratch.
func Build(s *config.Snapshot, mesh *model.MeshConfig) *State { return new(Builder).Build(s, mesh) }

// Changed returns the services whose endpoints differ between two states, sorted
// by host and namespace: what has to be sent when nothing but endpoints changed.
func Changed(before, after *State) []model.ServiceKey {
	var keys []model.ServiceKey
	for key, set := range after.Endpoints {
		if before == nil || before.Endpoints[key] != set {
			keys = append(keys, key)
		}
	}
	if before != nil {
		for key := range before.Endpoints {
			if after.Endpoints[key] == nil {
				keys = append(keys, key)
			}
		}
	}
	slices.SortFunc(keys, func(a, b model.ServiceKey) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Namespace, b.Namespace))
	})
	return keys
}
