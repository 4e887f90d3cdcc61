package translate

import (
	"cmp"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/model"
)

// Endpoints returns what is behind the cluster called name, and whether the
// proxy takes its endpoints from here. A service without ready endpoints has an
// assignment without entries: that is an answer too.
func Endpoints(v *model.View, name string) (*endpointv3.ClusterLoadAssignment, bool) {
	if name == localCluster {
		return peers(v)
	}
	if c, ok := passedThrough(v)[name]; ok {
		return passEndpoints(v, c)
	}
	c, ok := parseClusterName(name)
	if !ok || c.inbound {
		return nil, false
	}
	s, port, subset, ok := resolve(v, c)
	if !ok {
		return nil, false
	}
	policy := policyFor(v, v.PolicyFor(s), subset, port.Number)
	if discovery(v, s, policy) != clusterv3.Cluster_EDS {
		return nil, false
	}
	return assignment(v, name, s, policy, reachable(v, s, policy, behind(v, s, port, subset))), true
}

// EndpointNames lists, sorted, the clusters whose endpoints come from here.
func EndpointNames(v *model.View) []string {
	names := slices.DeleteFunc(clusterNames(v), func(name string) bool {
		c, ok := passedThrough(v)[name]
		if !ok {
			c, ok = parseClusterName(name)
		}
		if !ok || c.inbound {
			return true
		}
		s, port, subset, ok := resolve(v, c)
		return !ok || discovery(v, s, policyFor(v, v.PolicyFor(s), subset, port.Number)) != clusterv3.Cluster_EDS
	})
	if findsItself(v) {
		names = append(names, localCluster)
		slices.Sort(names)
	}
	return names
}

// behind returns the endpoints of a service's port that belong to the subset
// and are ready. Those that are not stay out: so they get nothing, even when
// all are unhealthy.
func behind(v *model.View, s *model.Service, port model.Port, subset model.Subset) []*model.Endpoint {
	var out []*model.Endpoint
	own := v.Mesh.Config.KeepsToCluster(s.Host)
	for _, e := range v.Mesh.Endpoints(s) {
		if own && e.Cluster != "" && e.Cluster != cmp.Or(v.Proxy.Metadata["CLUSTER_ID"], e.Cluster) {
			continue // what a ServiceEntry lists is of no cluster
		}
		if e.PortName != port.Name || e.Health != model.Healthy || !model.Labels(e.Labels).Matches(subset.Labels) {
			continue
		}
		byName := s.Resolution == model.DNSStrict || s.Resolution == model.DNSRoundRobin
		if len(e.Addrs) == 0 && e.Path == "" && (byName && e.Hostname == "" || !byName && len(gatewaysTo(v, e)) == 0) {
			continue
		}
		if s.NodeLocal && e.Node != v.Proxy.Metadata["NODE_NAME"] {
			continue
		}
		out = append(out, e)
	}
	return out
}

// speaksTLS reports whether a sidecar answers mutual TLS at the endpoint: the
// pod says that it has one, and its policy does not forbid it on that port.
func speaksTLS(m *model.Mesh, e *model.Endpoint) bool {
	return e.Gateway || e.TLS && m.MTLS(e.Namespace, e.Labels, e.Port) != model.MTLSDisable
}

// assignment lists endpoints for a proxy, by priority and locality.
func assignment(v *model.View, name string, s *model.Service, p model.TrafficPolicy, endpoints []*model.Endpoint) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	for _, g := range spread(v, s, p, endpoints) {
		out.Endpoints = append(out.Endpoints, &endpointv3.LocalityLbEndpoints{
			Locality: locality(g.locality), LbEndpoints: g.list, LoadBalancingWeight: u32(g.weight), Priority: g.priority,
		})
	}
	return out
}

func lbEndpoint(a *corev3.Address, weight uint32) *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{
		HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: a}},
		LoadBalancingWeight: u32If(weight),
	}
}

func endpointAddress(e *model.Endpoint) *corev3.Address {
	switch {
	case e.Path != "":
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: e.Path}}}
	case e.Hostname != "":
		return hostAddress(e.Hostname, e.Port)
	}
	return address(e.Addrs[0], e.Port)
}

// endpointMetadata says how to speak to the endpoint and who it is. The names
// in it are separated by semicolons: workload, namespace, canonical name and
// revision, cluster.
func endpointMetadata(v *model.View, e *model.Endpoint) *corev3.Metadata {
	m := map[string]*structpb.Struct{}
	if speaksTLS(v.Mesh, e) {
		m["envoy.transport_socket_match"] = object(map[string]*structpb.Value{"tlsMode": str("istio")})
	}
	if e.Workload != "" || e.Canonical != "" {
		who := strings.Join([]string{e.Workload, e.Namespace, e.Canonical, e.Revision, e.Cluster}, ";")
		m["istio"] = object(map[string]*structpb.Value{"workload": str(who)})
	}
	if len(m) == 0 {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: m}
}

// dnsAssignment names the hosts that the proxy resolves. Without endpoints the
// service's own host is resolved, if nobody selects some.
func dnsAssignment(v *model.View, name clusterName, s *model.Service, port model.Port, subset model.Subset, p model.TrafficPolicy) *endpointv3.ClusterLoadAssignment {
	endpoints := behind(v, s, port, subset)
	if len(endpoints) == 0 && len(v.Mesh.Endpoints(s)) == 0 && subset.Name == "" && !model.IsWildcard(s.Host) && len(s.Selector) == 0 {
		target := port.Target.Number
		if target == 0 {
			target = port.Number
		}
		endpoints = []*model.Endpoint{{Hostname: s.Host, Port: target}}
	}
	return assignment(v, name.String(), s, p, endpoints)
}
