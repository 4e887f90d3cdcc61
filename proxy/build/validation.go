package build

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"strconv"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/route"
	malltls "github.com/mallamesh/malla/proxy/tls"
)

// validation reads what is asked of a peer: roots, of which there may be none, and everything else.
func (r *reader) validation(v *tlsv3.CertificateValidationContext, at *field.Path) (roots []*x509.Certificate, rules malltls.Rules) {
	rules.AcceptUntrusted = v.GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED
	rules.AllowExpired = v.GetAllowExpiredCertificate()
	rules.SANs = r.sanMatchers(v, at)
	if v.GetCustomValidatorConfig() != nil {
		r.customValidator(v, &rules, at)
		return nil, rules
	}
	rules.Hashes, rules.Keys = r.fingerprints(v, at)
	rules.LeafCRL = v.GetOnlyVerifyLeafCertCrl()
	if d := v.GetMaxVerifyDepth(); d != nil {
		if d.GetValue() > 100 {
			r.errs.Addf(at.Child("max_verify_depth"), "found %d, want at most 100", d.GetValue())
		}
		rules.MaxChain = int(d.GetValue()) + 1
	}
	if v.GetTrustedCa() == nil && v.GetSystemRootCerts() != nil {
		text, err := SystemRoots()
		if err != nil {
			r.errs.Addf(at.Child("system_root_certs"), "%v", err)
		}
		roots, _ = r.certificates(text, at.Child("system_root_certs"))
	}
	if text := r.data(v.GetTrustedCa(), at.Child("trusted_ca")); len(text) > 0 {
		if roots, rules.CRLs = r.certificates(text, at.Child("trusted_ca")); len(roots) == 0 {
			r.errs.Addf(at.Child("trusted_ca"), "found no certificate in PEM")
		}
	}
	if v.GetCrl() != nil {
		at := at.Child("crl")
		certs, lists := r.certificates(r.data(v.GetCrl(), at), at)
		if len(lists) == 0 || len(certs) > 0 {
			r.errs.Addf(at, "found %d revocation lists and %d certificates in PEM, want only lists", len(lists), len(certs))
		}
		rules.CRLs = append(rules.CRLs, lists...)
		if len(roots) == 0 {
			r.errs.Addf(at, "is set without trusted_ca, whose certificates it is about")
		}
	}
	return roots, rules
}

// certificates reads certificates and revocation lists in PEM.
func (r *reader) certificates(text []byte, at *field.Path) (certs []*x509.Certificate, lists []*x509.RevocationList) {
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return certs, lists
		}
		switch block.Type {
		case "CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				r.errs.Addf(at, "%v", err)
				return nil, nil
			}
			certs = append(certs, c)
		case "X509 CRL":
			l, err := x509.ParseRevocationList(block.Bytes)
			if err != nil {
				r.errs.Addf(at, "%v", err)
				return nil, nil
			}
			lists = append(lists, l)
		}
	}
}

// fingerprints reads which certificates, or which keys, are accepted.
func (r *reader) fingerprints(v *tlsv3.CertificateValidationContext, at *field.Path) (hashes, keys [][sha256.Size]byte) {
	for i, text := range v.GetVerifyCertificateHash() {
		sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
		if err != nil || len(sum) != sha256.Size {
			r.errs.Addf(at.Child("verify_certificate_hash").Index(i), "found %q, want a SHA-256 in hex", text)
			continue
		}
		hashes = append(hashes, [sha256.Size]byte(sum))
	}
	for i, text := range v.GetVerifyCertificateSpki() {
		sum, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(sum) != sha256.Size {
			r.errs.Addf(at.Child("verify_certificate_spki").Index(i), "found %q, want a SHA-256 in base64", text)
			continue
		}
		keys = append(keys, [sha256.Size]byte(sum))
	}
	return hashes, keys
}

var sanTypes = map[tlsv3.SubjectAltNameMatcher_SanType]malltls.SANType{
	tlsv3.SubjectAltNameMatcher_URI: malltls.URISAN, tlsv3.SubjectAltNameMatcher_DNS: malltls.DNSSAN, tlsv3.SubjectAltNameMatcher_EMAIL: malltls.EmailSAN,
	tlsv3.SubjectAltNameMatcher_IP_ADDRESS: malltls.IPSAN, tlsv3.SubjectAltNameMatcher_OTHER_NAME: malltls.OtherSAN,
}

func (r *reader) sanMatchers(v *tlsv3.CertificateValidationContext, at *field.Path) (out []malltls.SANMatcher) {
	for i, m := range v.GetMatchTypedSubjectAltNames() {
		at := at.Child("match_typed_subject_alt_names").Index(i)
		s := r.sanMatch(m.GetMatcher(), at.Child("matcher"))
		var known bool
		if s.Type, known = sanTypes[m.GetSanType()]; !known {
			r.errs.Addf(at.Child("san_type"), "found %v, want URI, DNS, EMAIL, IP_ADDRESS or OTHER_NAME", m.GetSanType())
		}
		if s.Type == malltls.OtherSAN {
			s.OID = r.oid(m.GetOid(), at.Child("oid"))
		}
		out = append(out, s)
	}
	if out != nil {
		return out
	}
	for i, m := range v.GetMatchSubjectAltNames() { //nolint:staticcheck // deprecated, still sent
		out = append(out, r.sanMatch(m, at.Child("match_subject_alt_names").Index(i)))
	}
	return out
}

func (r *reader) oid(text string, at *field.Path) (oid asn1.ObjectIdentifier) {
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			r.errs.Addf(at, "found %q, want numbers with dots between", text)
			return nil
		}
		oid = append(oid, n)
	}
	return oid
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

// customValidator reads the one that takes the place of the default: SPIFFE's, with roots for each trust domain. What it
// would not look at is refused.
func (r *reader) customValidator(v *tlsv3.CertificateValidationContext, rules *malltls.Rules, at *field.Path) {
	for name, set := range map[string]bool{
		"trusted_ca": v.GetTrustedCa() != nil, "crl": v.GetCrl() != nil, "max_verify_depth": v.GetMaxVerifyDepth() != nil,
		"verify_certificate_hash": len(v.GetVerifyCertificateHash()) > 0, "verify_certificate_spki": len(v.GetVerifyCertificateSpki()) > 0,
		"trust_chain_verification": rules.AcceptUntrusted,
	} {
		if set {
			r.errs.Addf(at.Child(name), "is set beside custom_validator_config, which does not look at it")
		}
	}
	at = at.Child("custom_validator_config").Child("typed_config")
	m, ok := r.unpack(v.GetCustomValidatorConfig().GetTypedConfig(), at).(*tlsv3.SPIFFECertValidatorConfig)
	if !ok {
		r.errs.Addf(at, "found %s, want a SPIFFECertValidatorConfig", v.GetCustomValidatorConfig().GetTypedConfig().GetTypeUrl())
		return
	}
	rules.Domains = map[string]*malltls.Roots{}
	if m.GetTrustBundles() != nil {
		if m.GetTrustBundles().GetFilename() != "" {
			r.errs.Addf(at.Child("trust_bundles").Child("filename"), "is not supported, since nobody would watch the file; want inline_string")
		}
		r.bundleMap(r.data(m.GetTrustBundles(), at.Child("trust_bundles")), rules.Domains, at.Child("trust_bundles"))
		return
	}
	for i, d := range m.GetTrustDomains() {
		at := at.Child("trust_domains").Index(i)
		if rules.Domains[d.GetName()] != nil {
			r.errs.Addf(at.Child("name"), "%s stands there twice", d.GetName())
		}
		roots, _ := r.certificates(r.data(d.GetTrustBundle(), at.Child("trust_bundle")), at.Child("trust_bundle"))
		if len(roots) == 0 {
			r.errs.Addf(at.Child("trust_bundle"), "found no certificate in PEM")
		}
		rules.Domains[d.GetName()] = malltls.NewRoots(roots)
	}
	if len(rules.Domains) == 0 {
		r.errs.Addf(at, "has no trust domain")
	}
}

// bundleMap reads SPIFFE bundles by trust domain: for each a key set of which the keys that are used for
// "x509-svid" are authorities (SPIFFE Trust Domain and Bundle, section 4).
func (r *reader) bundleMap(text []byte, domains map[string]*malltls.Roots, at *field.Path) {
	var m struct {
		TrustDomains map[string]struct {
			Keys []struct {
				Use string   `json:"use"`
				X5C [][]byte `json:"x5c"`
			} `json:"keys"`
		} `json:"trust_domains"`
	}
	if err := json.Unmarshal(text, &m); err != nil {
		r.errs.Addf(at, "%v", err)
		return
	}
	for name, bundle := range m.TrustDomains {
		var roots []*x509.Certificate
		for _, key := range bundle.Keys {
			if key.Use != "x509-svid" {
				continue
			}
			for _, der := range key.X5C {
				c, err := x509.ParseCertificate(der)
				if err != nil {
					r.errs.Addf(at, "trust domain %s: %v", name, err)
					continue
				}
				roots = append(roots, c)
			}
		}
		if len(roots) == 0 {
			r.errs.Addf(at, "trust domain %s has no key that is used for x509-svid", name)
		}
		domains[name] = malltls.NewRoots(roots)
	}
	if len(domains) == 0 {
		r.errs.Addf(at, "has no trust domain")
	}
}
