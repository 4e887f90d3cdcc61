package build

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/route"
	malltls "github.com/mallamesh/malla/proxy/tls"
)

var tlsFields = []*Message{
	message((*rawv3.RawBuffer)(nil)),
	message((*tlsv3.DownstreamTlsContext)(nil), reads("common_tls_context", "require_client_certificate", "disable_stateless_session_resumption"),
		ignores("sessions are resumed by tickets only", "disable_stateful_session_resumption"),
		only("require_sni", "a chain's match on server_names does that", "false"),
		ignores("there is no OCSP stapling, and without a staple all policies but MUST_STAPLE are the same", "ocsp_staple_policy"),
		ignores("a certificate is chosen by all names of all certificates", "full_scan_certs_on_sni_mismatch"),
		ignores("for TLS 1.3 and the suites of 1.2 on offer the order makes no difference in strength", "prefer_client_ciphers")),
	message((*tlsv3.UpstreamTlsContext)(nil), reads("common_tls_context", "sni", "auto_host_sni", "auto_sni_san_validation"),
		only("allow_renegotiation", "renegotiation is a hole", "false"),
		ignores("sessions to upstreams are not resumed, so that every connection verifies its peer", "max_session_keys"),
		ignores("crypto/tls always does", "enforce_rsa_key_usage")),
	message((*tlsv3.CommonTlsContext)(nil), reads("tls_params", "tls_certificates", "tls_certificate_sds_secret_configs", "validation_context", "validation_context_sds_secret_config",
		"combined_validation_context", "alpn_protocols")),
	message((*tlsv3.CommonTlsContext_CombinedCertificateValidationContext)(nil), reads("default_validation_context", "validation_context_sds_secret_config")),
	message((*tlsv3.TlsParameters)(nil), reads("tls_minimum_protocol_version", "tls_maximum_protocol_version", "cipher_suites", "ecdh_curves")),
	message((*tlsv3.TlsCertificate)(nil), reads("certificate_chain", "private_key")),
	message((*tlsv3.SdsSecretConfig)(nil), reads("name", "sds_config")),
	message((*tlsv3.CertificateValidationContext)(nil), reads("trusted_ca", "system_root_certs", "trust_chain_verification", "match_typed_subject_alt_names", "match_subject_alt_names"),
		only("allow_expired_certificate", "an expired certificate proves nothing", "false"),
		ignores("a list of CA names is never sent to clients", "suppress_client_ca_list")),
	message((*tlsv3.CertificateValidationContext_SystemRootCerts)(nil)),
	message((*tlsv3.SubjectAltNameMatcher)(nil), reads("san_type", "matcher")),
	message((*tlsv3.Secret)(nil), reads("name", "tls_certificate", "validation_context")),
}

// Secrets are the identities and roots that contexts refer to by name. They come
// from SDS, from the bootstrap, or from the node's agent; those that come from the
// agent are never asked of the control plane.
type Secrets struct {
	mu         sync.Mutex
	identities map[string]*malltls.Identity // guarded by mu
	trusts     map[string]*malltls.Trust    // guarded by mu
	local      map[string]bool              // guarded by mu: supplied here, not by SDS
}

// NewSecrets returns an empty set.
func NewSecrets() *Secrets {
	return &Secrets{identities: map[string]*malltls.Identity{}, trusts: map[string]*malltls.Trust{}, local: map[string]bool{}}
}

// Identity returns the identity called name; the first call makes it, empty.
func (s *Secrets) Identity(name string) *malltls.Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identities[name] == nil {
		s.identities[name] = malltls.NewIdentity(name)
	}
	return s.identities[name]
}

// Trust returns the roots called name; the first call makes them, empty.
func (s *Secrets) Trust(name string) *malltls.Trust {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trusts[name] == nil {
		s.trusts[name] = malltls.NewTrust(name)
	}
	return s.trusts[name]
}

// Local says that these names are supplied by this process: the agent's "default"
// and "ROOTCA", or static secrets.
func (s *Secrets) Local(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.local[n] = true
	}
}

func (s *Secrets) isLocal(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.local[name]
}

// Names lists all identities and all roots.
func (s *Secrets) Names() (identities, trusts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.identities)), slices.Sorted(maps.Keys(s.trusts))
}

// ready reports whether a secret has arrived, as whichever of the two it is.
func (s *Secrets) ready(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.identities[name]; i != nil && i.Certificate() == nil {
		return false
	}
	if t := s.trusts[name]; t != nil && t.Bundle() == nil {
		return false
	}
	return true
}

// unpack opens a typed configuration, nil if it does not parse (Check has said so).
func (r *reader) unpack(a *anypb.Any, at *field.Path) proto.Message {
	if a == nil {
		r.errs.Addf(at, "has no typed_config")
		return nil
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		r.errs.Addf(at.Child("typed_config"), "%v", err)
		return nil
	}
	return m
}

// socketConfig opens a transport socket; nil means plain text.
func (r *reader) socketConfig(s *corev3.TransportSocket, at *field.Path) proto.Message {
	if s == nil {
		return nil
	}
	if s.GetTypedConfig() == nil && (s.GetName() == "envoy.transport_sockets.raw_buffer" || s.GetName() == "raw_buffer") {
		return nil
	}
	m := r.unpack(s.GetTypedConfig(), at)
	if _, raw := m.(*rawv3.RawBuffer); raw {
		return nil
	}
	return m
}

func (r *reader) server(s *corev3.TransportSocket, secrets *Secrets, at *field.Path) *malltls.Server {
	m := r.socketConfig(s, at)
	if m == nil {
		return nil
	}
	at = at.Child("typed_config")
	d, ok := m.(*tlsv3.DownstreamTlsContext)
	if !ok {
		r.errs.Addf(at, "found %s, want a DownstreamTlsContext or RawBuffer", anyName(m))
		return nil
	}
	server, err := malltls.NewServer(malltls.ServerConfig{Common: r.tlsCommon(d.GetCommonTlsContext(), secrets, at.Child("common_tls_context")),
		RequireClientCertificate: d.GetRequireClientCertificate().GetValue(), DisableTickets: d.GetDisableStatelessSessionResumption()})
	if err != nil {
		r.errs.Addf(at, "%v", err)
	}
	return server
}

func (r *reader) client(s *corev3.TransportSocket, secrets *Secrets, at *field.Path) any {
	m := r.socketConfig(s, at)
	if m == nil {
		return nil
	}
	at = at.Child("typed_config")
	u, ok := m.(*tlsv3.UpstreamTlsContext)
	if !ok {
		r.errs.Addf(at, "found %s, want an UpstreamTlsContext or RawBuffer", anyName(m))
		return nil
	}
	c := malltls.ClientConfig{Common: r.tlsCommon(u.GetCommonTlsContext(), secrets, at.Child("common_tls_context")), SNI: u.GetSni(),
		AutoSNI: u.GetAutoHostSni() || r.autoSNI, AutoSANs: u.GetAutoSniSanValidation() || r.autoSANs && !namesSANs(u.GetCommonTlsContext())}
	client, err := malltls.NewClient(c)
	if err != nil {
		r.errs.Addf(at, "%v", err)
		return nil
	}
	return client
}

// namesSANs reports whether a context says itself which names it expects.
func namesSANs(c *tlsv3.CommonTlsContext) bool {
	for _, v := range []*tlsv3.CertificateValidationContext{c.GetValidationContext(), c.GetCombinedValidationContext().GetDefaultValidationContext()} {
		if len(v.GetMatchTypedSubjectAltNames()) > 0 || len(v.GetMatchSubjectAltNames()) > 0 {
			return true
		}
	}
	return false
}

// autoNames reads upstream_http_protocol_options, by which the request's host is
// sent as SNI and expected in the certificate of the cluster's servers.
func (r *reader) autoNames(m *clusterv3.Cluster) {
	var o httpv3.HttpProtocolOptions
	r.autoSNI, r.autoSANs = false, false
	if a := m.GetTypedExtensionProtocolOptions()[optionsKey]; a != nil && a.UnmarshalTo(&o) == nil { // a wrong one is told where it is read
		r.autoSNI, r.autoSANs = o.GetUpstreamHttpProtocolOptions().GetAutoSni(), o.GetUpstreamHttpProtocolOptions().GetAutoSanValidation()
	}
}

// transports reads how to talk to a cluster's hosts; the last entry is the default.
func (r *reader) transports(m *clusterv3.Cluster, secrets *Secrets) []cluster.Transport {
	r.autoNames(m)
	var out []cluster.Transport
	for i, t := range m.GetTransportSocketMatches() {
		at := field.At("transport_socket_matches").Index(i)
		tr := r.socket(t.GetTransportSocket(), secrets, at.Child("transport_socket"))
		tr.Name, tr.Match = t.GetName(), matchable(t.GetMatch().AsMap())
		if len(tr.Match) == 0 {
			return append(out, tr) // matches all; what comes after it is never reached
		}
		out = append(out, tr)
	}
	name := m.GetTransportSocket().GetName()
	if name == "" {
		name = "raw_buffer"
	}
	last := r.socket(m.GetTransportSocket(), secrets, field.At("transport_socket"))
	last.Name = name
	return append(out, last)
}

var tlsVersions = map[tlsv3.TlsParameters_TlsProtocol]uint16{
	tlsv3.TlsParameters_TLSv1_0: tls.VersionTLS10, tlsv3.TlsParameters_TLSv1_1: tls.VersionTLS11,
	tlsv3.TlsParameters_TLSv1_2: tls.VersionTLS12, tlsv3.TlsParameters_TLSv1_3: tls.VersionTLS13,
}

func (r *reader) tlsCommon(c *tlsv3.CommonTlsContext, secrets *Secrets, at *field.Path) malltls.Common {
	p := c.GetTlsParams()
	out := malltls.Common{ALPN: c.GetAlpnProtocols(), MinVersion: tlsVersions[p.GetTlsMinimumProtocolVersion()], MaxVersion: tlsVersions[p.GetTlsMaximumProtocolVersion()],
		Ciphers: p.GetCipherSuites(), Curves: p.GetEcdhCurves()}
	for i, cert := range c.GetTlsCertificates() {
		at := at.Child("tls_certificates").Index(i)
		id := malltls.NewIdentity(at.String())
		if pair := r.certificate(cert, at); pair != nil {
			if err := id.Set(pair); err != nil {
				r.errs.Addf(at, "%v", err)
			}
		}
		out.Identities = append(out.Identities, id)
	}
	for i, s := range c.GetTlsCertificateSdsSecretConfigs() {
		name := r.secret(s, secrets, at.Child("tls_certificate_sds_secret_configs").Index(i))
		out.Identities = append(out.Identities, secrets.Identity(name))
	}
	switch c.GetValidationContextType().(type) {
	case nil:
	case *tlsv3.CommonTlsContext_ValidationContext:
		r.validation(c.GetValidationContext(), &out, at.Child("validation_context"))
	case *tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig:
		name := r.secret(c.GetValidationContextSdsSecretConfig(), secrets, at.Child("validation_context_sds_secret_config"))
		out.Trust = secrets.Trust(name)
	case *tlsv3.CommonTlsContext_CombinedValidationContext:
		at, both := at.Child("combined_validation_context"), c.GetCombinedValidationContext()
		r.validation(both.GetDefaultValidationContext(), &out, at.Child("default_validation_context"))
		name := r.secret(both.GetValidationContextSdsSecretConfig(), secrets, at.Child("validation_context_sds_secret_config"))
		out.Trust = secrets.Trust(name) // Envoy merges: roots of the secret, names of the default
	default:
		r.errs.Addf(at, "has a validation context of a kind that is not supported")
	}
	return out
}

// secret notes that a secret is needed, unless it is here already.
func (r *reader) secret(s *tlsv3.SdsSecretConfig, secrets *Secrets, at *field.Path) string {
	name := s.GetName()
	if name == "" {
		r.errs.Addf(at.Child("name"), "is empty")
		return name
	}
	if secrets.isLocal(name) {
		return name // wherever the configuration says it comes from: the agent is that place
	}
	if s.GetSdsConfig() == nil {
		r.errs.Addf(at, "names the secret %q, which is not among the static ones", name)
		return name
	}
	r.needs.Secrets = append(r.needs.Secrets, Need{name, r.secretSource(s.GetSdsConfig(), at.Child("sds_config"))})
	return name
}

func (r *reader) validation(v *tlsv3.CertificateValidationContext, out *malltls.Common, at *field.Path) {
	if v.GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED {
		//nolint:staticcheck // deprecated, still sent
		if v.GetTrustedCa() != nil || len(v.GetMatchTypedSubjectAltNames())+len(v.GetMatchSubjectAltNames()) > 0 {
			r.errs.Addf(at.Child("trust_chain_verification"), "found ACCEPT_UNTRUSTED beside roots or names to check, want one or the other")
		}
		return // nothing is asked of the peer
	}
	if roots := r.roots(v, at); len(roots) > 0 {
		out.Trust = malltls.NewTrust(at.String())
		if err := out.Trust.Set(roots); err != nil {
			r.errs.Addf(at, "%v", err)
		}
	}
	for i, m := range v.GetMatchTypedSubjectAltNames() {
		at := at.Child("match_typed_subject_alt_names").Index(i)
		s := r.sanMatch(m.GetMatcher(), at.Child("matcher"))
		switch m.GetSanType() {
		case tlsv3.SubjectAltNameMatcher_URI:
			s.Type = malltls.URISAN
		case tlsv3.SubjectAltNameMatcher_DNS:
			s.Type = malltls.DNSSAN
		case tlsv3.SubjectAltNameMatcher_EMAIL:
			s.Type = malltls.EmailSAN
		case tlsv3.SubjectAltNameMatcher_IP_ADDRESS:
			s.Type = malltls.IPSAN
		default:
			r.errs.Addf(at.Child("san_type"), "found %v, want URI, DNS, EMAIL or IP_ADDRESS", m.GetSanType())
		}
		out.SANs = append(out.SANs, s)
	}
	for i, m := range v.GetMatchSubjectAltNames() { //nolint:staticcheck // deprecated, still sent
		out.SANs = append(out.SANs, r.sanMatch(m, at.Child("match_subject_alt_names").Index(i)))
	}
}

func (r *reader) sanMatch(m *matcherv3.StringMatcher, at *field.Path) malltls.SANMatcher {
	s := r.stringMatch(m, at)
	out := malltls.SANMatcher{IgnoreCase: s.IgnoreCase}
	switch s.Kind {
	case route.Exact:
		out.Exact = s.Value
	case route.Prefix:
		out.Prefix = s.Value
	case route.Suffix:
		out.Suffix = s.Value
	case route.Contains:
		out.Contains = s.Value
	case route.Regex:
		out.Regex = wholeRegex(s.Value)
	}
	if s.Value == "" {
		r.errs.Addf(at, "compares with nothing, which every name would pass")
	}
	return out
}

func (r *reader) roots(v *tlsv3.CertificateValidationContext, at *field.Path) []*x509.Certificate {
	text := r.data(v.GetTrustedCa(), at.Child("trusted_ca"))
	if v.GetSystemRootCerts() != nil {
		system, err := systemRoots()
		if err != nil {
			r.errs.Addf(at.Child("system_root_certs"), "%v", err)
		}
		text = append(system, text...)
	}
	if len(text) == 0 {
		return nil
	}
	var certs []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			r.errs.Addf(at.Child("trusted_ca"), "%v", err)
			return nil
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		r.errs.Addf(at.Child("trusted_ca"), "found no certificate in PEM")
	}
	return certs
}

func (r *reader) certificate(c *tlsv3.TlsCertificate, at *field.Path) *tls.Certificate {
	chain, key := r.data(c.GetCertificateChain(), at.Child("certificate_chain")), r.data(c.GetPrivateKey(), at.Child("private_key"))
	pair, err := tls.X509KeyPair(chain, bytes.TrimSpace(key))
	if err != nil {
		r.errs.Addf(at, "%s", strings.TrimPrefix(err.Error(), "tls: "))
		return nil
	}
	return &pair
}

// A Secret is a secret that has been read: one of the two is set.
type Secret struct {
	Name        string
	Certificate *tls.Certificate
	Roots       []*x509.Certificate
}

func (r *reader) secretResource(m *tlsv3.Secret) *Secret {
	out := &Secret{Name: m.GetName()}
	switch m.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		out.Certificate = r.certificate(m.GetTlsCertificate(), field.At("tls_certificate"))
	case *tlsv3.Secret_ValidationContext:
		v := m.GetValidationContext()
		out.Roots = r.roots(v, field.At("validation_context"))
		//nolint:staticcheck // deprecated, still sent
		if len(v.GetMatchTypedSubjectAltNames())+len(v.GetMatchSubjectAltNames()) > 0 {
			r.errs.Addf(field.At("validation_context"), "subject names are not supported in a secret, want them in the context that uses it")
		}
		if len(out.Roots) == 0 && len(r.errs) == 0 {
			r.errs.Addf(field.At("validation_context", "trusted_ca"), "is not set")
		}
	default:
		r.errs.Addf(nil, "want tls_certificate or validation_context")
	}
	return out
}

// set puts a secret to use.
func (s *Secrets) set(secret *Secret) error {
	switch {
	case secret.Certificate != nil:
		return s.Identity(secret.Name).Set(secret.Certificate)
	case len(secret.Roots) > 0:
		return s.Trust(secret.Name).Set(secret.Roots)
	}
	return errors.New("is empty")
}
