package tls

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/mallamesh/malla/proxy/access"
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
	Verified    bool     // by a root or by a list of hashes or names; otherwise it merely says so
	Doubt       *Failure // why it would have been refused, if everybody is let in; nil: no reason
	Leaf        *x509.Certificate
	Chain       []*x509.Certificate // as it was sent: Leaf, and what came with it
	Authority   *x509.Certificate   // that has issued Leaf, by the chain that was found to be right; nil: none was looked for
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
// generation and to every byte of the presented chain; dates, also those of revocation lists, are checked each time
// on every certificate of the chain that was found.
type verifier struct {
	trust *Trust
	rules Rules
	usage x509.ExtKeyUsage
	now   func() time.Time
	both  effective // the rules, with those that a secret brings

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
	names  []name
	chains [][]*x509.Certificate // none: nobody asked for a root
	lists  time.Time             // when the first revocation list that was looked at goes out of date; zero: none was
}

// maxVerified bounds the cache; beyond it, entries are dropped at random.
const maxVerified = 1024

func newVerifier(c *Common, usage x509.ExtKeyUsage) *verifier {
	return &verifier{trust: c.Trust, rules: c.Rules, usage: usage, now: time.Now, cache: map[chainKey]*verified{}}
}

// effective returns the roots and rules that hold now.
func (v *verifier) effective() (*Bundle, *Rules) {
	var bundle *Bundle
	if v.trust != nil {
		bundle = v.trust.Bundle()
	}
	return bundle, v.both.of(&v.rules, bundle)
}

// An Aside runs a function on another goroutine and returns when it has ended; it reports false
// if nobody waits for the outcome any more. A chain that was not seen before is verified
// there: whoever has no certificate of ours can present one that takes long to refuse.
type Aside func(func()) bool

// verify checks the presented chain; one of the expected names, if there are any, must be the certificate's.
func (v *verifier) verify(raw [][]byte, expected *expectation, aside Aside) (*Peer, error) {
	if len(raw) == 0 {
		return nil, &Failure{Kind: NoCertificate}
	}
	bundle, rules := v.effective()
	if v.trust != nil && bundle == nil {
		return nil, fmt.Errorf("trust bundle %s: %w", v.trust.Name(), errNoIdentity)
	}
	known, err := v.lookup(raw, bundle, rules, aside)
	var failed *Failure
	switch {
	case errors.As(err, &failed) && rules.AcceptUntrusted:
		return v.untrusted(raw, failed)
	case err != nil:
		return nil, err
	}
	if failed := rules.check(known.leaf, known.names, expected); failed != nil {
		if rules.AcceptUntrusted {
			return v.untrusted(raw, failed)
		}
		return nil, failed
	}
	return known.peer, nil
}

func (v *verifier) lookup(raw [][]byte, bundle *Bundle, rules *Rules, aside Aside) (*verified, error) {
	key := chainKey{sum: sum(raw)}
	if bundle != nil {
		key.generation = bundle.Generation
	}
	now := v.now()
	v.mu.Lock()
	known := v.cache[key]
	v.mu.Unlock()
	if known != nil {
		return known, known.stillValid(now, rules)
	}
	var err error
	build := func() { known, err = v.build(raw, bundle, rules, now) }
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
func (k *verified) stillValid(now time.Time, rules *Rules) error {
	if !k.lists.IsZero() && now.After(k.lists) {
		return chainFailure(depthError{0, revocation + "CRL has expired"}, nil)
	}
	if rules.AllowExpired || len(k.chains) == 0 {
		return nil
	}
	var first error
next:
	for _, chain := range k.chains {
		for i, c := range chain {
			if why := outsideDates(c, now); why != "" {
				if first == nil {
					first = chainFailure(depthError{i, why}, nil)
				}
				continue next
			}
		}
		return nil
	}
	return first
}

// outsideDates says in OpenSSL's words why a certificate may not be used at a time; empty: it may.
func outsideDates(c *x509.Certificate, now time.Time) string {
	switch {
	case now.Before(c.NotBefore):
		return "certificate is not yet valid"
	case now.After(c.NotAfter):
		return "certificate has expired"
	}
	return ""
}

func (v *verifier) build(raw [][]byte, bundle *Bundle, rules *Rules, now time.Time) (*verified, error) {
	leaf, rest, err := parse(raw)
	if err != nil {
		return nil, err
	}
	roots, failed := rootsFor(leaf, bundle, rules)
	if failed != nil {
		return nil, failed
	}
	peer := describe(leaf, rest)
	if roots == nil {
		peer.Verified = rules.demanding() && !rules.AcceptUntrusted
		return &verified{peer: peer, leaf: leaf, names: namesOf(leaf)}, nil
	}
	chains, err := chainsOf(leaf, rest, roots, rules, v.usage, now)
	if err != nil {
		return nil, chainFailure(err, peer.Chain)
	}
	known := &verified{peer: peer, leaf: leaf, names: namesOf(leaf)}
	known.chains, known.lists, err = rules.accept(chains, now)
	if err != nil {
		return nil, chainFailure(err, peer.Chain)
	}
	peer.Verified = true
	if len(known.chains[0]) > 1 {
		peer.Authority = known.chains[0][1]
	}
	return known, nil
}

// authorities are those that a client is told of, so that one with several certificates shows a fitting one; nil: there are none.
// Whoever is told of some and has a certificate of none of them shows none.
func (v *verifier) authorities() *x509.CertPool {
	bundle, rules := v.effective()
	if rules.Domains != nil {
		all := x509.NewCertPool()
		for _, roots := range rules.Domains {
			for _, c := range roots.Certificates {
				all.AddCert(c)
			}
		}
		return all
	}
	if roots, _ := rootsFor(nil, bundle, rules); roots != nil {
		return roots.Pool
	}
	return nil
}

// rootsFor picks the roots of a peer; nil: nobody asked for one.
func rootsFor(leaf *x509.Certificate, bundle *Bundle, rules *Rules) (*Roots, *Failure) {
	if rules.Domains == nil {
		if bundle == nil || len(bundle.Certificates) == 0 {
			return rules.Roots, nil
		}
		return bundle.Roots, nil
	}
	if failed := spiffeLeaf(leaf); failed != nil {
		return nil, failed
	}
	if roots := rules.Domains[leaf.URIs[0].Host]; roots != nil {
		return roots, nil
	}
	return nil, &Failure{Kind: NotTrusted, Why: "no trust bundle store"}
}

// chainsOf finds all chains from a leaf to a root.
func chainsOf(leaf *x509.Certificate, rest []*x509.Certificate, roots *Roots, rules *Rules, usage x509.ExtKeyUsage, now time.Time) ([][]*x509.Certificate, error) {
	pool := roots.Pool
	if rules.AllowExpired {
		// crypto/x509 cannot be told to leave dates alone: so it gets copies that are valid now.
		leaf, pool = dateless(leaf, now), x509.NewCertPool()
		for _, c := range roots.Certificates {
			pool.AddCert(dateless(c, now))
		}
	}
	between := x509.NewCertPool()
	for _, c := range rest {
		if rules.AllowExpired {
			c = dateless(c, now)
		}
		between.AddCert(c)
	}
	return leaf.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
}

func dateless(c *x509.Certificate, now time.Time) *x509.Certificate {
	own := *c
	own.NotBefore, own.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
	return &own
}

// accept leaves out the chains that are too long, or of which a certificate was revoked. It says when the first of the lists
// that it looked at goes out of date.
func (r *Rules) accept(chains [][]*x509.Certificate, now time.Time) (good [][]*x509.Certificate, until time.Time, err error) {
	for _, chain := range chains {
		if r.MaxChain > 0 && len(chain) > r.MaxChain {
			err = depthError{r.MaxChain - 1, "unable to get local issuer certificate"}
			continue
		}
		next, bad := r.revoked(chain, now)
		if bad != nil {
			err = bad
			continue
		}
		if good = append(good, chain); !next.IsZero() && (until.IsZero() || next.Before(until)) {
			until = next
		}
	}
	if len(good) > 0 {
		err = nil
	}
	return good, until, err
}

const revocation = "certificate revocation check against provided CRLs failed: "

// revoked looks a chain up in the revocation lists: each certificate in the list of the authority that has issued it.
func (r *Rules) revoked(chain []*x509.Certificate, now time.Time) (until time.Time, err error) {
	if len(r.CRLs) == 0 {
		return until, nil
	}
	for i, c := range chain {
		if i > 0 && r.LeafCRL {
			break
		}
		issuer := chain[min(i+1, len(chain)-1)]
		list := r.listOf(issuer)
		switch {
		case list == nil:
			return until, depthError{i, revocation + "unable to get certificate CRL"}
		case now.Before(list.ThisUpdate):
			return until, depthError{i, revocation + "CRL is not yet valid"}
		case !list.NextUpdate.IsZero() && now.After(list.NextUpdate) && !r.AllowExpired:
			return until, depthError{i, revocation + "CRL has expired"}
		}
		if slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(c.SerialNumber) == 0 }) {
			return until, depthError{i, revocation + "certificate revoked"}
		}
		if !r.AllowExpired && !list.NextUpdate.IsZero() && (until.IsZero() || list.NextUpdate.Before(until)) {
			until = list.NextUpdate
		}
	}
	return until, nil
}

// listOf finds the newest list that an authority has signed.
func (r *Rules) listOf(issuer *x509.Certificate) *x509.RevocationList {
	var newest *x509.RevocationList
	for _, l := range r.CRLs {
		if bytes.Equal(l.RawIssuer, issuer.RawSubject) && l.CheckSignatureFrom(issuer) == nil && (newest == nil || l.ThisUpdate.After(newest.ThisUpdate)) {
			newest = l
		}
	}
	return newest
}

// spiffeLeaf wants a certificate to be a leaf of SPIFFE's X.509-SVID: one identity, and no authority (section 4).
func spiffeLeaf(leaf *x509.Certificate) *Failure {
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return &Failure{Kind: NotTrusted, Why: "SPIFFE precheck"}
	}
	if len(leaf.URIs) == 0 || leaf.URIs[0].Scheme != "spiffe" || leaf.URIs[0].Host == "" {
		return &Failure{Kind: NotTrusted, Why: "no trust bundle store"}
	}
	return nil
}

// untrusted takes down who the peer says it is, and what was held against it.
func (v *verifier) untrusted(raw [][]byte, failed *Failure) (*Peer, error) {
	leaf, rest, err := parse(raw)
	if err != nil {
		return nil, err
	}
	peer := describe(leaf, rest)
	peer.Doubt = failed
	return peer, nil
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

func describe(c *x509.Certificate, rest []*x509.Certificate) *Peer {
	digest := sha256.Sum256(c.Raw)
	return &Peer{
		URIs: uris(c.URIs), DNS: c.DNSNames, Subject: access.DistinguishedName(c.RawSubject), Issuer: access.DistinguishedName(c.RawIssuer),
		Serial: c.SerialNumber.Text(16), Fingerprint: hex.EncodeToString(digest[:]), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Leaf: c,
		Chain: append([]*x509.Certificate{c}, rest...),
	}
}

func uris(list []*url.URL) []string {
	var s []string
	for _, u := range list {
		s = append(s, u.String())
	}
	return s
}
