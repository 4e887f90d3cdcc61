package build

import (
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	commondnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/resolve"
)

var resolverFields = []*Message{
	message((*caresv3.CaresDnsResolverConfig)(nil), reads("resolvers", "use_resolvers_as_fallback", "filter_unroutable_families", "dns_resolver_options",
		"query_timeout_seconds", "query_tries", "rotate_nameservers", "edns0_max_payload_size"),
		ignores("each question has a socket of its own", "udp_max_queries", "max_udp_channel_duration", "reinit_channel_on_timeout"),
		only("qcache_max_ttl", "answers are kept by clusters, not by the resolver", "0")),
	message((*corev3.DnsResolutionConfig)(nil), reads("resolvers", "dns_resolver_options")),
	message((*corev3.DnsResolverOptions)(nil), reads("use_tcp_for_dns_lookups", "no_default_search_domain")),
	message((*dnsv3.DnsCluster)(nil), reads("dns_refresh_rate", "dns_failure_refresh_rate", "respect_dns_ttl", "dns_jitter", "typed_dns_resolver_config", "dns_lookup_family",
		"all_addresses_in_single_endpoint", "dns_min_refresh_rate")),
	message((*dnsv3.DnsCluster_RefreshRate)(nil), reads("base_interval", "max_interval")),
}

var dnsFamilies = map[commondnsv3.DnsLookupFamily]cluster.Family{
	commondnsv3.DnsLookupFamily_UNSPECIFIED: cluster.Auto, commondnsv3.DnsLookupFamily_AUTO: cluster.Auto, commondnsv3.DnsLookupFamily_V4_ONLY: cluster.V4Only,
	commondnsv3.DnsLookupFamily_V6_ONLY: cluster.V6Only, commondnsv3.DnsLookupFamily_V4_PREFERRED: cluster.V4Preferred, commondnsv3.DnsLookupFamily_ALL: cluster.All,
}

// A resolverSource is a message that says whom to ask for names, in its present field or in the older ones.
type resolverSource interface {
	GetTypedDnsResolverConfig() *corev3.TypedExtensionConfig
	GetDnsResolutionConfig() *corev3.DnsResolutionConfig
	GetUseTcpForDnsLookups() bool
}

// resolver returns the resolver that a configuration describes, nil for the proxy's own.
func (r *reader) resolver(m resolverSource, at *field.Path) cluster.Resolver {
	c := r.resolverConfig(m, at)
	if c == nil || r.env == nil || r.env.Resolver == nil {
		return nil
	}
	return r.env.Resolver(*c)
}

// resolverConfig reads whom to ask for names: of the fields for it the newest counts alone, as in Envoy.
func (r *reader) resolverConfig(m resolverSource, at *field.Path) *resolve.Config {
	if t := m.GetTypedDnsResolverConfig(); t != nil {
		at := at.Child("typed_dns_resolver_config").Child("typed_config")
		cares, ok := r.unpack(t.GetTypedConfig(), at).(*caresv3.CaresDnsResolverConfig)
		if !ok {
			r.errs.Addf(at, "found %s, want the type of envoy.network.dns_resolver.cares", t.GetTypedConfig().GetTypeUrl())
			return nil
		}
		return r.cares(cares, at.Child("resolvers"), at)
	}
	if o := m.GetDnsResolutionConfig(); o != nil {
		at := at.Child("dns_resolution_config")
		return r.cares(&caresv3.CaresDnsResolverConfig{Resolvers: o.GetResolvers(), DnsResolverOptions: o.GetDnsResolverOptions()}, at.Child("resolvers"), at)
	}
	old := &caresv3.CaresDnsResolverConfig{DnsResolverOptions: &corev3.DnsResolverOptions{UseTcpForDnsLookups: m.GetUseTcpForDnsLookups()}}
	if c, ok := m.(*clusterv3.Cluster); ok {
		old.Resolvers = c.GetDnsResolvers() //nolint:staticcheck // deprecated, still sent
	}
	if len(old.Resolvers) == 0 && !m.GetUseTcpForDnsLookups() {
		return nil
	}
	return r.cares(old, at.Child("dns_resolvers"), at)
}

// cares reads how to ask for names.
func (r *reader) cares(m *caresv3.CaresDnsResolverConfig, servers, at *field.Path) *resolve.Config {
	payload := m.GetEdns0MaxPayloadSize().GetValue()
	if p := m.GetEdns0MaxPayloadSize(); p != nil && (payload < 512 || payload > 4096) {
		r.errs.Addf(at.Child("edns0_max_payload_size"), "found %d, want 512 to 4096", payload)
	}
	seconds := m.GetQueryTimeoutSeconds().GetValue()
	if s := m.GetQueryTimeoutSeconds(); s != nil && (seconds == 0 || seconds > math.MaxInt32) {
		r.errs.Addf(at.Child("query_timeout_seconds"), "found %d, want at least 1", seconds)
	}
	if n := m.GetQueryTries(); n != nil && n.GetValue() == 0 {
		r.errs.Addf(at.Child("query_tries"), "found 0, want at least 1")
	}
	c := &resolve.Config{Fallback: m.GetUseResolversAsFallback(), Unroutable: m.GetFilterUnroutableFamilies(), TCP: m.GetDnsResolverOptions().GetUseTcpForDnsLookups(),
		NoSearch: m.GetDnsResolverOptions().GetNoDefaultSearchDomain(), Rotate: m.GetRotateNameservers(), Timeout: time.Duration(seconds) * time.Second,
		Tries: int(m.GetQueryTries().GetValue()), Payload: uint16(payload)}
	for i, a := range m.GetResolvers() {
		at := servers.Index(i)
		if a.GetSocketAddress() == nil {
			r.errs.Addf(at, "has no socket_address")
			continue
		}
		c.Servers = append(c.Servers, r.address(a, at))
	}
	return c
}

// dnsCluster reads a cluster of the type envoy.cluster.dns.
func (r *reader) dnsCluster(m *dnsv3.DnsCluster, c *cluster.Config, at *field.Path) {
	c.Kind = cluster.StrictDNS
	if m.GetAllAddressesInSingleEndpoint() {
		c.Kind = cluster.LogicalDNS
	}
	failure := m.GetDnsFailureRefreshRate()
	c.DNS = cluster.DNSConfig{
		Family:      dnsFamilies[m.GetDnsLookupFamily()],
		Refresh:     r.duration(m.GetDnsRefreshRate(), at.Child("dns_refresh_rate")),
		MinRefresh:  r.duration(m.GetDnsMinRefreshRate(), at.Child("dns_min_refresh_rate")),
		RespectTTL:  m.GetRespectDnsTtl(),
		Jitter:      r.duration(m.GetDnsJitter(), at.Child("dns_jitter")),
		FailureBase: r.duration(failure.GetBaseInterval(), at.Child("dns_failure_refresh_rate").Child("base_interval")),
		FailureMax:  r.duration(failure.GetMaxInterval(), at.Child("dns_failure_refresh_rate").Child("max_interval")),
		Resolver:    r.resolver(dnsExtension{m}, at),
	}
}

// A dnsExtension has no older fields.
type dnsExtension struct{ *dnsv3.DnsCluster }

func (dnsExtension) GetDnsResolutionConfig() *corev3.DnsResolutionConfig { return nil }
func (dnsExtension) GetUseTcpForDnsLookups() bool                        { return false }

// customCluster reads a cluster whose type is an extension.
func (r *reader) customCluster(t *clusterv3.Cluster_CustomClusterType, c *cluster.Config) {
	at := field.At("cluster_type", "typed_config")
	if m, ok := r.unpack(t.GetTypedConfig(), at).(*dnsv3.DnsCluster); ok {
		r.dnsCluster(m, c, at)
		return
	}
	r.dynamicForward(t, c)
}
