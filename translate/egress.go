package translate

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"

	"github.com/mallamesh/malla/model"
)

const proxyProtocolSocket = "envoy.transport_sockets.upstream_proxy_protocol"

// unknownCluster is where traffic goes for hosts that nobody declared, if it may pass: where
// it wanted, or to the proxy that a Sidecar names.
func unknownCluster(v *model.View) string {
	if s := v.Scope(); s != nil && s.Egress != nil {
		return clusterOf(v, *s.Egress, s.Egress.Port).String()
	}
	return passthroughCluster
}

// setTunnel makes the service carry bytes on to another host.
func setTunnel(p *tcpv3.TcpProxy, t *model.Tunnel) {
	if t != nil {
		p.TunnelingConfig = &tcpv3.TcpProxy_TunnelingConfig{Hostname: t.Target, UsePost: t.Post}
	}
}

// setProxyHeader has the cluster's connections begin with who the client is, whatever
// secures them.
func setProxyHeader(c *clusterv3.Cluster, h model.ProxyHeader) {
	if h == model.NoProxyHeader {
		return
	}
	wrap := func(s *corev3.TransportSocket) *corev3.TransportSocket {
		config := &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_V1}
		if h == model.ProxyHeaderV2 {
			config.Version = corev3.ProxyProtocolConfig_V2
		}
		return &corev3.TransportSocket{Name: proxyProtocolSocket, ConfigType: &corev3.TransportSocket_TypedConfig{
			TypedConfig: pack(&proxyprotocolv3.ProxyProtocolUpstreamTransport{Config: config, TransportSocket: s}),
		}}
	}
	for _, m := range c.TransportSocketMatches {
		m.TransportSocket = wrap(m.TransportSocket)
	}
	switch {
	case c.TransportSocket != nil:
		c.TransportSocket = wrap(c.TransportSocket)
	case len(c.TransportSocketMatches) == 0:
		c.TransportSocket = wrap(rawSocket())
	}
}
