package translate

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mallamesh/malla/model"
)

// A server with AUTO_PASSTHROUGH carries mutual TLS of the mesh, unopened, to the
// service that it is for: sidecars ask for outbound_.9080_.v1_.reviews.prod.svc.cluster.local.
// Its clusters have those names, add no TLS of their own, and hold only endpoints
// whose sidecars end it: nobody reaches anything in plain text by this way.

// passedThrough returns the clusters that the gateway's servers with AUTO_PASSTHROUGH
// lead to, by server name.
func passedThrough(v *model.View) map[string]clusterName {
	type key struct{}
	return v.Memo(key{}, func() any {
		out := map[string]clusterName{}
		for _, g := range v.Gateways() {
			for _, s := range g.Servers {
				if s.TLS != nil && s.TLS.Mode == model.ServerAutoPassthrough {
					for _, c := range passable(v, s) {
						out[c.sni()] = c
					}
				}
			}
		}
		return out
	}).(map[string]clusterName)
}

// passable lists what a server lets through: services of the mesh whose host is
// among the server's.
func passable(v *model.View, server *model.Server) []clusterName {
	var out []clusterName
	for _, s := range v.Services() {
		if s.External || s.Resolution == model.Alias || s.Resolution == model.DynamicDNS || s.Resolution == model.Passthrough && !s.Headless {
			continue
		}
		if !slices.ContainsFunc(server.Hosts, func(h model.GatewayHost) bool {
			return (h.Namespace == "*" || h.Namespace == s.Namespace) && model.HostMatches(h.Name, s.Host)
		}) {
			continue
		}
		d := v.PolicyFor(s)
		for _, p := range s.Ports {
			if p.Protocol == model.UDP {
				continue
			}
			out = append(out, clusterName{port: p.Number, host: s.Host})
			if d != nil {
				for _, subset := range d.Subsets {
					out = append(out, clusterName{port: p.Number, subset: subset.Name, host: s.Host})
				}
			}
		}
	}
	return out
}

func autoPassthroughChains(v *model.View, s gatewayServer) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	for _, c := range passable(v, s.Server) {
		out = append(out, &listenerv3.FilterChain{
			FilterChainMatch: &listenerv3.FilterChainMatch{ServerNames: []string{c.sni()}, ApplicationProtocols: meshALPNs},
			Filters:          list1(tcpProxy(v, c.sni())), // who talks to whom is told inside of the TLS
		})
	}
	return out
}

// passCluster is the cluster of a server name.
func passCluster(v *model.View, c clusterName) (*clusterv3.Cluster, bool) {
	s, port, subset, ok := resolve(v, c)
	if !ok {
		return nil, false
	}
	out := outbound(v, c, s, port, subset)
	out.Name, out.AltStatName = c.sni(), c.sni()+";"
	out.TransportSocket, out.TransportSocketMatches, out.TypedExtensionProtocolOptions = nil, nil, nil
	switch {
	case out.EdsClusterConfig != nil:
		out.EdsClusterConfig.ServiceName = out.Name
	case out.LoadAssignment != nil: // of names, among them the service's own if it lists none: who is behind that is not known
		setNames(out, assignment(v, out.Name, s, policyFor(v, v.PolicyFor(s), subset, port.Number), ending(v, s, port, subset)))
	}
	return out, true
}

// ending lists the endpoints behind a port whose sidecars end mutual TLS of the mesh.
func ending(v *model.View, s *model.Service, port model.Port, subset model.Subset) []*model.Endpoint {
	return slices.DeleteFunc(behind(v, s, port, subset), func(e *model.Endpoint) bool { return !speaksTLS(v.Mesh, e) })
}

func passEndpoints(v *model.View, c clusterName) (*endpointv3.ClusterLoadAssignment, bool) {
	s, port, subset, ok := resolve(v, c)
	if !ok {
		return nil, false
	}
	policy := policyFor(v, v.PolicyFor(s), subset, port.Number)
	if discovery(v, s, policy) != clusterv3.Cluster_EDS {
		return nil, false
	}
	return assignment(v, c.sni(), s, policy, reachable(v, s, policy, ending(v, s, port, subset))), true
}
