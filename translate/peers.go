package translate

import (
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/mallamesh/malla/model"
)

// localCluster is where a proxy finds out in which zones its like are, so that it knows how much of what its own zone
// has is for itself. It stands in the bootstrap of proxies that want to know (ISTIO_META_ENABLE_SELF_DISCOVERY).
const localCluster = "local_cluster"

// findsItself reports whether the proxy asks for its like.
func findsItself(v *model.View) bool { return v.Proxy.Metadata["ENABLE_SELF_DISCOVERY"] == "true" }

// peers are the replicas of the proxy's own workload, itself among them.
func peers(v *model.View) (*endpointv3.ClusterLoadAssignment, bool) {
	if !findsItself(v) {
		return nil, false
	}
	var list []*model.Endpoint
	if own := v.Workload(); own != nil {
		for _, w := range v.Mesh.Registry.Workloads {
			if w.Namespace != own.Namespace || len(w.Addrs) == 0 || !w.Ready && w != own {
				continue
			}
			if w == own || own.Owner != "" && w.Owner == own.Owner && w.OwnerKind == own.OwnerKind {
				list = append(list, &model.Endpoint{Addrs: w.Addrs, Port: 1, Locality: w.Locality}) // which nobody dials
			}
		}
	}
	out := &endpointv3.ClusterLoadAssignment{ClusterName: localCluster}
	for _, g := range grouped(v, list, nil) {
		out.Endpoints = append(out.Endpoints, &endpointv3.LocalityLbEndpoints{Locality: locality(g.locality), LbEndpoints: g.list, LoadBalancingWeight: u32(g.weight)})
	}
	return out, true
}
