package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mallamesh/malla/model"
)

// What application protocols say between two proxies of the mesh. The names
// with istio mark mutual TLS of the mesh, so that a server tells it from an
// application's own TLS; the last name is what both ends then really speak.
var (
	alpnHTTPClient  = []string{"istio-http/1.1", "istio", "http/1.1"}
	alpnHTTP2Client = []string{"istio-h2", "istio", "h2"}
	alpnTCPClient   = []string{"istio"}
	alpnHTTPServer  = []string{"h2", "http/1.1"}
	alpnTCPServer   = []string{"istio", "h2", "http/1.1"}
)

// meshCiphers are those of TLS 1.2; TLS 1.3 has its own.
var meshCiphers = []string{
	"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
	"AES256-GCM-SHA384", "AES128-GCM-SHA256",
}

func rawSocket() *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.raw_buffer",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&rawv3.RawBuffer{})},
	}
}

func clientSocket(c *tlsv3.UpstreamTlsContext) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(c)},
	}
}

// meshContext is what both ends of mutual TLS in the mesh share: the workload's
// certificate, and the mesh's roots with a rule for the peer's name.
func meshContext(alpn []string, names []*tlsv3.SubjectAltNameMatcher) *tlsv3.CommonTlsContext {
	return &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		},
		AlpnProtocols:                  alpn,
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: "default", SdsConfig: agent()}},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: names},
				ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: "ROOTCA", SdsConfig: agent()},
			},
		},
	}
}

// meshClient is mutual TLS towards a cluster of the mesh. The server's
// certificate must carry one of the identities of the service, if any is known.
func meshClient(sni string, accounts, alpn []string) *corev3.TransportSocket {
	return clientSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: meshContext(alpn, exactNames(tlsv3.SubjectAltNameMatcher_URI, accounts)), Sni: sni})
}

func exactNames(kind tlsv3.SubjectAltNameMatcher_SanType, names []string) []*tlsv3.SubjectAltNameMatcher {
	var out []*tlsv3.SubjectAltNameMatcher
	for _, n := range names {
		out = append(out, &tlsv3.SubjectAltNameMatcher{SanType: kind, Matcher: exactly(n)})
	}
	return out
}

func exactly(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

// meshServer is mutual TLS towards clients: they must have a certificate of the
// mesh, for an identity of its trust domain or of an alias of that.
func meshServer(v *model.View, alpn []string) *corev3.TransportSocket {
	return meshServerFor(v, alpn, nil)
}

// meshServerFor is as meshServer, for the given identities only, if there are any.
func meshServerFor(v *model.View, alpn, only []string) *corev3.TransportSocket {
	var names []*tlsv3.SubjectAltNameMatcher
	cfg := v.Mesh.Config
	for _, domain := range append([]string{cfg.TrustDomain}, cfg.TrustDomainAliases...) {
		names = append(names, &tlsv3.SubjectAltNameMatcher{
			SanType: tlsv3.SubjectAltNameMatcher_URI,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "spiffe://" + domain + "/"}},
		})
	}
	if len(only) > 0 {
		names = anyNames(only)
	}
	common := meshContext(alpn, names)
	common.TlsParams.CipherSuites = meshCiphers
	return serverSocket(&tlsv3.DownstreamTlsContext{CommonTlsContext: common, RequireClientCertificate: boolean(true)})
}

// systemRoots is the name by which the agent beside a real Envoy hands it the roots of the system, as Istio's does: of
// itself Envoy knows none.
const systemRoots = "file-root:system"

// originatedTLS is what a DestinationRule asks for towards servers that are not
// of the mesh (SIMPLE, MUTUAL).
func originatedTLS(v *model.View, t *model.ClientTLS, alpn []string) *corev3.TransportSocket {
	common := &tlsv3.CommonTlsContext{AlpnProtocols: alpn}
	if ref, ok := shownCert(v, t); ok {
		common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{secretConfig(ref, false)}
	}
	check := &tlsv3.CertificateValidationContext{}
	if t.SkipVerify {
		check.TrustChainVerification = tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED
	} else {
		check.MatchTypedSubjectAltNames = append(exactNames(tlsv3.SubjectAltNameMatcher_DNS, t.SANs), exactNames(tlsv3.SubjectAltNameMatcher_URI, t.SANs)...)
	}
	if ref, ok := clientRoots(t); ok {
		common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: check, ValidationContextSdsSecretConfig: secretConfig(ref, true),
		}}
	} else if v.Proxy.Stock && !t.SkipVerify {
		from := agent()
		from.InitialFetchTimeout = nil // a machine may have none
		common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: check, ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: systemRoots, SdsConfig: from},
		}}
	} else {
		if !t.SkipVerify {
			check.SystemRootCerts = &tlsv3.CertificateValidationContext_SystemRootCerts{}
		}
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: check}
	}
	return clientSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: common, Sni: t.SNI})
}

// shownCert is the certificate that the proxy shows as a client: what the policy names, or
// what a gateway has for it.
func shownCert(v *model.View, t *model.ClientTLS) (model.SecretSource, bool) {
	if t.Presents {
		for _, g := range v.Gateways() {
			if g.ClientCert != nil {
				return *g.ClientCert, true
			}
		}
	}
	return clientCert(t)
}

// clientCert is the certificate that a policy has clients show, if they show one of their own.
func clientCert(t *model.ClientTLS) (model.SecretSource, bool) {
	switch {
	case t.Mode != model.TLSMutual:
		return model.SecretSource{}, false
	case t.Credential != nil:
		return *t.Credential, true
	}
	return model.SecretSource{Kind: model.FromFiles, Cert: t.ClientCert, Key: t.Key}, true
}

// clientRoots are what a client verifies servers by, if those are not the system's.
func clientRoots(t *model.ClientTLS) (model.SecretSource, bool) {
	switch {
	case t.Mode != model.TLSSimple && t.Mode != model.TLSMutual, t.SkipVerify:
		return model.SecretSource{}, false
	case t.Roots != nil:
		return *t.Roots, true
	case t.Credential != nil:
		return *t.Credential, true
	case t.CA == "" || t.CA == "system":
		return model.SecretSource{}, false
	}
	return model.SecretSource{Kind: model.FromFiles, CA: t.CA, CRL: t.CRL}, true
}

func file(name string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
}
