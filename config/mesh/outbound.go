package mesh

import (
	networking "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/model"
)

// outboundTLS is how proxies speak to hosts that nobody declared: nil is plain text.
func (r *reader) outboundTLS(t *networking.ClientTLSSettings) *model.ClientTLS {
	out := &model.ClientTLS{
		Mode: model.TLSSimple, CA: t.GetCaCertificates(), CRL: t.GetCaCrl(), SANs: t.GetSubjectAltNames(), SNI: t.GetSni(), SkipVerify: t.GetInsecureSkipVerify().GetValue(),
	}
	if name := t.GetCredentialName(); name != "" {
		if len(validation.IsDNS1123Subdomain(name)) > 0 {
			r.errorf("found %q, want the name of a Secret in the namespaces of the proxies", []any{name}, "outboundTrafficPolicy", "tls", "credentialName")
			return nil
		}
		out.Credential = &model.SecretSource{Kind: model.FromSecret, Name: name}
	}
	switch t.GetMode() {
	case networking.ClientTLSSettings_SIMPLE:
	case networking.ClientTLSSettings_MUTUAL:
		out.Mode, out.ClientCert, out.Key = model.TLSMutual, t.GetClientCertificate(), t.GetPrivateKey()
		if out.Credential == nil && (out.ClientCert == "" || out.Key == "") {
			r.errorf("has mode MUTUAL, which needs credentialName, or clientCertificate and privateKey", nil, "outboundTrafficPolicy", "tls")
			return nil
		}
	default:
		return nil
	}
	return out
}
