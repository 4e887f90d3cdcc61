package tls

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"
)

// Errors of a handshake in Envoy's words, which people know from access logs.
var (
	errNoPeerCertificate = errors.New("TLS_error:|268435645:SSL routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE:TLS_error_end")
	errVerifyFailed      = "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: %v:TLS_error_end"
)

// A Peer is who was found at the other end. It is immutable and shared by all
// connections that showed the same certificate.
type Peer struct {
	URIs, DNS   []string
	Subject     string // RFC 2253, as Envoy prints it
	Issuer      string
	Serial      string // lower-case hex
	Fingerprint string // SHA-256 of the certificate, lower-case hex
	NotBefore   time.Time
	NotAfter    time.Time
	Verified    bool // against a bundle; otherwise it merely says so
	Leaf        *x509.Certificate
}

// Principal is the SPIFFE identity: the first URI, "" if there is none.
func (p *Peer) Principal() string {
	if p == nil || len(p.URIs) == 0 {
		return ""
	}
	return p.URIs[0]
}

// A verifier decides whether a peer is trusted.
//
// Go's own verification is switched off and this takes its place, for three
// reasons: roots change between handshakes, SPIFFE names stand in URIs that Go
// does not match, and a peer that connects again is recognised without its
// chain's signatures being verified anew. What is remembered is bound to the bundle's
// generation and to every byte of the presented chain; dates are checked each time
// on every certificate of the chain that was found.
type verifier struct {
	trust *Trust
	sans  []SANMatcher
	usage x509.ExtKeyUsage
	now   func() time.Time

	mu    sync.Mutex
	cache map[chainKey]*verified
}

type chainKey struct {
	generation uint64
	sum        [sha256.Size]byte // over all presented certificates, lengths included
}

// verified is a chain that was found good under one bundle.
type verified struct {
	peer   *Peer
	leaf   *x509.Certificate
	chains [][]*x509.Certificate
}

// maxVerified bounds the cache; beyond it, entries are dropped at random.
const maxVerified = 1024

func newVerifier(c *Common, usage x509.ExtKeyUsage) *verifier {
	return &verifier{trust: c.Trust, sans: c.SANs, usage: usage, now: time.Now, cache: map[chainKey]*verified{}}
}

// An Aside runs a function on another goroutine and returns when it has ended; it reports false
// if nobody waits for the outcome any more. A chain that was not seen before is verified
// there: whoever has no certificate of ours can present one that takes long to refuse.
type Aside func(func()) bool

// verify checks the presented chain; host, if any, must be a name of the certificate.
func (v *verifier) verify(raw [][]byte, host string, aside Aside) (*Peer, error) {
	if len(raw) == 0 {
		return nil, errNoPeerCertificate
	}
	if v.trust == nil {
		return v.untrusted(raw)
	}
	bundle := v.trust.Bundle()
	if bundle == nil {
		return nil, fmt.Errorf("trust bundle %s: %w", v.trust.Name(), errNoIdentity)
	}
	key := chainKey{generation: bundle.Generation, sum: sum(raw)}
	now := v.now()
	known, err := v.lookup(key, raw, bundle, now, aside)
	if err != nil {
		return nil, fmt.Errorf(errVerifyFailed, err)
	}
	if err := v.names(known.leaf, host); err != nil {
		return nil, fmt.Errorf(errVerifyFailed, err)
	}
	return known.peer, nil
}

func (v *verifier) lookup(key chainKey, raw [][]byte, bundle *Bundle, now time.Time, aside Aside) (*verified, error) {
	v.mu.Lock()
	known := v.cache[key]
	v.mu.Unlock()
	if known != nil {
		return known, known.stillValid(now)
	}
	var err error
	build := func() { known, err = v.build(raw, bundle, now) }
	if aside == nil {
		build()
	} else if !aside(build) {
		return nil, net.ErrClosed
	}
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for k := range v.cache {
		if len(v.cache) >= maxVerified || k.generation != key.generation {
			delete(v.cache, k)
		}
	}
	v.cache[key] = known
	return known, nil
}

// stillValid wants one chain whose certificates are all inside their dates.
func (k *verified) stillValid(now time.Time) error {
	var first error
next:
	for _, chain := range k.chains {
		for _, c := range chain {
			if err := valid(c, now); err != nil {
				if first == nil {
					first = err
				}
				continue next
			}
		}
		return nil
	}
	return first
}

func (v *verifier) build(raw [][]byte, bundle *Bundle, now time.Time) (*verified, error) {
	leaf, rest, err := parse(raw)
	if err != nil {
		return nil, err
	}
	between := x509.NewCertPool()
	for _, c := range rest {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: bundle.Pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{v.usage},
	})
	if err != nil {
		return nil, err
	}
	peer := describe(leaf)
	peer.Verified = true
	return &verified{peer: peer, leaf: leaf, chains: chains}, nil
}

// untrusted takes down who the peer says it is.
func (v *verifier) untrusted(raw [][]byte) (*Peer, error) {
	leaf, _, err := parse(raw)
	if err != nil {
		return nil, err
	}
	return describe(leaf), nil
}

// names checks the peer's names against the configuration.
func (v *verifier) names(leaf *x509.Certificate, host string) error {
	if host != "" {
		if err := leaf.VerifyHostname(host); err != nil {
			return err
		}
	}
	if len(v.sans) == 0 {
		return nil
	}
	for i := range v.sans {
		m := &v.sans[i]
		for _, u := range leaf.URIs {
			if m.match(URISAN, u.String()) {
				return nil
			}
		}
		for _, d := range leaf.DNSNames {
			if m.match(DNSSAN, d) {
				return nil
			}
		}
		for _, e := range leaf.EmailAddresses {
			if m.match(EmailSAN, e) {
				return nil
			}
		}
		for _, ip := range leaf.IPAddresses {
			if m.match(IPSAN, ip.String()) {
				return nil
			}
		}
	}
	return fmt.Errorf("SAN matcher: none of the names of %s is allowed", subject(leaf))
}

// sum identifies a presented chain.
func sum(raw [][]byte) [sha256.Size]byte {
	if len(raw) == 1 {
		return sha256.Sum256(raw[0])
	}
	h := sha256.New()
	for _, der := range raw {
		s := sha256.Sum256(der)
		h.Write(s[:])
	}
	var s [sha256.Size]byte
	h.Sum(s[:0])
	return s
}

func parse(raw [][]byte) (*x509.Certificate, []*x509.Certificate, error) {
	leaf, err := x509.ParseCertificate(raw[0])
	if err != nil {
		return nil, nil, err
	}
	var rest []*x509.Certificate
	for _, der := range raw[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, err
		}
		rest = append(rest, c)
	}
	return leaf, rest, nil
}

func describe(c *x509.Certificate) *Peer {
	digest := sha256.Sum256(c.Raw)
	return &Peer{
		URIs: uris(c.URIs), DNS: c.DNSNames, Subject: c.Subject.String(), Issuer: c.Issuer.String(),
		Serial: c.SerialNumber.Text(16), Fingerprint: hex.EncodeToString(digest[:]), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Leaf: c,
	}
}

func uris(list []*url.URL) []string {
	var s []string
	for _, u := range list {
		s = append(s, u.String())
	}
	return s
}
