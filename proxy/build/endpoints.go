package build

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/stats"
)

var endpointFields = []*Message{
	message((*endpointv3.ClusterLoadAssignment)(nil), reads("cluster_name", "endpoints", "policy")),
	message((*endpointv3.ClusterLoadAssignment_Policy)(nil), only("overprovisioning_factor", "another than Envoy's default is not built yet", "140"),
		ignores("endpoints stay until they are replaced: a control plane that is away must not empty clusters", "endpoint_stale_after")),
	message((*endpointv3.LocalityLbEndpoints)(nil), reads("locality", "lb_endpoints", "load_balancing_weight", "priority"),
		ignores(forPeople, "metadata"),
		ignores("nothing here balances by distance", "proximity")),
	message((*endpointv3.LbEndpoint)(nil), reads("endpoint", "health_status", "metadata", "load_balancing_weight")),
	message((*endpointv3.Endpoint)(nil), reads("address", "hostname"),
		ignores("there are no active health checks", "health_check_config"),
		ignores("statistics are by address", "observability_name")),
}

var healths = map[corev3.HealthStatus]cluster.Health{
	corev3.HealthStatus_UNKNOWN: cluster.HealthUnknown, corev3.HealthStatus_HEALTHY: cluster.Healthy, corev3.HealthStatus_UNHEALTHY: cluster.Unhealthy,
	corev3.HealthStatus_DRAINING: cluster.Draining, corev3.HealthStatus_TIMEOUT: cluster.HealthTimeout, corev3.HealthStatus_DEGRADED: cluster.Degraded,
}

// maxWeight bounds the product of two weights.
const maxWeight = 1 << 31

// endpoints reads a load assignment. names says that hosts are given by name.
func (r *reader) endpoints(m *endpointv3.ClusterLoadAssignment, names bool, at *field.Path) []cluster.Endpoint {
	var out []cluster.Endpoint
	weighted := localityWeights(m)
	for i, l := range m.GetEndpoints() {
		locality := cluster.Locality{Region: l.GetLocality().GetRegion(), Zone: l.GetLocality().GetZone(), SubZone: l.GetLocality().GetSubZone()}
		own := uint64(0)
		for _, e := range l.GetLbEndpoints() {
			own += uint64(max(e.GetLoadBalancingWeight().GetValue(), 1))
		}
		for j, e := range l.GetLbEndpoints() {
			at := at.Child("endpoints").Index(i).Child("lb_endpoints").Index(j)
			out1, ok := r.endpoint(e, names, at)
			if !ok {
				continue
			}
			out1.Locality, out1.Priority = locality, l.GetPriority()
			if weighted {
				out1.Weight = scale(uint64(l.GetLoadBalancingWeight().GetValue()), uint64(out1.Weight), own)
				if out1.Weight == 0 {
					continue // a locality without weight gets nothing
				}
			}
			out = append(out, out1)
		}
	}
	return out
}

// localityWeights reports whether localities of one priority have weights that
// count: with a single locality they change nothing.
func localityWeights(m *endpointv3.ClusterLoadAssignment) bool {
	seen := map[uint32]int{}
	set := false
	for _, l := range m.GetEndpoints() {
		seen[l.GetPriority()]++
		set = set || l.GetLoadBalancingWeight() != nil
	}
	for _, n := range seen {
		if n > 1 && set {
			return true
		}
	}
	return false
}

// scale returns the weight of an endpoint among those of all localities: its share
// of its own locality times the locality's weight. The factor keeps the share of
// small weights exact enough.
func scale(locality, weight, own uint64) uint32 {
	if locality == 0 {
		return 0
	}
	const exact = 1000
	w := locality * weight * exact / own
	return uint32(min(max(w, 1), maxWeight))
}

func (r *reader) endpoint(e *endpointv3.LbEndpoint, names bool, at *field.Path) (cluster.Endpoint, bool) {
	out := cluster.Endpoint{Weight: max(e.GetLoadBalancingWeight().GetValue(), 1), Name: e.GetEndpoint().GetHostname(), Health: healths[e.GetHealthStatus()]}
	s := e.GetEndpoint().GetAddress().GetSocketAddress()
	where := at.Child("endpoint").Child("address")
	switch {
	case s == nil:
		r.errs.Addf(where, "has no socket_address")
		return out, false
	case names:
		out.Name, out.Port = s.GetAddress(), r.port(s.GetPortValue(), where.Child("socket_address").Child("port_value"))
	default:
		out.Addr = r.address(e.GetEndpoint().GetAddress(), where)
		if !out.Addr.IsValid() {
			return out, false
		}
	}
	if m := e.GetMetadata(); m != nil {
		out.Metadata = &cluster.Metadata{Match: texts(metadata(m, "envoy.transport_socket_match"))}
		if w, ok := metadata(m, "istio")["workload"].(string); ok {
			out.Metadata.Peer = r.env.Istio.Peer(peerOf(w))
		}
	}
	return out, true
}

// peerOf reads what Istio says of the workload behind an endpoint:
// "name;namespace;canonical name;canonical revision;cluster".
func peerOf(workload string) stats.Peer {
	parts := append(strings.Split(workload, ";"), "", "", "", "", "")
	return stats.Peer{Workload: parts[0], Namespace: parts[1], CanonicalService: parts[2], CanonicalRevision: parts[3], Cluster: parts[4]}
}
