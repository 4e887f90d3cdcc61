package build

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	filesinkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/health_check/event_sinks/file/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/healthcheck"
	"github.com/mallamesh/malla/proxy/proxyproto"
	"github.com/mallamesh/malla/proxy/route"
)

var healthCheckFields = []*Message{
	message((*corev3.HealthCheck)(nil),
		reads("timeout", "interval", "initial_jitter", "interval_jitter", "interval_jitter_percent", "unhealthy_threshold", "healthy_threshold", "reuse_connection",
			"http_health_check", "tcp_health_check", "grpc_health_check", "no_traffic_interval", "no_traffic_healthy_interval", "unhealthy_interval", "unhealthy_edge_interval", "healthy_edge_interval",
			"event_log_path", "event_logger", "always_log_health_check_failures", "always_log_health_check_success", "tls_options", "transport_socket_match_criteria"),
		ignores("Envoy does not read it either; an endpoint's health_check_config has a port", "alt_port"),
		ignores(forPeople, "name")),
	message((*corev3.HealthCheck_HttpHealthCheck)(nil),
		reads("host", "path", "receive", "response_buffer_size", "request_headers_to_add", "request_headers_to_remove", "expected_statuses", "retriable_statuses", "service_name_matcher", "method", "send", "use_alpn_protocol"),
		only("codec_client_type", "HTTP/3 is not built", "HTTP1", "HTTP2")),
	message((*corev3.HealthCheck_TcpHealthCheck)(nil), reads("send", "receive", "proxy_protocol_config")),
	message((*corev3.HealthCheck_GrpcHealthCheck)(nil), reads("service_name", "authority", "initial_metadata")),
	message((*corev3.HealthCheck_Payload)(nil), reads("text", "binary")),
	message((*corev3.HealthCheck_TlsOptions)(nil), reads("alpn_protocols")),
	message((*filesinkv3.HealthCheckEventFileSink)(nil), reads("event_log_path")),
	message((*endpointv3.Endpoint_HealthCheckConfig)(nil), reads("port_value", "hostname", "address", "disable_active_health_check")),
}

// healthChecks reads how the hosts of a cluster are checked, nil if they are not.
func (r *reader) healthChecks(m *clusterv3.Cluster, c *cluster.Config) *healthcheck.Config {
	at := field.At("health_checks")
	switch list := m.GetHealthChecks(); {
	case len(list) == 0:
		return nil
	case len(list) > 1:
		r.errs.Addf(at, "has %d entries, want one at most", len(list))
		return nil
	case byAddress(c.Kind):
		r.errs.Addf(at, "has no meaning in a cluster of type %v", c.Kind)
		return nil
	}
	c.Check = &cluster.CheckPolicy{OnRemoval: m.GetIgnoreHealthOnHostRemoval(), IgnoreNew: m.GetCommonLbConfig().GetIgnoreNewHostsUntilFirstHc()}
	h, at := m.GetHealthChecks()[0], at.Index(0)
	out := &healthcheck.Config{
		Timeout: r.wanted(h.GetTimeout(), at.Child("timeout")), Interval: r.wanted(h.GetInterval(), at.Child("interval")),
		UnhealthyInterval:        r.duration(h.GetUnhealthyInterval(), at.Child("unhealthy_interval")),
		UnhealthyEdgeInterval:    r.duration(h.GetUnhealthyEdgeInterval(), at.Child("unhealthy_edge_interval")),
		HealthyEdgeInterval:      r.duration(h.GetHealthyEdgeInterval(), at.Child("healthy_edge_interval")),
		NoTrafficInterval:        r.duration(h.GetNoTrafficInterval(), at.Child("no_traffic_interval")),
		NoTrafficHealthyInterval: r.duration(h.GetNoTrafficHealthyInterval(), at.Child("no_traffic_healthy_interval")),
		InitialJitter:            r.duration(h.GetInitialJitter(), at.Child("initial_jitter")),
		IntervalJitter:           r.duration(h.GetIntervalJitter(), at.Child("interval_jitter")),
		JitterPercent:            h.GetIntervalJitterPercent(),
		UnhealthyThreshold:       h.GetUnhealthyThreshold().GetValue(), HealthyThreshold: h.GetHealthyThreshold().GetValue(),
		NoReuse:     !truth(h.GetReuseConnection(), true),
		ALPN:        h.GetTlsOptions().GetAlpnProtocols(),
		LogFailures: h.GetAlwaysLogHealthCheckFailures(), LogSuccesses: h.GetAlwaysLogHealthCheckSuccess(),
		Uneject: truth(m.GetOutlierDetection().GetSuccessfulActiveHealthCheckUnejectHost(), true),
	}
	if h.GetUnhealthyThreshold() == nil {
		r.errs.Addf(at.Child("unhealthy_threshold"), "is not set")
	}
	if h.GetHealthyThreshold() == nil {
		r.errs.Addf(at.Child("healthy_threshold"), "is not set")
	}
	if criteria := h.GetTransportSocketMatchCriteria(); criteria != nil {
		out.Transport = r.transportFor(c.Transports, matchable(criteria.AsMap()))
	}
	switch h.GetHealthChecker().(type) {
	case *corev3.HealthCheck_HttpHealthCheck_:
		out.Probe = r.httpProbe(h.GetHttpHealthCheck(), c.Transports, at.Child("http_health_check"))
	case *corev3.HealthCheck_GrpcHealthCheck_:
		if !c.HTTP2 {
			r.errs.Addf(at.Child("grpc_health_check"), "is set on a cluster that does not speak HTTP/2")
		}
		g := h.GetGrpcHealthCheck()
		out.Probe = &healthcheck.GRPC{Service: g.GetServiceName(), Authority: g.GetAuthority(), Add: r.additions(g.GetInitialMetadata(), at.Child("grpc_health_check").Child("initial_metadata"))}
	case *corev3.HealthCheck_TcpHealthCheck_:
		out.Probe = r.tcpProbe(h.GetTcpHealthCheck(), at.Child("tcp_health_check"))
	default:
		r.errs.Addf(at, "says no way to check, want http_health_check, tcp_health_check or grpc_health_check")
	}
	r.checkEvents(h, out, at)
	return out
}

// wanted reads a span that must be there and not be 0.
func (r *reader) wanted(d *durationpb.Duration, at *field.Path) time.Duration {
	v := r.duration(d, at)
	if d == nil || d.CheckValid() == nil && d.AsDuration() == 0 {
		r.errs.Addf(at, "is not set, want more than 0")
	}
	return v
}

// transportFor is the socket that an endpoint with these labels would have.
func (r *reader) transportFor(all []cluster.Transport, labels map[string]string) *cluster.Transport {
	for i := range all {
		if all[i].Matches(labels) {
			return &all[i]
		}
	}
	return nil
}

// withPayload are the methods of checks that may have a body.
var withPayload = []corev3.RequestMethod{corev3.RequestMethod_POST, corev3.RequestMethod_PUT, corev3.RequestMethod_PATCH, corev3.RequestMethod_OPTIONS}

func (r *reader) httpProbe(m *corev3.HealthCheck_HttpHealthCheck, transports []cluster.Transport, at *field.Path) healthcheck.Probe {
	out := &healthcheck.HTTP{
		Host: m.GetHost(), Path: m.GetPath(), HTTP2: m.GetCodecClientType() == typev3.CodecClientType_HTTP2,
		Add: r.additions(m.GetRequestHeadersToAdd(), at.Child("request_headers_to_add")), Remove: m.GetRequestHeadersToRemove(),
		Expected: r.statuses(m.GetExpectedStatuses(), at.Child("expected_statuses")), Retriable: r.statuses(m.GetRetriableStatuses(), at.Child("retriable_statuses")),
		Receive: r.payloads(m.GetReceive(), at.Child("receive")), BodyLimit: 1024, ByALPN: m.GetUseAlpnProtocol(),
	}
	if m.GetSend() != nil {
		out.Send = r.payload(m.GetSend(), at.Child("send"))
	}
	if m.GetPath() == "" {
		r.errs.Addf(at.Child("path"), "is empty")
	}
	if v := m.GetResponseBufferSize(); v != nil {
		if out.BodyLimit = int(min(v.GetValue(), 1<<20)); v.GetValue() == 0 {
			out.BodyLimit = 1 << 20 // all of it
		}
	}
	switch m.GetMethod() {
	case corev3.RequestMethod_METHOD_UNSPECIFIED:
	case corev3.RequestMethod_CONNECT:
		r.errs.Addf(at.Child("method"), "found CONNECT, want another method")
	default:
		out.Method = m.GetMethod().String()
	}
	if out.Send != nil && !slices.Contains(withPayload, m.GetMethod()) {
		r.errs.Addf(at.Child("send"), "is set, and method is %v, want POST, PUT, PATCH or OPTIONS", max(m.GetMethod(), corev3.RequestMethod_GET))
	}
	if out.ByALPN {
		r.secureOnly(transports, at.Child("use_alpn_protocol"))
	}
	if m.GetServiceNameMatcher() != nil {
		match := r.stringMatch(m.GetServiceNameMatcher(), at.Child("service_name_matcher"))
		compiled, err := route.NewMatcher(match)
		if err != nil {
			r.errs.Addf(at.Child("service_name_matcher"), "%v", err)
			return out
		}
		out.Service = func(name string) bool { return compiled.Match([]byte(name)) }
	}
	return out
}

// statuses reads ranges of HTTP statuses.
func (r *reader) statuses(list []*typev3.Int64Range, at *field.Path) []healthcheck.Range {
	var out []healthcheck.Range
	for i, s := range list {
		if s.GetStart() < 100 || s.GetEnd() > 600 || s.GetStart() >= s.GetEnd() {
			r.errs.Addf(at.Index(i), "found %d to %d, want a range of 100 to 600", s.GetStart(), s.GetEnd())
		}
		out = append(out, healthcheck.Range{Start: s.GetStart(), End: s.GetEnd()})
	}
	return out
}

func (r *reader) tcpProbe(m *corev3.HealthCheck_TcpHealthCheck, at *field.Path) healthcheck.Probe {
	out := &healthcheck.TCP{Receive: r.payloads(m.GetReceive(), at.Child("receive"))}
	if m.GetSend() != nil {
		out.Send = r.payload(m.GetSend(), at.Child("send"))
	}
	if p := m.GetProxyProtocolConfig(); p != nil {
		if p.GetPassThroughTlvs() != nil || len(p.GetAddedTlvs()) > 0 {
			r.errs.Addf(at.Child("proxy_protocol_config"), "has extensions, which a check does not send")
		}
		out.Proxy = proxyproto.V1
		if p.GetVersion() == corev3.ProxyProtocolConfig_V2 {
			out.Proxy = proxyproto.V2
		}
	}
	return out
}

func (r *reader) payloads(list []*corev3.HealthCheck_Payload, at *field.Path) (out [][]byte) {
	for i, p := range list {
		out = append(out, r.payload(p, at.Index(i)))
	}
	return out
}

func (r *reader) payload(p *corev3.HealthCheck_Payload, at *field.Path) []byte {
	if b := p.GetBinary(); len(b) > 0 {
		return b
	}
	b, err := hex.DecodeString(p.GetText())
	if err != nil || len(b) == 0 {
		r.errs.Addf(at.Child("text"), "found %q, want bytes in hexadecimal digits", p.GetText())
	}
	return b
}

// checkEvents opens the logs of what happens.
func (r *reader) checkEvents(h *corev3.HealthCheck, out *healthcheck.Config, at *field.Path) {
	open := func(path string, at *field.Path) {
		lines, err := r.env.Files.Open(path)
		if err != nil {
			r.errs.Addf(at, "%v", err)
			return
		}
		out.Events = append(out.Events, lines)
	}
	if p := h.GetEventLogPath(); p != "" { //nolint:staticcheck // deprecated, still in use
		open(p, at.Child("event_log_path"))
	}
	for i, e := range h.GetEventLogger() {
		at := at.Child("event_logger").Index(i)
		switch m := r.unpack(e.GetTypedConfig(), at).(type) {
		case nil:
		case *filesinkv3.HealthCheckEventFileSink:
			open(m.GetEventLogPath(), at.Child("typed_config").Child("event_log_path"))
		default:
			r.errs.Addf(at, "found %q, want envoy.health_check.event_sink.file", e.GetName())
		}
	}
}

// checkTarget reads where and how an endpoint is checked, nil if as it is used.
func (r *reader) checkTarget(m *endpointv3.Endpoint_HealthCheckConfig, at *field.Path) *cluster.CheckTarget {
	if m == nil {
		return nil
	}
	out := &cluster.CheckTarget{Off: m.GetDisableActiveHealthCheck(), Port: r.port(m.GetPortValue(), at.Child("port_value")), Name: strings.TrimSpace(m.GetHostname())}
	if a := m.GetAddress(); a != nil {
		if got := r.address(a, at.Child("address")); got.IsValid() {
			if out.Addr = got.Addr(); got.Port() != 0 && out.Port == 0 {
				out.Port = got.Port()
			}
		}
	}
	return out
}
