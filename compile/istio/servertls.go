package istio

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
)

var serverModes = map[networking.ServerTLSSettings_TLSmode]model.ServerTLSMode{
	networking.ServerTLSSettings_PASSTHROUGH:      model.ServerPassthrough,
	networking.ServerTLSSettings_SIMPLE:           model.ServerSimple,
	networking.ServerTLSSettings_MUTUAL:           model.ServerMutual,
	networking.ServerTLSSettings_ISTIO_MUTUAL:     model.ServerIstioMutual,
	networking.ServerTLSSettings_AUTO_PASSTHROUGH: model.ServerAutoPassthrough,
	networking.ServerTLSSettings_OPTIONAL_MUTUAL:  model.ServerOptionalMutual,
}

var tlsVersions = map[networking.ServerTLSSettings_TLSProtocol]string{
	networking.ServerTLSSettings_TLSV1_0: "1.0", networking.ServerTLSSettings_TLSV1_1: "1.1",
	networking.ServerTLSSettings_TLSV1_2: "1.2", networking.ServerTLSSettings_TLSV1_3: "1.3",
}

func (c *compiler) serverTLS(t *networking.ServerTLSSettings, at *field.Path) *model.ServerTLS {
	if t == nil {
		return nil
	}
	out := &model.ServerTLS{Redirect: t.HttpsRedirect}
	if t.HttpsRedirect {
		return out
	}
	mode, ok := serverModes[t.Mode]
	if !ok {
		c.out.Errors.Addf(at.Child("mode"), "is %s, want SIMPLE, MUTUAL, OPTIONAL_MUTUAL, ISTIO_MUTUAL, PASSTHROUGH or AUTO_PASSTHROUGH", t.Mode)
	}
	out.Mode, out.MinVersion, out.MaxVersion = mode, tlsVersions[t.MinProtocolVersion], tlsVersions[t.MaxProtocolVersion]
	if out.MaxVersion != "" && out.MaxVersion < out.MinVersion {
		c.out.Errors.Addf(at.Child("maxProtocolVersion"), "is %s, want no less than minProtocolVersion %s", t.MaxProtocolVersion, t.MinProtocolVersion)
	}
	for i, name := range t.CipherSuites {
		if all := model.TLSCiphers(); !slices.Contains(all, name) {
			c.out.Errors.Addf(at.Child("cipherSuites").Index(i), "is %q, want one of %s", name, strings.Join(all, ", "))
		}
	}
	if mode.Ends() {
		out.Ciphers = t.CipherSuites
		out.Certs = c.certificates(t, mode, at)
	}
	if mode.Asks() {
		out.SANs = t.SubjectAltNames
	}
	if mode == model.ServerMutual || mode == model.ServerOptionalMutual {
		out.CA = c.roots(t, out.Certs, at)
		c.hashes(t, at)
		out.Keys, out.Hashes, out.AnyClient = t.VerifyCertificateSpki, t.VerifyCertificateHash, t.InsecureSkipVerify.GetValue()
	}
	return out
}

// hashes checks those of clients' keys and certificates.
func (c *compiler) hashes(t *networking.ServerTLSSettings, at *field.Path) {
	for i, text := range t.VerifyCertificateSpki {
		if !pki.IsKeyHash(text) {
			c.out.Errors.Addf(at.Child("verifyCertificateSpki").Index(i), "is %q, want a SHA-256 in base64", text)
		}
	}
	for i, text := range t.VerifyCertificateHash {
		if !pki.IsCertificateHash(text) {
			c.out.Errors.Addf(at.Child("verifyCertificateHash").Index(i), "is %q, want a SHA-256 in hex", text)
		}
	}
}

// certificates says what a server shows.
func (c *compiler) certificates(t *networking.ServerTLSSettings, mode model.ServerTLSMode, at *field.Path) []model.SecretSource {
	if mode == model.ServerIstioMutual {
		return []model.SecretSource{{Kind: model.OfWorkload}}
	}
	var out []model.SecretSource
	switch {
	case len(t.CredentialNames) > 0:
		for i, name := range t.CredentialNames {
			out = append(out, c.secret(name, false, at.Child("credentialNames").Index(i)))
		}
	case t.CredentialName != "":
		out = append(out, c.secret(t.CredentialName, false, at.Child("credentialName")))
	case len(t.TlsCertificates) > 0:
		for i, f := range t.TlsCertificates {
			out = append(out, c.files(f.GetServerCertificate(), f.GetPrivateKey(), at.Child("tlsCertificates").Index(i)))
		}
	default:
		out = append(out, c.files(t.ServerCertificate, t.PrivateKey, at))
	}
	if len(out) > 2 {
		c.out.Errors.Addf(at, "has %d certificates, want at most two: one of RSA, one of ECDSA", len(out))
	}
	return out
}

func (c *compiler) files(cert, key string, at *field.Path) model.SecretSource {
	if cert == "" || key == "" {
		c.out.Errors.Addf(at, "has no certificate to show; want credentialName, or serverCertificate and privateKey")
	}
	return model.SecretSource{Kind: model.FromFiles, Cert: cert, Key: key}
}

// roots says what the certificates of clients are verified by: what is named for
// that, else what stands beside the server's own certificate.
func (c *compiler) roots(t *networking.ServerTLSSettings, certs []model.SecretSource, at *field.Path) *model.SecretSource {
	if t.CaCertCredentialName != "" {
		ref := c.secret(t.CaCertCredentialName, true, at.Child("caCertCredentialName"))
		return &ref
	}
	ca := t.CaCertificates
	for _, f := range t.TlsCertificates {
		if ca == "" {
			ca = f.GetCaCertificates()
		}
	}
	switch {
	case ca != "":
		return &model.SecretSource{Kind: model.FromFiles, CA: ca, CRL: t.CaCrl}
	case len(certs) > 0 && certs[0].Kind != model.FromFiles:
		ref := certs[0]
		return &ref
	}
	c.out.Errors.Addf(at, "has mode %s, but no caCertificates to verify clients by", t.Mode)
	return nil
}

// secret reads the name of a credential, in one of Istio's forms.
func (c *compiler) secret(name string, roots bool, at *field.Path) model.SecretSource {
	scheme, rest, found := strings.Cut(name, "://")
	if !found {
		scheme, rest = "kubernetes", name
	}
	ns, object, slash := strings.Cut(rest, "/")
	if !slash {
		ns, object = "", rest
	}
	out := model.SecretSource{Kind: model.FromSecret, Namespace: ns, Name: object}
	switch {
	case scheme == "builtin":
		return model.SecretSource{Kind: model.OfWorkload}
	case scheme == "configmap" && roots:
		out.Kind = model.FromConfigMap
	case scheme != "kubernetes":
		want := "the name of a Secret"
		if roots {
			want += ", or configmap://namespace/name"
		}
		c.out.Errors.Addf(at, "is %q, want %s", name, want)
		return out
	}
	if object == "" || slash && ns == "" || strings.Contains(object, "/") {
		c.out.Errors.Addf(at, "is %q, want a name, or namespace/name", name)
	}
	return out
}
