// Package agent gives a workload its identity and keeps it fresh.
//
// An [Agent] makes a key that never leaves the process, has the mesh's CA sign it
// for whoever the projected service-account token says we are (Istio's
// CreateCertificate), and hands certificate and roots to whoever asked for them.
// At half of a certificate's life, give or take a little so that a mesh does not
// renew in step, it makes a new key and asks again; if the CA is away it asks until
// it is back, and meanwhile the certificate stays in use until it expires.
//
// The root that the CA itself is checked against comes from a file (the ConfigMap
// istio-ca-root-cert), which may change at any time.
//
// The decision whom to trust on the data path, and the sockets, are not here. Nor
// are certificates from files, or secrets over a socket (SDS) for others.
package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/pki"
)

// A Signer has a certificate request (PEM) signed; the answer is a chain, leaf
// first, roots last.
type Signer interface {
	Sign(ctx context.Context, request []byte, ttl time.Duration) ([]*x509.Certificate, error)
}

// Options are what an agent is made of.
type Options struct {
	ID     pki.ID // what the request asks for; the CA goes by the token
	Signer Signer
	Roots  *Roots // trust in the CA and the mesh
	TTL    time.Duration
	// Issued is called with each new certificate, on the agent's goroutine.
	Issued func(*tls.Certificate)
	Log    *slog.Logger
	Jitter func() float64 // a number from -1 to 1; nil: random
}

// DefaultTTL is how long a certificate is asked for (Istio's SECRET_TTL).
const DefaultTTL = 24 * time.Hour

// attemptTimeout bounds one request to the CA.
const attemptTimeout = 10 * time.Second

// An Agent keeps one identity.
type Agent struct {
	options Options
	current atomic.Pointer[tls.Certificate]
	renew   chan struct{}

	mu      sync.Mutex
	lastErr error // guarded by mu: of the last attempt, nil if it worked
	issued  int   // guarded by mu
}

// New returns an agent; Run makes it work.
func New(o Options) *Agent {
	if o.TTL <= 0 {
		o.TTL = DefaultTTL
	}
	if o.Jitter == nil {
		o.Jitter = func() float64 { return 2*rand.Float64() - 1 }
	}
	return &Agent{options: o, renew: make(chan struct{}, 1)}
}

// Certificate returns the certificate in use, nil before the first.
func (a *Agent) Certificate() *tls.Certificate { return a.current.Load() }

// Renew makes the agent ask for a new certificate now.
func (a *Agent) Renew() {
	select {
	case a.renew <- struct{}{}:
	default:
	}
}

// Status reports how many certificates were issued, and why the last attempt
// did not work (nil if it did).
func (a *Agent) Status() (issued int, lastErr error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.issued, a.lastErr
}

// Run gets certificates until ctx ends, and returns ctx's error.
func (a *Agent) Run(ctx context.Context) error {
	failures := 0
	for {
		started := time.Now()
		leaf, err := a.attempt(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.note(err)
		var wait time.Duration
		if err != nil {
			most := maxRetry
			if c := a.current.Load(); c == nil || c.Leaf != nil && time.Now().After(c.Leaf.NotAfter) {
				most = firstMaxRetry
			}
			wait = retryAfter(failures, a.options.Jitter(), most)
			failures++
			a.options.Log.Warn("no certificate", "reason", err, "again in", wait.Round(time.Millisecond), "in use until", a.expiry())
		} else {
			failures = 0
			wait = renewAfter(started, leaf.NotAfter, a.options.Jitter())
			a.options.Log.Info("certificate issued", "identity", identity(leaf), "until", leaf.NotAfter, "renewed in", wait.Round(time.Second))
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-a.renew:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// attempt makes a key, has it signed, and puts the certificate to use.
func (a *Agent) attempt(ctx context.Context) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	key, err := pki.NewKey()
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	request, err := pki.Request(key, a.options.ID)
	if err != nil {
		return nil, err
	}
	chain, err := a.options.Signer.Sign(ctx, request, a.options.TTL)
	if err != nil {
		return nil, err
	}
	cert, err := assemble(key, chain, time.Now())
	if err != nil {
		return nil, fmt.Errorf("answer of the CA: %w", err)
	}
	// The chain came from a server that our roots vouch for, so the roots at its end
	// may be trusted too: that is how a new root arrives before the file has it.
	a.options.Roots.FromCA(rootsOf(chain))
	a.current.Store(cert)
	if a.options.Issued != nil {
		a.options.Issued(cert)
	}
	return cert.Leaf, nil
}

// rootsOf returns the roots at the end of a chain: those that vouch for themselves,
// else the last certificate, where that is a CA.
func rootsOf(chain []*x509.Certificate) []*x509.Certificate {
	first := len(chain)
	for first > 1 && pki.SelfSigned(chain[first-1]) {
		first--
	}
	if last := len(chain) - 1; first > last && last > 0 && chain[last].IsCA {
		first = last
	}
	return chain[first:]
}

// assemble checks that a chain is for the key and good now, and leaves the roots
// out of what is shown to peers: they have their own.
func assemble(key *ecdsa.PrivateKey, chain []*x509.Certificate, now time.Time) (*tls.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("found no certificate")
	}
	leaf := chain[0]
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("certificate is not for our key")
	}
	if _, err := pki.IDOf(leaf); err != nil {
		return nil, err
	}
	if !now.Before(leaf.NotAfter) {
		return nil, fmt.Errorf("certificate expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	shown := chain
	for len(shown) > 1 && pki.SelfSigned(shown[len(shown)-1]) {
		shown = shown[:len(shown)-1]
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: leaf}
	for _, c := range shown {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

func (a *Agent) note(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastErr = err
	if err == nil {
		a.issued++
	}
}

func (a *Agent) expiry() string {
	c := a.current.Load()
	if c == nil {
		return "none"
	}
	return c.Leaf.NotAfter.UTC().Format(time.RFC3339)
}

func identity(c *x509.Certificate) string {
	if len(c.URIs) == 0 {
		return ""
	}
	return c.URIs[0].String()
}
