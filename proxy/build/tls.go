package build

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	forwardclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	malltls "github.com/mallamesh/malla/proxy/tls"
)

var tlsFields = []*Message{
	message((*rawv3.RawBuffer)(nil)),
	message((*tlsv3.DownstreamTlsContext)(nil), reads("common_tls_context", "require_client_certificate", "disable_stateless_session_resumption",
		"session_ticket_keys", "session_ticket_keys_sds_secret_config", "session_timeout", "ocsp_staple_policy", "full_scan_certs_on_sni_mismatch"),
		ignores("sessions are resumed by tickets only", "disable_stateful_session_resumption"),
		refuses("Envoy 1.40 takes it and serves clients without a name all the same; a chain's match on server_names does that", "require_sni"),
		ignores("for TLS 1.3 and the suites of 1.2 on offer the order makes no difference in strength", "prefer_client_ciphers")),
	message((*tlsv3.UpstreamTlsContext)(nil), reads("common_tls_context", "sni", "auto_host_sni", "auto_sni_san_validation", "max_session_keys"),
		refuses("renegotiation is a hole", "allow_renegotiation"),
		ignores("crypto/tls always does", "enforce_rsa_key_usage")),
	message((*tlsv3.CommonTlsContext)(nil), reads("tls_params", "tls_certificates", "tls_certificate_sds_secret_configs", "validation_context", "validation_context_sds_secret_config",
		"combined_validation_context", "alpn_protocols", "key_log")),
	message((*tlsv3.TlsKeyLog)(nil), reads("path", "local_address_range", "remote_address_range")),
	message((*tlsv3.CommonTlsContext_CombinedCertificateValidationContext)(nil), reads("default_validation_context", "validation_context_sds_secret_config")),
	message((*tlsv3.TlsParameters)(nil), reads("tls_minimum_protocol_version", "tls_maximum_protocol_version", "cipher_suites", "ecdh_curves"),
		refuses("crypto/tls can be told what a key here signs with, but neither what it asks a peer for nor which algorithm the peer has used; half of a restriction is none", "signature_algorithms")),
	message((*tlsv3.TlsCertificate)(nil), reads("certificate_chain", "private_key", "ocsp_staple", "watched_directory", "password", "pkcs12")),
	message((*tlsv3.TlsSessionTicketKeys)(nil), reads("keys")),
	message((*tlsv3.SdsSecretConfig)(nil), reads("name", "sds_config")),
	message((*tlsv3.CertificateValidationContext)(nil), reads("trusted_ca", "system_root_certs", "trust_chain_verification", "match_typed_subject_alt_names", "match_subject_alt_names",
		"verify_certificate_hash", "verify_certificate_spki", "crl", "only_verify_leaf_cert_crl", "max_verify_depth", "watched_directory", "allow_expired_certificate", "custom_validator_config"),
		ignores("a list of CA names is never sent to clients", "suppress_client_ca_list")),
	message((*tlsv3.CertificateValidationContext_SystemRootCerts)(nil)),
	message((*tlsv3.SubjectAltNameMatcher)(nil), reads("san_type", "matcher", "oid")),
	message((*tlsv3.SPIFFECertValidatorConfig)(nil), reads("trust_domains", "trust_bundles")),
	message((*tlsv3.SPIFFECertValidatorConfig_TrustDomain)(nil), reads("name", "trust_bundle")),
	message((*tlsv3.Secret)(nil), reads("name", "tls_certificate", "validation_context", "session_ticket_keys")),
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
	c := malltls.ServerConfig{Common: r.tlsCommon(d.GetCommonTlsContext(), secrets, at.Child("common_tls_context")),
		RequireClientCertificate: d.GetRequireClientCertificate().GetValue(), DisableTickets: d.GetDisableStatelessSessionResumption(),
		SessionTimeout: r.duration(d.GetSessionTimeout(), at.Child("session_timeout")).Truncate(time.Second),
		FullScan:       d.GetFullScanCertsOnSniMismatch().GetValue(), Staple: stapling[d.GetOcspStaplePolicy()]}
	if keys := d.GetSessionTicketKeys(); keys != nil {
		c.Tickets = malltls.NewTicketKeys(at.Child("session_ticket_keys").String())
		c.Tickets.Set(r.ticketKeys(keys, at.Child("session_ticket_keys")))
	}
	if s := d.GetSessionTicketKeysSdsSecretConfig(); s != nil {
		c.Tickets = secrets.Tickets(r.secret(s, secrets, at.Child("session_ticket_keys_sds_secret_config")))
	}
	server, err := malltls.NewServer(c)
	if err != nil {
		r.errs.Addf(at, "%v", err)
	}
	return server
}

var stapling = map[tlsv3.DownstreamTlsContext_OcspStaplePolicy]malltls.Stapling{
	tlsv3.DownstreamTlsContext_LENIENT_STAPLING: malltls.LenientStapling, tlsv3.DownstreamTlsContext_STRICT_STAPLING: malltls.StrictStapling,
	tlsv3.DownstreamTlsContext_MUST_STAPLE: malltls.MustStaple,
}

// ticketKeySize is how long BoringSSL wants a key to be; crypto/tls makes keys of its own of it.
const ticketKeySize = 80

func (r *reader) ticketKeys(m *tlsv3.TlsSessionTicketKeys, at *field.Path) (keys [][]byte) {
	for i, d := range m.GetKeys() {
		at := at.Child("keys").Index(i)
		key := r.data(d, at)
		if len(key) != ticketKeySize {
			r.errs.Addf(at, "found %d bytes, want %d", len(key), ticketKeySize)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		r.errs.Addf(at.Child("keys"), "is empty")
	}
	return keys
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
		AutoSNI: r.autoSNI, HostSNI: u.GetAutoHostSni(), MaxSessions: 1, AutoSANs: u.GetAutoSniSanValidation() || r.autoSANs && !namesSANs(u.GetCommonTlsContext()), SANsAreRule: u.GetAutoSniSanValidation()}
	if m := u.GetMaxSessionKeys(); m != nil {
		c.MaxSessions = int(min(m.GetValue(), 1<<16))
	}
	if n := len(c.Identities); n > 1 {
		r.errs.Addf(at.Child("common_tls_context"), "found %d certificates, want at most one towards upstreams", n)
	}
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
// sent as SNI and expected in the certificate of the cluster's servers. Where requests name the servers it is so unless
// the cluster's options say otherwise, as in Envoy.
func (r *reader) autoNames(m *clusterv3.Cluster) {
	var o httpv3.HttpProtocolOptions
	forward := m.GetClusterType().GetTypedConfig().MessageIs((*forwardclusterv3.ClusterConfig)(nil))
	r.autoSNI, r.autoSANs, r.sniHeader = forward, forward, ""
	said := m.GetUpstreamHttpProtocolOptions() //nolint:staticcheck // deprecated, and counts where there is no extension
	if a := m.GetTypedExtensionProtocolOptions()[optionsKey]; a != nil {
		if a.UnmarshalTo(&o) != nil { // that is told where it is read
			return
		}
		if said = o.GetUpstreamHttpProtocolOptions(); said == nil {
			said = &corev3.UpstreamHttpProtocolOptions{}
		}
	}
	if said != nil {
		r.autoSNI, r.autoSANs, r.sniHeader = said.GetAutoSni(), said.GetAutoSanValidation(), strings.ToLower(said.GetOverrideAutoSniHeader())
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
		if len(tr.Match) == 0 && m.GetTransportSocketMatcher() == nil {
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
	out.KeyLog = r.keyLog(c.GetKeyLog(), at.Child("key_log"))
	for i, cert := range c.GetTlsCertificates() {
		at := at.Child("tls_certificates").Index(i)
		id := malltls.NewIdentity(at.String())
		id.SetPlace(fileOf(cert))
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
		at := at.Child("validation_context")
		var roots []*x509.Certificate
		if roots, out.Rules = r.validation(c.GetValidationContext(), at); len(roots) > 0 {
			out.Trust = malltls.NewTrust(at.String())
			out.Trust.SetPlace(c.GetValidationContext().GetTrustedCa().GetFilename())
			out.Trust.SetContext(roots, malltls.Rules{})
		}
	case *tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig:
		name := r.secret(c.GetValidationContextSdsSecretConfig(), secrets, at.Child("validation_context_sds_secret_config"))
		out.Trust = secrets.Trust(name)
	case *tlsv3.CommonTlsContext_CombinedValidationContext:
		at, both := at.Child("combined_validation_context"), c.GetCombinedValidationContext()
		var roots []*x509.Certificate
		if roots, out.Rules = r.validation(both.GetDefaultValidationContext(), at.Child("default_validation_context")); len(roots) > 0 {
			out.Rules.Roots = malltls.NewRoots(roots)
		}
		name := r.secret(both.GetValidationContextSdsSecretConfig(), secrets, at.Child("validation_context_sds_secret_config"))
		out.Trust = secrets.Trust(name)
	default:
		r.errs.Addf(at, "has a validation context of a kind that is not supported")
	}
	return out
}

// keyLog reads where the secrets of connections are taken down, nil if nowhere.
func (r *reader) keyLog(m *tlsv3.TlsKeyLog, at *field.Path) *malltls.KeyLog {
	if m == nil {
		return nil
	}
	lines, err := r.env.Files.OpenPrivate(m.GetPath())
	if err != nil {
		r.errs.Addf(at.Child("path"), "%v", err)
		return nil
	}
	return &malltls.KeyLog{To: keyLines{lines}, Local: r.prefixes(m.GetLocalAddressRange(), at.Child("local_address_range")), Remote: r.prefixes(m.GetRemoteAddressRange(), at.Child("remote_address_range"))}
}

// keyLines are a file's lines as crypto/tls writes them: one at a time, whole.
type keyLines struct{ to Lines }

func (l keyLines) Write(b []byte) (int, error) {
	l.to.Append(b)
	return len(b), nil
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
