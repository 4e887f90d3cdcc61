package translate

import (
	"cmp"
	"math"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/model"
)

// localityLB returns what holds for the service's endpoints in several localities, nil for
// nothing: what a DestinationRule says, else the service, else the mesh. What a service says
// holds whether or not anybody would notice that the near endpoints fail.
func localityLB(v *model.View, s *model.Service, lb *model.LoadBalancer) (l *model.LocalityLB, always bool) {
	switch l = v.Mesh.Config.Locality; {
	case lb != nil && lb.Locality != nil:
		l = lb.Locality
	case s.Near != model.NearAny:
		l, always = nearest(s.Near), true
	}
	if l == nil {
		l = &model.LocalityLB{}
	}
	if l.Off {
		return nil, false
	}
	return l, always
}

// nearest are the labels that near endpoints share with the client.
func nearest(n model.Nearness) *model.LocalityLB {
	labels := []string{model.NetworkLabel, model.RegionLabel, model.ZoneLabel}
	if n == model.NearNode {
		labels = append(labels, model.SubzoneLabel, nodeLabel)
	}
	return &model.LocalityLB{Priority: labels}
}

const nodeLabel = "kubernetes.io/hostname"

// zoneAware returns what holds for zones, nil for nothing. On one level it counts before
// other settings of localities, and those of a DestinationRule before the mesh's.
func zoneAware(v *model.View, lb *model.LoadBalancer) *model.ZoneAware {
	z := v.Mesh.Config.Zone
	if lb != nil && (lb.Zone != nil || lb.Locality != nil || lb.Hash != nil) {
		z = lb.Zone
	}
	if z == nil || z.Off {
		return nil
	}
	return z
}

// setLocality makes a cluster heed zones, or the weights of localities where somebody
// gives some, as Istio does.
func setLocality(v *model.View, c *clusterv3.Cluster, s *model.Service, lb *model.LoadBalancer) {
	if z := zoneAware(v, lb); z != nil && c.GetType() != clusterv3.Cluster_ORIGINAL_DST {
		if c.CommonLbConfig == nil {
			c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{}
		}
		zone := &clusterv3.Cluster_CommonLbConfig_ZoneAwareLbConfig{RoutingEnabled: &typev3.Percent{Value: 100}}
		if z.Least > 0 {
			zone.MinClusterSize = wrapperspb.UInt64(z.Least)
		}
		c.CommonLbConfig.LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_ZoneAwareLbConfig_{ZoneAwareLbConfig: zone}
		return
	}
	l, _ := localityLB(v, s, lb)
	if l == nil || len(l.Distribute)+len(l.Failover)+len(l.Priority) == 0 || c.GetType() == clusterv3.Cluster_ORIGINAL_DST {
		return
	}
	if c.CommonLbConfig == nil {
		c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{}
	}
	c.CommonLbConfig.LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
		LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
	}
}

// A group is endpoints of one locality that are alike in all that priorities
// look at.
type group struct {
	locality string
	priority uint32
	weight   uint32
	list     []*endpointv3.LbEndpoint
}

// spread puts the groups in order for the proxy: by shares, or the near ones
// before the far ones. Without outlier detection nobody would notice that the
// near ones fail, so then all are alike; but the regions of a zone-aware service, which fail over by themselves.
func spread(v *model.View, s *model.Service, p model.TrafficPolicy, endpoints []*model.Endpoint) []*group {
	if z := zoneAware(v, p.LB); z != nil {
		groups := grouped(v, endpoints, func(e *model.Endpoint) uint32 { return labelPriority(v, z.Priority, e) })
		for _, g := range groups {
			g.priority = g.priority*5 + max(2, failover(v.Proxy.Locality, g.locality, z.Failover)) // in one region all are alike
		}
		return dense(groups)
	}
	l, always := localityLB(v, s, p.LB)
	if l == nil {
		return grouped(v, endpoints, nil)
	}
	if len(l.Distribute) > 0 {
		return distribute(v.Proxy.Locality, l.Distribute, grouped(v, endpoints, nil))
	}
	if p.Outlier == nil && !always {
		return grouped(v, endpoints, nil)
	}
	groups := grouped(v, endpoints, func(e *model.Endpoint) uint32 { return labelPriority(v, l.Priority, e) })
	if len(l.Priority) == 0 || len(l.Failover) > 0 { // then places count within what labels say
		for _, g := range groups {
			g.priority = g.priority*5 + failover(v.Proxy.Locality, g.locality, l.Failover)
		}
	}
	return dense(groups)
}

// grouped groups endpoints by locality and by what priority says, in that order.
func grouped(v *model.View, endpoints []*model.Endpoint, priority func(*model.Endpoint) uint32) []*group {
	type key struct {
		locality string
		priority uint32
	}
	groups := make(map[key]*group)
	var out []*group
	total := uint64(0)
	for _, e := range endpoints {
		total += uint64(cmp.Or(e.Weight, 1))
	}
	by := divisor(total, len(endpoints))
	for _, e := range endpoints {
		weight := lighter(uint64(cmp.Or(e.Weight, 1)), by)
		k := key{locality: e.Locality}
		if priority != nil {
			k.priority = priority(e)
		}
		g := groups[k]
		if g == nil {
			g = &group{locality: k.locality, priority: k.priority}
			groups[k] = g
			out = append(out, g)
		}
		lb := lbEndpoint(endpointAddress(e), weight)
		lb.Metadata = endpointMetadata(v, e)
		g.list = append(g.list, lb)
		g.weight += weight
	}
	slices.SortFunc(out, func(a, b *group) int {
		return cmp.Or(strings.Compare(a.locality, b.locality), cmp.Compare(a.priority, b.priority))
	})
	return out
}

// dense makes priorities 0, 1, 2 and so on: Envoy takes no gaps.
func dense(groups []*group) []*group {
	var all []uint32
	for _, g := range groups {
		all = append(all, g.priority)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for _, g := range groups {
		i, _ := slices.BinarySearch(all, g.priority)
		g.priority = uint32(i)
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return cmp.Compare(a.priority, b.priority) })
	return groups
}

// distribute gives each locality its share of the requests of clients in from.
// What no share names gets nothing. Several localities that one pattern names
// divide its share by what they have.
func distribute(from string, shares []model.Distribution, groups []*group) []*group {
	i := slices.IndexFunc(shares, func(d model.Distribution) bool { return localityMatches(d.From, from) })
	if i < 0 {
		return groups
	}
	var out []*group
	for _, to := range shares[i].To {
		var named []*group
		total := uint32(0)
		groups = slices.DeleteFunc(groups, func(g *group) bool {
			if !localityMatches(to.Locality, g.locality) {
				return false
			}
			named = append(named, g)
			total += g.weight
			return true
		})
		for _, g := range named {
			g.weight = uint32(math.Ceil(float64(g.weight) * float64(to.Weight) / float64(total)))
			if g.weight > 0 {
				out = append(out, g)
			}
		}
	}
	slices.SortFunc(out, func(a, b *group) int { return strings.Compare(a.locality, b.locality) })
	return out
}

// localityMatches reports whether region/zone/subzone is what the pattern
// names: region, region/*, region/zone and so on.
func localityMatches(pattern, locality string) bool {
	want, got := localityParts(pattern), localityParts(locality)
	for i := range want {
		if want[i] != got[i] && want[i] != "*" && (i == 0 || want[i] != "") {
			return false
		}
	}
	return true
}

func localityParts(s string) [3]string {
	var out [3]string
	copy(out[:], strings.SplitN(s, "/", 3))
	return out
}

// failover says how far an endpoint is: 0 in the same subzone, 1 in the zone, 2
// in the region, 3 elsewhere, 4 in a region that is not the one to fail over to.
func failover(client, endpoint string, rules []model.Failover) uint32 {
	a, b := localityParts(client), localityParts(endpoint)
	switch {
	case a == b:
		return 0
	case a[0] == b[0] && a[1] == b[1]:
		return 1
	case a[0] == b[0]:
		return 2
	}
	for _, r := range rules {
		if r.From == a[0] {
			if r.To != b[0] {
				return 4
			}
			break
		}
	}
	return 3
}

// labelPriority counts how many of the labels, from the first on, an endpoint
// has as the client has them: all are 0. A label=value is asked of endpoints
// alone.
func labelPriority(v *model.View, labels []string, e *model.Endpoint) uint32 {
	p := v.Proxy
	place := localityParts(e.Locality)
	own := localityParts(p.Locality)
	for i, l := range labels {
		name, want, given := strings.Cut(l, "=")
		got := e.Labels[name]
		if !given {
			want = p.Labels[name]
		}
		switch name {
		case model.NetworkLabel:
			got = networkOf(v, e)
			if !given {
				want = v.Network()
			}
		case nodeLabel:
			got = cmp.Or(e.Node, got)
			if !given {
				want = cmp.Or(p.Metadata["NODE_NAME"], want)
			}
		case model.RegionLabel, model.ZoneLabel, model.SubzoneLabel:
			level := slices.Index([]string{model.RegionLabel, model.ZoneLabel, model.SubzoneLabel}, name)
			got = cmp.Or(place[level], got)
			if !given {
				want = cmp.Or(own[level], want)
			}
		}
		if got != want {
			return uint32(len(labels) - i)
		}
	}
	return 0
}

func locality(s string) *corev3.Locality {
	parts := localityParts(s)
	return &corev3.Locality{Region: parts[0], Zone: parts[1], SubZone: parts[2]}
}
