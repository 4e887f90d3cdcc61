package build

import (
	"strings"
	"time"

	alpnv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/alpn/v3"
	istiostatsv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/istio_stats/v3"
	peerv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/peer_metadata/v3"
	exchangev3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/network/metadata_exchange/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	sniforwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/filter/peer"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
	"github.com/mallamesh/malla/proxy/tcp"
)

var filterFields = []*Message{
	message((*routerv3.Router)(nil), reads("suppress_envoy_headers", "respect_expected_rq_timeout", "strict_check_headers", "upstream_http_filters",
		"upstream_log", "upstream_log_options", "suppress_grpc_request_failure_code_stats"),
		ignores("what a client sends before its CONNECT is answered waits here, so that no host gets it early", "reject_connect_request_early_data"),
		ignores("statistics by response code are always kept", "dynamic_stats"),
		ignores("requests are not traced yet", "start_child_span")),
	message((*routerv3.Router_UpstreamAccessLogOptions)(nil), reads("flush_upstream_log_on_upstream_stream", "upstream_log_flush_interval")),
	message((*alpnv3.FilterConfig)(nil), reads("alpn_override")),
	message((*alpnv3.FilterConfig_AlpnOverride)(nil), reads("upstream_protocol", "alpn_override")),
	message((*istiostatsv3.PluginConfig)(nil), reads("disable_host_header_fallback", "tcp_reporting_duration"), only("reporter", "waypoints are not built yet", "UNSPECIFIED"),
		ignores("series are bounded in number and live as long as the proxy", "rotation_interval", "graceful_deletion_interval")),
	message((*peerv3.Config)(nil), reads("downstream_discovery", "upstream_discovery", "downstream_propagation", "upstream_propagation"),
		ignores("filters before and after see the same stream", "shared_with_upstream")),
	message((*peerv3.Config_DiscoveryMethod)(nil), reads("istio_headers"),
		ignores("peers say who they are themselves, or their endpoints do", "workload_discovery")),
	message((*peerv3.Config_PropagationMethod)(nil), reads("istio_headers")),
	message((*peerv3.Config_IstioHeaders)(nil), reads("skip_external_clusters")),
}

// httpFilters makes the filters of a connection manager, in order.
func (r *listenerReader) httpFilters(list []*hcmv3.HttpFilter, c *stream.Config, at *field.Path) {
	if len(list) > stream.MaxFilters {
		r.errs.Addf(at, "has %d filters, want at most %d", len(list), stream.MaxFilters)
		return
	}
	dynamic := false
	for i, f := range list {
		at := at.Index(i)
		last := i == len(list)-1
		before := len(c.Filters)
		if f.GetConfigDiscovery() != nil {
			dynamic = true
			r.httpSlot(f, c, last, at)
		} else {
			if f.GetIsOptional() && !known(f.GetTypedConfig()) && !last { // somebody has to take requests
				continue
			}
			m := r.unpack(f.GetTypedConfig(), at)
			if m != nil && !r.atEnd(m, last, at) {
				continue
			}
			r.httpFilter(f, m, c, at.Child("typed_config"))
		}
		if f.GetDisabled() {
			if last || len(c.Filters) == before {
				r.errs.Addf(at.Child("disabled"), "is set for a filter that cannot be off")
				continue
			}
			c.FiltersOff |= 1 << before
		}
	}
	if len(list) == 0 {
		r.errs.Addf(at, "is empty, want at least the router")
	}
	if dynamic {
		c.Live = stream.NewLive(c.Filters, c.FiltersOff)
	}
}

// atEnd reports whether a filter is where the router is to be, or is none and somewhere else.
func (r *listenerReader) atEnd(m proto.Message, last bool, at *field.Path) bool {
	_, isRouter := m.(*routerv3.Router)
	if isRouter != last {
		r.errs.Addf(at, "found %s, want the router as the last filter and nowhere else", m.ProtoReflect().Descriptor().FullName())
	}
	return isRouter == last
}

// httpFilter reads one filter. Those that every mesh has stand here, the others in optionalFilter.
func (r *listenerReader) httpFilter(f *hcmv3.HttpFilter, m proto.Message, c *stream.Config, at *field.Path) {
	switch m := m.(type) {
	case nil:
	case *routerv3.Router:
		c.Filters = append(c.Filters, router.New(r.router(m, at)))
	case *peerv3.Config:
		c.Filters = append(c.Filters, peer.New(r.peer(m, at)))
	case *istiostatsv3.PluginConfig:
		c.Logs = append(c.Logs, r.metrics(m, at))
	case *alpnv3.FilterConfig:
		c.UpstreamALPN = alpnOffers(m)
	default:
		made := r.optionalFilter(f.GetName(), m, c, at)
		if made == nil {
			r.errs.Addf(at, "found %s, which is no HTTP filter", anyName(m))
			return
		}
		c.Filters = append(c.Filters, made)
	}
}

// router reads the router's own configuration.
func (r *listenerReader) router(m *routerv3.Router, at *field.Path) router.Config {
	c := router.Config{SuppressEnvoyHeaders: m.GetSuppressEnvoyHeaders(), RespectExpected: m.GetRespectExpectedRqTimeout(),
		UncodedGRPC: m.GetSuppressGrpcRequestFailureCodeStats(),
		Upstream:    r.upstreamFilters(m.GetUpstreamHttpFilters(), at.Child("upstream_http_filters"))}
	o, where := m.GetUpstreamLogOptions(), at.Child("upstream_log_options").Child("upstream_log_flush_interval")
	c.Logs = router.Logs{List: r.logs(m.GetUpstreamLog(), at.Child("upstream_log")), Ready: o.GetFlushUpstreamLogOnUpstreamStream(), Every: r.duration(o.GetUpstreamLogFlushInterval(), where)}
	if o.GetUpstreamLogFlushInterval() != nil && c.Logs.Every < time.Millisecond {
		r.errs.Addf(where, "found %v, want at least a millisecond", c.Logs.Every)
	}
	for i, name := range m.GetStrictCheckHeaders() {
		switch t := header.TokenOfString(name); t {
		case header.XEnvoyUpstreamRqTimeoutMs, header.XEnvoyUpstreamRqPerTryTimeoutMs, header.XEnvoyMaxRetries, header.XEnvoyRetryOn, header.XEnvoyRetryGrpcOn:
			c.Strict = append(c.Strict, t)
		default:
			r.errs.Addf(at.Child("strict_check_headers").Index(i), "found %q, want x-envoy-upstream-rq-timeout-ms, x-envoy-upstream-rq-per-try-timeout-ms, x-envoy-max-retries, x-envoy-retry-on or x-envoy-retry-grpc-on", name)
		}
	}
	return c
}

// alpnOffers is what connections that carry HTTP offer. None of ours carries HTTP/1.0.
func alpnOffers(m *alpnv3.FilterConfig) (offers pool.Offers) {
	for _, o := range m.GetAlpnOverride() {
		switch names := strings.Join(o.GetAlpnOverride(), ","); o.GetUpstreamProtocol() {
		case alpnv3.FilterConfig_HTTP11:
			offers.HTTP11 = names
		case alpnv3.FilterConfig_HTTP2:
			offers.HTTP2 = names
		}
	}
	return offers
}

// networkFilter reads a filter that comes before the one that takes the connection.
func (r *listenerReader) networkFilter(m proto.Message, at *field.Path) {
	switch m := m.(type) {
	case *istiostatsv3.PluginConfig:
		r.tcpMetrics = r.metrics(m, at)
	case *exchangev3.MetadataExchange:
		r.metadataExchange(m, at)
	case *sniforwardv3.FilterConfig:
		r.sniForward(m, at)
	default:
		r.errs.Addf(at, "found %s, which is no network filter", anyName(m))
	}
}

// peer reads Istio's exchange of metadata in headers: a server's side listens to
// clients, a client's to servers.
func (r *listenerReader) peer(m *peerv3.Config, at *field.Path) peer.Config {
	down, up := m.GetDownstreamDiscovery(), m.GetUpstreamDiscovery()
	if len(down) > 0 && len(up) > 0 {
		r.errs.Addf(at, "has both downstream_discovery and upstream_discovery, want one")
	}
	inbound := len(up) == 0 && len(m.GetUpstreamPropagation()) == 0
	config := peer.Config{Inbound: inbound, ID: r.env.Node.GetId(), Intern: r.env.Istio.Peer}
	ways := m.GetUpstreamPropagation()
	if inbound {
		ways = m.GetDownstreamPropagation()
	}
	for i, w := range ways {
		if w.GetIstioHeaders() == nil {
			r.errs.Addf(at.Child("propagation").Index(i), "is empty, want istio_headers")
			continue
		}
		own := r.env.Istio.Local()
		config.Own = &own
		if w.GetIstioHeaders().GetSkipExternalClusters() {
			config.Skip = r.env.outside
		}
	}
	for i, d := range append(down, up...) {
		if d.GetIstioHeaders() == nil && d.GetWorkloadDiscovery() == nil {
			r.errs.Addf(at.Child("discovery").Index(i), "is empty, want istio_headers or workload_discovery")
		}
	}
	return config
}

// metadataExchange reads Istio's exchange of metadata over TCP.
func (r *listenerReader) metadataExchange(m *exchangev3.MetadataExchange, at *field.Path) {
	if m.GetProtocol() != "istio-peer-exchange" {
		r.errs.Addf(at.Child("protocol"), "found %q, want istio-peer-exchange", m.GetProtocol())
	}
	own, istio := r.env.Istio.Local(), r.env.Istio
	r.exchange = &tcp.Exchange{Message: peer.Message(&own, nil), Parse: func(message []byte, principal string) *stats.Peer {
		p, err := peer.DecodeAny(message)
		if err != nil {
			return nil
		}
		p.Principal = principal
		return istio.Peer(*p)
	}}
}
