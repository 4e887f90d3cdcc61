package mesh

import (
	networking "istio.io/api/networking/v1alpha3"

	"github.com/mallamesh/malla/model"
)

// outboundTLS is how proxies speak to hosts that nobody declared: nil is plain text.
func (r *reader) outboundTLS(t *networking.ClientTLSSettings) *model.ClientTLS {
	out := &model.ClientTLS{
		Mode: model.TLSSimple, CA: t.GetCaCertificates(), SANs: t.GetSubjectAltNames(), SNI: t.GetSni(), SkipVerify: t.GetInsecureSkipVerify().GetValue(),
	}
	switch t.GetMode() {
	case networking.ClientTLSSettings_SIMPLE:
	case networking.ClientTLSSettings_MUTUAL:
		out.Mode, out.ClientCert, out.Key = model.TLSMutual, t.GetClientCertificate(), t.GetPrivateKey()
		if out.ClientCert == "" || out.Key == "" {
			r.errorf("has mode MUTUAL, which needs clientCertificate and privateKey", nil, "outboundTrafficPolicy", "tls")
			return nil
		}
	default:
		return nil
	}
	return out
}
