package build

import (
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/stats"
)

var endpointFields = []*Message{
	message((*endpointv3.ClusterLoadAssignment)(nil), reads("cluster_name", "endpoints", "policy")),
	message((*endpointv3.ClusterLoadAssignment_Policy)(nil), reads("overprovisioning_factor", "drop_overloads"),
		ignores("endpoints stay until they are replaced: a control plane that is away must not empty clusters", "endpoint_stale_after")),
	message((*endpointv3.ClusterLoadAssignment_Policy_DropOverload)(nil), reads("drop_percentage"),
		ignores("names what is refused in reports of load, which nobody gets", "category")),
	message((*endpointv3.LocalityLbEndpoints)(nil), reads("locality", "lb_endpoints", "load_balancing_weight", "priority", "metadata"),
		ignores("nothing here balances by distance", "proximity")),
	message((*endpointv3.LbEndpoint)(nil), reads("endpoint", "health_status", "metadata", "load_balancing_weight")),
	message((*endpointv3.Endpoint)(nil), reads("address", "additional_addresses", "hostname", "health_check_config"),
		ignores("statistics are by address", "observability_name")),
	message((*endpointv3.Endpoint_AdditionalAddress)(nil), reads("address")),
}

var healths = map[corev3.HealthStatus]cluster.Health{
	corev3.HealthStatus_UNKNOWN: cluster.HealthUnknown, corev3.HealthStatus_HEALTHY: cluster.Healthy, corev3.HealthStatus_UNHEALTHY: cluster.Unhealthy,
	corev3.HealthStatus_DRAINING: cluster.Draining, corev3.HealthStatus_TIMEOUT: cluster.HealthTimeout, corev3.HealthStatus_DEGRADED: cluster.Degraded,
}

// endpoints reads a load assignment. names says that hosts are given by name.
func (r *reader) endpoints(m *endpointv3.ClusterLoadAssignment, names bool, at *field.Path) cluster.Assignment {
	out := cluster.Assignment{Overprovision: m.GetPolicy().GetOverprovisioningFactor().GetValue()}
	if f := m.GetPolicy().GetOverprovisioningFactor(); f != nil && f.GetValue() == 0 {
		r.errs.Addf(at.Child("policy").Child("overprovisioning_factor"), "found 0, want a factor in percent")
	}
	if drops := m.GetPolicy().GetDropOverloads(); len(drops) > 0 {
		at := at.Child("policy").Child("drop_overloads")
		if len(drops) > 1 {
			r.errs.Addf(at, "has %d categories, want one", len(drops))
		}
		f := r.fraction(drops[0].GetDropPercentage(), at.Index(0).Child("drop_percentage"))
		if f.Numerator > f.Denominator {
			r.errs.Addf(at.Index(0).Child("drop_percentage"), "found %d of %d, want a part of all", f.Numerator, f.Denominator)
		}
		out.Drop = cluster.Part(f)
	}
	for i, l := range m.GetEndpoints() {
		locality := cluster.Locality{Region: l.GetLocality().GetRegion(), Zone: l.GetLocality().GetZone(), SubZone: l.GetLocality().GetSubZone()}
		around := metadataSet(l.GetMetadata())
		for j, e := range l.GetLbEndpoints() {
			e, ok := r.endpoint(e, names, at.Child("endpoints").Index(i).Child("lb_endpoints").Index(j))
			if !ok {
				continue
			}
			if around != nil {
				if e.Metadata == nil {
					e.Metadata = &cluster.Metadata{}
				}
				e.Metadata.Around = around
			}
			e.Locality, e.Priority, e.LocalityWeight = locality, l.GetPriority(), l.GetLoadBalancingWeight().GetValue()
			out.Endpoints = append(out.Endpoints, e)
		}
	}
	return out
}

func (r *reader) endpoint(e *endpointv3.LbEndpoint, names bool, at *field.Path) (cluster.Endpoint, bool) {
	out := cluster.Endpoint{Weight: max(e.GetLoadBalancingWeight().GetValue(), 1), Hostname: e.GetEndpoint().GetHostname(), Health: healths[e.GetHealthStatus()]}
	s := e.GetEndpoint().GetAddress().GetSocketAddress()
	where := at.Child("endpoint").Child("address")
	switch {
	case names && s == nil:
		r.errs.Addf(where, "has no socket_address")
		return out, false
	case names:
		out.Name, out.Port = s.GetAddress(), r.port(s.GetPortValue(), where.Child("socket_address").Child("port_value"))
	case e.GetEndpoint().GetAddress().GetEnvoyInternalAddress() != nil:
		a := e.GetEndpoint().GetAddress().GetEnvoyInternalAddress()
		out.Addr = pipe.Internal(a.GetServerListenerName(), a.GetEndpointId())
	default:
		out.Addr = r.anyAddress(e.GetEndpoint().GetAddress(), where)
		if !out.Addr.IsValid() {
			return out, false
		}
	}
	out.More = r.moreAddresses(e.GetEndpoint().GetAdditionalAddresses(), names, out.Addr, at.Child("endpoint").Child("additional_addresses"))
	out.Check = r.checkTarget(e.GetEndpoint().GetHealthCheckConfig(), at.Child("endpoint").Child("health_check_config"))
	if m := e.GetMetadata(); m != nil {
		out.Metadata = &cluster.Metadata{Match: matchable(spaceOf(m, "envoy.transport_socket_match")), All: metadataSet(m)}
		lbValues(m, out.Metadata)
		out.Metadata.TLVs = r.hostTLVs(m, at.Child("metadata").Child("typed_filter_metadata"))
		if w, ok := spaceOf(m, "istio")["workload"].(string); ok {
			out.Metadata.Peer = r.env.Istio.Peer(peerOf(w))
		}
	}
	return out, true
}

// moreAddresses reads where else an endpoint can be reached.
func (r *reader) moreAddresses(list []*endpointv3.Endpoint_AdditionalAddress, names bool, first netip.AddrPort, at *field.Path) (out []netip.AddrPort) {
	if len(list) > 0 && names {
		r.errs.Addf(at, "has no meaning in a cluster of names, want a cluster of type STATIC or EDS")
		return nil
	}
	if _, ok := pipe.Path(first); ok && len(list) > 0 {
		r.errs.Addf(at, "is set beside a Unix socket, want addresses of TCP alone")
	}
	for i, a := range list {
		if addr := r.address(a.GetAddress(), at.Index(i).Child("address")); addr.IsValid() {
			out = append(out, addr)
		}
	}
	return out
}

// peerOf reads what Istio says of the workload behind an endpoint:
// "name;namespace;canonical name;canonical revision;cluster".
func peerOf(workload string) stats.Peer {
	parts := append(strings.Split(workload, ";"), "", "", "", "", "")
	return stats.Peer{Workload: parts[0], Namespace: parts[1], CanonicalService: parts[2], CanonicalRevision: parts[3], Cluster: parts[4]}
}
