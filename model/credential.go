package model

import "slices"

// Hidden holds a private key, or what stands beside one. No log and no dump shows it.
type Hidden []byte

// String hides the bytes, as do the other forms in which a value is written.
func (Hidden) String() string { return "(hidden)" }

// GoString hides the bytes from %#v.
func (Hidden) GoString() string { return "(hidden)" }

// MarshalJSON hides the bytes from debug pages.
func (Hidden) MarshalJSON() ([]byte, error) { return []byte(`"(hidden)"`), nil }

// credentialEntries are the keys under which Secrets and ConfigMaps hold certificates,
// their keys, and roots.
var credentialEntries = []string{"cert", "key", "cacert", "crl", "tls.crt", "tls.key", "ca.crt", "ca.crl", "tls.ocsp-staple"}

// GatewayEntries returns the keys of ConfigMaps that hold patches for what is made for a
// Gateway of Gateway API.
func GatewayEntries() []string { return []string{"deployment", "service", "serviceAccount"} }

// UnmadeEntries returns the keys beside them that Istio knows, for objects that are not made here.
func UnmadeEntries() []string { return []string{"horizontalPodAutoscaler", "podDisruptionBudget"} }

// CredentialEntries returns the keys of objects that hold what belongs to TLS.
func CredentialEntries() []string { return slices.Clone(credentialEntries) }

// A Credential is what an object (a Secret, a ConfigMap with roots) holds of TLS,
// in PEM. Parts that it does not have, or that are no good, are empty.
type Credential struct {
	From   Ref
	Cert   []byte // chain of a certificate, with its key
	Key    Hidden
	Staple []byte // OCSP response for the certificate, DER
	CA     []byte // roots for peers
	CRL    []byte // what of the roots' certificates is revoked

	NoCert, NoCA string // why there is no certificate, or are no roots
}

// A CredentialKey names the object that holds a credential.
type CredentialKey struct{ Kind, Namespace, Name string }

// A SecretSource says where a proxy's certificate, or the roots for its peers, come from.
type SecretSource struct {
	Kind SecretKind
	// Namespace and Name are those of an object. Without a namespace it is the proxy's own.
	Namespace, Name string
	Granted         string        // to proxies of that namespace too, though it is another's; "*": of all. See [SecretSource.Open]
	Exact           bool          // roots are those that the object of this name holds, whatever is beside it
	Also            *SecretSource // roots of another object that count as well
	Cert, Key       string        // files in the proxy
	CA, CRL         string        // files in the proxy
}

// A SecretKind is the sort of a [SecretSource].
type SecretKind uint8

const (
	FromSecret    SecretKind = iota // an object
	FromConfigMap                   // an object; roots only
	FromFiles                       // of the proxy
	OfWorkload                      // the proxy's own identity in the mesh
)

// Open reports whether proxies of the namespace may have what an object of the source
// holds.
func (s SecretSource) Open(namespace string) bool {
	return (s.Namespace == "" || s.Namespace == namespace || s.Granted == "*" || s.Granted != "" && s.Granted == namespace) &&
		(s.Also == nil || s.Also.Open(namespace))
}

// RootsSuffix makes the name of the Secret that may hold the roots for a Secret.
const RootsSuffix = "-cacert"

// Held returns what the object of a source holds for proxies of the namespace, nil if
// there is no such object. Roots for a Secret may be in one of their own, NAME-cacert.
func (m *Mesh) Held(s SecretSource, namespace string, roots bool) *Credential {
	if roots && s.Also != nil {
		rest := m.Held(*s.Also, namespace, true)
		s.Also = nil
		first := m.Held(s, namespace, true)
		if first == nil || rest == nil || first.NoCA != "" {
			return first
		}
		all := &Credential{From: first.From, NoCert: first.NoCert, NoCA: rest.NoCA}
		all.CA, all.CRL = slices.Concat(first.CA, []byte("\n"), rest.CA), slices.Concat(first.CRL, []byte("\n"), rest.CRL)
		if len(first.CRL)+len(rest.CRL) == 0 {
			all.CRL = nil
		}
		return all
	}
	key := CredentialKey{"Secret", s.Namespace, s.Name}
	if s.Kind == FromConfigMap {
		key.Kind = "ConfigMap"
	}
	if key.Namespace == "" {
		key.Namespace = namespace
	}
	if roots && !s.Exact && s.Kind == FromSecret {
		own := key
		own.Name += RootsSuffix
		if c := m.Credentials[own]; c != nil {
			return c
		}
	}
	return m.Credentials[key]
}
