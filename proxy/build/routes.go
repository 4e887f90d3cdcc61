package build

import (
	"math"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	templatematchv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	templaterewritev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/rewrite/uri_template/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/route"
)

const forPeople = "says where the resource comes from; shown by config_dump"

var routeFields = []*Message{
	message((*routev3.RouteConfiguration)(nil),
		reads("name", "virtual_hosts", "response_headers_to_add", "response_headers_to_remove", "request_headers_to_add", "request_headers_to_remove",
			"most_specific_header_mutations_wins", "ignore_port_in_host_matching", "max_direct_response_body_size_bytes", "typed_per_filter_config",
			"vhost_header", "ignore_path_parameters_in_path_matching", "request_mirror_policies", "vhds", "internal_only_headers",
			"validate_clusters"),
		ignores(forPeople, "metadata")),
	message((*routev3.VirtualHost)(nil),
		reads("name", "domains", "routes", "require_tls", "request_headers_to_add", "request_headers_to_remove", "response_headers_to_add", "response_headers_to_remove",
			"typed_per_filter_config", "include_request_attempt_count", "include_attempt_count_in_response", "include_is_timeout_retry_header", "retry_policy", "hedge_policy", "request_mirror_policies", "rate_limits",
			"metadata", "virtual_clusters", "matcher", "cors", "request_body_buffer_limit", "per_request_buffer_limit_bytes")),
	message((*routev3.VirtualCluster)(nil), reads("headers", "name")),
	message((*routev3.Route)(nil),
		reads("name", "match", "route", "redirect", "direct_response", "decorator", "metadata", "typed_per_filter_config",
			"request_headers_to_add", "request_headers_to_remove", "response_headers_to_add", "response_headers_to_remove", "stat_prefix",
			"request_body_buffer_limit", "per_request_buffer_limit_bytes")),
	message((*routev3.RouteMatch)(nil),
		reads("prefix", "path", "safe_regex", "connect_matcher", "path_separated_prefix", "case_sensitive", "runtime_fraction", "headers", "query_parameters", "grpc",
			"path_match_policy", "cookies", "tls_context", "filter_state", "dynamic_metadata")),
	message((*routev3.CookieMatcher)(nil), reads("name", "string_match", "invert_match")),
	message((*routev3.RouteMatch_TlsContextMatchOptions)(nil), reads("presented", "validated")),
	message((*matcherv3.FilterStateMatcher)(nil), reads("key", "string_match")),
	message((*templatematchv3.UriTemplateMatchConfig)(nil), reads("path_template")),
	message((*templaterewritev3.UriTemplateRewriteConfig)(nil), reads("path_template_rewrite")),
	message((*routev3.RouteMatch_ConnectMatcher)(nil)),
	message((*routev3.RouteMatch_GrpcRouteMatchOptions)(nil)),
	message((*routev3.HeaderMatcher)(nil),
		reads("name", "exact_match", "safe_regex_match", "range_match", "present_match", "prefix_match", "suffix_match", "contains_match", "string_match", "invert_match", "treat_missing_header_as_empty")),
	message((*routev3.QueryParameterMatcher)(nil), reads("name", "string_match", "present_match")),
	message((*routev3.RouteAction)(nil),
		reads("cluster", "cluster_header", "weighted_clusters", "cluster_not_found_response_code", "prefix_rewrite", "regex_rewrite", "host_rewrite_literal", "auto_host_rewrite",
			"host_rewrite_header", "host_rewrite_path_regex", "append_x_forwarded_host", "timeout", "idle_timeout", "retry_policy", "hedge_policy", "request_mirror_policies", "priority",
			"upgrade_configs", "max_stream_duration", "hash_policy", "metadata_match", "max_grpc_timeout", "grpc_timeout_offset", "path_rewrite_policy", "path_rewrite", "host_rewrite", "rate_limits", "include_vh_rate_limits", "internal_redirect_policy", "cors"),
		ignores("connections to upstreams have no early data", "early_data_policy")),
	message((*routev3.RouteAction_RequestMirrorPolicy)(nil), reads("cluster", "cluster_header", "runtime_fraction", "disable_shadow_host_suffix_append",
		"request_headers_mutations", "host_rewrite_literal"),
		ignores("requests are not traced yet", "trace_sampled")),
	message((*routev3.RouteAction_UpgradeConfig)(nil), reads("upgrade_type", "enabled", "connect_config")),
	message((*routev3.RouteAction_UpgradeConfig_ConnectConfig)(nil), reads("allow_post", "proxy_protocol_config")),
	message((*routev3.RouteAction_MaxStreamDuration)(nil), reads("max_stream_duration", "grpc_timeout_header_max", "grpc_timeout_header_offset")),
	message((*routev3.WeightedCluster)(nil), reads("clusters", "header_name", "use_hash_policy", "runtime_key_prefix"),
		ignores("the sum of the weights counts, as in Envoy", "total_weight")),
	message((*routev3.WeightedCluster_ClusterWeight)(nil),
		reads("name", "cluster_header", "weight", "request_headers_to_add", "request_headers_to_remove", "response_headers_to_add", "response_headers_to_remove", "typed_per_filter_config", "host_rewrite_literal",
			"metadata_match")),
	message((*routev3.RetryPolicy)(nil),
		reads("retry_on", "num_retries", "per_try_timeout", "per_try_idle_timeout", "retry_priority", "retry_host_predicate", "host_selection_retry_max_attempts",
			"retriable_status_codes", "retry_back_off", "rate_limited_retry_back_off", "retriable_headers", "retriable_request_headers")),
	message((*routev3.RetryPolicy_RetryHostPredicate)(nil), reads("name", "typed_config")),
	message((*routev3.RetryPolicy_RetryBackOff)(nil), reads("base_interval", "max_interval")),
	message((*routev3.RetryPolicy_RateLimitedRetryBackOff)(nil), reads("reset_headers", "max_interval")),
	message((*routev3.RetryPolicy_ResetHeader)(nil), reads("name", "format")),
	message((*routev3.HedgePolicy)(nil), reads("hedge_on_per_try_timeout"),
		ignores("Envoy has never implemented it", "initial_requests", "additional_request_chance")),
	message((*routev3.RetryPolicy_RetryPriority)(nil), reads("name", "typed_config")),
	message((*previousprioritiesv3.PreviousPrioritiesConfig)(nil), reads("update_frequency")),
	message((*routev3.RedirectAction)(nil),
		reads("https_redirect", "scheme_redirect", "host_redirect", "port_redirect", "path_redirect", "prefix_rewrite", "regex_rewrite", "path_rewrite", "response_code", "strip_query")),
	message((*routev3.DirectResponseAction)(nil), reads("status", "body", "body_format")),
	message((*routev3.FilterConfig)(nil), reads("config", "is_optional", "disabled")),
	message((*mutationv3.HeaderMutation)(nil), reads("remove", "append", "remove_on_match")),
	message((*mutationv3.HeaderMutation_RemoveOnMatch)(nil), reads("key_matcher")),
	message((*routev3.Decorator)(nil), reads("operation"), ignores("requests are not traced yet", "propagate")),
}

// table reads a route configuration.
func (r *reader) table(m *routev3.RouteConfiguration, at *field.Path) route.Config {
	c := route.Config{
		Name: m.GetName(), IgnorePort: m.GetIgnorePortInHostMatching(), MostSpecificWins: m.GetMostSpecificHeaderMutationsWins(),
		HostHeader: strings.ToLower(m.GetVhostHeader()), IgnorePathParameters: m.GetIgnorePathParametersInPathMatching(),
		InternalOnly: r.headerNames(m.GetInternalOnlyHeaders(), at.Child("internal_only_headers")),
		Headers:      r.headers(m, at),
		Mirrors:      r.mirrors(m.GetRequestMirrorPolicies(), at.Child("request_mirror_policies")),
		PerFilter:    r.perFilter(m.GetTypedPerFilterConfig(), at.Child("typed_per_filter_config")),
	}
	if c.HostHeader != "" && c.IgnorePort {
		r.errs.Addf(at.Child("vhost_header"), "is set together with ignore_port_in_host_matching, want one of them")
	}
	limit := directBody(m)
	for i, v := range m.GetVirtualHosts() {
		c.VirtualHosts = append(c.VirtualHosts, r.virtualHost(v, limit, at.Child("virtual_hosts").Index(i)))
	}
	return c
}

// defaultDirectBody is Envoy's default of max_direct_response_body_size_bytes.
const defaultDirectBody = 4096

func directBody(m *routev3.RouteConfiguration) int {
	if v := m.GetMaxDirectResponseBodySizeBytes(); v != nil {
		return int(v.GetValue())
	}
	return defaultDirectBody
}

func (r *reader) virtualHost(v *routev3.VirtualHost, limit int, at *field.Path) route.VirtualHostConfig {
	out := route.VirtualHostConfig{
		Name: v.GetName(), Domains: v.GetDomains(), Headers: r.headers(v, at),
		PerFilter:             r.oldCors(r.perFilter(v.GetTypedPerFilterConfig(), at.Child("typed_per_filter_config")), v.GetCors(), at.Child("cors")), //nolint:staticcheck // deprecated, still in use
		AttemptCountInRequest: v.GetIncludeRequestAttemptCount(), AttemptCountInResponse: v.GetIncludeAttemptCountInResponse(),
		TimeoutRetryInRequest: v.GetIncludeIsTimeoutRetryHeader(), Hedge: hedge(v.GetHedgePolicy()),
		Retry:   r.retry(v.GetRetryPolicy(), at.Child("retry_policy")),
		Mirrors: r.mirrors(v.GetRequestMirrorPolicies(), at.Child("request_mirror_policies")),

		RateLimits: r.ratePolicy(v.GetRateLimits(), false, at.Child("rate_limits")), Metadata: metadataSet(v.GetMetadata()),
		Buffer: bufferLimit(v), Clusters: r.virtualClusters(v, at.Child("virtual_clusters")),
	}
	switch v.GetRequireTls() {
	case routev3.VirtualHost_EXTERNAL_ONLY:
		out.TLS = route.TLSExternalOnly
	case routev3.VirtualHost_ALL:
		out.TLS = route.TLSAll
	}
	r.routeTree(v, limit, at.Child("matcher"), &out)
	for i, m := range v.GetRoutes() {
		out.Routes = append(out.Routes, r.route(m, v.GetName(), limit, at.Child("routes").Index(i)))
	}
	return out
}

func (r *reader) route(m *routev3.Route, virtualHost string, limit int, at *field.Path) route.RouteConfig {
	out := route.RouteConfig{
		Name: m.GetName(), Match: r.match(m.GetMatch(), at.Child("match")), Headers: r.headers(m, at),
		PerFilter: r.perFilter(m.GetTypedPerFilterConfig(), at.Child("typed_per_filter_config")),
		Decorator: m.GetDecorator().GetOperation(), Buffer: bufferLimit(m),
	}
	if p := m.GetStatPrefix(); p != "" {
		out.Stats = r.env.Stats.Route(virtualHost, p)
	}
	out.Metadata = metadataSet(m.GetMetadata())
	switch m.GetAction().(type) {
	case *routev3.Route_Route:
		out.Forward = r.forward(m.GetRoute(), at.Child("route"))
		out.PerFilter = r.oldCors(out.PerFilter, m.GetRoute().GetCors(), at.Child("route").Child("cors")) //nolint:staticcheck // deprecated, still in use
	case *routev3.Route_Redirect:
		out.Redirect = r.redirect(m.GetRedirect(), at.Child("redirect"))
	case *routev3.Route_DirectResponse:
		out.Direct = r.direct(m.GetDirectResponse(), limit, at.Child("direct_response"))
	default:
		r.errs.Addf(at, "has no action, want route, redirect or direct_response")
	}
	return out
}

// virtualClusters reads by which names of their own requests are counted. Where there is one, the rest is "other".
func (r *reader) virtualClusters(v *routev3.VirtualHost, at *field.Path) []route.VirtualClusterConfig {
	var out []route.VirtualClusterConfig
	for i, c := range v.GetVirtualClusters() {
		at := at.Index(i)
		if len(c.GetHeaders()) == 0 {
			r.errs.Addf(at.Child("headers"), "is empty, want at least one")
		}
		out = append(out, route.VirtualClusterConfig{
			Name: c.GetName(), Headers: r.headerMatches(c.GetHeaders(), at.Child("headers")), Stats: r.env.Stats.VirtualCluster(v.GetName(), c.GetName()),
		})
	}
	if len(out) > 0 {
		const other = "other"
		out = append(out, route.VirtualClusterConfig{Name: other, Stats: r.env.Stats.VirtualCluster(v.GetName(), other)})
	}
	return out
}

// bufferLimit reads how much of a request's body may be kept.
func bufferLimit(m interface {
	GetRequestBodyBufferLimit() *wrapperspb.UInt64Value
	GetPerRequestBufferLimitBytes() *wrapperspb.UInt32Value
}) route.Buffer {
	var out route.Buffer
	if n := m.GetRequestBodyBufferLimit(); n != nil {
		limit := int(min(n.GetValue(), math.MaxInt))
		out.Body = &limit
	}
	if n := m.GetPerRequestBufferLimitBytes(); n != nil {
		limit := int(n.GetValue())
		out.AtMost = &limit
	}
	return out
}

// hedge reads a hedge policy, nil if there is none.
func hedge(p *routev3.HedgePolicy) *bool {
	if p == nil {
		return nil
	}
	on := p.GetHedgeOnPerTryTimeout()
	return &on
}

// rateLimited reads how long a response may have a retry wait.
func (r *reader) rateLimited(b *routev3.RetryPolicy_RateLimitedRetryBackOff, out *route.RetryPolicy, at *field.Path) {
	if b == nil {
		return
	}
	out.MaxTold = r.duration(b.GetMaxInterval(), at.Child("max_interval"))
	if len(b.GetResetHeaders()) == 0 {
		r.errs.Addf(at.Child("reset_headers"), "is empty, want at least one")
	}
	for i, h := range b.GetResetHeaders() {
		if h.GetName() == "" {
			r.errs.Addf(at.Child("reset_headers").Index(i).Child("name"), "is empty")
		}
		out.ResetHeaders = append(out.ResetHeaders, route.ResetHeader{Name: strings.ToLower(h.GetName()), Unix: h.GetFormat() == routev3.RetryPolicy_UNIX_TIMESTAMP})
	}
}

// retry reads a retry policy, nil if there is none.
func (r *reader) retry(p *routev3.RetryPolicy, at *field.Path) *route.RetryPolicy {
	if p == nil {
		return nil
	}
	on, codes, err := route.ParseRetryOn(p.GetRetryOn())
	if err != nil {
		r.errs.Addf(at.Child("retry_on"), "%v", err)
	}
	out := &route.RetryPolicy{
		On: on, StatusCodes: codes, NumRetries: number(p.GetNumRetries()), HostAttempts: int(p.GetHostSelectionRetryMaxAttempts()),
		PerTryTimeout:   r.duration(p.GetPerTryTimeout(), at.Child("per_try_timeout")),
		PerTryIdle:      r.duration(p.GetPerTryIdleTimeout(), at.Child("per_try_idle_timeout")),
		ResponseHeaders: r.headerMatches(p.GetRetriableHeaders(), at.Child("retriable_headers")),
		RequestHeaders:  r.headerMatches(p.GetRetriableRequestHeaders(), at.Child("retriable_request_headers")),
		BaseInterval:    r.duration(p.GetRetryBackOff().GetBaseInterval(), at.Child("retry_back_off").Child("base_interval")),
		MaxInterval:     r.duration(p.GetRetryBackOff().GetMaxInterval(), at.Child("retry_back_off").Child("max_interval")),
	}
	r.rateLimited(p.GetRateLimitedRetryBackOff(), out, at.Child("rate_limited_retry_back_off"))
	for _, c := range p.GetRetriableStatusCodes() {
		out.StatusCodes = append(out.StatusCodes, uint16(c))
	}
	if q := p.GetRetryPriority(); q != nil {
		at := at.Child("retry_priority")
		m, ok := r.unpack(q.GetTypedConfig(), at).(*previousprioritiesv3.PreviousPrioritiesConfig)
		if !ok {
			r.errs.Addf(at, "found %q, want envoy.retry_priorities.previous_priorities", q.GetName())
		}
		out.PreviousPriorities = int(m.GetUpdateFrequency())
	}
	r.retryHosts(p.GetRetryHostPredicate(), out, at.Child("retry_host_predicate"))
	return out
}
