package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mallamesh/malla/model"
)

var protocolVersions = map[string]tlsv3.TlsParameters_TlsProtocol{
	"1.0": tlsv3.TlsParameters_TLSv1_0, "1.1": tlsv3.TlsParameters_TLSv1_1, "1.2": tlsv3.TlsParameters_TLSv1_2, "1.3": tlsv3.TlsParameters_TLSv1_3,
}

// gatewaySocket ends TLS as a server of a gateway says; nil if it leaves it closed.
// Alpn is for mutual TLS of the mesh; other clients are offered HTTP's, also where
// what is inside is carried unread, as by Istio.
func gatewaySocket(v *model.View, t *model.ServerTLS, alpn []string) *corev3.TransportSocket {
	if t == nil || !t.Mode.Ends() {
		return nil
	}
	if t.Mode == model.ServerIstioMutual {
		return meshServerFor(v, alpn, t.SANs)
	}
	common := &tlsv3.CommonTlsContext{AlpnProtocols: alpnHTTPServer}
	if t.MinVersion != "" || t.MaxVersion != "" || len(t.Ciphers) > 0 {
		common.TlsParams = &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: protocolVersions[t.MinVersion], TlsMaximumProtocolVersion: protocolVersions[t.MaxVersion], CipherSuites: t.Ciphers,
		}
	}
	for _, ref := range t.Certs {
		common.TlsCertificateSdsSecretConfigs = append(common.TlsCertificateSdsSecretConfigs, secretConfig(ref, false))
	}
	if t.CA != nil {
		check := &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: anyNames(t.SANs), VerifyCertificateSpki: t.Keys, VerifyCertificateHash: t.Hashes}
		if t.AnyClient {
			check.TrustChainVerification = tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED
		}
		common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: check, ValidationContextSdsSecretConfig: secretConfig(*t.CA, true),
		}}
	}
	return serverSocket(&tlsv3.DownstreamTlsContext{CommonTlsContext: common, RequireClientCertificate: boolean(t.Mode == model.ServerMutual)})
}

func serverSocket(c *tlsv3.DownstreamTlsContext) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(c)},
	}
}

// anyNames matches a name of a certificate whatever its type is.
func anyNames(names []string) []*tlsv3.SubjectAltNameMatcher {
	var out []*tlsv3.SubjectAltNameMatcher
	for _, kind := range []tlsv3.SubjectAltNameMatcher_SanType{tlsv3.SubjectAltNameMatcher_DNS, tlsv3.SubjectAltNameMatcher_URI,
		tlsv3.SubjectAltNameMatcher_EMAIL, tlsv3.SubjectAltNameMatcher_IP_ADDRESS} {
		out = append(out, exactNames(kind, names)...)
	}
	return out
}
