package tls

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"golang.org/x/crypto/ocsp"
	"sync"
	"sync/atomic"
	"time"
)

// An Identity is a certificate with its key that can be replaced at any time.
// Connections that exist keep theirs; the next handshake uses the new one.
type Identity struct {
	place
	name  string
	shown atomic.Pointer[shown]
	wait  waiters
}

// shown is a certificate with the time in which its OCSP response may be shown: one thing, so that no handshake
// pairs an old one with a new.
type shown struct {
	*tls.Certificate
	staple validity // zero: there is no response
}

// A place says where something stands that is in force, in Envoy's words.
type place struct{ path atomic.Pointer[string] }

// SetPlace says where it stands: the name of a file, or nothing.
func (p *place) SetPlace(file string) { p.path.Store(&file) }

// Place is the file that it stands in, or "<inline>".
func (p *place) Place() string {
	if file := p.path.Load(); file != nil && *file != "" {
		return *file
	}
	return "<inline>"
}

// NewIdentity returns an identity without a certificate: handshakes that need
// one fail until Set is called.
func NewIdentity(name string) *Identity { return &Identity{name: name} }

// Name is the name of the secret.
func (i *Identity) Name() string { return i.name }

// Set replaces the certificate. The leaf is parsed if it has not been.
func (i *Identity) Set(c *tls.Certificate) error {
	if c == nil || len(c.Certificate) == 0 || c.PrivateKey == nil {
		return fmt.Errorf("secret %s: found no certificate with a key", i.name)
	}
	if c.Leaf == nil {
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			return fmt.Errorf("secret %s: %w", i.name, err)
		}
		own := *c
		own.Leaf = leaf
		c = &own
	}
	next := &shown{Certificate: c}
	if len(c.OCSPStaple) > 0 {
		v, err := validityOf(c)
		if err != nil {
			return fmt.Errorf("secret %s: OCSP response: %w", i.name, err)
		}
		next.staple = v
	}
	i.shown.Store(next)
	i.wait.wake()
	return nil
}

// A validity is the time in which something may be shown.
type validity struct{ from, until time.Time }

// validityOf says when a certificate's OCSP response may be shown. One that says nothing good of this certificate is a
// mistake. That the authority has signed it is for clients to see: its certificate may not be at hand.
func validityOf(c *tls.Certificate) (validity, error) {
	r, err := ocsp.ParseResponse(c.OCSPStaple, nil)
	switch {
	case err != nil:
		return validity{}, err
	case r.SerialNumber.Cmp(c.Leaf.SerialNumber) != 0:
		return validity{}, errors.New("is about another certificate")
	case r.Status != ocsp.Good:
		return validity{}, errors.New("does not say that the certificate is good")
	case r.NextUpdate.IsZero():
		return validity{r.ThisUpdate, time.Now().Add(100 * 365 * 24 * time.Hour)}, nil
	}
	return validity{r.ThisUpdate, r.NextUpdate}, nil
}

// Staple is the time in which the OCSP response of the certificate may be shown; zero: there is none.
func (i *Identity) Staple() (from, until time.Time) {
	if s := i.shown.Load(); s != nil {
		return s.staple.from, s.staple.until
	}
	return time.Time{}, time.Time{}
}

// Certificate returns the current certificate, nil if there is none yet. It must not be written.
func (i *Identity) Certificate() *tls.Certificate {
	if s := i.shown.Load(); s != nil {
		return s.Certificate
	}
	return nil
}

// OnReady calls f once, when there is a certificate: at once if there is one.
// f runs on the goroutine that calls Set.
func (i *Identity) OnReady(f func()) { i.wait.add(f, func() bool { return i.shown.Load() != nil }) }

// Roots are certificates that chains may end with.
type Roots struct {
	Certificates []*x509.Certificate
	Pool         *x509.CertPool
}

// NewRoots returns the set of these certificates.
func NewRoots(list []*x509.Certificate) *Roots {
	pool := x509.NewCertPool()
	for _, c := range list {
		pool.AddCert(c)
	}
	return &Roots{list, pool}
}

// A Bundle is what peers are verified against at one point in time.
type Bundle struct {
	*Roots
	Rules      *Rules            // that the secret brings beside roots; nil: none
	Sum        [sha256.Size]byte // of all roots
	Generation uint64            // of its Trust; differs whenever something may differ
}

// Trust is a set of roots that can be replaced at any time, perhaps with rules of its own.
type Trust struct {
	place
	name   string
	bundle atomic.Pointer[Bundle]
	wait   waiters
}

// generation numbers bundles across all Trusts, so that a verification that was
// cached under one bundle can never be taken for another's.
var generation atomic.Uint64

// NewTrust returns a trust without roots: nothing is trusted until Set is called.
func NewTrust(name string) *Trust { return &Trust{name: name} }

// Name is the name of the secret.
func (t *Trust) Name() string { return t.name }

// Set replaces the roots. Verifications made under the old ones count no more.
func (t *Trust) Set(roots []*x509.Certificate) error {
	if len(roots) == 0 {
		return fmt.Errorf("secret %s: found no root certificate", t.name)
	}
	t.set(roots, nil)
	return nil
}

// SetContext replaces the roots, of which there may be none, and what else is asked of a certificate.
func (t *Trust) SetContext(roots []*x509.Certificate, rules Rules) { t.set(roots, &rules) }

func (t *Trust) set(roots []*x509.Certificate, rules *Rules) {
	h := sha256.New()
	for _, c := range roots {
		h.Write(c.Raw)
	}
	t.bundle.Store(&Bundle{Roots: NewRoots(roots), Rules: rules, Sum: [sha256.Size]byte(h.Sum(nil)), Generation: generation.Add(1)})
	t.wait.wake()
}

// Bundle returns the current roots, nil if there are none yet.
func (t *Trust) Bundle() *Bundle { return t.bundle.Load() }

// OnReady calls f once, when there are roots: at once if there are.
func (t *Trust) OnReady(f func()) { t.wait.add(f, func() bool { return t.bundle.Load() != nil }) }

// waiters are functions to call when a secret has arrived.
type waiters struct {
	mu   sync.Mutex
	list []func()
}

func (w *waiters) add(f func(), ready func() bool) {
	w.mu.Lock()
	if !ready() {
		w.list = append(w.list, f)
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	f()
}

func (w *waiters) wake() {
	w.mu.Lock()
	list := w.list
	w.list = nil
	w.mu.Unlock()
	for _, f := range list {
		f()
	}
}

var errNoIdentity = errors.New("secret is not supplied by SDS")
