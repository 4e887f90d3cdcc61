package translate

import (
	alpnv2 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/alpn/v3"
	statsv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/istio_stats/v3"
	peerv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/peer_metadata/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	uuidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/model"
)

// A direction is the way that requests take through a proxy.
type direction uint8

const (
	outwards direction = iota // from the application
	inwards                   // to the application
	through                   // a gateway
)

const (
	faultFilter   = "envoy.filters.http.fault"
	corsFilter    = "envoy.filters.http.cors"
	sessionFilter = "envoy.filters.http.stateful_session"
)

// httpFilter wraps the configuration of an HTTP filter.
func httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(config)}}
}

// httpFilters are the filters of a request, in Istio's order. A real Envoy does not have Istio's own.
func httpFilters(v *model.View, d direction) []*hcmv3.HttpFilter {
	var out []*hcmv3.HttpFilter
	stock := v.Proxy.Stock
	if !stock {
		out = append(out, httpFilter("istio.metadata_exchange", peerMetadata(d)))
	}
	switch {
	case d == inwards:
	case stock:
		out = append(out, stockALPN())
	default:
		out = append(out, httpFilter("istio.alpn", meshALPN()))
	}
	out = append(out, httpFilter(faultFilter, &faultv3.HTTPFault{}), httpFilter(corsFilter, &corsv3.Cors{}))
	if !stock {
		out = append(out, httpFilter("istio.stats", &statsv3.PluginConfig{DisableHostHeaderFallback: d == inwards}))
	}
	if d != inwards && keepsSessions(v) {
		out = append(out, httpFilter(sessionFilter, &sessionv3.StatefulSession{}))
	}
	if f := lookup(v, d); f != nil {
		out = append(out, f)
	}
	return append(out, httpFilter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: headersOf(v).NoDebug}))
}

// peerMetadata makes two sidecars tell each other who they are, in headers that
// do not leave the mesh.
func peerMetadata(d direction) *peerv3.Config {
	headers := &peerv3.Config_DiscoveryMethod{MethodSpecifier: &peerv3.Config_DiscoveryMethod_IstioHeaders{IstioHeaders: &peerv3.Config_IstioHeaders{}}}
	send := func(skipExternal bool) []*peerv3.Config_PropagationMethod {
		return []*peerv3.Config_PropagationMethod{{MethodSpecifier: &peerv3.Config_PropagationMethod_IstioHeaders{
			IstioHeaders: &peerv3.Config_IstioHeaders{SkipExternalClusters: skipExternal},
		}}}
	}
	c := &peerv3.Config{}
	if d == inwards {
		c.DownstreamDiscovery, c.DownstreamPropagation = []*peerv3.Config_DiscoveryMethod{headers}, send(false)
		return c
	}
	c.UpstreamDiscovery, c.UpstreamPropagation = []*peerv3.Config_DiscoveryMethod{headers}, send(true)
	return c
}

// meshALPN makes connections that carry HTTP say so, on ports where the cluster
// cannot know it.
func meshALPN() *alpnv2.FilterConfig {
	return &alpnv2.FilterConfig{AlpnOverride: []*alpnv2.FilterConfig_AlpnOverride{
		{UpstreamProtocol: alpnv2.FilterConfig_HTTP10, AlpnOverride: []string{"istio-http/1.0", "istio", "http/1.0"}},
		{UpstreamProtocol: alpnv2.FilterConfig_HTTP11, AlpnOverride: alpnHTTPClient},
		{UpstreamProtocol: alpnv2.FilterConfig_HTTP2, AlpnOverride: alpnHTTP2Client},
	}}
}

// networkFilter wraps the configuration of a network filter.
func networkFilter(name string, config proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(config)}}
}

// httpManager reads HTTP and routes it by the routes that rds names, or inline.
func httpManager(v *model.View, d direction, statPrefix, rds string, inline *routev3.RouteConfiguration) *listenerv3.Filter {
	m := &hcmv3.HttpConnectionManager{
		StatPrefix: statPrefix + ";", HttpFilters: httpFilters(v, d), AccessLog: accessLog(v),
		UseRemoteAddress: boolean(d == through), StreamIdleTimeout: span(0),
		UpgradeConfigs: []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		RequestIdExtension: &hcmv3.RequestIDExtension{TypedConfig: pack(&uuidv3.UuidRequestIdConfig{
			UseRequestIdForTraceSampling: boolean(true),
		})},
	}
	if inline != nil {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: inline}
	} else {
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: rds}}
	}
	if d == inwards { // a WebSocket comes like that from where HTTP/1.1 is carried over HTTP/2 (RFC 8441)
		m.Http2ProtocolOptions = &corev3.Http2ProtocolOptions{AllowConnect: true}
	}
	if d != outwards { // what the application says goes out as it said it
		m.ServerName = "istio-envoy"
		setPaths(m, v.Mesh.Config.Paths)
		m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_APPEND_FORWARD
		if d == through {
			setTopology(v, m)
		}
	}
	setConnections(v, m)
	setProxyHeaders(v, d, m)
	return networkFilter("envoy.filters.network.http_connection_manager", m)
}

// tcpProxy carries bytes to one cluster.
func tcpProxy(v *model.View, cluster string) *listenerv3.Filter {
	return networkFilter("envoy.filters.network.tcp_proxy", &tcpv3.TcpProxy{
		StatPrefix: cluster, ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: cluster}, AccessLog: accessLog(v),
	})
}

// tcpTo carries bytes to destinations by weight, as their service's policy says.
func tcpTo(v *model.View, to []model.Split, listener uint16) *listenerv3.Filter {
	p := &tcpv3.TcpProxy{AccessLog: accessLog(v)}
	first := clusterOf(v, to[0].To, listener)
	if len(to) == 1 {
		p.StatPrefix = first.String()
		p.ClusterSpecifier = &tcpv3.TcpProxy_Cluster{Cluster: first.String()}
	} else {
		list := &tcpv3.TcpProxy_WeightedCluster{}
		by := divisorOf(to)
		for _, s := range to {
			list.Clusters = append(list.Clusters, &tcpv3.TcpProxy_WeightedCluster_ClusterWeight{
				Name: clusterOf(v, s.To, listener).String(), Weight: lighter(uint64(s.Weight), by),
			})
		}
		p.StatPrefix = clusterName{port: first.port, host: first.host}.String()
		p.ClusterSpecifier = &tcpv3.TcpProxy_WeightedClusters{WeightedClusters: list}
	}
	if s, port, subset, ok := resolve(v, first); ok {
		policy := policyFor(v, v.PolicyFor(s), subset, port.Number)
		if len(to) == 1 {
			setTunnel(p, policy.Tunnel)
		}
		if lb := policy.LB; lb != nil {
			p.HashPolicy = connectionHash(lb.Hash)
		}
		if pool := policy.Pool; pool != nil {
			p.IdleTimeout = spanIf(pool.TCPIdleTimeout)
			p.MaxDownstreamConnectionDuration = spanIf(pool.MaxDuration)
		}
	}
	return networkFilter("envoy.filters.network.tcp_proxy", p)
}
