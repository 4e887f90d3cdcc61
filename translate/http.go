package translate

import (
	"cmp"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/model"
)

const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// A version says which HTTP a cluster is spoken to in.
type version uint8

const (
	http1    version = iota
	http2            // whatever the client speaks
	asClient         // the one that the client speaks
)

// outboundVersion is that of a service's port. HTTP/1.1 between sidecars is carried over
// HTTP/2 where somebody asks for it, and the applications do not know. On a port that declares nothing
// a sidecar passes on what its application speaks, which knows the server; the clients of a gateway do
// not, so that servers get HTTP/1.1 there.
func outboundVersion(v *model.View, p model.Protocol, pool *model.ConnectionPool) version {
	if pool == nil {
		pool = &model.ConnectionPool{}
	}
	switch {
	case pool.UseClientProtocol:
		return asClient
	case p.IsHTTP2():
		return http2
	case pool.Upgrade == model.H2Always:
		return http2
	case p == model.Sniffed && v.Proxy.Type == model.Sidecar:
		return asClient
	case p != model.Sniffed && pool.Upgrade == model.H2Default && v.Mesh.Config.H2Upgrade:
		return http2
	}
	return http1
}

// inboundVersion is that of an application: the one that its port declares, unless it is to have its clients'.
func inboundVersion(p model.Protocol, pool *model.ConnectionPool) version {
	switch {
	case pool != nil && pool.UseClientProtocol:
		return asClient
	case p.IsHTTP2():
		return http2
	case p == model.Sniffed:
		return asClient
	}
	return http1
}

// maxStreams is how many requests a connection carries at once if nobody says otherwise.
const maxStreams = 1 << 30

// setHTTP puts what concerns HTTP connections into a cluster. AutoNames makes
// the server's name for TLS that of each request.
func setHTTP(v *model.View, c *clusterv3.Cluster, as version, p *model.ConnectionPool, autoNames bool) {
	o := httpProtocol(v, as, p)
	if common := o.CommonHttpProtocolOptions; !autoNames && !headersOf(v).PreserveCase && as == http1 && common.IdleTimeout == nil && common.MaxRequestsPerConnection == nil && common.MaxConnectionDuration == nil {
		return
	}
	if autoNames {
		o.UpstreamHttpProtocolOptions = &corev3.UpstreamHttpProtocolOptions{AutoSni: true, AutoSanValidation: true}
	}
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptions: pack(o)}
}

func httpProtocol(v *model.View, as version, p *model.ConnectionPool) *httpv3.HttpProtocolOptions {
	common := &corev3.HttpProtocolOptions{}
	two := &corev3.Http2ProtocolOptions{MaxConcurrentStreams: u32(maxStreams)}
	if p != nil {
		common.IdleTimeout = spanIf(cmp.Or(p.HTTPIdleTimeout, p.TCPIdleTimeout))
		common.MaxRequestsPerConnection = u32If(p.MaxPerConnection)
		common.MaxConnectionDuration = spanIf(p.MaxDuration)
		two.MaxConcurrentStreams = u32(cmp.Or(p.MaxStreams, maxStreams))
		if p.Ping != nil {
			two.ConnectionKeepalive = &corev3.KeepaliveSettings{Interval: span(max(p.Ping.Interval, time.Millisecond)), Timeout: span(max(p.Ping.Timeout, time.Millisecond))}
		}
	}
	o := &httpv3.HttpProtocolOptions{CommonHttpProtocolOptions: common}
	switch as {
	case http1:
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: http1Options(v)},
		}}
	case http2:
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: two},
		}}
	case asClient:
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
			HttpProtocolOptions: http1Options(v), Http2ProtocolOptions: two,
		}}
	}
	return o
}

func http1Options(v *model.View) *corev3.Http1ProtocolOptions {
	o := &corev3.Http1ProtocolOptions{}
	if headersOf(v).PreserveCase {
		o.HeaderKeyFormat = preservedCase()
	}
	return o
}
