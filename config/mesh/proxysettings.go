package mesh

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"

	"github.com/mallamesh/malla/model"
)

// settings reads what is set for proxies besides how they run, of that which was written.
func (r *reader) settings(p *meshv1alpha1.ProxyConfig, out *model.ProxySettings, at func(string) []string) {
	if r.has(at("gatewayTopology")...) {
		t := Topology(p.GetGatewayTopology())
		out.Topology = &t
	}
	if r.has(at("proxyHeaders")...) {
		out.Headers = proxyHeaders(p.GetProxyHeaders())
	}
	if r.has(at("connectionSettings")...) {
		out.Connections = r.connections(p.GetConnectionSettings(), func(name string) []string { return append(at("connectionSettings"), name) })
	}
}

func proxyHeaders(h *meshv1alpha1.ProxyConfig_ProxyHeaders) *model.ProxyHeaders {
	d := h.GetSetCurrentClientCertDetails()
	return &model.ProxyHeaders{
		ClientCert: certDetails[h.GetForwardedClientCert()],
		CertFields: model.CertFields{Subject: yesOrNo(d.GetSubject()), Cert: yesOrNo(d.GetCert()), Chain: yesOrNo(d.GetChain()), DNS: yesOrNo(d.GetDns()), URI: yesOrNo(d.GetUri())},

		NoRequestID: h.GetRequestId().GetDisabled().GetValue(), NoServer: h.GetServer().GetDisabled().GetValue(), Server: h.GetServer().GetValue(),
		NoAttempts: h.GetAttemptCount().GetDisabled().GetValue(), NoDebug: h.GetEnvoyDebugHeaders().GetDisabled().GetValue(),
		PreserveCase: h.GetPreserveHttp1HeaderCase().GetValue(), ForwardedHost: h.GetXForwardedHost().GetEnabled().GetValue(), ForwardedPort: h.GetXForwardedPort().GetEnabled().GetValue(),
	}
}

var underscores = map[meshv1alpha1.ProxyConfig_ConnectionSettings_HeadersWithUnderscoresAction]model.Underscores{
	meshv1alpha1.ProxyConfig_ConnectionSettings_HEADERS_WITH_UNDERSCORES_REJECT_REQUEST: model.UnderscoresRefused,
	meshv1alpha1.ProxyConfig_ConnectionSettings_HEADERS_WITH_UNDERSCORES_DROP_HEADER:    model.UnderscoresDropped,
}

var escapedSlashes = map[meshv1alpha1.ProxyConfig_ConnectionSettings_PathWithEscapedSlashesAction]model.EscapedSlashes{
	meshv1alpha1.ProxyConfig_ConnectionSettings_KEEP_UNCHANGED:        model.SlashesKept,
	meshv1alpha1.ProxyConfig_ConnectionSettings_REJECT_REQUEST:        model.SlashesRefused,
	meshv1alpha1.ProxyConfig_ConnectionSettings_UNESCAPE_AND_REDIRECT: model.SlashesRedirected,
	meshv1alpha1.ProxyConfig_ConnectionSettings_UNESCAPE_AND_FORWARD:  model.SlashesUnescaped,
}

// connections reads how connections are handled, with what the profile says where nothing else is said.
func (r *reader) connections(s *meshv1alpha1.ProxyConfig_ConnectionSettings, at func(string) []string) *model.Connections {
	edge := s.GetProfile() == meshv1alpha1.ProxyConfig_ConnectionSettings_EDGE
	number := func(v *wrapperspb.Int32Value, least, profile uint32, name string) *uint32 {
		if v == nil {
			if edge && profile > 0 {
				return &profile
			}
			return nil
		}
		n := uint32(max(v.GetValue(), 0))
		if v.GetValue() < int32(least) {
			r.errorf("found %d, want at least %d", []any{v.GetValue(), least}, at(name)...)
			return nil
		}
		return &n
	}
	span := func(v *durationpb.Duration, profile time.Duration, name string) *time.Duration {
		if v == nil {
			if edge && profile > 0 {
				return &profile
			}
			return nil
		}
		d := v.AsDuration()
		if d < 0 || d > 0 && d < time.Millisecond {
			r.errorf("found %s, want 0s (off), or 1ms or more", []any{d}, at(name)...)
			return nil
		}
		return &d
	}
	const window = 65535 // HTTP/2's own
	number(s.GetListenerConnectionLimit(), 1, 0, "listenerConnectionLimit")
	number(s.GetGlobalDownstreamConnectionLimit(), 1, 0, "globalDownstreamConnectionLimit") // proxies keep to both themselves
	out := &model.Connections{
		ListenerBuffer: number(s.GetListenerPerConnectionBufferLimitBytes(), 1, 32<<10, "listenerPerConnectionBufferLimitBytes"),
		ClusterBuffer:  number(s.GetClusterPerConnectionBufferLimitBytes(), 1, 32<<10, "clusterPerConnectionBufferLimitBytes"),
		Idle:           span(s.GetHttpIdleTimeout(), time.Hour, "httpIdleTimeout"),
		MaxAge:         span(s.GetHttpMaxConnectionDuration(), 0, "httpMaxConnectionDuration"),
		Drain:          span(s.GetHttpDrainTimeout(), 0, "httpDrainTimeout"),
		Request:        span(s.GetHttpRequestTimeout(), 5*time.Minute, "httpRequestTimeout"),
		Headers:        span(s.GetHttpRequestHeadersTimeout(), 0, "httpRequestHeadersTimeout"),
		StreamIdle:     span(s.GetHttpStreamIdleTimeout(), 5*time.Minute, "httpStreamIdleTimeout"),
		MaxStream:      span(s.GetHttpMaxStreamDuration(), 0, "httpMaxStreamDuration"),
		Streams:        number(s.GetHttpMaxConcurrentStreams(), 1, 100, "httpMaxConcurrentStreams"),
		Window:         number(s.GetHttp2InitialStreamWindowSize(), window, 64<<10, "http2InitialStreamWindowSize"),
		ConnWindow:     number(s.GetHttp2InitialConnectionWindowSize(), window, 1<<20, "http2InitialConnectionWindowSize"),
		Underscores:    underscores[s.GetHttpHeadersWithUnderscoresAction()],
		MergeSlashes:   yesOrNo(s.GetHttpMergeSlashes()),
		EscapedSlashes: escapedSlashes[s.GetHttpPathWithEscapedSlashesAction()],
	}
	if edge && s.GetHttpHeadersWithUnderscoresAction() == meshv1alpha1.ProxyConfig_ConnectionSettings_HEADERS_WITH_UNDERSCORES_UNSPECIFIED {
		out.Underscores = model.UnderscoresRefused
	}
	if edge && out.MergeSlashes == nil {
		yes := true
		out.MergeSlashes = &yes
	}
	if edge && out.EscapedSlashes == model.SlashesUnsaid {
		out.EscapedSlashes = model.SlashesRedirected
	}
	return out
}
