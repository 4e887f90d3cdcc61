package build

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/base/field"
)

// routeClusters refuses a table of the bootstrap that names clusters which are not in the bootstrap, as
// Envoy does unless the table says otherwise: what comes later cannot be known. A cluster that a
// header of the request names cannot either, at any time.
func (r *listenerReader) routeClusters(m *routev3.RouteConfiguration, at *field.Path) {
	if r.clusters == nil {
		r.unvalidated(m, at)
		return
	}
	if v := m.GetValidateClusters(); v != nil && !v.GetValue() {
		return
	}
	known := func(name string, at *field.Path) {
		if name != "" && !r.clusters(name) {
			r.errs.Addf(at, "found %q, want one of the static clusters (or validate_clusters: false in the table, if it comes later)", name)
		}
	}
	// mirrors looks at those of one level, and reports whether there are any: if not, those of the level above count.
	mirrors := func(list []*routev3.RouteAction_RequestMirrorPolicy, at *field.Path) bool {
		at = at.Child("request_mirror_policies")
		for i, p := range list {
			known(p.GetCluster(), at.Index(i).Child("cluster"))
		}
		return len(list) > 0
	}
	general := false
	for i, host := range m.GetVirtualHosts() {
		at := at.Child("virtual_hosts").Index(i)
		inherits := false
		for j, route := range host.GetRoutes() {
			at := at.Child("routes").Index(j).Child("route")
			a := route.GetRoute()
			known(a.GetCluster(), at.Child("cluster"))
			for k, c := range a.GetWeightedClusters().GetClusters() {
				known(c.GetName(), at.Child("weighted_clusters").Child("clusters").Index(k).Child("name"))
			}
			inherits = !mirrors(a.GetRequestMirrorPolicies(), at) || inherits
		}
		general = inherits && !mirrors(host.GetRequestMirrorPolicies(), at) || general
	}
	if general {
		mirrors(m.GetRequestMirrorPolicies(), at)
	}
}

// unvalidated refuses that a table's clusters are to be validated which comes from a control plane or a file: it
// waits for them instead, since nothing says that they come first.
func (r *reader) unvalidated(m *routev3.RouteConfiguration, at *field.Path) {
	if m.GetValidateClusters().GetValue() {
		r.errs.Addf(at.Child("validate_clusters"), "found true, want false in what is not in the bootstrap: its clusters may come after it")
	}
}
