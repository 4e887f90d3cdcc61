package build

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	adaptivev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/adaptive_concurrency/v3"
	admissionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/admission_control/v3"
	apikeyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/api_key_auth/v3"
	bandwidthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/bandwidth_limit/v3"
	basicv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/basic_auth/v3"
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	csrfv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/csrf/v3"
	decompressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/decompressor/v3"
	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	grpcwebv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_web/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	headermetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	localv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	servicev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	statev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	setmetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_metadata/v3"
	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	tapfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/tap/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/filter/bandwidthlimit"
	"github.com/mallamesh/malla/proxy/filter/basicauth"
	"github.com/mallamesh/malla/proxy/filter/buffer"
	"github.com/mallamesh/malla/proxy/filter/cors"
	"github.com/mallamesh/malla/proxy/filter/fault"
	"github.com/mallamesh/malla/proxy/filter/filterstate"
	"github.com/mallamesh/malla/proxy/filter/forwardproxy"
	"github.com/mallamesh/malla/proxy/filter/grpcstats"
	"github.com/mallamesh/malla/proxy/filter/grpcweb"
	"github.com/mallamesh/malla/proxy/filter/headermutation"
	"github.com/mallamesh/malla/proxy/filter/health"
	"github.com/mallamesh/malla/proxy/filter/localratelimit"
	"github.com/mallamesh/malla/proxy/filter/ondemand"
	"github.com/mallamesh/malla/proxy/filter/ratelimitservice"
	"github.com/mallamesh/malla/proxy/stream"
)

var optionalFilterFields = []*Message{
	message((*faultv3.HTTPFault)(nil), reads("delay", "abort", "upstream_cluster", "headers", "downstream_nodes", "max_active_faults", "response_rate_limit", "filter_metadata"),
		reads("delay_percent_runtime", "abort_percent_runtime", "delay_duration_runtime", "abort_http_status_runtime", "max_active_faults_runtime",
			"response_rate_limit_percent_runtime", "abort_grpc_status_runtime"),
		ignores("faults are not counted by downstream cluster", "disable_downstream_cluster_stats")),
	message((*commonfaultv3.FaultDelay)(nil), reads("fixed_delay", "header_delay", "percentage")),
	message((*commonfaultv3.FaultDelay_HeaderDelay)(nil)),
	message((*commonfaultv3.FaultRateLimit)(nil), reads("fixed_limit", "header_limit", "percentage")),
	message((*commonfaultv3.FaultRateLimit_FixedLimit)(nil), reads("limit_kbps")),
	message((*commonfaultv3.FaultRateLimit_HeaderLimit)(nil)),
	message((*faultv3.FaultAbort)(nil), reads("http_status", "grpc_status", "header_abort", "percentage", "response_body")),
	message((*faultv3.FaultAbort_HeaderAbort)(nil)),

	message((*corsv3.Cors)(nil)),
	message((*routev3.CorsPolicy)(nil), reads("allow_origin_string_match", "allow_methods", "allow_headers", "expose_headers", "max_age", "allow_credentials",
		"filter_enabled", "shadow_enabled", "allow_private_network_access", "forward_not_matching_preflights")),
	message((*corsv3.CorsPolicy)(nil), reads("allow_origin_string_match", "allow_methods", "allow_headers", "expose_headers", "max_age", "allow_credentials",
		"filter_enabled", "shadow_enabled", "allow_private_network_access", "forward_not_matching_preflights")),

	message((*headermutationv3.HeaderMutation)(nil), reads("mutations", "most_specific_header_mutations_wins")),
	message((*headermutationv3.HeaderMutationPerRoute)(nil), reads("mutations")),
	message((*headermutationv3.Mutations)(nil), reads("request_mutations", "query_parameter_mutations", "response_mutations", "response_trailers_mutations", "request_trailers_mutations", "formatters")),
	message((*corev3.KeyValueMutation)(nil), reads("append", "remove")),
	message((*corev3.KeyValueAppend)(nil), reads("record", "action")),
	message((*corev3.KeyValuePair)(nil), reads("key", "value")),

	message((*bufferv3.Buffer)(nil), reads("max_request_bytes")),
	message((*bufferv3.BufferPerRoute)(nil), reads("disabled", "buffer")),

	message((*grpcwebv3.GrpcWeb)(nil)),
	message((*grpcstatsv3.FilterConfig)(nil), reads("individual_method_stats_allowlist", "stats_for_all_methods", "enable_upstream_stats", "replace_dots_in_grpc_service_name", "emit_filter_state")),
	message((*corev3.GrpcMethodList)(nil), reads("services")),
	message((*corev3.GrpcMethodList_Service)(nil), reads("name", "method_names")),

	message((*healthv3.HealthCheck)(nil), reads("pass_through_mode", "cache_time", "cluster_min_healthy_percentages", "headers")),
}

// optionalFilter makes a filter of those that not every chain has, nil for what is none.
func (r *listenerReader) optionalFilter(name string, m proto.Message, c *stream.Config, at *field.Path) stream.Factory {
	switch m := m.(type) {
	case *faultv3.HTTPFault:
		if c.Stats != nil {
			c.Stats.Fault.Show()
		}
		return fault.New(name, r.fault(m, at))
	case *forwardv3.FilterConfig:
		r.forwardFilter(m, at)
		return forwardproxy.New(name)
	case *corsv3.Cors:
		set, scope := r.env.Stats.Cors(c.StatPrefix)
		r.scopes = append(r.scopes, scope)
		return cors.New(name, set)
	case *headermutationv3.HeaderMutation:
		return headermutation.New(name, r.headerMutations(m.GetMutations(), at.Child("mutations")), m.GetMostSpecificHeaderMutationsWins())
	case *bufferv3.Buffer:
		return buffer.New(name, r.bufferLimit(m, at))
	case *grpcwebv3.GrpcWeb:
		return grpcweb.New(name, r.grpcCounters("grpc-web", true))
	case *grpcstatsv3.FilterConfig:
		return grpcstats.New(name, r.grpcStats(m), r.grpcCounters("grpc", !m.GetReplaceDotsInGrpcServiceName() || !m.GetStatsForAllMethods().GetValue()))
	case *compressorv3.Compressor:
		return r.compressor(name, m, c, at)
	case *decompressorv3.Decompressor:
		return r.decompressor(name, m, c, at)
	case *csrfv3.CsrfPolicy:
		return r.csrf(name, m, c, at)
	case *basicv3.BasicAuth:
		return r.basicAuth(name, m, c, at)
	case *apikeyv3.ApiKeyAuth:
		return r.apiKeyAuth(name, m, c, at)
	case *sessionv3.StatefulSession:
		return r.statefulSession(name, m, c, at)
	case *localv3.LocalRateLimit:
		return localratelimit.New(name, r.localRateLimit(m, at))
	case *servicev3.RateLimit:
		return ratelimitservice.New(name, r.rateLimitService(m, at))
	case *tapfilterv3.Tap:
		return r.tap(name, m, c, at)
	case *adaptivev3.AdaptiveConcurrency:
		return r.adaptiveConcurrency(name, m, c, at)
	case *admissionv3.AdmissionControl:
		return r.admissionControl(name, m, c, at)
	case *bandwidthv3.BandwidthLimit:
		return bandwidthlimit.New(name, r.bandwidthLimit(m, false, at))
	case *statev3.Config:
		return filterstate.New(name, r.filterState(m, at))
	case *luav3.Lua:
		return r.lua(name, m, c, at)
	case *setmetadatav3.Config:
		return r.setMetadata(name, m, c, at)
	case *headermetadatav3.Config:
		return r.newHeaderToMetadata(name, m, at)
	case *ondemandv3.OnDemand:
		return ondemand.New(name, r.env.demand.Ask)
	case *healthv3.HealthCheck:
		set, scope := r.env.Stats.HealthCheck(c.StatPrefix)
		r.scopes = append(r.scopes, scope)
		return health.New(name, r.health(m, at), set)
	}
	return nil
}

// filterOverride reads what a route says to a filter.
func (r *reader) filterOverride(a *anypb.Any, at *field.Path) any {
	switch m := r.unpack(a, at).(type) {
	case nil:
	case *faultv3.HTTPFault:
		if c := r.fault(m, at); c != nil {
			return c
		}
		return &fault.Config{} // nothing, where a level above says something
	case *forwardv3.PerRouteConfig:
		return forwardRewrite(m)
	case *corsv3.CorsPolicy:
		return r.corsPolicy(m, at)
	case *headermutationv3.HeaderMutationPerRoute:
		return r.headerMutations(m.GetMutations(), at.Child("mutations"))
	case *bufferv3.BufferPerRoute:
		if m.GetDisabled() {
			return buffer.Off
		}
		return r.bufferLimit(m.GetBuffer(), at.Child("buffer"))
	case *compressorv3.CompressorPerRoute:
		if w := r.compressorWord(m, at); w != nil {
			return w
		}
	case *csrfv3.CsrfPolicy:
		return r.csrfPolicy(m, at)
	case *basicv3.BasicAuthPerRoute:
		return &basicauth.Word{Users: r.users(m.GetUsers(), at.Child("users")), Realm: m.GetRealm()}
	case *apikeyv3.ApiKeyAuthPerRoute:
		return r.apiKeyWord(m, at)
	case *sessionv3.StatefulSessionPerRoute:
		return r.sessionWord(m, at)
	case *localv3.LocalRateLimit:
		return r.localRateLimit(m, at)
	case *servicev3.RateLimitPerRoute:
		return r.rateLimitWord(m, at)
	case *bandwidthv3.BandwidthLimit:
		return r.bandwidthLimit(m, true, at)
	case *statev3.Config:
		return r.filterState(m, at)
	case *luav3.LuaPerRoute:
		return r.luaWord(m, at)
	case *headermetadatav3.Config:
		return r.headerToMetadataWord(m, at)
	default:
		r.errs.Addf(at, "found %s, which says nothing to a filter of ours", anyName(m))
	}
	return nil
}

func (r *reader) bufferLimit(m *bufferv3.Buffer, at *field.Path) buffer.Limit {
	n := m.GetMaxRequestBytes().GetValue()
	if n == 0 {
		r.errs.Addf(at.Child("max_request_bytes"), "found 0, want at least 1")
	}
	return buffer.Limit(n)
}

// grpcCounters are closed with the listener.
func (r *listenerReader) grpcCounters(protocol string, dots bool) *grpcstats.Counters {
	c := grpcstats.NewCounters(r.env.Stats, protocol, dots)
	r.closers = append(r.closers, c.Close)
	return c
}

func (r *reader) grpcStats(m *grpcstatsv3.FilterConfig) *grpcstats.Config {
	c := &grpcstats.Config{All: m.GetStatsForAllMethods().GetValue(), Upstream: m.GetEnableUpstreamStats(), State: m.GetEmitFilterState(), Methods: map[string]bool{}}
	for _, s := range m.GetIndividualMethodStatsAllowlist().GetServices() {
		for _, name := range s.GetMethodNames() {
			c.Methods["/"+s.GetName()+"/"+name] = true
		}
	}
	return c
}

func (r *listenerReader) health(m *healthv3.HealthCheck, at *field.Path) *health.Config {
	c := &health.Config{
		PassThrough: m.GetPassThroughMode().GetValue(), CacheTime: r.duration(m.GetCacheTime(), at.Child("cache_time")),
		Headers: r.matchers(m.GetHeaders(), at.Child("headers")), Cluster: r.env.Node.GetCluster(), Failed: r.env.Failing,
	}
	if m.GetPassThroughMode() == nil {
		r.errs.Addf(at.Child("pass_through_mode"), "is not set")
	}
	if c.CacheTime > 0 && !c.PassThrough {
		r.errs.Addf(at.Child("cache_time"), "is set without pass_through_mode")
	}
	for _, name := range sortedNames(m.GetClusterMinHealthyPercentages()) {
		p := m.GetClusterMinHealthyPercentages()[name].GetValue()
		if p < 0 || p > 100 {
			r.errs.Addf(at.Child("cluster_min_healthy_percentages").Child(name), "found %v, want 0 to 100", p)
		}
		c.Minimum = append(c.Minimum, health.Minimum{Cluster: name, Percent: p})
	}
	if len(c.Minimum) > 0 && c.PassThrough {
		r.errs.Addf(at.Child("cluster_min_healthy_percentages"), "is set with pass_through_mode")
	}
	return c
}
