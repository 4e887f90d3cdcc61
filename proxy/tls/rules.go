package tls

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// SANType says which subject alternative names a matcher looks at.
type SANType uint8

const (
	AnySAN SANType = iota // URI, DNS, e-mail or address: Envoy's deprecated match_subject_alt_names
	URISAN
	DNSSAN
	EmailSAN
	IPSAN
	OtherSAN // by its OID
)

// A SANMatcher accepts a peer by one of its names. Exactly one of the strings is set.
type SANMatcher struct {
	Type                            SANType
	OID                             asn1.ObjectIdentifier // of an OtherSAN
	Exact, Prefix, Suffix, Contains string
	Regex                           *regexp.Regexp // must match the whole name
	IgnoreCase                      bool
}

func (m *SANMatcher) match(kind SANType, name string) bool {
	if m.Type != AnySAN && m.Type != kind {
		return false
	}
	exact, prefix, suffix, contains := m.Exact, m.Prefix, m.Suffix, m.Contains
	if kind == DNSSAN && exact != "" {
		return matchDNS(name, exact)
	}
	if m.IgnoreCase {
		name = strings.ToLower(name)
		exact, prefix, suffix, contains = strings.ToLower(exact), strings.ToLower(prefix), strings.ToLower(suffix), strings.ToLower(contains)
	}
	switch {
	case m.Regex != nil:
		loc := m.Regex.FindStringIndex(name)
		return loc != nil && loc[0] == 0 && loc[1] == len(name)
	case exact != "":
		return name == exact
	case prefix != "":
		return strings.HasPrefix(name, prefix)
	case suffix != "":
		return strings.HasSuffix(name, suffix)
	}
	return contains != "" && strings.Contains(name, contains)
}

// matchDNS reports whether a certificate's name, which may have one star in its first label, covers
// the wanted host. The star stands for at least one character and never for a dot (RFC 6125, section
// 6.4.3), and a label in punycode has none.
func matchDNS(name, want string) bool {
	name, want = strings.ToLower(name), strings.ToLower(want)
	if name == want {
		return true
	}
	label, domain, ok := strings.Cut(name, ".")
	first, rest, dotted := strings.Cut(want, ".")
	before, after, star := strings.Cut(label, "*")
	if !ok || !dotted || !star || domain != rest || strings.Contains(name[len(before)+1:], "*") || strings.HasPrefix(label, "xn--") {
		return false
	}
	return len(first) >= len(label) && strings.HasPrefix(first, before) && strings.HasSuffix(first, after)
}

// Rules is what a validation context asks of a peer's certificate beside a root that has signed it.
type Rules struct {
	SANs   []SANMatcher        // the certificate must match one, if there are any
	Hashes [][sha256.Size]byte // of certificates; the peer's must be among these or Keys, if there are any of the two
	Keys   [][sha256.Size]byte // of public keys (SubjectPublicKeyInfo)
	CRLs   []*x509.RevocationList
	// LeafCRL asks for a list for the last certificate only; otherwise every authority of a chain must have
	// one if there is one at all.
	LeafCRL      bool
	MaxChain     int  // certificates of a chain, the peer's own and the root included; 0: no limit
	AllowExpired bool // dates do not count
	// AcceptUntrusted lets every certificate pass; that one was not found good is known of the connection.
	AcceptUntrusted bool
	// Roots count where the secret that the context refers to brings none.
	Roots *Roots
	// Domains are the roots by SPIFFE trust domain, in place of one set for all; nil: none.
	Domains map[string]*Roots
}

// demanding reports whether the rules say something about a certificate by themselves, without
// any root. A client must then show one.
func (r *Rules) demanding() bool {
	return len(r.SANs)+len(r.Hashes)+len(r.Keys) > 0 || r.Domains != nil
}

// with returns rules that say what r says and, where o says something, what o says. Lists are joined: this is
// how Envoy merges the default validation context with the one that a secret brings.
func (r *Rules) with(o *Rules) Rules {
	out := *r
	out.SANs = slices.Concat(r.SANs, o.SANs)
	out.Hashes = slices.Concat(r.Hashes, o.Hashes)
	out.Keys = slices.Concat(r.Keys, o.Keys)
	if len(o.CRLs) > 0 {
		out.CRLs = o.CRLs
	}
	if o.MaxChain > 0 {
		out.MaxChain = o.MaxChain
	}
	if o.Domains != nil {
		out.Domains = o.Domains
	}
	out.LeafCRL = r.LeafCRL || o.LeafCRL
	out.AllowExpired = r.AllowExpired || o.AllowExpired
	out.AcceptUntrusted = r.AcceptUntrusted || o.AcceptUntrusted
	return out
}

// effective are the rules of a context together with those of the secret that it refers to.
type effective struct {
	mu         sync.Mutex
	generation uint64
	rules      *Rules
}

func (e *effective) of(own *Rules, b *Bundle) *Rules {
	if b == nil || b.Rules == nil {
		return own
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rules == nil || e.generation != b.Generation {
		both := own.with(b.Rules)
		e.rules, e.generation = &both, b.Generation
	}
	return e.rules
}

// An expectation is the names of which a certificate must bear one; nil: any will do.
type expectation struct {
	names []string
	rule  bool // they count as one of the rules
}

// check looks at a certificate by itself, which has these names, of which one must be as expected.
func (r *Rules) check(leaf *x509.Certificate, names []name, expected *expectation) *Failure {
	foreign := expected != nil && !bears(leaf, names, expected.names)
	if foreign || len(r.SANs) > 0 && !r.named(names) {
		if r.Domains != nil {
			return &Failure{Kind: WrongName, Why: "SAN match"}
		}
		texts := make([]string, len(names))
		for i, n := range names {
			texts[i] = n.text
		}
		own := strings.Join(texts, ", ")
		if foreign && !expected.rule {
			return &Failure{Kind: WrongName, Why: "verify SAN list, expected SANs: [" + strings.Join(expected.names, ", ") + "], certificate SANs: [" + own + "]"}
		}
		return &Failure{Kind: WrongName, Why: "SAN matcher, certificate SANs are [" + own + "]"}
	}
	if len(r.Hashes)+len(r.Keys) > 0 && !slices.Contains(r.Hashes, sha256.Sum256(leaf.Raw)) &&
		!slices.Contains(r.Keys, sha256.Sum256(leaf.RawSubjectPublicKeyInfo)) {
		return &Failure{Kind: WrongHash, Why: "cert hash and spki"}
	}
	return nil
}

// bears reports whether a certificate has one of several names, of hosts or as they stand in it.
func bears(leaf *x509.Certificate, names []name, expected []string) bool {
	return slices.ContainsFunc(expected, func(e string) bool {
		return leaf.VerifyHostname(e) == nil || slices.ContainsFunc(names, func(n name) bool { return n.kind != DNSSAN && n.text == e })
	})
}

// named reports whether one of the names matches one of the matchers.
func (r *Rules) named(names []name) bool {
	for i := range r.SANs {
		m := &r.SANs[i]
		for _, n := range names {
			if (n.kind != OtherSAN || m.OID.Equal(n.oid)) && m.match(n.kind, n.text) {
				return true
			}
		}
	}
	return false
}

// A name is one of a certificate's alternative names.
type name struct {
	kind SANType
	oid  asn1.ObjectIdentifier // of an OtherSAN
	text string
}

// namesOf reads the alternative names in their order (RFC 5280, section 4.2.1.6). crypto/x509 sorts them by kind, and leaves
// out those that have an OID of their own.
func namesOf(leaf *x509.Certificate) (out []name) {
	var list []asn1.RawValue
	for _, ext := range leaf.Extensions {
		if ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			if _, err := asn1.Unmarshal(ext.Value, &list); err != nil {
				return nil
			}
		}
	}
	for _, v := range list {
		switch v.Tag {
		case 0:
			if n, ok := otherName(v.Bytes); ok {
				out = append(out, n)
			}
		case 1:
			out = append(out, name{kind: EmailSAN, text: string(v.Bytes)})
		case 2:
			out = append(out, name{kind: DNSSAN, text: string(v.Bytes)})
		case 6:
			out = append(out, name{kind: URISAN, text: string(v.Bytes)})
		case 7:
			if ip, ok := netip.AddrFromSlice(v.Bytes); ok {
				out = append(out, name{kind: IPSAN, text: ip.String()})
			}
		}
	}
	return out
}

// otherName reads a name with an OID, as far as it is text or a number.
func otherName(b []byte) (n name, ok bool) {
	rest, err := asn1.Unmarshal(b, &n.oid)
	if err != nil {
		return n, false
	}
	var wrapped asn1.RawValue
	if _, err = asn1.Unmarshal(rest, &wrapped); err != nil {
		return n, false
	}
	var value any
	if _, err = asn1.Unmarshal(wrapped.Bytes, &value); err != nil {
		return n, false
	}
	switch v := value.(type) {
	case string, int64, asn1.ObjectIdentifier:
		n.kind, n.text = OtherSAN, fmt.Sprint(v)
		return n, true
	}
	return n, false
}
