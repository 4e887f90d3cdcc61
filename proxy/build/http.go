package build

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	metadataexchangev3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/network/metadata_exchange/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	casev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	uuidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/h1"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

const notTraced = "requests are not traced yet: only what it says about sampling and x-request-id counts"

var httpFields = append([]*Message{
	message((*hcmv3.HttpConnectionManager)(nil),
		refuses("Envoy 1.40 takes it and leaves paths as they are; normalize_path, merge_slashes and path_with_escaped_slashes_action do that", "path_normalization_options"),
		reads("stat_prefix", "rds", "route_config", "scoped_routes", "http_filters", "tracing", "common_http_protocol_options", "http_protocol_options", "server_name",
			"server_header_transformation", "scheme_header_transformation", "max_request_headers_kb", "stream_error_on_invalid_http_message", "stream_idle_timeout", "stream_flush_timeout", "request_timeout", "request_headers_timeout",
			"drain_timeout", "drain_timeout_jitter", "http1_safe_max_connection_duration", "delayed_close_timeout", "access_log", "use_remote_address", "xff_num_trusted_hops", "internal_address_config", "skip_xff_append", "via",
			"generate_request_id", "preserve_external_request_id", "always_set_request_id_in_response", "forward_client_cert_details", "set_current_client_cert_details",
			"proxy_100_continue", "upgrade_configs", "local_reply_config", "original_ip_detection_extensions", "normalize_path", "merge_slashes", "path_with_escaped_slashes_action", "request_id_extension",
			"strip_matching_host_port", "strip_any_host_port", "strip_trailing_host_dot", "http2_protocol_options", "append_local_overload", "append_x_forwarded_port",
			"add_user_agent", "early_header_mutation_extensions", "proxy_status_config"),
		only("codec_type", "HTTP/3 is not built yet", "AUTO", "HTTP1", "HTTP2"),
		reads("access_log_options", "access_log_flush_interval", "flush_access_log_on_new_request")),
	message((*hcmv3.HttpConnectionManager_HcmAccessLogOptions)(nil), reads("access_log_flush_interval", "flush_access_log_on_new_request", "flush_log_on_tunnel_successfully_established")),
	message((*hcmv3.HttpConnectionManager_ProxyStatusConfig)(nil), reads("remove_details", "remove_connection_termination_details", "remove_response_flags",
		"set_recommended_response_code", "use_node_id", "literal_proxy_name")),
	message((*earlyv3.HeaderMutation)(nil), reads("mutations")),
	message((*hcmv3.Rds)(nil), reads("config_source", "route_config_name")),
	message((*hcmv3.HttpFilter)(nil), reads("name", "typed_config", "config_discovery", "is_optional", "disabled")),
	message((*hcmv3.HttpConnectionManager_UpgradeConfig)(nil), reads("upgrade_type", "enabled", "filters")),
	message((*hcmv3.HttpConnectionManager_SetCurrentClientCertDetails)(nil), reads("subject", "cert", "chain", "dns", "uri")),
	message((*hcmv3.HttpConnectionManager_InternalAddressConfig)(nil), reads("cidr_ranges", "unix_sockets")),
	message((*hcmv3.HttpConnectionManager_Tracing)(nil), reads("client_sampling", "random_sampling", "overall_sampling"),
		ignores(notTraced, "operation", "verbose", "max_path_tag_length", "custom_tags", "provider", "spawn_upstream_span", "upstream_operation", "no_context_propagation")),
	message((*hcmv3.RequestIDExtension)(nil), reads("typed_config")),
	message((*uuidv3.UuidRequestIdConfig)(nil), reads("pack_trace_reason"),
		ignores("the decision is made for the request id, as by default", "use_request_id_for_trace_sampling")),
	message((*corev3.SchemeHeaderTransformation)(nil), reads("scheme_to_overwrite", "match_upstream")),
	message((*metadataexchangev3.MetadataExchange)(nil), reads("protocol"),
		ignores("peers say who they are themselves, or their endpoints do", "enable_discovery")),
}, slices.Concat(filterFields, extensionFields, scopeFields)...)

// Envoy's defaults of a connection manager.
const (
	defaultIdle       = time.Hour
	defaultStreamIdle = 5 * time.Minute
	defaultDrain      = 5 * time.Second
	defaultDelayed    = time.Second
)

func (r *listenerReader) manager(m *hcmv3.HttpConnectionManager, at *field.Path) *stream.Config {
	c := &stream.Config{
		StatPrefix:       strings.TrimSuffix(m.GetStatPrefix(), ";"), // Istio ends its prefixes so that Envoy can cut them out of names
		UseRemoteAddress: m.GetUseRemoteAddress().GetValue(), TrustedHops: int(m.GetXffNumTrustedHops()), SkipXFFAppend: m.GetSkipXffAppend(), ForwardedPort: m.GetAppendXForwardedPort(),
		Server: serverHeaders[m.GetServerHeaderTransformation()], ServerName: m.GetServerName(), Via: m.GetVia(),
		SchemeOverwrite: m.GetSchemeHeaderTransformation().GetSchemeToOverwrite(), SchemeOfHost: m.GetSchemeHeaderTransformation().GetMatchUpstream(),
		NoRequestID: !truth(m.GetGenerateRequestId(), true), PreserveRequestID: m.GetPreserveExternalRequestId(), AlwaysSetRequestID: m.GetAlwaysSetRequestIdInResponse(),
		NormalizePath: m.GetNormalizePath().GetValue(), MergeSlashes: m.GetMergeSlashes(), EscapedSlashes: escapedSlashes[m.GetPathWithEscapedSlashesAction()],
		StripMatchingPort: m.GetStripMatchingHostPort(), StripAnyPort: m.GetStripAnyHostPort(), StripTrailingHostDot: m.GetStripTrailingHostDot(),
		Expect100Here:  !m.GetProxy_100Continue(),
		MaxHeaderBytes: int(m.GetMaxRequestHeadersKb().GetValue()) << 10,
		StreamIdle:     r.orDefault(m.GetStreamIdleTimeout(), defaultStreamIdle, at.Child("stream_idle_timeout")),
		RequestTimeout: r.duration(m.GetRequestTimeout(), at.Child("request_timeout")),
		HeadersTimeout: r.duration(m.GetRequestHeadersTimeout(), at.Child("request_headers_timeout")),
		DrainTimeout:   r.orDefault(m.GetDrainTimeout(), defaultDrain, at.Child("drain_timeout")),
		DrainJitter:    m.GetDrainTimeoutJitter().GetValue() / 100,
		DelayedClose:   r.orDefault(m.GetDelayedCloseTimeout(), defaultDelayed, at.Child("delayed_close_timeout")),
	}
	c.FlushTimeout = c.StreamIdle
	if d := m.GetStreamFlushTimeout(); d != nil {
		c.FlushTimeout = r.duration(d, at.Child("stream_flush_timeout"))
	}
	if m.GetStatPrefix() == "" {
		r.errs.Addf(at.Child("stat_prefix"), "is empty")
	}
	if c.MaxHeaderBytes > 8<<20 {
		r.errs.Addf(at.Child("max_request_headers_kb"), "found %d, want at most 8192", m.GetMaxRequestHeadersKb().GetValue())
	}
	r.protocolOptions(m, c, at)
	r.codec(m, c, at)
	r.clientCert(m, c, at)
	r.internalAddresses(m, c, at)
	r.detectors(m, c, at)
	r.identity(m, c, at)
	c.Early = r.early(m.GetEarlyHeaderMutationExtensions(), at.Child("early_header_mutation_extensions"))
	c.Tracing = r.tracing(m.GetTracing())
	if x := m.GetRequestIdExtension(); x != nil {
		at := at.Child("request_id_extension")
		id, ok := r.unpack(x.GetTypedConfig(), at).(*uuidv3.UuidRequestIdConfig)
		if !ok {
			r.errs.Addf(at, "found %q, want envoy.request_id.uuid", x.GetTypedConfig().GetTypeUrl())
		}
		if c.Tracing != nil {
			c.Tracing.Pack = truth(id.GetPackTraceReason(), true)
		}
	}
	r.routes(m, c, at)
	http, scope := r.env.Stats.HTTP(c.StatPrefix)
	c.Stats, r.scopes = http, append(r.scopes, scope)
	c.HTTP1, scope = r.env.Stats.HTTP1()
	r.scopes = append(r.scopes, scope)
	c.HTTP2.Stats, scope = r.env.Stats.HTTP2()
	r.scopes = append(r.scopes, scope)
	perListener, scope := r.env.Stats.ListenerHTTP(r.statName, c.StatPrefix)
	c.Listener, r.scopes = perListener, append(r.scopes, scope)
	c.Logs = r.logs(m.GetAccessLog(), at.Child("access_log"))
	r.logMoments(m, c, at)
	c.LocalReply = r.localReply(m.GetLocalReplyConfig(), at.Child("local_reply_config"))
	r.httpFilters(m.GetHttpFilters(), c, at.Child("http_filters"))
	r.upgrades(m.GetUpgradeConfigs(), c, at.Child("upgrade_configs"))
	return c
}

// logMoments reads of which moments, beside the end of a request, the logs are told.
func (r *listenerReader) logMoments(m *hcmv3.HttpConnectionManager, c *stream.Config, at *field.Path) {
	o, where := m.GetAccessLogOptions(), at.Child("access_log_options")
	//nolint:staticcheck // the older fields, still in use
	every, start := m.GetAccessLogFlushInterval(), m.GetFlushAccessLogOnNewRequest()
	if o != nil {
		if every != nil {
			r.errs.Addf(at.Child("access_log_flush_interval"), "is set beside access_log_options, want one of them")
		}
		if start {
			r.errs.Addf(at.Child("flush_access_log_on_new_request"), "is set beside access_log_options, want one of them")
		}
		every, start, at = o.GetAccessLogFlushInterval(), o.GetFlushAccessLogOnNewRequest(), where
	}
	c.LogEvery, c.LogStart, c.LogTunnel = r.duration(every, at.Child("access_log_flush_interval")), start, o.GetFlushLogOnTunnelSuccessfullyEstablished()
	if every != nil && c.LogEvery < time.Millisecond {
		r.errs.Addf(at.Child("access_log_flush_interval"), "found %v, want at least a millisecond", c.LogEvery)
	}
}

// upgrades reads which other protocols requests may ask for, and what filters those have.
func (r *listenerReader) upgrades(list []*hcmv3.HttpConnectionManager_UpgradeConfig, c *stream.Config, at *field.Path) {
	seen := map[string]bool{}
	for i, u := range list {
		at := at.Index(i)
		kind := strings.ToLower(u.GetUpgradeType())
		if seen[kind] {
			r.errs.Addf(at.Child("upgrade_type"), "found %q a second time", u.GetUpgradeType())
		}
		seen[kind] = true
		if truth(u.GetEnabled(), true) {
			c.Upgrades = append(c.Upgrades, kind)
		}
		if len(u.GetFilters()) == 0 {
			continue
		}
		own := &stream.Config{StatPrefix: c.StatPrefix, Stats: c.Stats}
		r.httpFilters(u.GetFilters(), own, at.Child("filters"))
		if len(own.Logs) > 0 || own.UpstreamALPN != (pool.Offers{}) {
			r.errs.Addf(at.Child("filters"), "has a filter of Istio's that is for all requests of a connection manager: want it in http_filters")
		}
		if c.UpgradeChains == nil {
			c.UpgradeChains = map[string]*stream.Chain{}
		}
		c.UpgradeChains[kind] = &stream.Chain{Filters: own.Filters, Off: own.FiltersOff, Live: own.Live}
	}
}

var serverHeaders = map[hcmv3.HttpConnectionManager_ServerHeaderTransformation]stream.ServerHeader{
	hcmv3.HttpConnectionManager_OVERWRITE: stream.Overwrite, hcmv3.HttpConnectionManager_APPEND_IF_ABSENT: stream.AppendIfAbsent, hcmv3.HttpConnectionManager_PASS_THROUGH: stream.PassThrough,
}

var escapedSlashes = map[hcmv3.HttpConnectionManager_PathWithEscapedSlashesAction]stream.EscapedSlashes{
	hcmv3.HttpConnectionManager_REJECT_REQUEST:        stream.RejectRequest,
	hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT: stream.UnescapeAndRedirect, hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD: stream.UnescapeAndForward,
}

var forwardDetails = map[hcmv3.HttpConnectionManager_ForwardClientCertDetails]stream.ForwardClientCert{
	hcmv3.HttpConnectionManager_SANITIZE: stream.Sanitize, hcmv3.HttpConnectionManager_FORWARD_ONLY: stream.ForwardOnly, hcmv3.HttpConnectionManager_APPEND_FORWARD: stream.AppendForward,
	hcmv3.HttpConnectionManager_SANITIZE_SET: stream.SanitizeSet, hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY: stream.AlwaysForwardOnly,
}

func (r *listenerReader) protocolOptions(m *hcmv3.HttpConnectionManager, c *stream.Config, at *field.Path) {
	o, h1 := m.GetCommonHttpProtocolOptions(), m.GetHttpProtocolOptions()
	at = at.Child("common_http_protocol_options")
	c.IdleTimeout = r.orDefault(o.GetIdleTimeout(), defaultIdle, at.Child("idle_timeout"))
	c.MaxAge = r.duration(o.GetMaxConnectionDuration(), at.Child("max_connection_duration"))
	c.AgeJitter, c.SoftAge = o.GetMaxConnectionDurationJitter().GetValue()/100, m.GetHttp1SafeMaxConnectionDuration()
	c.MaxStream = r.duration(o.GetMaxStreamDuration(), at.Child("max_stream_duration"))
	c.MaxHeaders, c.MaxRequests = int(o.GetMaxHeadersCount().GetValue()), int(o.GetMaxRequestsPerConnection().GetValue())
	switch o.GetHeadersWithUnderscoresAction() {
	case corev3.HttpProtocolOptions_REJECT_REQUEST:
		c.RejectUnderscores = true
	case corev3.HttpProtocolOptions_DROP_HEADER:
		c.DropUnderscores = true
	}
	c.NoTrailers = !h1.GetEnableTrailers()
	c.MarkOverload = m.GetAppendLocalOverload()
	c.KeepAfterBad = m.GetStreamErrorOnInvalidHttpMessage().GetValue()
	if o := h1.GetOverrideStreamErrorOnInvalidHttpMessage(); o != nil {
		c.KeepAfterBad = o.GetValue()
	}
	c.AcceptHTTP10, c.DefaultHost = h1.GetAcceptHttp_10(), h1.GetDefaultHostForHttp_10()
	c.AnyMethod = h1.GetAllowCustomMethods()
	c.NoAbsolute = h1.GetAllowAbsoluteUrl() != nil && !h1.GetAllowAbsoluteUrl().GetValue()
	c.ProperCase, c.Spelling = r.keyFormat(h1.GetHeaderKeyFormat(), field.At("http_protocol_options", "header_key_format"))
}

// codec reads which versions clients may speak, and how HTTP/2 is spoken.
func (r *listenerReader) codec(m *hcmv3.HttpConnectionManager, c *stream.Config, at *field.Path) {
	switch m.GetCodecType() {
	case hcmv3.HttpConnectionManager_HTTP1:
		c.Codec = stream.HTTP1
	case hcmv3.HttpConnectionManager_HTTP2:
		c.Codec = stream.HTTP2
	}
	o := r.http2(m.GetHttp2ProtocolOptions(), at.Child("http2_protocol_options"))
	if m.GetHttp2ProtocolOptions().GetOverrideStreamErrorOnInvalidHttpMessage() == nil {
		o.StreamErrors = o.StreamErrors || m.GetStreamErrorOnInvalidHttpMessage().GetValue()
	}
	o.MaxHeaderBytes, o.MaxHeaders = c.MaxHeaderBytes, c.MaxHeaders
	o.DropUnderscores, o.RejectUnderscores = c.DropUnderscores, c.RejectUnderscores
	c.HTTP2 = o
}

func (r *listenerReader) clientCert(m *hcmv3.HttpConnectionManager, c *stream.Config, at *field.Path) {
	f, ok := forwardDetails[m.GetForwardClientCertDetails()]
	if !ok {
		r.errs.Addf(at.Child("forward_client_cert_details"), "found %v, which is not known", m.GetForwardClientCertDetails())
	}
	d := m.GetSetCurrentClientCertDetails()
	c.Forward = f
	c.ForwardDetails = stream.ClientCertDetails{Subject: d.GetSubject().GetValue(), Cert: d.GetCert(), Chain: d.GetChain(), DNS: d.GetDns(), URI: d.GetUri()}
}

// internalAddresses: if the configuration names none, nobody is internal (Envoy's
// runtime guard explicit_internal_address_config, on since 1.33).
func (r *listenerReader) internalAddresses(m *hcmv3.HttpConnectionManager, c *stream.Config, at *field.Path) {
	ic := m.GetInternalAddressConfig()
	if ic == nil {
		return
	}
	c.InternalUnix = ic.GetUnixSockets()
	c.InternalAddresses = append([]netip.Prefix(nil), r.prefixes(ic.GetCidrRanges(), at.Child("internal_address_config").Child("cidr_ranges"))...)
}

func (r *listenerReader) tracing(t *hcmv3.HttpConnectionManager_Tracing) *stream.Tracing {
	if t == nil {
		return nil
	}
	out := &stream.Tracing{Client: 100, Random: 100, Overall: 100, Egress: r.outbound, Pack: true}
	if p := t.GetClientSampling(); p != nil {
		out.Client = p.GetValue()
	}
	if p := t.GetRandomSampling(); p != nil {
		out.Random = p.GetValue()
	}
	if p := t.GetOverallSampling(); p != nil {
		out.Overall = p.GetValue()
	}
	return out
}

// subscribes counts what comes of a route table for a connection manager.
func (r *listenerReader) subscribes(prefix string, n Need) {
	use := r.env.Stats.RDS(prefix, n.Name)
	if r.tables == nil {
		r.tables = map[string][]*stats.RDSUse{}
	}
	r.tables[n.Name] = append(r.tables[n.Name], use)
	if n.Place.Path == "" {
		use.UpdateAttempt.Inc() // the question
	}
}

func (r *listenerReader) routes(m *hcmv3.HttpConnectionManager, c *stream.Config, at *field.Path) {
	switch m.GetRouteSpecifier().(type) {
	case *hcmv3.HttpConnectionManager_Rds:
		at := at.Child("rds")
		c.RouteName = m.GetRds().GetRouteConfigName()
		if c.RouteName == "" {
			r.errs.Addf(at.Child("route_config_name"), "is empty")
		}
		need := Need{c.RouteName, r.source(m.GetRds().GetConfigSource(), at.Child("config_source"))}
		r.needs.Routes = append(r.needs.Routes, need)
		r.subscribes(c.StatPrefix, need)
	case *hcmv3.HttpConnectionManager_RouteConfig:
		at := at.Child("route_config")
		config := r.table(m.GetRouteConfig(), at)
		r.routeClusters(m.GetRouteConfig(), at)
		if m.GetRouteConfig().GetVhds() != nil {
			r.errs.Addf(at.Child("vhds"), "is set in a table that does not come by rds")
		}
		if len(r.errs) > 0 {
			return
		}
		table, err := route.NewTable(config)
		if err != nil {
			r.errs.Addf(at, "%v", err)
			return
		}
		c.Routes = table
	case *hcmv3.HttpConnectionManager_ScopedRoutes:
		r.scopedRoutes(m.GetScopedRoutes(), c, at.Child("scoped_routes"))
	default:
		r.errs.Addf(at, "has no routes, want rds, route_config or scoped_routes")
	}
}

// logs makes access logs; an entry that is wrong is left out.
func (r *listenerReader) logs(list []*accesslogConfig, at *field.Path) []listen.Log {
	var out []listen.Log
	for i, m := range list {
		if l := r.accessLog(m, at.Index(i)); l != nil {
			out = append(out, l)
		}
	}
	return out
}

// keyFormat reads how names of headers are written over HTTP/1.1.
func (r *reader) keyFormat(m *corev3.Http1ProtocolOptions_HeaderKeyFormat, at *field.Path) (proper bool, out h1.Spelling) {
	s := m.GetStatefulFormatter()
	if s == nil {
		return m.GetProperCaseWords() != nil, out
	}
	at = at.Child("stateful_formatter").Child("typed_config")
	c, ok := r.unpack(s.GetTypedConfig(), at).(*casev3.PreserveCaseFormatterConfig)
	if !ok {
		r.errs.Addf(at, "found %s, want the type of envoy.http.stateful_header_formatters.preserve_case", s.GetTypedConfig().GetTypeUrl())
		return false, out
	}
	return false, h1.Spelling{Names: true, Reason: c.GetForwardReasonPhrase(), Proper: c.GetFormatterTypeOnEnvoyHeaders() == casev3.PreserveCaseFormatterConfig_PROPER_CASE}
}
