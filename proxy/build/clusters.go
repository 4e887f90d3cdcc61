package build

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	casev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/healthcheck"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
)

// optionsKey is where a cluster says how it speaks HTTP.
const optionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

var clusterFields = []*Message{
	message((*clusterv3.Cluster)(nil),
		reads("transport_socket_matches", "transport_socket_matcher", "name", "alt_stat_name", "type", "eds_cluster_config", "connect_timeout", "per_connection_buffer_limit_bytes", "load_assignment",
			"max_requests_per_connection", "circuit_breakers", "common_http_protocol_options", "http_protocol_options", "http2_protocol_options", "typed_extension_protocol_options", "preconnect_policy",
			"dns_refresh_rate", "respect_dns_ttl", "dns_lookup_family", "dns_failure_refresh_rate", "outlier_detection", "upstream_bind_config", "original_dst_lb_config", "least_request_lb_config", "round_robin_lb_config", "ring_hash_lb_config", "maglev_lb_config",
			"lb_policy", "lb_subset_config", "dns_jitter", "cluster_type", "typed_dns_resolver_config", "dns_resolution_config", "dns_resolvers", "use_tcp_for_dns_lookups", "upstream_http_protocol_options",
			"common_lb_config", "transport_socket", "metadata", "protocol_selection", "health_checks", "ignore_health_on_host_removal", "close_connections_on_host_health_failure", "upstream_connection_options", "load_balancing_policy"),
		ignores("hosts of an original-destination cluster are made per connection", "cleanup_interval"),
		ignores("clusters are complete before they are visible", "wait_for_warm_on_init"),
		reads("track_timeout_budgets", "track_cluster_stats")),
	message((*clusterv3.TrackClusterStats)(nil), reads("timeout_budgets", "request_response_sizes"),
		refuses("hosts have no statistics of their own but those of /clusters", "per_endpoint_stats")),
	message((*clusterv3.Cluster_PreconnectPolicy)(nil), reads("per_upstream_preconnect_ratio", "predictive_preconnect_ratio")),
	message((*clusterv3.Cluster_EdsClusterConfig)(nil), reads("eds_config", "service_name")),
	message((*clusterv3.Cluster_TransportSocketMatch)(nil), reads("name", "match", "transport_socket")),
	message((*clusterv3.Cluster_RefreshRate)(nil), reads("base_interval", "max_interval")),
	message((*clusterv3.CircuitBreakers)(nil), reads("thresholds", "per_host_thresholds")),
	message((*clusterv3.CircuitBreakers_Thresholds)(nil), reads("priority", "max_connections", "max_pending_requests", "max_requests", "max_retries", "retry_budget", "track_remaining", "max_connection_pools")),
	message((*clusterv3.CircuitBreakers_Thresholds_RetryBudget)(nil), reads("budget_percent", "budget_interval", "min_retry_concurrency")),
	message((*clusterv3.OutlierDetection)(nil),
		reads("consecutive_5xx", "interval", "base_ejection_time", "max_ejection_percent", "enforcing_consecutive_5xx", "consecutive_gateway_failure", "enforcing_consecutive_gateway_failure",
			"split_external_local_origin_errors", "consecutive_local_origin_failure", "enforcing_consecutive_local_origin_failure", "max_ejection_time", "max_ejection_time_jitter", "always_eject_one_host",
			"enforcing_success_rate", "success_rate_minimum_hosts", "success_rate_request_volume", "success_rate_stdev_factor", "enforcing_local_origin_success_rate",
			"failure_percentage_threshold", "enforcing_failure_percentage", "failure_percentage_minimum_hosts", "failure_percentage_request_volume", "enforcing_failure_percentage_local_origin", "successful_active_health_check_uneject_host", "detect_degraded_hosts")),
	message((*corev3.BindConfig)(nil), reads("source_address", "extra_source_addresses", "additional_source_addresses", "socket_options"),
		ignores("a source address of this machine needs none", "freebind")),
	message((*corev3.ExtraSourceAddress)(nil), reads("address")),
	message((*clusterv3.UpstreamConnectionOptions)(nil), reads("tcp_keepalive", "happy_eyeballs_config"),
		ignores("interface names are not logged", "set_local_interface_name_on_upstream_connections")),
	message((*clusterv3.UpstreamConnectionOptions_HappyEyeballsConfig)(nil), reads("first_address_family_version", "first_address_family_count")),
	message((*httpv3.HttpProtocolOptions)(nil), reads("common_http_protocol_options", "upstream_http_protocol_options", "explicit_http_config", "use_downstream_protocol_config", "auto_config", "http_filters", "outlier_detection",
		"retry_policy", "hash_policy", "request_mirror_policies")),
	message((*httpv3.HttpProtocolOptions_ExplicitHttpConfig)(nil), reads("http_protocol_options", "http2_protocol_options")),
	message((*httpv3.HttpProtocolOptions_UseDownstreamHttpConfig)(nil), reads("http_protocol_options", "http2_protocol_options"),
		ignores("no downstream connection is HTTP/3, so none of these is made", "http3_protocol_options")),
	message((*httpv3.HttpProtocolOptions_AutoHttpConfig)(nil), reads("http_protocol_options", "http2_protocol_options")),
	message((*corev3.UpstreamHttpProtocolOptions)(nil), reads("auto_sni", "auto_san_validation", "override_auto_sni_header")),
	message((*corev3.HttpProtocolOptions)(nil),
		reads("idle_timeout", "max_connection_duration", "max_connection_duration_jitter", "max_headers_count", "max_stream_duration", "max_requests_per_connection", "headers_with_underscores_action", "max_response_headers_kb")),
	message((*corev3.Http1ProtocolOptions)(nil), reads("accept_http_10", "default_host_for_http_10", "header_key_format", "enable_trailers", "override_stream_error_on_invalid_http_message",
		"allow_absolute_url", "allow_custom_methods", "send_fully_qualified_url"),
		ignores("there is one parser", "use_balsa_parser"),
		refuses("both lengths in one message are how requests are smuggled", "allow_chunked_length")),
	message((*corev3.Http1ProtocolOptions_HeaderKeyFormat)(nil), reads("proper_case_words", "stateful_formatter")),
	message((*casev3.PreserveCaseFormatterConfig)(nil), reads("forward_reason_phrase", "formatter_type_on_envoy_headers")),
	message((*corev3.Http1ProtocolOptions_HeaderKeyFormat_ProperCaseWords)(nil)),
}

// A Cluster is a cluster that has been read.
type Cluster struct {
	Config cluster.Config
	Needs  Needs
	// Assignment holds the endpoints that the cluster itself names; of an EDS cluster none.
	Assignment cluster.Assignment
	Checks     *healthcheck.Config // nil: the hosts are not checked

	updates *stats.EDSUse // nil: hosts do not come one day
}

func (r *reader) cluster(m *clusterv3.Cluster, secrets *Secrets) *Cluster {
	c := cluster.Config{
		Name: m.GetName(), StatName: strings.TrimSuffix(m.GetAltStatName(), ";"),
		ConnectTimeout: r.orDefault(m.GetConnectTimeout(), 5*time.Second, field.At("connect_timeout")),
		BufferLimit:    m.GetPerConnectionBufferLimitBytes().GetValue(),
		Outlier:        r.outlier(m.GetOutlierDetection(), field.At("outlier_detection")),
		Transports:     r.transports(m, secrets),
	}
	c.Transport = r.transportTree(m)
	if c.Name == "" {
		r.errs.Addf(field.At("name"), "is empty")
	}
	if n := r.env.Values.number("upstream.maintenance_mode."+c.Name, nil); n != nil {
		c.Maintenance = *n
	}
	if m.GetMaxRequestsPerConnection() != nil { //nolint:staticcheck // deprecated, and what Istio sends
		c.MaxRequestsPerConnection = m.GetMaxRequestsPerConnection().GetValue() //nolint:staticcheck
	}
	c.TrackBudget = m.GetTrackClusterStats().GetTimeoutBudgets() || m.GetTrackTimeoutBudgets() //nolint:staticcheck // deprecated, and still in use
	c.TrackSizes = m.GetTrackClusterStats().GetRequestResponseSizes()
	ahead := m.GetPreconnectPolicy()
	c.Preconnect = r.preconnect(ahead.GetPerUpstreamPreconnectRatio(), "per_upstream_preconnect_ratio")
	c.PreconnectNext = r.preconnect(ahead.GetPredictivePreconnectRatio(), "predictive_preconnect_ratio")
	c.AutoSNI, c.AutoSANValidation, c.SNIHeader = r.autoSNI, r.autoSANs, r.sniHeader
	r.clusterKind(m, &c)
	r.balance(m, &c)
	r.breakers(m, &c)
	r.binding(m, &c)
	r.httpOptions(m, &c)
	if d := destination(m.GetMetadata()); d != nil {
		c.Destination = r.env.Istio.Destination(*d)
	}
	c.Metadata = metadataSet(m.GetMetadata())
	checks := r.healthChecks(m, &c)
	out := &Cluster{Config: c, Checks: checks}
	if len(r.needs.Endpoints) > 0 {
		out.updates = r.env.Stats.EDS(cmp.Or(c.StatName, c.Name))
		if r.needs.Endpoints[0].Place.Path == "" {
			out.updates.Cluster.UpdateAttempt.Inc() // the question
		}
	}
	if c.Kind != cluster.EDS {
		at := field.At("load_assignment")
		if e := m.GetLoadAssignment().GetEndpoints(); c.Kind == cluster.LogicalDNS && (len(e) != 1 || len(e[0].GetLbEndpoints()) != 1) {
			r.errs.Addf(at, "found %s, want exactly one host in a cluster of type LOGICAL_DNS", hostsOf(e))
		}
		if byAddress(c.Kind) && m.GetLoadAssignment() != nil {
			r.errs.Addf(at, "has no meaning in a cluster of type %v", c.Kind)
		}
		out.Assignment = r.endpoints(m.GetLoadAssignment(), c.Kind == cluster.StrictDNS || c.Kind == cluster.LogicalDNS, at)
	} else if m.GetLoadAssignment() != nil {
		r.errs.Addf(field.At("load_assignment"), "has no meaning in a cluster of type EDS")
	}
	return out
}

// hostsOf tells how many hosts there are.
func hostsOf(localities []*endpointv3.LocalityLbEndpoints) string {
	n := 0
	for _, l := range localities {
		n += len(l.GetLbEndpoints())
	}
	return fmt.Sprintf("%d hosts in %d localities", n, len(localities))
}

// byAddress: such a cluster has a host for any address.
func byAddress(k cluster.Kind) bool { return k == cluster.OriginalDst || k == cluster.DynamicForward }

// preconnect reads for how many times the present requests there are to be connections; 0: not set.
func (r *reader) preconnect(m *wrapperspb.DoubleValue, name string) float64 {
	if ratio := m.GetValue(); m != nil && !(ratio >= 1 && ratio <= 3) {
		r.errs.Addf(field.At("preconnect_policy", name), "found %v, want 1 to 3", ratio)
	}
	return m.GetValue()
}

func (r *reader) clusterKind(m *clusterv3.Cluster, c *cluster.Config) {
	if t := m.GetClusterType(); t != nil {
		r.customCluster(t, c)
		return
	}
	switch m.GetType() {
	case clusterv3.Cluster_STATIC:
		c.Kind = cluster.Static
	case clusterv3.Cluster_EDS:
		c.Kind, c.EDSName = cluster.EDS, m.GetEdsClusterConfig().GetServiceName()
		at := field.At("eds_cluster_config", "eds_config")
		name := c.EDSName
		if name == "" {
			name = c.Name
		}
		r.needs.Endpoints = append(r.needs.Endpoints, Need{name, r.source(m.GetEdsClusterConfig().GetEdsConfig(), at)})
	case clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
		c.Kind = cluster.StrictDNS
		if m.GetType() == clusterv3.Cluster_LOGICAL_DNS {
			c.Kind = cluster.LogicalDNS
		}
		//nolint:staticcheck // deprecated for an extension that nobody sends yet
		c.DNS = cluster.DNSConfig{
			Family:      families[m.GetDnsLookupFamily()],
			Refresh:     r.duration(m.GetDnsRefreshRate(), field.At("dns_refresh_rate")),
			RespectTTL:  m.GetRespectDnsTtl(),
			Jitter:      r.duration(m.GetDnsJitter(), field.At("dns_jitter")),
			FailureBase: r.duration(m.GetDnsFailureRefreshRate().GetBaseInterval(), field.At("dns_failure_refresh_rate", "base_interval")),
			FailureMax:  r.duration(m.GetDnsFailureRefreshRate().GetMaxInterval(), field.At("dns_failure_refresh_rate", "max_interval")),
			Resolver:    r.resolver(m, nil),
		}
	case clusterv3.Cluster_ORIGINAL_DST:
		c.Kind = cluster.OriginalDst
		if m.GetLbPolicy() != clusterv3.Cluster_CLUSTER_PROVIDED {
			r.errs.Addf(field.At("lb_policy"), "found %v, want CLUSTER_PROVIDED in a cluster of type ORIGINAL_DST", m.GetLbPolicy())
		}
		o := m.GetOriginalDstLbConfig()
		c.Override = cluster.OverrideHost{UseHeader: o.GetUseHttpHeader(), Header: strings.ToLower(o.GetHttpHeaderName()),
			Port: r.port(o.GetUpstreamPortOverride().GetValue(), field.At("original_dst_lb_config", "upstream_port_override"))}
		if k := o.GetMetadataKey(); k != nil {
			key := r.metadataKey(k, field.At("original_dst_lb_config", "metadata_key"))
			c.Override.Metadata = &key
		}
	default:
		r.errs.Addf(field.At("type"), "found %v, want STATIC, EDS, STRICT_DNS, LOGICAL_DNS or ORIGINAL_DST", m.GetType())
	}
}

var families = map[clusterv3.Cluster_DnsLookupFamily]cluster.Family{
	clusterv3.Cluster_AUTO: cluster.Auto, clusterv3.Cluster_V4_ONLY: cluster.V4Only, clusterv3.Cluster_V6_ONLY: cluster.V6Only,
	clusterv3.Cluster_V4_PREFERRED: cluster.V4Preferred, clusterv3.Cluster_ALL: cluster.All,
}

func (r *reader) breakers(m *clusterv3.Cluster, c *cluster.Config) {
	seen := map[corev3.RoutingPriority]bool{}
	for i, t := range m.GetCircuitBreakers().GetThresholds() {
		at := field.At("circuit_breakers", "thresholds").Index(i)
		limits := cluster.Limits{Connections: number(t.GetMaxConnections()), Pending: number(t.GetMaxPendingRequests()), Requests: number(t.GetMaxRequests()),
			Retries: number(t.GetMaxRetries()), Pools: number(t.GetMaxConnectionPools()), TrackRemaining: t.GetTrackRemaining()}
		if b := t.GetRetryBudget(); b != nil {
			limits.Budget = &cluster.Budget{Percent: 20, Min: 3, Interval: r.duration(b.GetBudgetInterval(), at.Child("retry_budget").Child("budget_interval"))}
			if b.GetBudgetPercent() != nil {
				limits.Budget.Percent = b.GetBudgetPercent().GetValue()
			}
			if b.GetMinRetryConcurrency() != nil {
				limits.Budget.Min = b.GetMinRetryConcurrency().GetValue()
			}
		}
		var of *cluster.Limits
		switch t.GetPriority() {
		case corev3.RoutingPriority_DEFAULT:
			of = &c.Breakers[cluster.Default]
		case corev3.RoutingPriority_HIGH:
			of = &c.Breakers[cluster.High]
		default:
			r.errs.Addf(at.Child("priority"), "found %v, want DEFAULT or HIGH", t.GetPriority())
			continue
		}
		// Of several for one priority the first holds: who patches another one in changes nothing.
		if !seen[t.GetPriority()] {
			seen[t.GetPriority()], *of = true, limits
		}
	}
	r.perHost(m, c)
	r.runtimeBreakers(&c.Breakers[cluster.Default], "circuit_breakers."+m.GetName()+".default.")
	r.runtimeBreakers(&c.Breakers[cluster.High], "circuit_breakers."+m.GetName()+".high.")
}

// perHost reads the limits of each host. Of several of one priority the first counts, as in Envoy.
func (r *reader) perHost(m *clusterv3.Cluster, c *cluster.Config) {
	for i, t := range m.GetCircuitBreakers().GetPerHostThresholds() {
		at := field.At("circuit_breakers", "per_host_thresholds").Index(i)
		if t.GetMaxPendingRequests() != nil || t.GetMaxRequests() != nil || t.GetMaxRetries() != nil || t.GetMaxConnectionPools() != nil || t.GetRetryBudget() != nil {
			r.errs.Addf(at, "limits more than max_connections, want that alone")
		}
		p := cluster.Default
		switch t.GetPriority() {
		case corev3.RoutingPriority_DEFAULT:
		case corev3.RoutingPriority_HIGH:
			p = cluster.High
		default:
			r.errs.Addf(at.Child("priority"), "found %v, want DEFAULT or HIGH", t.GetPriority())
		}
		if l := &c.Breakers[p]; l.PerHost == nil {
			l.PerHost = number(t.GetMaxConnections())
		}
	}
}

// runtimeBreakers replaces limits by those of the runtime, which need none in the cluster.
func (r *reader) runtimeBreakers(l *cluster.Limits, prefix string) {
	values := r.env.Values
	l.Connections, l.Pending = values.number(prefix+"max_connections", l.Connections), values.number(prefix+"max_pending_requests", l.Pending)
	l.Requests, l.Retries = values.number(prefix+"max_requests", l.Requests), values.number(prefix+"max_retries", l.Retries)
	percent, least := values.get(prefix+"retry_budget.budget_percent").double, values.number(prefix+"retry_budget.min_retry_concurrency", nil)
	if percent == nil && least == nil {
		return
	}
	b := cluster.Budget{Percent: 20, Min: 3}
	if l.Budget != nil {
		b = *l.Budget
	}
	if percent != nil {
		b.Percent = *percent
	}
	if least != nil {
		b.Min = *least
	}
	l.Budget = &b
}

func (r *reader) outlier(m *clusterv3.OutlierDetection, at *field.Path) *cluster.OutlierConfig {
	if m == nil {
		return nil
	}
	values := r.env.Values
	limit := func(name string, v *wrapperspb.UInt32Value) *uint32 {
		return values.number("outlier_detection."+name, number(v))
	}
	span := func(name string, v *durationpb.Duration) time.Duration {
		return values.milliseconds("outlier_detection."+name+"_ms", r.duration(v, at.Child(name)))
	}
	return &cluster.OutlierConfig{
		Consecutive5xx: limit("consecutive_5xx", m.GetConsecutive_5Xx()), Enforce5xx: limit("enforcing_consecutive_5xx", m.GetEnforcingConsecutive_5Xx()),
		ConsecutiveGateway: limit("consecutive_gateway_failure", m.GetConsecutiveGatewayFailure()), EnforceGateway: limit("enforcing_consecutive_gateway_failure", m.GetEnforcingConsecutiveGatewayFailure()),
		ConsecutiveLocal: limit("consecutive_local_origin_failure", m.GetConsecutiveLocalOriginFailure()), EnforceLocal: limit("enforcing_consecutive_local_origin_failure", m.GetEnforcingConsecutiveLocalOriginFailure()),
		Interval:     span("interval", m.GetInterval()),
		BaseEjection: span("base_ejection_time", m.GetBaseEjectionTime()),
		MaxEjection:  span("max_ejection_time", m.GetMaxEjectionTime()),
		Jitter:       span("max_ejection_time_jitter", m.GetMaxEjectionTimeJitter()),

		MaxEjectionPercent: limit("max_ejection_percent", m.GetMaxEjectionPercent()), AlwaysEjectOne: m.GetAlwaysEjectOneHost().GetValue(), Split: m.GetSplitExternalLocalOriginErrors(),

		SuccessHosts: limit("success_rate_minimum_hosts", m.GetSuccessRateMinimumHosts()), SuccessVolume: limit("success_rate_request_volume", m.GetSuccessRateRequestVolume()), SuccessDeviation: limit("success_rate_stdev_factor", m.GetSuccessRateStdevFactor()),
		EnforceSuccessRate: limit("enforcing_success_rate", m.GetEnforcingSuccessRate()), EnforceLocalSuccessRate: limit("enforcing_local_origin_success_rate", m.GetEnforcingLocalOriginSuccessRate()),
		FailureHosts: limit("failure_percentage_minimum_hosts", m.GetFailurePercentageMinimumHosts()), FailureVolume: limit("failure_percentage_request_volume", m.GetFailurePercentageRequestVolume()), FailureThreshold: limit("failure_percentage_threshold", m.GetFailurePercentageThreshold()),
		EnforceFailure: limit("enforcing_failure_percentage", m.GetEnforcingFailurePercentage()), EnforceLocalFailure: limit("enforcing_failure_percentage_local_origin", m.GetEnforcingFailurePercentageLocalOrigin()),

		DetectDegraded: m.GetDetectDegradedHosts().GetValue(),
	}
}

func (r *reader) binding(m *clusterv3.Cluster, c *cluster.Config) {
	if k := m.GetUpstreamConnectionOptions().GetTcpKeepalive(); k != nil {
		c.SocketOptions = keepAlive(k)
	}
	c.Eyeballs = r.eyeballs(m.GetUpstreamConnectionOptions().GetHappyEyeballsConfig(), field.At("upstream_connection_options", "happy_eyeballs_config"))
	if b := m.GetUpstreamBindConfig(); b != nil {
		r.bound(b, c, field.At("upstream_bind_config"))
	} else if r.env.Bind != nil { // the bootstrap's own, which has been read for its mistakes
		r.bound(r.env.Bind, c, field.At("cluster_manager", "upstream_bind_config"))
	}
}

// bound reads from where connections come, and what else is set on their sockets.
func (r *reader) bound(b *corev3.BindConfig, c *cluster.Config, at *field.Path) {
	set := func(s *corev3.SocketAddress, at *field.Path) {
		bound := r.socketAddress(s, at)
		if bound.Port() != 0 {
			r.errs.Addf(at.Child("port_value"), "found %d, want 0: one port is good for one connection", bound.Port())
		}
		a := bound.Addr()
		if a.Is4() && c.Bind.IsValid() || a.Is6() && c.BindV6.IsValid() {
			r.errs.Addf(at.Child("address"), "found %q, a second address of its family; want at most one of each", s.GetAddress())
		}
		switch {
		case !a.IsValid() || a.IsUnspecified():
		case a.Is4():
			c.Bind = a
		default:
			c.BindV6 = a
		}
	}
	if b.GetSourceAddress() != nil {
		set(b.GetSourceAddress(), at.Child("source_address"))
	}
	//nolint:staticcheck // deprecated, still sent
	additional := b.GetAdditionalSourceAddresses()
	if len(additional) > 0 && len(b.GetExtraSourceAddresses()) > 0 {
		r.errs.Addf(at.Child("additional_source_addresses"), "is set beside extra_source_addresses, want one of them")
	}
	for i, a := range additional {
		set(a, at.Child("additional_source_addresses").Index(i))
	}
	for i, e := range b.GetExtraSourceAddresses() {
		set(e.GetAddress(), at.Child("extra_source_addresses").Index(i).Child("address"))
	}
	for _, o := range r.options(b.GetSocketOptions(), at.Child("socket_options")) {
		if o.When != drive.Listening { // it does not listen
			c.SocketOptions = append(c.SocketOptions, o)
		}
	}
}

var firstFamilies = map[clusterv3.UpstreamConnectionOptions_FirstAddressFamilyVersion]cluster.Family{
	clusterv3.UpstreamConnectionOptions_DEFAULT: cluster.Auto, clusterv3.UpstreamConnectionOptions_V4: cluster.V4Only, clusterv3.UpstreamConnectionOptions_V6: cluster.V6Only,
}

// eyeballs reads in which order a host's addresses are tried.
func (r *reader) eyeballs(m *clusterv3.UpstreamConnectionOptions_HappyEyeballsConfig, at *field.Path) (out cluster.Eyeballs) {
	first, ok := firstFamilies[m.GetFirstAddressFamilyVersion()]
	if !ok {
		r.errs.Addf(at.Child("first_address_family_version"), "found %v, want DEFAULT, V4 or V6", m.GetFirstAddressFamilyVersion())
	}
	out = cluster.Eyeballs{First: first, Count: m.GetFirstAddressFamilyCount().GetValue()}
	if n := m.GetFirstAddressFamilyCount(); n != nil && n.GetValue() == 0 {
		r.errs.Addf(at.Child("first_address_family_count"), "found 0, want at least 1")
	}
	return out
}

// httpOptions reads how a cluster speaks HTTP, from the extension or from the
// older fields of the cluster.
func (r *reader) httpOptions(m *clusterv3.Cluster, c *cluster.Config) {
	//nolint:staticcheck // the older fields, still sent
	common, h1, http2 := m.GetCommonHttpProtocolOptions(), m.GetHttpProtocolOptions(), m.GetHttp2ProtocolOptions()
	at, http2At := field.At("typed_extension_protocol_options", optionsKey), field.At("http2_protocol_options")
	commonAt := field.At("common_http_protocol_options")
	//nolint:staticcheck // deprecated, still sent
	c.SameProtocol = m.GetProtocolSelection() == clusterv3.Cluster_USE_DOWNSTREAM_PROTOCOL
	c.HTTP2 = http2 != nil && !c.SameProtocol
	for name := range m.GetTypedExtensionProtocolOptions() {
		if name != optionsKey {
			r.errs.Addf(field.At("typed_extension_protocol_options", name), "is not known, want %s", optionsKey)
		}
	}
	if a := m.GetTypedExtensionProtocolOptions()[optionsKey]; a != nil {
		o, ok := r.unpack(a, at).(*httpv3.HttpProtocolOptions)
		if !ok {
			r.errs.Addf(at, "found %s, want %s", a.MessageName(), optionsKey)
			return
		}
		common, commonAt = o.GetCommonHttpProtocolOptions(), at.Child("common_http_protocol_options")
		if e := o.GetOutlierDetection().GetErrorMatcher(); e != nil && c.Outlier != nil {
			c.Outlier.IsError = r.predicate(e, at.Child("outlier_detection").Child("error_matcher"))
		}
		if chain := r.upstreamFilters(o.GetHttpFilters(), at.Child("http_filters")); chain != nil {
			c.HTTPFilters = chain
		}
		r.clusterPolicies(o, c, at)
		switch {
		case o.GetUseDownstreamProtocolConfig() != nil:
			u := o.GetUseDownstreamProtocolConfig()
			c.SameProtocol, c.HTTP2, h1, http2, http2At = true, false, u.GetHttpProtocolOptions(), u.GetHttp2ProtocolOptions(), at.Child("use_downstream_protocol_config")
		case o.GetExplicitHttpConfig() != nil:
			e := o.GetExplicitHttpConfig()
			c.SameProtocol, h1, http2, http2At = false, e.GetHttpProtocolOptions(), e.GetHttp2ProtocolOptions(), at.Child("explicit_http_config")
			c.HTTP2 = http2 != nil
		case o.GetAutoConfig() != nil:
			a := o.GetAutoConfig()
			c.SameProtocol, c.HTTP2, c.ALPN = false, false, true
			h1, http2, http2At = a.GetHttpProtocolOptions(), a.GetHttp2ProtocolOptions(), at.Child("auto_config")
		default:
			r.errs.Addf(at, "says not which protocol, want explicit_http_config, use_downstream_protocol_config or auto_config")
		}
		if http2At = http2At.Child("http2_protocol_options"); c.ALPN {
			r.secureOnly(c.Transports, at.Child("auto_config"))
		}
	}
	c.ProperCase, c.Spelling = r.keyFormat(h1.GetHeaderKeyFormat(), at.Child("http_protocol_options").Child("header_key_format"))
	c.AbsoluteURL = h1.GetSendFullyQualifiedUrl()
	c.HTTP2Options = r.http2(http2, http2At)
	c.Trailers = h1.GetEnableTrailers()
	if common == nil {
		return
	}
	if kb := common.GetMaxResponseHeadersKb(); kb != nil {
		if c.HTTP2Options.MaxHeaderBytes = int(kb.GetValue()) << 10; kb.GetValue() == 0 || kb.GetValue() > 8192 {
			r.errs.Addf(commonAt.Child("max_response_headers_kb"), "found %d, want 1 to 8192", kb.GetValue())
		}
	}
	c.HTTP2Options.MaxHeaders = int(common.GetMaxHeadersCount().GetValue())
	c.IdleTimeout = r.optional(common.GetIdleTimeout(), commonAt.Child("idle_timeout"))
	c.MaxConnectionDuration = r.duration(common.GetMaxConnectionDuration(), commonAt.Child("max_connection_duration"))
	if n := common.GetMaxRequestsPerConnection(); n != nil {
		c.MaxRequestsPerConnection = n.GetValue()
	}
	c.MaxStreamDuration = r.duration(common.GetMaxStreamDuration(), commonAt.Child("max_stream_duration"))
}

// secureOnly refuses what a TLS handshake is to choose where there may be none.
func (r *reader) secureOnly(all []cluster.Transport, at *field.Path) {
	for _, t := range all {
		if t.Socket == nil && r.env.Values.integer("config.do_not_validate_alpn_support", 0) == 0 {
			r.errs.Addf(at, "goes by what hosts choose in TLS's handshake, and the transport socket %s has none", t.Name)
			return
		}
	}
}

// clusterPolicies reads what goes before the policies of routes.
func (r *reader) clusterPolicies(o *httpv3.HttpProtocolOptions, c *cluster.Config, at *field.Path) {
	needs := r.needs.Clusters
	retry := r.retry(o.GetRetryPolicy(), at.Child("retry_policy"))
	mirrors := r.mirrors(o.GetRequestMirrorPolicies(), at.Child("request_mirror_policies"))
	hashes := r.hashPolicies(o.GetHashPolicy(), at.Child("hash_policy"))
	r.needs.Clusters = needs // a cluster is whole without those that its copies go to
	if retry == nil && len(mirrors) == 0 && len(hashes) == 0 {
		return
	}
	p, err := route.NewPolicies(retry, mirrors, hashes)
	if err != nil {
		r.errs.Addf(at, "%v", err)
		return
	}
	c.Policies = p
}

// destination reads Istio's metadata of a cluster: the service behind it.
func destination(m *corev3.Metadata) *stats.Destination {
	services, _ := spaceOf(m, "istio")["services"].([]any)
	if len(services) == 0 {
		return nil
	}
	s, _ := services[0].(map[string]any)
	text := texts(s)
	if text["host"] == "" {
		return nil
	}
	return &stats.Destination{Service: text["host"], Name: text["name"], Namespace: text["namespace"]}
}

// anyName is the name by which a message is known in an Any.
func anyName(m proto.Message) protoreflect.FullName { return m.ProtoReflect().Descriptor().FullName() }
