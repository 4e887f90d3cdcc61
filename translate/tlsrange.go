package translate

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/model"
)

// The mesh's settings for TLS (meshMTLS, tlsDefaults, verifyCertificateAtClient) hold wherever
// TLS is spoken, so they are laid over what was made, in one place. Meshes that have none do
// not come here.

// restrictsTLS reports whether the mesh has settings for TLS.
func restrictsTLS(v *model.View) bool {
	c := v.Mesh.Config
	return c.TrustUnnamed || some(c.MeshTLS) || some(c.OtherTLS)
}

func some(r model.TLSRange) bool { return r.OnlyTLS13 || len(r.Ciphers)+len(r.Curves) > 0 }

// restrictCluster lays the settings over TLS towards a cluster.
func restrictCluster(v *model.View, c *clusterv3.Cluster) {
	restrictClient(v, c.GetTransportSocket())
	for _, m := range c.GetTransportSocketMatches() {
		restrictClient(v, m.GetTransportSocket())
	}
}

func restrictClient(v *model.View, s *corev3.TransportSocket) {
	changeTLS(s, new(proxyprotocolv3.ProxyProtocolUpstreamTransport), func(p *proxyprotocolv3.ProxyProtocolUpstreamTransport) {
		restrictClient(v, p.GetTransportSocket()) // TLS within
	})
	changeTLS(s, new(tlsv3.UpstreamTlsContext), func(t *tlsv3.UpstreamTlsContext) {
		restrict(v, t.GetCommonTlsContext())
		if !v.Mesh.Config.TrustUnnamed {
			return
		}
		common := t.GetCommonTlsContext()
		check := common.GetValidationContext()
		if both := common.GetCombinedValidationContext(); both.GetValidationContextSdsSecretConfig().GetName() == systemRoots {
			check = both.GetDefaultValidationContext()
			common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: check}
		} else if check.GetSystemRootCerts() == nil {
			return // somebody said whom to trust
		}
		check.SystemRootCerts = nil
		check.TrustChainVerification = tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED
	})
}

// restrictListener lays the settings over TLS that ends at a listener.
func restrictListener(v *model.View, l *listenerv3.Listener) {
	for _, c := range append(slices.Clone(l.GetFilterChains()), l.GetDefaultFilterChain()) {
		changeTLS(c.GetTransportSocket(), new(tlsv3.DownstreamTlsContext), func(t *tlsv3.DownstreamTlsContext) { restrict(v, t.GetCommonTlsContext()) })
	}
}

// changeTLS hands the configuration of a socket to f, if it is of that type.
func changeTLS[M proto.Message](s *corev3.TransportSocket, context M, f func(M)) {
	if !s.GetTypedConfig().MessageIs(context) || s.GetTypedConfig().UnmarshalTo(context) != nil {
		return
	}
	f(context)
	s.ConfigType = &corev3.TransportSocket_TypedConfig{TypedConfig: pack(context)}
}

// restrict lays the settings for mutual TLS of the mesh, or for all other TLS, over what is
// said of it. What a server's own configuration says stays.
func restrict(v *model.View, c *tlsv3.CommonTlsContext) {
	ofMesh := slices.ContainsFunc(c.GetTlsCertificateSdsSecretConfigs(), func(s *tlsv3.SdsSecretConfig) bool { return s.GetName() == "default" })
	r := v.Mesh.Config.OtherTLS
	if ofMesh {
		r = v.Mesh.Config.MeshTLS
	}
	if !some(r) {
		return
	}
	if c.TlsParams == nil {
		c.TlsParams = &tlsv3.TlsParameters{}
	}
	p := c.TlsParams
	if r.OnlyTLS13 && (ofMesh || p.TlsMinimumProtocolVersion == tlsv3.TlsParameters_TLS_AUTO) {
		p.TlsMinimumProtocolVersion, p.TlsMaximumProtocolVersion = tlsv3.TlsParameters_TLSv1_3, tlsv3.TlsParameters_TLSv1_3
	}
	if len(r.Ciphers) > 0 && (ofMesh || len(p.CipherSuites) == 0) {
		p.CipherSuites = r.Ciphers
	}
	if len(r.Curves) > 0 {
		p.EcdhCurves = r.Curves
	}
}
