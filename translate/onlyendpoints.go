package translate

import (
	"slices"

	"github.com/mallamesh/malla/model"
)

// OnlyEndpoints reports whether two meshes of equal configuration differ in what
// proxies get as endpoints and in nothing else, so that no other type needs to be
// looked at. It may say no where it could say yes.
//
// Endpoints pass into other types in two ways: what is behind a headless service is
// named by listeners, and decides on TLS in clusters that go wherever the client
// dialled; and a workload belongs to services without selector, and to ServiceEntries, by its address.
func OnlyEndpoints(before, after *model.Mesh) bool {
	a, b := before.Registry, after.Registry
	if !slices.Equal(a.Services, b.Services) || !slices.Equal(a.Workloads, b.Workloads) {
		return false
	}
	for _, s := range b.Services {
		if len(s.Selector) > 0 && s.Kubernetes && s.Resolution == model.ByEndpoints && !s.Headless {
			continue
		}
		if a.Endpoints[s.Key()] != b.Endpoints[s.Key()] {
			return false
		}
	}
	return true
}
