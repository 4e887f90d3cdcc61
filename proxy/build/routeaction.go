package build

import (
	"math"
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	templaterewritev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/rewrite/uri_template/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/route"
)

func (r *reader) forward(a *routev3.RouteAction, at *field.Path) *route.ForwardConfig {
	out := &route.ForwardConfig{
		Cluster: a.GetCluster(), ClusterHeader: strings.ToLower(a.GetClusterHeader()),
		Timeout:     r.optional(a.GetTimeout(), at.Child("timeout")),
		IdleTimeout: r.optional(a.GetIdleTimeout(), at.Child("idle_timeout")),
		Retry:       r.retry(a.GetRetryPolicy(), at.Child("retry_policy")),
		Follow:      r.follow(a.GetInternalRedirectPolicy(), at.Child("internal_redirect_policy")),
		Hedge:       hedge(a.GetHedgePolicy()),
		Rewrite:     r.rewrite(a, at), HighPriority: a.GetPriority() == corev3.RoutingPriority_HIGH,
		MaxStream:  r.maxStream(a, at),
		RateLimits: r.ratePolicy(a.GetRateLimits(), a.GetIncludeVhRateLimits().GetValue(), at.Child("rate_limits")), //nolint:staticcheck // deprecated, still sent
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
		out.WeightHeader = strings.ToLower(a.GetWeightedClusters().GetHeaderName())
		out.WeightByHash = a.GetWeightedClusters().GetUseHashPolicy().GetValue()
	case *routev3.RouteAction_ClusterHeader:
	default:
		r.errs.Addf(at, "names no cluster, want cluster, weighted_clusters or cluster_header")
	}
	out.Mirrors = r.mirrors(a.GetRequestMirrorPolicies(), at.Child("request_mirror_policies"))
	for i, u := range a.GetUpgradeConfigs() {
		if out.Upgrades == nil {
			out.Upgrades = map[string]bool{}
		}
		kind := strings.ToLower(u.GetUpgradeType())
		if _, twice := out.Upgrades[kind]; twice {
			r.errs.Addf(at.Child("upgrade_configs").Index(i).Child("upgrade_type"), "found %q a second time", u.GetUpgradeType())
		}
		out.Upgrades[kind] = truth(u.GetEnabled(), true)
		if c := u.GetConnectConfig(); c != nil {
			out.Connect = &route.Connect{Post: c.GetAllowPost()}
			if p := c.GetProxyProtocolConfig(); p != nil {
				out.Connect.Proxy = r.connectSender(p, at.Child("upgrade_configs").Child("connect_config").Child("proxy_protocol_config"))
			}
			if kind != "connect" {
				r.errs.Addf(at.Child("upgrade_configs"), "connect_config is set for upgrade_type %q, want CONNECT", u.GetUpgradeType())
			}
		}
	}
	return out
}

func (r *reader) mirrors(list []*routev3.RouteAction_RequestMirrorPolicy, at *field.Path) []route.MirrorConfig {
	var out []route.MirrorConfig
	for i, m := range list {
		at := at.Index(i)
		out = append(out, route.MirrorConfig{Cluster: m.GetCluster(), ClusterHeader: strings.ToLower(m.GetClusterHeader()),
			Fraction: r.runtimeFraction(m.GetRuntimeFraction(), at.Child("runtime_fraction")), HostSuffixOff: m.GetDisableShadowHostSuffixAppend(),
			HostRewrite: m.GetHostRewriteLiteral(), Headers: r.mutations(m.GetRequestHeadersMutations(), true, at.Child("request_headers_mutations"))})
		if m.GetCluster() != "" {
			r.needs.Clusters = append(r.needs.Clusters, m.GetCluster())
		}
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
		Response:          true,
		GRPCTimeoutMax:    r.optional(a.GetMaxGrpcTimeout(), at.Child("max_grpc_timeout")),       //nolint:staticcheck
		GRPCTimeoutOffset: r.duration(a.GetGrpcTimeoutOffset(), at.Child("grpc_timeout_offset")), //nolint:staticcheck
	}
}

func (r *reader) rewrite(a *routev3.RouteAction, at *field.Path) route.RewriteConfig {
	out := route.RewriteConfig{Prefix: a.GetPrefixRewrite(), Host: a.GetHostRewriteLiteral(), AutoHost: a.GetAutoHostRewrite().GetValue(),
		HostFormat: a.GetHostRewrite(), PathFormat: a.GetPathRewrite(),
		HostHeader: strings.ToLower(a.GetHostRewriteHeader()), AppendForwardedHost: a.GetAppendXForwardedHost()}
	if m := a.GetRegexRewrite(); m != nil {
		out.Regex, out.Substitution = r.regex(m.GetPattern(), at.Child("regex_rewrite").Child("pattern")), m.GetSubstitution()
	}
	if p := a.GetPathRewritePolicy(); p != nil {
		at := at.Child("path_rewrite_policy")
		m, ok := r.unpack(p.GetTypedConfig(), at).(*templaterewritev3.UriTemplateRewriteConfig)
		if !ok {
			r.errs.Addf(at, "found %q, want envoy.path.rewrite.uri_template.uri_template_rewriter", p.GetName())
		}
		out.Template = m.GetPathTemplateRewrite()
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
		if (c.GetName() == "") == (c.GetClusterHeader() == "") {
			r.errs.Addf(at.Child("name"), "found %q and cluster_header %q, want one of them", c.GetName(), c.GetClusterHeader())
		}
		sum += uint64(c.GetWeight().GetValue())
		if c.GetName() != "" {
			r.needs.Clusters = append(r.needs.Clusters, c.GetName())
		}
		weight := uint32(0)
		if n := r.env.Values.number(w.GetRuntimeKeyPrefix()+"."+c.GetName(), number(c.GetWeight())); n != nil {
			weight = *n
		}
		out = append(out, route.WeightedConfig{Cluster: c.GetName(), ClusterHeader: strings.ToLower(c.GetClusterHeader()), Weight: weight, Headers: r.headers(c, at), HostRewrite: c.GetHostRewriteLiteral(),
			PerFilter: r.perFilter(c.GetTypedPerFilterConfig(), at.Child("typed_per_filter_config"))})
	}
	if sum > math.MaxUint32 {
		r.errs.Addf(at.Child("clusters"), "found weights of %d in sum, want at most %d", sum, uint32(math.MaxUint32))
	}
	return out
}

func (r *reader) redirect(m *routev3.RedirectAction, at *field.Path) *route.RedirectConfig {
	out := &route.RedirectConfig{HTTPS: m.GetHttpsRedirect(), Scheme: m.GetSchemeRedirect(), Host: m.GetHostRedirect(), Port: m.GetPortRedirect(),
		Path: m.GetPathRedirect(), Prefix: m.GetPrefixRewrite(), PathFormat: m.GetPathRewrite(), StripQuery: m.GetStripQuery()}
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
	out := &route.Direct{Status: uint16(m.GetStatus()), Body: body}
	if f := m.GetBodyFormat(); f != nil {
		if b := r.bodyFormat(f, at.Child("body_format")); b != nil {
			out.Format, out.ContentType = b.Format, b.ContentType
		}
	}
	return out
}
