package build

import (
	"net/netip"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	forwardclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	dnscachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	sniforwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/filter/forwardproxy"
	"github.com/mallamesh/malla/proxy/tcp"
)

var dynamicForwardFields = []*Message{
	message((*clusterv3.Cluster_CustomClusterType)(nil), reads("name", "typed_config")),
	message((*forwardclusterv3.ClusterConfig)(nil), reads("dns_cache_config", "allow_insecure_cluster_options")),
	message((*dnscachev3.DnsCacheConfig)(nil), reads("name", "dns_lookup_family", "dns_refresh_rate", "dns_min_refresh_rate", "host_ttl", "max_hosts", "dns_failure_refresh_rate",
		"dns_cache_circuit_breaker", "dns_query_timeout", "preresolve_hostnames", "typed_dns_resolver_config", "dns_resolution_config", "use_tcp_for_dns_lookups")),
	message((*dnscachev3.DnsCacheCircuitBreakers)(nil), reads("max_pending_requests")),
	message((*forwardv3.FilterConfig)(nil), reads("dns_cache_config")),
	message((*sniforwardv3.FilterConfig)(nil), reads("dns_cache_config", "port_value")),
	message((*forwardv3.PerRouteConfig)(nil), reads("host_rewrite_literal", "host_rewrite_header")),
}

// dynamicForward reads a cluster of the type that forwards to the host that a request names.
func (r *reader) dynamicForward(t *clusterv3.Cluster_CustomClusterType, c *cluster.Config) {
	at := field.At("cluster_type", "typed_config")
	m, ok := r.unpack(t.GetTypedConfig(), at).(*forwardclusterv3.ClusterConfig)
	if !ok {
		r.errs.Addf(at, "found %s, want the type of envoy.clusters.dynamic_forward_proxy", t.GetTypedConfig().GetTypeUrl())
		return
	}
	c.Kind = cluster.DynamicForward
	if !m.GetAllowInsecureClusterOptions() && (!c.AutoSNI || !c.AutoSANValidation) {
		r.errs.Addf(field.At("cluster_type"), "auto_sni and auto_san_validation are not set, want both: a host that a request names must prove that name; or allow_insecure_cluster_options")
	}
	c.Names = r.nameCache(m.GetDnsCacheConfig(), at.Child("dns_cache_config"))
}

// A namedCache is a cache with the configuration that it was made with.
type namedCache struct {
	config *dnscachev3.DnsCacheConfig
	cache  *cluster.NameCache
}

// nameCache returns the cache of a configuration. Caches of one name are one, and must be configured alike;
// a changed configuration makes a new one.
func (r *reader) nameCache(m *dnscachev3.DnsCacheConfig, at *field.Path) *cluster.NameCache {
	if m.GetName() == "" {
		r.errs.Addf(at.Child("name"), "is empty")
		return nil
	}
	config := cluster.NamesConfig{
		DNS: cluster.DNSConfig{
			Family:      families[m.GetDnsLookupFamily()],
			Refresh:     r.duration(m.GetDnsRefreshRate(), at.Child("dns_refresh_rate")),
			FailureBase: r.duration(m.GetDnsFailureRefreshRate().GetBaseInterval(), at.Child("dns_failure_refresh_rate").Child("base_interval")),
			FailureMax:  r.duration(m.GetDnsFailureRefreshRate().GetMaxInterval(), at.Child("dns_failure_refresh_rate").Child("max_interval")),
		},
		MinRefresh: r.duration(m.GetDnsMinRefreshRate(), at.Child("dns_min_refresh_rate")),
		TTL:        r.duration(m.GetHostTtl(), at.Child("host_ttl")),
		Timeout:    r.duration(m.GetDnsQueryTimeout(), at.Child("dns_query_timeout")),
		MaxNames:   int(m.GetMaxHosts().GetValue()),
		MaxPending: orNone(number(m.GetDnsCacheCircuitBreaker().GetMaxPendingRequests())),
	}
	for i, p := range m.GetPreresolveHostnames() {
		if _, err := netip.ParseAddr(p.GetAddress()); err == nil || p.GetAddress() == "" {
			r.errs.Addf(at.Child("preresolve_hostnames").Index(i).Child("address"), "found %q, want a name", p.GetAddress())
			continue
		}
		config.Preresolve = append(config.Preresolve, p.GetAddress())
	}
	names := r.resolver(m, at)
	if names == nil {
		names = r.env.Names
	}
	if len(r.errs) > 0 || names == nil {
		return nil
	}
	r.env.cachesMu.Lock()
	defer r.env.cachesMu.Unlock()
	if have, ok := r.env.caches[m.GetName()]; ok && proto.Equal(have.config, m) {
		return have.cache
	}
	set, _ := r.env.Stats.NameCache(m.GetName()) // lives as long as the proxy
	if r.env.caches == nil {
		r.env.caches = map[string]namedCache{}
	}
	made := cluster.NewNameCache(r.env.Context, config, names, set)
	r.env.caches[m.GetName()] = namedCache{m, made}
	return made
}

// forwardFilter reads the filter that has requests wait for their names. The cache that it names is that of
// the cluster; it is checked here and used there.
func (r *listenerReader) forwardFilter(m *forwardv3.FilterConfig, at *field.Path) {
	at = at.Child("dns_cache_config")
	if m.GetDnsCacheConfig() == nil {
		r.errs.Addf(at, "is not set, want the cache that the cluster has")
		return
	}
	r.nameCache(m.GetDnsCacheConfig(), at)
}

func forwardRewrite(m *forwardv3.PerRouteConfig) *forwardproxy.Rewrite {
	return &forwardproxy.Rewrite{Literal: m.GetHostRewriteLiteral(), Header: strings.ToLower(m.GetHostRewriteHeader())}
}

// sniForward reads the network filter that has connections go to the host that a TLS client names.
func (r *listenerReader) sniForward(m *sniforwardv3.FilterConfig, at *field.Path) {
	port := m.GetPortValue()
	if m.GetPortSpecifier() == nil {
		port = 443
	}
	if port == 0 || port > 65535 {
		r.errs.Addf(at.Child("port_value"), "found %d, want 1 to 65535", port)
	}
	at = at.Child("dns_cache_config")
	if m.GetDnsCacheConfig() == nil {
		r.errs.Addf(at, "is not set, want the cache that the cluster has")
		return
	}
	r.nameCache(m.GetDnsCacheConfig(), at)
	r.forward = &tcp.Forward{Port: uint16(port)}
}
