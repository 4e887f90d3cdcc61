//lint:file-ignore SA1019 DNS settings are where Envoy 1.40 and its users know them, until the typed resolver is everywhere

package translate

import (
	"cmp"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	forwardclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	dnscachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	sniforwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"

	"github.com/mallamesh/malla/model"
)

const (
	dynamicDNSCluster = "AllowAnyDynamicDNSCluster" // outboundTrafficPolicy.mode ALLOW_ANY_DYNAMIC_DNS
	dynamicCache      = "dynamic_forward_proxy_cache"
)

// dynamicNames is the cache of the names that clients name. It is one for the proxy: filters
// and clusters find each other by it.
func dynamicNames(v *model.View) *dnscachev3.DnsCacheConfig {
	c := &dnscachev3.DnsCacheConfig{Name: dynamicCache, DnsLookupFamily: clusterv3.Cluster_V4_ONLY, DnsRefreshRate: span(v.Mesh.Config.DNSRefresh)}
	if v.Has6() {
		c.DnsLookupFamily = clusterv3.Cluster_ALL
	}
	return c
}

// setDynamic makes a cluster one that forwards to the host that a request, or a TLS client, names.
func setDynamic(v *model.View, c *clusterv3.Cluster) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
		Name: "envoy.clusters.dynamic_forward_proxy", TypedConfig: pack(&forwardclusterv3.ClusterConfig{
			ClusterImplementationSpecifier: &forwardclusterv3.ClusterConfig_DnsCacheConfig{DnsCacheConfig: dynamicNames(v)},
		}),
	}}
	c.LbPolicy, c.LbConfig, c.CleanupInterval = clusterv3.Cluster_CLUSTER_PROVIDED, nil, nil
}

// forwardsAny reports whether requests for hosts that nobody declared go where their host says.
func forwardsAny(v *model.View) bool {
	return v.Proxy.Type == model.Sidecar && v.Outbound() == model.AllowAnyDynamicDNS
}

// needsAnyHost reports whether anything of the proxy goes where a request's host says.
func needsAnyHost(v *model.View) bool {
	return forwardsAny(v) || httpProxyPort(v) != 0 && v.Outbound() != model.RegistryOnly
}

// anyHost is the cluster for hosts that nobody declared.
func anyHost(v *model.View) *clusterv3.Cluster {
	c := &clusterv3.Cluster{Name: dynamicDNSCluster, ConnectTimeout: span(v.Mesh.Config.ConnectTimeout), CircuitBreakers: limits(nil)}
	setDynamic(v, c)
	if t := v.Mesh.Config.OutboundTLS; t != nil {
		c.TransportSocket = originatedTLS(v, t, nil)
	}
	setHTTP(v, c, http1, nil, true) // a host that a request names must prove that name, where it speaks TLS
	return c
}

// lookup is the filter that has requests wait for their host's address, nil where none can need it.
func lookup(v *model.View, d direction) *hcmv3.HttpFilter {
	type key struct{}
	needed := v.Memo(key{}, func() any {
		return needsAnyHost(v) || slices.ContainsFunc(v.Services(), func(s *model.Service) bool { return s.Resolution == model.DynamicDNS })
	}).(bool)
	if d == inwards || !needed {
		return nil
	}
	return httpFilter("envoy.filters.http.dynamic_forward_proxy", &forwardv3.FilterConfig{
		ImplementationSpecifier: &forwardv3.FilterConfig_DnsCacheConfig{DnsCacheConfig: dynamicNames(v)},
	})
}

// bytesTo are the filters that carry bytes to destinations: to the host that a TLS client names
// where the first of them is for any.
func bytesTo(v *model.View, to []model.Split, listener uint16) []*listenerv3.Filter {
	filters := tcpFilters(v, tcpTo(v, to, listener))
	s, port, _, ok := resolve(v, clusterOf(v, to[0].To, listener))
	if !ok || s.Resolution != model.DynamicDNS {
		return filters
	}
	find := networkFilter("envoy.filters.network.sni_dynamic_forward_proxy", &sniforwardv3.FilterConfig{
		DnsCacheConfig: dynamicNames(v),
		PortSpecifier:  &sniforwardv3.FilterConfig_PortValue{PortValue: uint32(cmp.Or(port.Target.Number, port.Number))},
	})
	return slices.Insert(filters, len(filters)-1, find)
}
