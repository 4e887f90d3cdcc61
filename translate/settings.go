package translate

import (
	"cmp"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	casev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mallamesh/malla/model"
)

// What is set for a proxy (proxyHeaders and connectionSettings of its ProxyConfig) is laid over what it gets.

var noHeaders model.ProxyHeaders

func headersOf(v *model.View) *model.ProxyHeaders {
	if h := v.Settings().Headers; h != nil {
		return h
	}
	return &noHeaders
}

// setProxyHeaders says which header fields a connection manager writes.
func setProxyHeaders(v *model.View, d direction, m *hcmv3.HttpConnectionManager) {
	h := headersOf(v)
	if h.NoRequestID {
		m.GenerateRequestId = boolean(false)
	}
	m.AppendXForwardedPort = h.ForwardedPort
	if h.PreserveCase {
		m.HttpProtocolOptions = &corev3.Http1ProtocolOptions{HeaderKeyFormat: preservedCase()}
	}
	if d == outwards {
		return
	}
	switch {
	case h.NoServer:
		m.ServerName, m.ServerHeaderTransformation = "", hcmv3.HttpConnectionManager_PASS_THROUGH
	case h.Server != "":
		m.ServerName = h.Server
	}
	if d == inwards && h.ClientCert != model.CertDefault {
		m.ForwardClientCertDetails = certDetails[h.ClientCert]
	}
	or := func(p *bool, otherwise bool) bool {
		if p != nil {
			return *p
		}
		return otherwise
	}
	f := h.CertFields
	cert := or(f.Cert, d != inwards) // Istio's gateways write the certificate itself, which those behind parse; its sidecars do not
	m.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{
		Subject: boolean(or(f.Subject, true)), Cert: cert, Chain: or(f.Chain, false), Dns: or(f.DNS, true), Uri: or(f.URI, true),
	}
}

func preservedCase() *corev3.Http1ProtocolOptions_HeaderKeyFormat {
	return &corev3.Http1ProtocolOptions_HeaderKeyFormat{HeaderFormat: &corev3.Http1ProtocolOptions_HeaderKeyFormat_StatefulFormatter{StatefulFormatter: &corev3.TypedExtensionConfig{
		Name: "envoy.http.stateful_header_formatters.preserve_case", TypedConfig: pack(&casev3.PreserveCaseFormatterConfig{}),
	}}}
}

// forwardHost tells the host that a route rewrites, where that is wanted.
func forwardHost(v *model.View, a *routev3.RouteAction) {
	a.AppendXForwardedHost = headersOf(v).ForwardedHost && a.GetHostRewriteSpecifier() != nil
}

// setConnections says how a connection manager handles its clients.
func setConnections(v *model.View, m *hcmv3.HttpConnectionManager) {
	c := v.Settings().Connections
	if c == nil {
		return
	}
	over := func(to **durationpb.Duration, d *time.Duration) {
		if d != nil {
			*to = span(*d)
		}
	}
	over(&m.DrainTimeout, c.Drain)
	over(&m.RequestTimeout, c.Request)
	over(&m.RequestHeadersTimeout, c.Headers)
	over(&m.StreamIdleTimeout, c.StreamIdle)
	if c.Idle != nil || c.MaxAge != nil || c.MaxStream != nil || c.Underscores != model.UnderscoresAllowed {
		o := &corev3.HttpProtocolOptions{HeadersWithUnderscoresAction: map[model.Underscores]corev3.HttpProtocolOptions_HeadersWithUnderscoresAction{
			model.UnderscoresRefused: corev3.HttpProtocolOptions_REJECT_REQUEST, model.UnderscoresDropped: corev3.HttpProtocolOptions_DROP_HEADER,
		}[c.Underscores]}
		over(&o.IdleTimeout, c.Idle)
		over(&o.MaxConnectionDuration, c.MaxAge)
		over(&o.MaxStreamDuration, c.MaxStream)
		m.CommonHttpProtocolOptions = o
	}
	if c.Streams != nil || c.Window != nil || c.ConnWindow != nil {
		o := cmp.Or(m.Http2ProtocolOptions, &corev3.Http2ProtocolOptions{})
		if c.Streams != nil {
			o.MaxConcurrentStreams = u32(*c.Streams)
		}
		if c.Window != nil {
			o.InitialStreamWindowSize = u32(*c.Window)
		}
		if c.ConnWindow != nil {
			o.InitialConnectionWindowSize = u32(*c.ConnWindow)
		}
		m.Http2ProtocolOptions = o
	}
	if c.MergeSlashes != nil {
		m.MergeSlashes = *c.MergeSlashes
	}
	if c.EscapedSlashes != model.SlashesUnsaid {
		m.PathWithEscapedSlashesAction = map[model.EscapedSlashes]hcmv3.HttpConnectionManager_PathWithEscapedSlashesAction{
			model.SlashesKept: hcmv3.HttpConnectionManager_KEEP_UNCHANGED, model.SlashesRefused: hcmv3.HttpConnectionManager_REJECT_REQUEST,
			model.SlashesRedirected: hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT, model.SlashesUnescaped: hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD,
		}[c.EscapedSlashes]
	}
}

// setListenerBuffer and setClusterBuffer bound what a connection holds.
func setListenerBuffer(v *model.View, l *listenerv3.Listener) {
	if c := v.Settings().Connections; c != nil && c.ListenerBuffer != nil {
		l.PerConnectionBufferLimitBytes = u32(*c.ListenerBuffer)
	}
}

func setClusterBuffer(v *model.View, c *clusterv3.Cluster) {
	if s := v.Settings().Connections; s != nil && s.ClusterBuffer != nil {
		c.PerConnectionBufferLimitBytes = u32(*s.ClusterBuffer)
	}
}
