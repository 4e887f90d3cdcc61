package translate

import (
	"maps"
	"path"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mallamesh/malla/model"
)

// Certificates and roots that objects hold, and those in files of the proxy, are
// resources of their own, so that a new one reaches connections that are made from
// then on and touches neither listeners nor clusters. Files are only named there;
// the proxy reads them, and reads them again when their directory changes.

// Secret returns the secret called name as v's proxy may have it, and whether there
// is one. A proxy gets what its own listeners and clusters name, and of objects only
// what is of its namespace: it must have proved who it is, and a gateway's
// certificate goes to an account that pods with the gateway's labels run as. What a
// proxy says of its labels is not enough for that.
func Secret(v *model.View, name string) (*tlsv3.Secret, bool) {
	use, ok := secrets(v)[name]
	if !ok || !use.allowed {
		return nil, false
	}
	out := &tlsv3.Secret{Name: name}
	if use.ref.Kind == model.FromFiles {
		if use.roots {
			out.Type = &tlsv3.Secret_ValidationContext{ValidationContext: fileRoots(use.ref)}
		} else {
			out.Type = &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
				CertificateChain: file(use.ref.Cert), PrivateKey: file(use.ref.Key), WatchedDirectory: watched(use.ref.Cert),
			}}
		}
		return out, true
	}
	held := v.Mesh.Held(use.ref, v.Proxy.Namespace, use.roots)
	switch {
	case held == nil:
		return nil, false
	case use.roots:
		check := &tlsv3.CertificateValidationContext{TrustedCa: inline(held.CA)}
		if len(held.CRL) > 0 {
			check.Crl = inline(held.CRL)
		}
		out.Type = &tlsv3.Secret_ValidationContext{ValidationContext: check}
		return out, len(held.CA) > 0
	}
	cert := &tlsv3.TlsCertificate{CertificateChain: inline(held.Cert), PrivateKey: inline(held.Key)}
	if len(held.Staple) > 0 {
		cert.OcspStaple = inline(held.Staple)
	}
	out.Type = &tlsv3.Secret_TlsCertificate{TlsCertificate: cert}
	return out, len(held.Cert) > 0
}

// SecretNames lists, sorted, the secrets that the proxy may have.
func SecretNames(v *model.View) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(secrets(v))), func(name string) bool {
		_, ok := Secret(v, name)
		return !ok
	})
}

func fileRoots(ref model.SecretSource) *tlsv3.CertificateValidationContext {
	out := &tlsv3.CertificateValidationContext{TrustedCa: file(ref.CA), WatchedDirectory: watched(ref.CA)}
	if ref.CRL != "" {
		out.Crl = file(ref.CRL)
	}
	return out
}

func watched(name string) *corev3.WatchedDirectory {
	return &corev3.WatchedDirectory{Path: path.Dir(name)}
}

func inline(text []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: text}}
}

// A secretUse is a secret that something of the proxy's names.
type secretUse struct {
	ref     model.SecretSource
	roots   bool
	allowed bool
}

// secrets returns what the proxy's listeners and clusters name.
func secrets(v *model.View) map[string]secretUse {
	type key struct{}
	return v.Memo(key{}, func() any {
		out := map[string]secretUse{}
		eachSecret(v, func(ref model.SecretSource, roots bool, selector map[string]string, _ model.Ref) {
			if ref.Kind == model.OfWorkload {
				return // its agent has it
			}
			name := secretName(ref, roots)
			use := out[name]
			out[name] = secretUse{ref, roots, use.allowed || mayHave(v, ref, selector)}
		})
		return out
	}).(map[string]secretUse)
}

// eachSecret calls add for every place at which the proxy's listeners and clusters name a secret: selector are the
// labels of pods that it is for, by is the object that names it.
func eachSecret(v *model.View, add func(ref model.SecretSource, roots bool, selector map[string]string, by model.Ref)) {
	for _, g := range v.Gateways() {
		if g.ClientCert != nil {
			add(*g.ClientCert, false, g.Selector, g.From)
		}
		for _, s := range g.Servers {
			if s.TLS == nil {
				continue
			}
			for _, ref := range s.TLS.Certs {
				add(ref, false, g.Selector, g.From)
			}
			if s.TLS.CA != nil {
				add(*s.TLS.CA, true, g.Selector, g.From)
			}
		}
	}
	for _, p := range inboundPorts(v) {
		if p.endsTLS() && v.Proxy.Type == model.Sidecar {
			scope := v.Scope()
			offer := func(ref model.SecretSource, roots bool) {
				if ref.Kind == model.FromFiles || len(scope.Selector) > 0 && scope.From.Namespace == v.Proxy.Namespace {
					add(ref, roots, scope.Selector, scope.From)
				}
			}
			for _, ref := range p.ingress.TLS.Certs {
				offer(ref, false)
			}
			if p.ingress.TLS.CA != nil {
				offer(*p.ingress.TLS.CA, true)
			}
		}
	}
	clientSecrets(v, func(ref model.SecretSource, roots bool, by model.Ref) { add(ref, roots, nil, by) })
	v.PatchSecrets(func(s model.NamedSecret, by *model.Patches) { add(s.Source, s.Roots, by.Selector, by.From) })
}

// clientSecrets calls add for what policies of the proxy's clusters name and the proxy may
// have by them. A cluster names it all the same: without it there are no connections, where
// Istio makes them in plain text.
func clientSecrets(v *model.View, add func(ref model.SecretSource, roots bool, by model.Ref)) {
	give := func(t *model.ClientTLS, by model.Ref) {
		if t == nil {
			return
		}
		if ref, ok := clientCert(t); ok {
			add(ref, false, by)
		}
		if ref, ok := clientRoots(t); ok {
			add(ref, true, by)
		}
	}
	tls := func(t *model.ClientTLS, of *model.DestinationRule) {
		if t != nil && (t.Credential == nil || t.Credential.Kind != model.FromSecret || hands(v, of)) {
			give(t, of.From)
		}
	}
	policy := func(p *model.TrafficPolicy, of *model.DestinationRule) {
		tls(p.TLS, of)
		for i := range p.Ports {
			tls(p.Ports[i].TLS, of)
		}
	}
	if needsAnyHost(v) {
		give(v.Mesh.Config.OutboundTLS, model.Ref{}) // who sets this sets all proxies
	}
	for _, s := range v.Services() {
		d := v.PolicyFor(s)
		if d == nil {
			continue
		}
		policy(&d.Policy, d)
		for i := range d.Subsets {
			policy(&d.Subsets[i].Policy, d)
		}
	}
}

// hands reports whether a rule hands out what its credentialName names: to gateways, and to
// those sidecars of its own namespace that it selects. Else whoever writes a rule that others
// see would decide which of their Secrets their sidecars hold.
func hands(v *model.View, d *model.DestinationRule) bool {
	return v.Proxy.Type == model.Router || d != nil && len(d.Workload) > 0 && d.From.Namespace == v.Proxy.Namespace
}

// mayHave reports whether the proxy may have what an object of the source holds.
func mayHave(v *model.View, ref model.SecretSource, selector map[string]string) bool {
	p := v.Proxy
	if ref.Kind == model.FromFiles {
		return true // it has them
	}
	if !p.Proven || !ref.Open(p.Namespace) {
		return false
	}
	return v.Mesh.Runs(p.Namespace, p.ServiceAccount, selector)
}

// secretName is the name of the resource, in Istio's form; roots of several objects have all their names.
func secretName(ref model.SecretSource, roots bool) string {
	if roots && ref.Also != nil {
		rest := secretName(*ref.Also, true)
		ref.Also = nil
		return secretName(ref, true) + "," + rest
	}
	object := ref.Name
	if ref.Namespace != "" {
		object = ref.Namespace + "/" + ref.Name
	}
	switch {
	case roots && ref.Exact && ref.Kind == model.FromSecret:
		object += "~ca"
	case roots:
		object += model.RootsSuffix
	case ref.Kind == model.FromSecret && strings.HasSuffix(ref.Name, model.RootsSuffix):
		object += "~cert" // without it this would be the name of another one's roots
	}
	switch ref.Kind {
	case model.FromConfigMap:
		return "configmap://" + object
	case model.FromFiles:
		if !roots {
			return "file-cert:" + ref.Cert + "~" + ref.Key
		}
		if ref.CRL != "" {
			return "file-root:" + ref.CA + "~" + ref.CRL
		}
		return "file-root:" + ref.CA
	case model.OfWorkload:
		if roots {
			return "ROOTCA"
		}
		return "default"
	}
	if ref.Granted != "" {
		return "kubernetes-gateway://" + object
	}
	return "kubernetes://" + object
}

// secretConfig is where a context gets the secret from. There is a limit to how long
// a listener waits for one, as in Istio: an object that does not exist must not keep
// back what else the port serves.
func secretConfig(ref model.SecretSource, roots bool) *tlsv3.SdsSecretConfig {
	if ref.Kind == model.OfWorkload {
		return &tlsv3.SdsSecretConfig{Name: secretName(ref, roots), SdsConfig: agent()}
	}
	from := ads()
	from.InitialFetchTimeout = nil
	return &tlsv3.SdsSecretConfig{Name: secretName(ref, roots), SdsConfig: from}
}
