package build

import (
	"cmp"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"time"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	servicev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/filter/localratelimit"
	"github.com/mallamesh/malla/proxy/filter/ratelimitservice"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
)

var rateLimitFields = []*Message{
	message((*localv3.LocalRateLimit)(nil), reads("stat_prefix", "status", "token_bucket", "filter_enabled", "filter_enforced", "request_headers_to_add_when_not_enforced",
		"response_headers_to_add", "descriptors", "stage", "local_rate_limit_per_downstream_connection", "enable_x_ratelimit_headers", "vh_rate_limits",
		"always_consume_default_token_bucket", "rate_limited_as_resource_exhausted", "rate_limits", "max_dynamic_descriptors", "enable_retry_after_header", "local_cluster_rate_limit")),
	message((*ratelimitv3.LocalClusterRateLimit)(nil)),
	message((*servicev3.RateLimit)(nil), reads("domain", "stage", "request_type", "timeout", "failure_mode_deny", "rate_limited_as_resource_exhausted", "rate_limit_service",
		"enable_x_ratelimit_headers", "disable_x_envoy_ratelimited_header", "rate_limited_status", "response_headers_to_add", "status_on_error", "stat_prefix",
		"filter_enabled", "filter_enforced", "failure_mode_deny_percent", "rate_limits", "enable_retry_after_header", "metadata_namespace")),
	message((*servicev3.RateLimitPerRoute)(nil), reads("vh_rate_limits", "rate_limits", "domain"), ignores("Envoy gives it no effect either", "override_option")),
	message((*rlsv3.RateLimitServiceConfig)(nil), reads("grpc_service"), only("transport_api_version", "version 2 has been gone for years", "AUTO", "V3")),
	message((*ratelimitv3.LocalRateLimitDescriptor)(nil), reads("entries", "token_bucket", "shadow_mode")),
	message((*ratelimitv3.RateLimitDescriptor_Entry)(nil), reads("key", "value")),
	message((*typev3.TokenBucket)(nil), reads("max_tokens", "tokens_per_fill", "fill_interval")),
	message((*typev3.HttpStatus)(nil), reads("code")),
	message((*routev3.RateLimit)(nil), reads("stage", "disable_key", "actions", "hits_addend", "x_ratelimit_option", "limit", "apply_on_stream_done")),
	message((*routev3.RateLimit_Override)(nil), reads("dynamic_metadata", "rate_limit")),
	message((*routev3.RateLimit_Override_DynamicMetadata)(nil), reads("metadata_key")),
	message((*routev3.RateLimit_Override_RateLimitOverride)(nil), reads("requests_per_unit", "unit")),
	message((*routev3.RateLimit_HitsAddend)(nil), reads("number", "format", "is_negative_hits")),
	message((*routev3.RateLimit_Action)(nil), reads("source_cluster", "destination_cluster", "request_headers", "query_parameters", "remote_address", "generic_key",
		"header_value_match", "masked_remote_address", "query_parameter_value_match", "remote_address_match", "metadata", "extension"),
		refuses("is refused by Envoy, too, for metadata has taken its place", "dynamic_metadata")),
	message((*routev3.RateLimit_Action_SourceCluster)(nil)),
	message((*routev3.RateLimit_Action_DestinationCluster)(nil)),
	message((*routev3.RateLimit_Action_RequestHeaders)(nil), reads("header_name", "descriptor_key", "skip_if_absent")),
	message((*routev3.RateLimit_Action_QueryParameters)(nil), reads("query_parameter_name", "descriptor_key", "skip_if_absent")),
	message((*routev3.RateLimit_Action_RemoteAddress)(nil)),
	message((*routev3.RateLimit_Action_GenericKey)(nil), reads("descriptor_value", "descriptor_key", "default_value")),
	message((*routev3.RateLimit_Action_HeaderValueMatch)(nil), reads("descriptor_value", "descriptor_key", "expect_match", "headers", "default_value")),
	message((*routev3.RateLimit_Action_QueryParameterValueMatch)(nil), reads("descriptor_value", "descriptor_key", "expect_match", "query_parameters", "default_value")),
	message((*routev3.RateLimit_Action_MaskedRemoteAddress)(nil), reads("v4_prefix_mask_len", "v6_prefix_mask_len")),
	message((*routev3.RateLimit_Action_RemoteAddressMatch)(nil), reads("descriptor_value", "descriptor_key", "default_value", "address_matcher")),
	message((*matcherv3.AddressMatcher)(nil), reads("ranges", "invert_match")),
	message((*xdscorev3.CidrRange)(nil), reads("address_prefix", "prefix_len")),
}

// localRateLimit reads one level of the local rate limit. A level of a route is told so: its statistics
// live as long as the configuration does.
func (r *reader) localRateLimit(m *localv3.LocalRateLimit, at *field.Path) *localratelimit.Config {
	c := &localratelimit.Config{
		Status: http.StatusTooManyRequests, AlwaysDefault: truth(m.GetAlwaysConsumeDefaultTokenBucket(), true), MaxDynamic: 20,
		PerConnection: m.GetLocalRateLimitPerDownstreamConnection(), Stage: m.GetStage(), Exhausted: m.GetRateLimitedAsResourceExhausted(),
		Headers: m.GetEnableXRatelimitHeaders() == ratelimitv3.XRateLimitHeadersRFCVersion_DRAFT_VERSION_03, RetryAfter: m.GetEnableRetryAfterHeader(),
		Response: r.additions(m.GetResponseHeadersToAdd(), at.Child("response_headers_to_add")),
		Marks:    r.additions(m.GetRequestHeadersToAddWhenNotEnforced(), at.Child("request_headers_to_add_when_not_enforced")),
	}
	if m.GetStatPrefix() == "" {
		r.errs.Addf(at.Child("stat_prefix"), "is empty")
	}
	if code := int(m.GetStatus().GetCode()); code >= 400 {
		c.Status = code
	}
	if f := r.runtimeFraction(m.GetFilterEnabled(), at.Child("filter_enabled")); f != nil {
		c.Enabled = *f
	}
	if f := r.runtimeFraction(m.GetFilterEnforced(), at.Child("filter_enforced")); f != nil {
		c.Enforced = *f
	}
	if b := m.GetTokenBucket(); b != nil {
		c.HasDefault, c.Fill = true, r.fill(b, at.Child("token_bucket"))
	}
	if m.GetLocalClusterRateLimit() != nil {
		at := at.Child("local_cluster_rate_limit")
		if c.Peers = r.env.local; c.Peers == nil {
			r.errs.Addf(at, "is set, and the bootstrap has no local_cluster_name")
		}
		if c.PerConnection {
			r.errs.Addf(at, "is set beside local_rate_limit_per_downstream_connection, want one of them")
		}
	}
	switch m.GetVhRateLimits() {
	case ratelimitv3.VhRateLimitsOptions_INCLUDE:
		c.Selection = ratelimit.Include
	case ratelimitv3.VhRateLimitsOptions_IGNORE:
		c.Selection = ratelimit.Ignore
	}
	if n := m.GetMaxDynamicDescriptors(); n != nil {
		if c.MaxDynamic = int(n.GetValue()); c.MaxDynamic == 0 {
			r.errs.Addf(at.Child("max_dynamic_descriptors"), "found 0, want at least 1")
		}
	}
	if c.Stage > 10 {
		r.errs.Addf(at.Child("stage"), "found %d, want at most 10", c.Stage)
	}
	c.Limits = r.filterLimits(m.GetRateLimits(), at.Child("rate_limits"))
	for i, l := range m.GetRateLimits() {
		if l.GetLimit() != nil {
			r.errs.Addf(at.Child("rate_limits").Index(i).Child("limit"), "is for a rate limit service, want descriptors that say how many")
		}
	}
	r.rules(m.GetDescriptors(), c, at.Child("descriptors"))
	var scope *stats.Scope
	c.Stats, scope = r.env.Stats.LocalRateLimit(m.GetStatPrefix())
	runtime.AddCleanup(c, (*stats.Scope).Close, scope)
	return c
}

// rateLimitService reads the filter that asks a service.
func (r *listenerReader) rateLimitService(m *servicev3.RateLimit, at *field.Path) *ratelimitservice.Config {
	one := route.Fraction{Numerator: 1, Denominator: 1}
	c := &ratelimitservice.Config{
		Domain: m.GetDomain(), Stage: m.GetStage(), Timeout: r.orDefault(m.GetTimeout(), 20*time.Millisecond, at.Child("timeout")),
		Status: http.StatusTooManyRequests, ErrorStatus: http.StatusInternalServerError,
		Enabled: r.env.Values.percent("ratelimit.http_filter_enabled"), Enforced: r.env.Values.percent("ratelimit.http_filter_enforcing"),
		Exhausted: m.GetRateLimitedAsResourceExhausted(), NoMark: m.GetDisableXEnvoyRatelimitedHeader(), RetryAfter: m.GetEnableRetryAfterHeader(),
		Headers:  m.GetEnableXRatelimitHeaders() == servicev3.RateLimit_DRAFT_VERSION_03,
		Response: r.additions(m.GetResponseHeadersToAdd(), at.Child("response_headers_to_add")),
		Limits:   r.filterLimits(m.GetRateLimits(), at.Child("rate_limits")),

		Namespace: cmp.Or(m.GetMetadataNamespace(), "envoy.filters.http.ratelimit"), Decode: decodeStruct,
	}
	if c.Domain == "" {
		r.errs.Addf(at.Child("domain"), "is empty")
	}
	if c.Stage > 10 {
		r.errs.Addf(at.Child("stage"), "found %d, want at most 10", c.Stage)
	}
	switch m.GetRequestType() {
	case "internal":
		c.Kind = ratelimitservice.Internal
	case "external":
		c.Kind = ratelimitservice.External
	case "", "both":
	default:
		r.errs.Addf(at.Child("request_type"), "found %q, want internal, external or both", m.GetRequestType())
	}
	if code := int(m.GetRateLimitedStatus().GetCode()); code >= 400 {
		c.Status = code
	}
	if code := int(m.GetStatusOnError().GetCode()); code >= 400 {
		c.ErrorStatus = code
	}
	if f := r.runtimeFraction(m.GetFilterEnabled(), at.Child("filter_enabled")); f != nil {
		c.Enabled = *f
	}
	if f := r.runtimeFraction(m.GetFilterEnforced(), at.Child("filter_enforced")); f != nil {
		c.Enforced = *f
	}
	if m.GetFailureModeDeny() {
		c.Deny = one
	}
	if f := r.runtimeFraction(m.GetFailureModeDenyPercent(), at.Child("failure_mode_deny_percent")); f != nil {
		c.Deny = *f
	}
	c.Cluster, c.Authority = r.service(m.GetRateLimitService().GetGrpcService(), at.Child("rate_limit_service").Child("grpc_service"))
	registry, prefix := r.env.Stats, m.GetStatPrefix()
	c.Counters = func(cluster string) *stats.RateLimit {
		set, scope := registry.RateLimit(cluster, prefix)
		runtime.AddCleanup(c, (*stats.Scope).Close, scope)
		return set
	}
	return c
}

// service reads the cluster that a gRPC service is asked at, and the name that it is called by.
func (r *reader) service(m *corev3.GrpcService, at *field.Path) (cluster, authority string) {
	e := m.GetEnvoyGrpc()
	if e.GetClusterName() == "" {
		r.errs.Addf(at.Child("envoy_grpc"), "names no cluster")
	}
	if len(m.GetInitialMetadata()) > 0 {
		r.errs.Addf(at.Child("initial_metadata"), "is not supported here")
	}
	r.needs.Clusters = append(r.needs.Clusters, e.GetClusterName())
	if authority = e.GetAuthority(); authority == "" {
		authority = e.GetClusterName()
	}
	return e.GetClusterName(), authority
}

// rateLimitWord reads what a route says to the filter that asks a service.
func (r *reader) rateLimitWord(m *servicev3.RateLimitPerRoute, at *field.Path) *ratelimitservice.Word {
	w := &ratelimitservice.Word{Domain: m.GetDomain(), Limits: r.filterLimits(m.GetRateLimits(), at.Child("rate_limits"))}
	switch m.GetVhRateLimits() {
	case servicev3.RateLimitPerRoute_INCLUDE:
		w.Selection = ratelimit.Include
	case servicev3.RateLimitPerRoute_IGNORE:
		w.Selection = ratelimit.Ignore
	}
	return w
}

// fill reads how a bucket is filled. A bucket that holds nothing may have any interval.
func (r *reader) fill(b *typev3.TokenBucket, at *field.Path) ratelimit.Fill {
	f := ratelimit.Fill{Max: b.GetMaxTokens(), PerFill: 1, Interval: r.duration(b.GetFillInterval(), at.Child("fill_interval"))}
	if n := b.GetTokensPerFill(); n != nil {
		if f.PerFill = n.GetValue(); f.PerFill == 0 {
			r.errs.Addf(at.Child("tokens_per_fill"), "found 0, want at least 1")
		}
	}
	if f.Interval == 0 || f.Max > 0 && f.Interval < 50*time.Millisecond {
		r.errs.Addf(at.Child("fill_interval"), "found %v, want at least 50ms", f.Interval)
	}
	return f
}

func (r *reader) rules(list []*ratelimitv3.LocalRateLimitDescriptor, c *localratelimit.Config, at *field.Path) {
	seen := map[string]bool{}
	for i, d := range list {
		at := at.Index(i)
		rule := localratelimit.Rule{Fill: r.fill(d.GetTokenBucket(), at.Child("token_bucket")), Shadow: d.GetShadowMode()}
		for _, e := range d.GetEntries() {
			if e.GetKey() == "" {
				r.errs.Addf(at.Child("entries"), "has an entry without a key")
			}
			rule.Entries = append(rule.Entries, ratelimit.Entry{Key: e.GetKey(), Value: []byte(e.GetValue())})
		}
		if len(rule.Entries) == 0 {
			r.errs.Addf(at.Child("entries"), "is empty, want at least one")
		}
		if d.GetTokenBucket() == nil {
			r.errs.Addf(at.Child("token_bucket"), "is not set")
		}
		key := string(ratelimit.AppendKey(nil, rule.Entries))
		if seen[key] {
			r.errs.Addf(at.Child("entries"), "are those of another descriptor, want each once")
		}
		seen[key] = true
		c.Rules = append(c.Rules, rule)
	}
}

// additions reads fields that are added.
func (r *reader) additions(list []*corev3.HeaderValueOption, at *field.Path) *route.Mutations {
	values := r.headerValues(list, at)
	if len(values) == 0 {
		return nil
	}
	var all []route.Mutation
	for i := range values {
		all = append(all, route.Mutation{Append: &values[i]})
	}
	out, err := route.NewMutations(all)
	if err != nil {
		r.errs.Addf(at, "%v", err)
	}
	return out
}

// ratePolicy reads the limits of a route or a virtual host, nil where there are none. What a request
// counts for is said by filters only.
func (r *reader) ratePolicy(list []*routev3.RateLimit, include bool, at *field.Path) any {
	if len(list) == 0 && !include {
		return nil
	}
	p := &ratelimit.Policy{Include: include, Limits: r.rateLimits(list, at)}
	for i, l := range p.Limits {
		if list[i].GetHitsAddend() != nil {
			r.errs.Addf(at.Index(i).Child("hits_addend"), "has no effect here, want it in the rate_limits of a filter")
		}
		l.Stage = list[i].GetStage().GetValue()
		if k := list[i].GetDisableKey(); k != "" {
			share := r.env.Values.percent("ratelimit." + k + ".http_filter_enabled")
			l.Keyed = &share
		}
		if l.Stage > 10 {
			r.errs.Addf(at.Index(i).Child("stage"), "found %d, want at most 10", l.Stage)
		}
	}
	return p
}

// filterLimits reads the limits that a filter has of its own: what tells filters apart is not for them.
func (r *reader) filterLimits(list []*routev3.RateLimit, at *field.Path) []*ratelimit.Limit {
	for i, m := range list {
		if m.GetStage() != nil {
			r.errs.Addf(at.Index(i).Child("stage"), "is for the rate_limits of routes and virtual hosts")
		}
		if m.GetDisableKey() != "" {
			r.errs.Addf(at.Index(i).Child("disable_key"), "is for the rate_limits of routes and virtual hosts")
		}
	}
	return r.rateLimits(list, at)
}

func (r *reader) rateLimits(list []*routev3.RateLimit, at *field.Path) []*ratelimit.Limit {
	var out []*ratelimit.Limit
	for i, m := range list {
		at := at.Index(i)
		l := &ratelimit.Limit{Refill: m.GetHitsAddend().GetIsNegativeHits(), AtEnd: m.GetApplyOnStreamDone()}
		switch m.GetXRatelimitOption() {
		case routev3.RateLimit_OFF:
			l.Headers = ratelimit.NoHeaders
		case routev3.RateLimit_DRAFT_VERSION_03:
			l.Headers = ratelimit.Draft03
		}
		if h := m.GetHitsAddend(); h != nil {
			r.hits(h, l, at.Child("hits_addend"))
		}
		if o := m.GetLimit(); o != nil {
			r.override(o, l, at.Child("limit"))
		}
		if len(m.GetActions()) == 0 {
			r.errs.Addf(at.Child("actions"), "is empty, want at least one")
		}
		for j, a := range m.GetActions() {
			if made := r.rateAction(a, at.Child("actions").Index(j)); made != nil {
				l.Actions = append(l.Actions, made)
			}
		}
		out = append(out, l)
	}
	return out
}

// override reads a limit that goes to the service.
func (r *reader) override(m *routev3.RateLimit_Override, l *ratelimit.Limit, at *field.Path) {
	switch {
	case m.GetDynamicMetadata() != nil:
		k := r.metadataKey(m.GetDynamicMetadata().GetMetadataKey(), at.Child("dynamic_metadata").Child("metadata_key"))
		l.OwnIn = &k
	case m.GetRateLimit() != nil:
		o := m.GetRateLimit()
		if o.GetUnit() < 0 || int(o.GetUnit()) >= len(ratelimit.Units) {
			r.errs.Addf(at.Child("rate_limit").Child("unit"), "found %d, want a unit of time", o.GetUnit())
			return
		}
		l.Own = &ratelimit.Own{Requests: o.GetRequestsPerUnit(), Unit: uint8(o.GetUnit())}
	default:
		r.errs.Addf(at, "says nothing, want dynamic_metadata or rate_limit")
	}
}

func (r *reader) hits(h *routev3.RateLimit_HitsAddend, l *ratelimit.Limit, at *field.Path) {
	if (h.GetNumber() == nil) == (h.GetFormat() == "") {
		r.errs.Addf(at, "wants one of number and format")
		return
	}
	if n := h.GetNumber(); n != nil {
		v := n.GetValue()
		if l.Hits = &v; v > 1_000_000_000 {
			r.errs.Addf(at.Child("number"), "found %d, want at most 1000000000", v)
		}
		return
	}
	if !strings.HasPrefix(h.GetFormat(), "%") || !strings.HasSuffix(h.GetFormat(), "%") {
		r.errs.Addf(at.Child("format"), "found %q, want one command and nothing else", h.GetFormat())
	}
	l.HitsField = r.valueFormat(h.GetFormat(), at.Child("format"))
}

func (r *reader) valueFormat(text string, at *field.Path) *access.Format {
	f, err := access.CompileHeader(text)
	if err != nil {
		r.errs.Addf(at, "%v", err)
	}
	return f
}

// valuesAreFormats is the key of Envoy's runtime by which the values of more actions are formats.
const valuesAreFormats = "envoy.reloadable_features.enable_formatter_for_ratelimit_action_descriptor_value"

// rateValue reads the value of an action, which is a text unless the runtime says otherwise.
func (r *reader) rateValue(text, otherwise string, at *field.Path) ratelimit.Value {
	if on := r.env.Values.get(valuesAreFormats).truth; on == nil || !*on {
		return ratelimit.Value{Text: []byte(text)}
	}
	return ratelimit.Value{Format: r.valueFormat(text, at), Default: []byte(otherwise)}
}

func (r *reader) rateAction(m *routev3.RateLimit_Action, at *field.Path) ratelimit.Action {
	named := func(key, byDefault string) string {
		if key == "" {
			return byDefault
		}
		return key
	}
	wanted := func(v, name string) string {
		if v == "" {
			r.errs.Addf(at.Child(name), "is empty")
		}
		return v
	}
	switch a := m.GetActionSpecifier().(type) {
	case *routev3.RateLimit_Action_SourceCluster_:
		_ = m.GetSourceCluster()
		return &ratelimit.Constant{Key: "source_cluster", Value: []byte(r.env.Node.GetCluster())}
	case *routev3.RateLimit_Action_DestinationCluster_:
		_ = m.GetDestinationCluster()
		return ratelimit.Destination{}
	case *routev3.RateLimit_Action_RequestHeaders_:
		h := m.GetRequestHeaders()
		return &ratelimit.Header{Key: wanted(h.GetDescriptorKey(), "descriptor_key"), Name: []byte(strings.ToLower(wanted(h.GetHeaderName(), "header_name"))), Optional: h.GetSkipIfAbsent()}
	case *routev3.RateLimit_Action_QueryParameters_:
		q := m.GetQueryParameters()
		return &ratelimit.Query{Key: wanted(q.GetDescriptorKey(), "descriptor_key"), Name: wanted(q.GetQueryParameterName(), "query_parameter_name"), Optional: q.GetSkipIfAbsent()}
	case *routev3.RateLimit_Action_Metadata:
		d := m.GetMetadata()
		out := r.rateMetadata(d.GetDescriptorKey(), d.GetDefaultValue(), d.GetMetadataKey(), at)
		out.Source, out.Optional = metadataSources[d.GetSource()], d.GetSkipIfAbsent()
		return out
	case *routev3.RateLimit_Action_RemoteAddress_:
		_ = m.GetRemoteAddress()
		return ratelimit.Address{}
	case *routev3.RateLimit_Action_MaskedRemoteAddress_:
		n := m.GetMaskedRemoteAddress()
		out := ratelimit.Network{V4: 32, V6: 128}
		if v := n.GetV4PrefixMaskLen(); v != nil {
			out.V4 = int(v.GetValue())
		}
		if v := n.GetV6PrefixMaskLen(); v != nil {
			out.V6 = int(v.GetValue())
		}
		if out.V4 > 32 || out.V6 > 128 {
			r.errs.Addf(at, "found %d and %d bits, want at most 32 and 128", out.V4, out.V6)
		}
		return out
	case *routev3.RateLimit_Action_GenericKey_:
		k := m.GetGenericKey()
		return &ratelimit.Generic{Key: named(k.GetDescriptorKey(), "generic_key"), Value: r.rateValue(wanted(k.GetDescriptorValue(), "descriptor_value"), k.GetDefaultValue(), at.Child("descriptor_value"))}
	case *routev3.RateLimit_Action_HeaderValueMatch_:
		h := m.GetHeaderValueMatch()
		return &ratelimit.HeaderMatch{Key: named(h.GetDescriptorKey(), "header_match"), Value: r.rateValue(wanted(h.GetDescriptorValue(), "descriptor_value"), h.GetDefaultValue(), at.Child("descriptor_value")),
			Headers: r.matchers(h.GetHeaders(), at.Child("headers")), Expect: truth(h.GetExpectMatch(), true)}
	case *routev3.RateLimit_Action_QueryParameterValueMatch_:
		q := m.GetQueryParameterValueMatch()
		out := &ratelimit.QueryMatch{Key: named(q.GetDescriptorKey(), "query_match"), Value: r.rateValue(wanted(q.GetDescriptorValue(), "descriptor_value"), q.GetDefaultValue(), at.Child("descriptor_value")), Expect: truth(q.GetExpectMatch(), true)}
		for _, p := range r.queryMatches(q.GetQueryParameters(), at.Child("query_parameters")) {
			c, err := route.NewMatcher(p.StringMatch)
			if err != nil {
				r.errs.Addf(at.Child("query_parameters"), "%v", err)
			}
			out.Params = append(out.Params, ratelimit.Param{Name: p.Name, Matcher: c})
		}
		return out
	case *routev3.RateLimit_Action_RemoteAddressMatch_:
		n := m.GetRemoteAddressMatch()
		return &ratelimit.AddressMatch{Key: named(n.GetDescriptorKey(), "remote_address_match"), Value: ratelimit.Value{Format: r.valueFormat(wanted(n.GetDescriptorValue(), "descriptor_value"), at.Child("descriptor_value")), Default: []byte(n.GetDefaultValue())},
			Networks: r.networks(n.GetAddressMatcher().GetRanges(), at.Child("address_matcher").Child("ranges")), Invert: n.GetAddressMatcher().GetInvertMatch()}
	case *routev3.RateLimit_Action_Extension:
		return r.rateExtension(m.GetExtension(), at.Child("extension"))
	default:
		r.errs.Addf(at, "found %T, which is no action of ours", a)
	}
	return nil
}

// networks reads address ranges of matchers, whose type is xDS's own.
func (r *reader) networks(list []*xdscorev3.CidrRange, at *field.Path) []netip.Prefix {
	out := make([]*corev3.CidrRange, 0, len(list))
	for _, c := range list {
		out = append(out, &corev3.CidrRange{AddressPrefix: c.GetAddressPrefix(), PrefixLen: c.GetPrefixLen()})
	}
	return r.prefixes(out, at)
}
