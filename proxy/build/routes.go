package build

import (
	"net/http"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/route"
)

const forPeople = "says where the resource comes from; shown by config_dump"

var routeFields = []*Message{
	message((*routev3.RouteConfiguration)(nil),
		reads("name", "virtual_hosts", "response_headers_to_add", "response_headers_to_remove", "request_headers_to_add", "request_headers_to_remove",
			"most_specific_header_mutations_wins", "ignore_port_in_host_matching", "max_direct_response_body_size_bytes", "typed_per_filter_config"),
		only("validate_clusters", "a cluster that is not there answers 503 NC, so it may come later", "false"),
		ignores(forPeople, "metadata")),
	message((*routev3.VirtualHost)(nil),
		reads("name", "domains", "routes", "require_tls", "request_headers_to_add", "request_headers_to_remove", "response_headers_to_add", "response_headers_to_remove",
			"typed_per_filter_config", "include_request_attempt_count", "include_attempt_count_in_response", "retry_policy"),
		ignores(forPeople, "metadata")),
	message((*routev3.Route)(nil),
		reads("name", "match", "route", "redirect", "direct_response", "decorator", "metadata", "typed_per_filter_config",
			"request_headers_to_add", "request_headers_to_remove", "response_headers_to_add", "response_headers_to_remove", "stat_prefix")),
	message((*routev3.RouteMatch)(nil),
		reads("prefix", "path", "safe_regex", "connect_matcher", "path_separated_prefix", "case_sensitive", "runtime_fraction", "headers", "query_parameters", "grpc")),
	message((*routev3.RouteMatch_ConnectMatcher)(nil)),
	message((*routev3.RouteMatch_GrpcRouteMatchOptions)(nil)),
	message((*routev3.HeaderMatcher)(nil),
		reads("name", "exact_match", "safe_regex_match", "range_match", "present_match", "prefix_match", "suffix_match", "contains_match", "string_match", "invert_match", "treat_missing_header_as_empty")),
	message((*routev3.QueryParameterMatcher)(nil), reads("name", "string_match", "present_match")),
	message((*routev3.RouteAction)(nil),
		reads("cluster", "cluster_header", "weighted_clusters", "cluster_not_found_response_code", "prefix_rewrite", "regex_rewrite", "host_rewrite_literal", "auto_host_rewrite",
			"host_rewrite_header", "host_rewrite_path_regex", "append_x_forwarded_host", "timeout", "idle_timeout", "retry_policy", "request_mirror_policies", "priority",
			"upgrade_configs", "max_stream_duration", "hash_policy", "metadata_match", "max_grpc_timeout", "grpc_timeout_offset")),
	message((*routev3.RouteAction_RequestMirrorPolicy)(nil), reads("cluster", "cluster_header", "runtime_fraction", "disable_shadow_host_suffix_append"),
		ignores("requests are not traced yet", "trace_sampled")),
	message((*routev3.RouteAction_UpgradeConfig)(nil), reads("upgrade_type", "enabled")),
	message((*routev3.RouteAction_MaxStreamDuration)(nil), reads("max_stream_duration", "grpc_timeout_header_max", "grpc_timeout_header_offset")),
	message((*routev3.WeightedCluster)(nil), reads("clusters", "total_weight"), ignores(noRuntime, "runtime_key_prefix")),
	message((*routev3.WeightedCluster_ClusterWeight)(nil),
		reads("name", "weight", "request_headers_to_add", "request_headers_to_remove", "response_headers_to_add", "response_headers_to_remove", "typed_per_filter_config", "host_rewrite_literal",
			"metadata_match")),
	message((*routev3.RetryPolicy)(nil),
		reads("retry_on", "num_retries", "per_try_timeout", "per_try_idle_timeout", "retry_priority", "retry_host_predicate", "host_selection_retry_max_attempts",
			"retriable_status_codes", "retry_back_off", "retriable_headers", "retriable_request_headers")),
	message((*routev3.RetryPolicy_RetryHostPredicate)(nil), reads("name", "typed_config")),
	message((*routev3.RetryPolicy_RetryBackOff)(nil), reads("base_interval", "max_interval")),
	message((*routev3.RetryPolicy_RetryPriority)(nil), reads("name", "typed_config")),
	message((*previousprioritiesv3.PreviousPrioritiesConfig)(nil), reads("update_frequency")),
	message((*routev3.RedirectAction)(nil),
		reads("https_redirect", "scheme_redirect", "host_redirect", "port_redirect", "path_redirect", "prefix_rewrite", "regex_rewrite", "response_code", "strip_query")),
	message((*routev3.DirectResponseAction)(nil), reads("status", "body")),
	message((*routev3.Decorator)(nil), reads("operation"), ignores("requests are not traced yet", "propagate")),
}

// table reads a route configuration.
func (r *reader) table(m *routev3.RouteConfiguration, at *field.Path) route.Config {
	c := route.Config{
		Name: m.GetName(), IgnorePort: m.GetIgnorePortInHostMatching(), MostSpecificWins: m.GetMostSpecificHeaderMutationsWins(),
		Headers:   r.headers(m, at),
		PerFilter: r.perFilter(m.GetTypedPerFilterConfig(), at.Child("typed_per_filter_config")),
	}
	limit := 4096 // Envoy's default of max_direct_response_body_size_bytes
	if v := m.GetMaxDirectResponseBodySizeBytes(); v != nil {
		limit = int(v.GetValue())
	}
	for i, v := range m.GetVirtualHosts() {
		c.VirtualHosts = append(c.VirtualHosts, r.virtualHost(v, limit, at.Child("virtual_hosts").Index(i)))
	}
	return c
}

func (r *reader) virtualHost(v *routev3.VirtualHost, limit int, at *field.Path) route.VirtualHostConfig {
	out := route.VirtualHostConfig{
		Name: v.GetName(), Domains: v.GetDomains(), Headers: r.headers(v, at),
		PerFilter:             r.perFilter(v.GetTypedPerFilterConfig(), at.Child("typed_per_filter_config")),
		AttemptCountInRequest: v.GetIncludeRequestAttemptCount(), AttemptCountInResponse: v.GetIncludeAttemptCountInResponse(),
		Retry: r.retry(v.GetRetryPolicy(), at.Child("retry_policy")),
	}
	switch v.GetRequireTls() {
	case routev3.VirtualHost_EXTERNAL_ONLY:
		out.TLS = route.TLSExternalOnly
	case routev3.VirtualHost_ALL:
		out.TLS = route.TLSAll
	}
	for i, m := range v.GetRoutes() {
		out.Routes = append(out.Routes, r.route(m, limit, at.Child("routes").Index(i)))
	}
	return out
}

func (r *reader) route(m *routev3.Route, limit int, at *field.Path) route.RouteConfig {
	out := route.RouteConfig{
		Name: m.GetName(), Match: r.match(m.GetMatch(), at.Child("match")), Headers: r.headers(m, at),
		PerFilter: r.perFilter(m.GetTypedPerFilterConfig(), at.Child("typed_per_filter_config")),
		Decorator: m.GetDecorator().GetOperation(), StatName: m.GetStatPrefix(),
	}
	if origin, ok := metadata(m.GetMetadata(), "istio")["config"].(string); ok {
		out.Metadata = origin
	}
	switch m.GetAction().(type) {
	case *routev3.Route_Route:
		out.Forward = r.forward(m.GetRoute(), at.Child("route"))
	case *routev3.Route_Redirect:
		out.Redirect = r.redirect(m.GetRedirect(), at.Child("redirect"))
	case *routev3.Route_DirectResponse:
		out.Direct = r.direct(m.GetDirectResponse(), limit, at.Child("direct_response"))
	default:
		r.errs.Addf(at, "has no action, want route, redirect or direct_response")
	}
	return out
}

func (r *reader) match(m *routev3.RouteMatch, at *field.Path) route.Match {
	out := route.Match{IgnoreCase: !truth(m.GetCaseSensitive(), true), GRPC: m.GetGrpc() != nil, Fraction: r.runtimeFraction(m.GetRuntimeFraction(), at.Child("runtime_fraction"))}
	switch m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		out.Kind, out.Path = route.PrefixPath, m.GetPrefix()
	case *routev3.RouteMatch_Path:
		out.Kind, out.Path = route.ExactPath, m.GetPath()
	case *routev3.RouteMatch_SafeRegex:
		out.Kind, out.Path = route.RegexPath, r.regex(m.GetSafeRegex(), at.Child("safe_regex"))
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out.Kind, out.Path = route.SeparatedPath, m.GetPathSeparatedPrefix()
	case *routev3.RouteMatch_ConnectMatcher_:
		_ = m.GetConnectMatcher()
		out.Kind = route.ConnectPath
	default:
		r.errs.Addf(at, "says not which paths match, want prefix, path, safe_regex, path_separated_prefix or connect_matcher")
	}
	out.Headers = r.headerMatches(m.GetHeaders(), at.Child("headers"))
	for i, q := range m.GetQueryParameters() {
		at := at.Child("query_parameters").Index(i)
		qm := route.QueryMatch{Name: q.GetName()}
		switch {
		case q.GetStringMatch() != nil:
			qm.StringMatch = r.stringMatch(q.GetStringMatch(), at.Child("string_match"))
		case q.GetQueryParameterMatchSpecifier() != nil && !q.GetPresentMatch():
			r.errs.Addf(at.Child("present_match"), "found false, want true: there is no match for an absent parameter")
		default:
			qm.Kind = route.Present
		}
		out.Query = append(out.Query, qm)
	}
	return out
}

func (r *reader) headerMatches(list []*routev3.HeaderMatcher, at *field.Path) []route.HeaderMatch {
	var out []route.HeaderMatch
	for i, m := range list {
		out = append(out, r.headerMatch(m, at.Index(i)))
	}
	return out
}

func (r *reader) headerMatch(m *routev3.HeaderMatcher, at *field.Path) route.HeaderMatch {
	out := route.HeaderMatch{Name: strings.ToLower(m.GetName()), Invert: m.GetInvertMatch(), TreatMissingAsEmpty: m.GetTreatMissingHeaderAsEmpty()}
	switch m.GetHeaderMatchSpecifier().(type) {
	case *routev3.HeaderMatcher_StringMatch:
		out.StringMatch = r.stringMatch(m.GetStringMatch(), at.Child("string_match"))
	case *routev3.HeaderMatcher_ExactMatch:
		out.StringMatch = route.StringMatch{Kind: route.Exact, Value: m.GetExactMatch()}
	case *routev3.HeaderMatcher_PrefixMatch:
		out.StringMatch = route.StringMatch{Kind: route.Prefix, Value: m.GetPrefixMatch()}
	case *routev3.HeaderMatcher_SuffixMatch:
		out.StringMatch = route.StringMatch{Kind: route.Suffix, Value: m.GetSuffixMatch()}
	case *routev3.HeaderMatcher_ContainsMatch:
		out.StringMatch = route.StringMatch{Kind: route.Contains, Value: m.GetContainsMatch()}
	case *routev3.HeaderMatcher_SafeRegexMatch:
		out.StringMatch = route.StringMatch{Kind: route.Regex, Value: r.regex(m.GetSafeRegexMatch(), at.Child("safe_regex_match"))}
	case *routev3.HeaderMatcher_RangeMatch:
		out.StringMatch = route.StringMatch{Kind: route.Range, Start: m.GetRangeMatch().GetStart(), End: m.GetRangeMatch().GetEnd()}
	case *routev3.HeaderMatcher_PresentMatch:
		out.Kind = route.Present
		if !m.GetPresentMatch() { // present_match: false asks for absence
			out.Invert = !out.Invert
		}
	default:
		out.Kind = route.Present
	}
	return out
}

func (r *reader) forward(a *routev3.RouteAction, at *field.Path) *route.ForwardConfig {
	out := &route.ForwardConfig{
		Cluster: a.GetCluster(), ClusterHeader: strings.ToLower(a.GetClusterHeader()),
		Timeout:     r.optional(a.GetTimeout(), at.Child("timeout")),
		IdleTimeout: r.optional(a.GetIdleTimeout(), at.Child("idle_timeout")),
		Retry:       r.retry(a.GetRetryPolicy(), at.Child("retry_policy")),
		Rewrite:     r.rewrite(a, at), HighPriority: a.GetPriority() == corev3.RoutingPriority_HIGH,
		MaxStream: r.maxStream(a, at),
	}
	defer r.choice(a, out, at)
	switch a.GetClusterNotFoundResponseCode() {
	case routev3.RouteAction_NOT_FOUND:
		out.NotFound = http.StatusNotFound
	case routev3.RouteAction_INTERNAL_SERVER_ERROR:
		out.NotFound = http.StatusInternalServerError
	}
	switch a.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		r.needs.Clusters = append(r.needs.Clusters, out.Cluster)
	case *routev3.RouteAction_WeightedClusters:
		out.Weighted = r.weighted(a.GetWeightedClusters(), at.Child("weighted_clusters"))
	case *routev3.RouteAction_ClusterHeader:
	default:
		r.errs.Addf(at, "names no cluster, want cluster, weighted_clusters or cluster_header")
	}
	for i, m := range a.GetRequestMirrorPolicies() {
		at := at.Child("request_mirror_policies").Index(i)
		out.Mirrors = append(out.Mirrors, route.MirrorConfig{Cluster: m.GetCluster(), ClusterHeader: strings.ToLower(m.GetClusterHeader()),
			Fraction: r.runtimeFraction(m.GetRuntimeFraction(), at.Child("runtime_fraction")), HostSuffixOff: m.GetDisableShadowHostSuffixAppend()})
		if m.GetCluster() != "" {
			r.needs.Clusters = append(r.needs.Clusters, m.GetCluster())
		}
	}
	for _, u := range a.GetUpgradeConfigs() {
		if out.Upgrades == nil {
			out.Upgrades = map[string]bool{}
		}
		out.Upgrades[strings.ToLower(u.GetUpgradeType())] = truth(u.GetEnabled(), true)
	}
	return out
}

func (r *reader) maxStream(a *routev3.RouteAction, at *field.Path) *route.MaxStream {
	if m := a.GetMaxStreamDuration(); m != nil {
		at := at.Child("max_stream_duration")
		return &route.MaxStream{
			MaxDuration:       r.optional(m.GetMaxStreamDuration(), at.Child("max_stream_duration")),
			GRPCTimeoutMax:    r.optional(m.GetGrpcTimeoutHeaderMax(), at.Child("grpc_timeout_header_max")),
			GRPCTimeoutOffset: r.duration(m.GetGrpcTimeoutHeaderOffset(), at.Child("grpc_timeout_header_offset")),
		}
	}
	// The fields that max_stream_duration has replaced; Istio 1.2x still sets the first.
	if a.GetMaxGrpcTimeout() == nil { //nolint:staticcheck // deprecated, and what existing control planes send
		return nil
	}
	return &route.MaxStream{
		GRPCTimeoutMax:    r.optional(a.GetMaxGrpcTimeout(), at.Child("max_grpc_timeout")),       //nolint:staticcheck
		GRPCTimeoutOffset: r.duration(a.GetGrpcTimeoutOffset(), at.Child("grpc_timeout_offset")), //nolint:staticcheck
	}
}

func (r *reader) rewrite(a *routev3.RouteAction, at *field.Path) route.RewriteConfig {
	out := route.RewriteConfig{Prefix: a.GetPrefixRewrite(), Host: a.GetHostRewriteLiteral(), AutoHost: a.GetAutoHostRewrite().GetValue(),
		HostHeader: strings.ToLower(a.GetHostRewriteHeader()), AppendForwardedHost: a.GetAppendXForwardedHost()}
	if m := a.GetRegexRewrite(); m != nil {
		out.Regex, out.Substitution = r.regex(m.GetPattern(), at.Child("regex_rewrite").Child("pattern")), m.GetSubstitution()
	}
	if m := a.GetHostRewritePathRegex(); m != nil {
		out.HostPathRegex, out.HostPathSubstitution = r.regex(m.GetPattern(), at.Child("host_rewrite_path_regex").Child("pattern")), m.GetSubstitution()
	}
	return out
}

func (r *reader) weighted(w *routev3.WeightedCluster, at *field.Path) []route.WeightedConfig {
	var out []route.WeightedConfig
	var sum uint64
	for i, c := range w.GetClusters() {
		at := at.Child("clusters").Index(i)
		if c.GetName() == "" {
			r.errs.Addf(at.Child("name"), "is empty, want a cluster")
		}
		sum += uint64(c.GetWeight().GetValue())
		r.needs.Clusters = append(r.needs.Clusters, c.GetName())
		out = append(out, route.WeightedConfig{Cluster: c.GetName(), Weight: c.GetWeight().GetValue(), Headers: r.headers(c, at), HostRewrite: c.GetHostRewriteLiteral(),
			PerFilter: r.perFilter(c.GetTypedPerFilterConfig(), at.Child("typed_per_filter_config"))})
	}
	if sum == 0 {
		r.errs.Addf(at.Child("clusters"), "all weights are 0, want at least one above 0")
	}
	if total := w.GetTotalWeight(); total != nil && uint64(total.GetValue()) != sum { //nolint:staticcheck // deprecated, still sent
		r.errs.Addf(at.Child("total_weight"), "found %d, want the sum of the weights, %d", total.GetValue(), sum)
	}
	return out
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

func (r *reader) redirect(m *routev3.RedirectAction, at *field.Path) *route.RedirectConfig {
	out := &route.RedirectConfig{HTTPS: m.GetHttpsRedirect(), Scheme: m.GetSchemeRedirect(), Host: m.GetHostRedirect(), Port: m.GetPortRedirect(),
		Path: m.GetPathRedirect(), Prefix: m.GetPrefixRewrite(), StripQuery: m.GetStripQuery()}
	if re := m.GetRegexRewrite(); re != nil {
		out.Regex, out.Substitution = r.regex(re.GetPattern(), at.Child("regex_rewrite").Child("pattern")), re.GetSubstitution()
	}
	switch m.GetResponseCode() {
	case routev3.RedirectAction_MOVED_PERMANENTLY:
		out.Code = http.StatusMovedPermanently
	case routev3.RedirectAction_FOUND:
		out.Code = http.StatusFound
	case routev3.RedirectAction_SEE_OTHER:
		out.Code = http.StatusSeeOther
	case routev3.RedirectAction_TEMPORARY_REDIRECT:
		out.Code = http.StatusTemporaryRedirect
	case routev3.RedirectAction_PERMANENT_REDIRECT:
		out.Code = http.StatusPermanentRedirect
	default:
		r.errs.Addf(at.Child("response_code"), "found %v, want a redirect", m.GetResponseCode())
	}
	return out
}

func (r *reader) direct(m *routev3.DirectResponseAction, limit int, at *field.Path) *route.Direct {
	if m.GetStatus() < 200 || m.GetStatus() > 599 {
		r.errs.Addf(at.Child("status"), "found %d, want a status from 200 to 599", m.GetStatus())
	}
	body := r.data(m.GetBody(), at.Child("body"))
	if len(body) > limit {
		r.errs.Addf(at.Child("body"), "has %d bytes, at most %d are allowed (max_direct_response_body_size_bytes)", len(body), limit)
	}
	return &route.Direct{Status: uint16(m.GetStatus()), Body: body}
}

// changesHeaders is what route tables, virtual hosts, routes and weighted clusters have in common.
type changesHeaders interface {
	GetRequestHeadersToAdd() []*corev3.HeaderValueOption
	GetRequestHeadersToRemove() []string
	GetResponseHeadersToAdd() []*corev3.HeaderValueOption
	GetResponseHeadersToRemove() []string
}

func (r *reader) headers(m changesHeaders, at *field.Path) route.HeadersConfig {
	return route.HeadersConfig{
		RequestAdd:     r.headerValues(m.GetRequestHeadersToAdd(), at.Child("request_headers_to_add")),
		ResponseAdd:    r.headerValues(m.GetResponseHeadersToAdd(), at.Child("response_headers_to_add")),
		RequestRemove:  r.headerNames(m.GetRequestHeadersToRemove(), at.Child("request_headers_to_remove")),
		ResponseRemove: r.headerNames(m.GetResponseHeadersToRemove(), at.Child("response_headers_to_remove")),
	}
}

// headerNames refuses what Envoy refuses: a request cannot do without its host and path.
func (r *reader) headerNames(names []string, at *field.Path) []string {
	out := slices.Clone(names)
	for i, n := range out {
		out[i] = strings.ToLower(n)
		if strings.HasPrefix(n, ":") || out[i] == "host" {
			r.errs.Addf(at.Index(i), "found %q, which cannot be removed", n)
		}
	}
	return out
}

func (r *reader) headerValues(list []*corev3.HeaderValueOption, at *field.Path) []route.HeaderValue {
	var out []route.HeaderValue
	for i, o := range list {
		v := route.HeaderValue{Name: strings.ToLower(o.GetHeader().GetKey()), Value: o.GetHeader().GetValue(), KeepEmpty: o.GetKeepEmptyValue()}
		switch o.GetAppendAction() {
		case corev3.HeaderValueOption_ADD_IF_ABSENT:
			v.Action = route.AddIfAbsent
		case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			v.Action = route.OverwriteIfExistsOrAdd
		case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
			v.Action = route.OverwriteIfExists
		}
		if a := o.GetAppend(); a != nil { //nolint:staticcheck // deprecated, still sent
			if o.GetAppendAction() != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD {
				r.errs.Addf(at.Index(i), "both append and append_action are set")
			} else if !a.GetValue() {
				v.Action = route.OverwriteIfExistsOrAdd
			}
		}
		if _, err := access.CompileHeader(v.Value); err != nil {
			r.errs.Addf(at.Index(i).Child("header").Child("value"), "%v", err)
		}
		out = append(out, v)
	}
	return out
}

// perFilter reads what routes say to filters, by the filter's name.
func (r *reader) perFilter(configs map[string]*anypb.Any, at *field.Path) map[string]any {
	var out map[string]any
	for name, a := range configs {
		v := r.filterOverride(a, at.Child(name))
		if v == nil {
			continue
		}
		if out == nil {
			out = map[string]any{}
		}
		out[name] = v
	}
	return out
}
