package validate

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
)

func (r *ruler) serverTLS(at *field.Path, t *networking.ServerTLSSettings, protocol string) {
	secure := protocol == "HTTPS" || protocol == "TLS"
	switch {
	case secure && t == nil:
		r.errorf(at, "missing; a port with protocol %s wants tls, for example {mode: SIMPLE, credentialName: NAME}", protocol)
	case secure && t.GetHttpsRedirect():
		r.errorf(at.Child("httpsRedirect"), "makes no sense on a port that speaks TLS; it belongs to the HTTP port")
	case !secure && t != nil && protocol != "" && proto.Equal(t, &networking.ServerTLSSettings{}): // httpsRedirect: false, or mode: PASSTHROUGH, which is its first value
		r.notice(at, "a port with protocol %s has no TLS of its own", protocol)
	case !secure && t != nil && !t.GetHttpsRedirect() && protocol != "":
		r.errorf(at, "a port with protocol %s has no TLS of its own; want the protocol HTTPS or TLS", protocol)
	case t.GetHttpsRedirect() && protocol != "HTTP" && protocol != "HTTP2":
		r.errorf(at.Child("httpsRedirect"), "only requests over HTTP can be redirected, and the protocol is %s", protocol)
	case secure:
		r.serverCertificates(at, t)
		r.clientsOf(at, t)
		r.versions(at, t)
	}
}

// serverCertificates checks what is shown: it comes from one place.
func (r *ruler) serverCertificates(at *field.Path, t *networking.ServerTLSSettings) {
	set := []struct {
		name string
		is   bool
	}{
		{"credentialName", t.GetCredentialName() != ""}, {"credentialNames", len(t.GetCredentialNames()) > 0}, {"tlsCertificates", len(t.GetTlsCertificates()) > 0},
		{"serverCertificate", t.GetServerCertificate() != ""}, {"privateKey", t.GetPrivateKey() != ""},
	}
	var found []string
	for _, s := range set {
		if s.is {
			found = append(found, s.name)
		}
	}
	switch mode := t.GetMode(); mode {
	case networking.ServerTLSSettings_PASSTHROUGH, networking.ServerTLSSettings_AUTO_PASSTHROUGH, networking.ServerTLSSettings_ISTIO_MUTUAL:
		why := "TLS is not ended here"
		if mode == networking.ServerTLSSettings_ISTIO_MUTUAL {
			why = "the gateway's own certificate of the mesh is shown"
		}
		for _, name := range found {
			r.errorf(at.Child(name), "makes no sense with mode %s: %s", mode, why)
		}
		return
	}
	switch {
	case len(found) == 0:
		r.errorf(at, "mode %s needs a certificate; want credentialName, or serverCertificate and privateKey", t.GetMode())
	case len(found) == 2 && found[0] == "serverCertificate":
	case len(found) > 1:
		r.errorf(at.Child(found[1]), "stands beside %s; keep one", found[0])
	case found[0] == "serverCertificate":
		r.errorf(at.Child("privateKey"), "missing; serverCertificate has a key")
	case found[0] == "privateKey":
		r.errorf(at.Child("serverCertificate"), "missing; privateKey has a certificate")
	}
	if name := t.GetCredentialName(); name != "" {
		r.credential(at.Child("credentialName"), name, false)
	}
	for i, name := range t.GetCredentialNames() {
		r.credential(at.Child("credentialNames").Index(i), name, false)
	}
	for _, list := range []struct {
		name string
		n    int
	}{{"credentialNames", len(t.GetCredentialNames())}, {"tlsCertificates", len(t.GetTlsCertificates())}} {
		if list.n > 2 {
			r.errorf(at.Child(list.name), "found %d, want at most two: one of RSA, one of ECDSA", list.n)
		}
	}
	for i, f := range t.GetTlsCertificates() {
		at := at.Child("tlsCertificates").Index(i)
		if f.GetServerCertificate() == "" || f.GetPrivateKey() == "" {
			r.errorf(at, "want serverCertificate and privateKey")
		}
	}
}

// clientsOf checks what is asked of clients.
func (r *ruler) clientsOf(at *field.Path, t *networking.ServerTLSSettings) {
	mode := t.GetMode()
	asks := mode == networking.ServerTLSSettings_MUTUAL || mode == networking.ServerTLSSettings_OPTIONAL_MUTUAL
	for _, name := range oneSet([]string{"caCertificates", "caCrl", "caCertCredentialName", "verifyCertificateSpki", "verifyCertificateHash", "insecureSkipVerify"},
		t.GetCaCertificates() != "", t.GetCaCrl() != "", t.GetCaCertCredentialName() != "", len(t.GetVerifyCertificateSpki()) > 0,
		len(t.GetVerifyCertificateHash()) > 0, t.GetInsecureSkipVerify().GetValue()) {
		if !asks {
			r.errorf(at.Child(name), "is about certificates of clients, which mode %s does not ask for; want MUTUAL or OPTIONAL_MUTUAL", mode)
		}
	}
	if len(t.GetSubjectAltNames()) > 0 && !asks && mode != networking.ServerTLSSettings_ISTIO_MUTUAL {
		r.notice(at.Child("subjectAltNames"), "clients show no certificate with mode %s", mode)
	}
	files := t.GetServerCertificate() != "" || len(t.GetTlsCertificates()) > 0
	named := t.GetCaCertCredentialName() != ""
	switch {
	case !asks:
	case files && !named && t.GetCaCertificates() == "":
		r.errorf(at.Child("caCertificates"), "missing; mode %s verifies clients by it", mode)
	case named && t.GetCaCertificates() != "":
		r.errorf(at.Child("caCertificates"), "stands beside caCertCredentialName; keep one")
	case t.GetCaCrl() != "" && t.GetCaCertificates() == "":
		r.errorf(at.Child("caCrl"), "says what of caCertificates is revoked; want both, or the key crl in the Secret")
	}
	if named {
		r.credential(at.Child("caCertCredentialName"), t.GetCaCertCredentialName(), true)
	}
	for i, text := range t.GetVerifyCertificateSpki() {
		if !pki.IsKeyHash(text) {
			r.errorf(at.Child("verifyCertificateSpki").Index(i), "found %q, want a SHA-256 in base64", text)
		}
	}
	for i, text := range t.GetVerifyCertificateHash() {
		if !pki.IsCertificateHash(text) {
			r.errorf(at.Child("verifyCertificateHash").Index(i), "found %q, want a SHA-256 in hex", text)
		}
	}
	for _, f := range []struct{ name, file string }{{"serverCertificate", t.GetServerCertificate()}, {"privateKey", t.GetPrivateKey()}, {"caCertificates", t.GetCaCertificates()}, {"caCrl", t.GetCaCrl()}} {
		if f.file != "" && !strings.HasPrefix(f.file, "/") {
			r.errorf(at.Child(f.name), "found %q, want the absolute path of a file in the pod of the gateway", f.file)
		}
	}
}

func (r *ruler) versions(at *field.Path, t *networking.ServerTLSSettings) {
	least, most := t.GetMinProtocolVersion(), t.GetMaxProtocolVersion()
	if most != networking.ServerTLSSettings_TLS_AUTO && most < least {
		r.errorf(at.Child("maxProtocolVersion"), "found %s, want no less than minProtocolVersion %s", most, least)
	}
	for i, name := range t.GetCipherSuites() {
		if all := model.TLSCiphers(); !slices.Contains(all, name) {
			r.errorf(at.Child("cipherSuites").Index(i), "found %q, want one of %s", name, strings.Join(all, ", "))
		}
	}
}

// credential checks a name by which keys, certificates or roots are found.
func (r *ruler) credential(at *field.Path, name string, roots bool) {
	scheme, rest, found := strings.Cut(name, "://")
	switch {
	case !found:
		rest = name
	case scheme == "builtin":
		return
	case scheme == "kubernetes", scheme == "configmap" && roots:
	default:
		want := "the name of a Secret"
		if roots {
			want += ", or configmap://namespace/name"
		}
		r.errorf(at, "found %q, want %s", name, want)
		return
	}
	for part := range strings.SplitSeq(rest, "/") {
		if len(validation.IsDNS1123Subdomain(part)) > 0 || strings.Count(rest, "/") > 1 {
			r.errorf(at, "found %q, want a name, or namespace/name", name)
			return
		}
	}
}
