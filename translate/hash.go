package translate

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/model"
)

// Consistent hashing is said in two places: routes say what is hashed, clusters
// how an endpoint follows from it.

// hashOf returns what chooses an endpoint of the cluster, nil if no hash does.
func hashOf(v *model.View, cluster clusterName) *model.ConsistentHash {
	s, port, subset, ok := resolve(v, cluster)
	if !ok {
		return nil
	}
	if lb := policyFor(v, v.PolicyFor(s), subset, port.Number).LB; lb != nil {
		return lb.Hash
	}
	return nil
}

func hashPolicy(h *model.ConsistentHash) *routev3.RouteAction_HashPolicy {
	switch h.Of {
	case model.HashHeader:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: h.Name},
		}}
	case model.HashCookie:
		cookie := &routev3.RouteAction_HashPolicy_Cookie{Name: h.Name, Path: h.Path}
		if h.TTL != nil {
			cookie.Ttl = span(*h.TTL)
		}
		for _, a := range h.Attributes {
			cookie.Attributes = append(cookie.Attributes, &routev3.RouteAction_HashPolicy_CookieAttribute{Name: a.Name, Value: a.Value})
		}
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{Cookie: cookie}}
	case model.HashQuery:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_QueryParameter_{
			QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: h.Name},
		}}
	}
	return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
		ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
	}}
}

// hashPolicies are those of all destinations of a route, in their order.
func hashPolicies(v *model.View, clusters ...clusterName) []*routev3.RouteAction_HashPolicy {
	var out []*routev3.RouteAction_HashPolicy
	for _, c := range clusters {
		if h := hashOf(v, c); h != nil {
			out = append(out, hashPolicy(h))
		}
	}
	return out
}

// connectionHash is what is hashed of a connection: all there is is its source.
func connectionHash(h *model.ConsistentHash) []*typev3.HashPolicy {
	if h == nil || h.Of != model.HashSourceIP {
		return nil
	}
	return []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_SourceIp_{SourceIp: &typev3.HashPolicy_SourceIp{}}}}
}

// defaultRing is how many entries a ring has at least.
const defaultRing = 1024

func setHash(c *clusterv3.Cluster, h *model.ConsistentHash) {
	if h.Maglev {
		c.LbPolicy = clusterv3.Cluster_MAGLEV
		if h.Size > 0 {
			c.LbConfig = &clusterv3.Cluster_MaglevLbConfig_{MaglevLbConfig: &clusterv3.Cluster_MaglevLbConfig{TableSize: wrapperspb.UInt64(h.Size)}}
		}
		return
	}
	size := h.Size
	if size == 0 {
		size = defaultRing
	}
	c.LbPolicy = clusterv3.Cluster_RING_HASH
	c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{MinimumRingSize: wrapperspb.UInt64(size)}}
}
