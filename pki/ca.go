package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"
)

// Lifetimes. Istio's: workloads 24 h by default and 90 days at most, a root of
// its own ten years.
const (
	RootTTL            = 10 * 365 * 24 * time.Hour
	DefaultWorkloadTTL = 24 * time.Hour
	MaxWorkloadTTL     = 90 * 24 * time.Hour

	// skew is how far a verifier's clock may be behind ours.
	skew = 2 * time.Minute
)

// A CA signs the certificates of one trust domain. It never changes.
type CA struct {
	cert  *x509.Certificate
	key   crypto.Signer
	above []*x509.Certificate // between the leaf and the roots, cert first; nil if cert is a root
	roots []*x509.Certificate // what others must trust, at least one
}

// NewCA makes a self-signed root for the trust domain, valid from now on.
func NewCA(trustDomain string, now time.Time) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	number, err := serial()
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          number,
		Subject:               pkix.Name{Organization: []string{trustDomain}, CommonName: trustDomain + " root"},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(RootTTL),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make root: %w", err)
	}
	return &CA{cert: cert, key: key, roots: []*x509.Certificate{cert}}, nil
}

// CertificatePEM returns the CA's certificate.
func (ca *CA) CertificatePEM() []byte { return EncodeCertificates(ca.cert) }

// KeyPEM returns the CA's private key, to be kept in a Secret.
func (ca *CA) KeyPEM() ([]byte, error) { return EncodeKey(ca.key) }

// RootPEM returns what others must trust: every root, in one bundle.
func (ca *CA) RootPEM() []byte { return EncodeCertificates(ca.roots...) }

// Root returns the first root certificate.
func (ca *CA) Root() *x509.Certificate { return ca.roots[0] }

// Roots returns every root certificate. While a root is replaced there are two.
func (ca *CA) Roots() []*x509.Certificate { return slices.Clone(ca.roots) }

// Equal reports whether both sign alike: the same certificate, chain and roots.
func (ca *CA) Equal(other *CA) bool {
	same := (*x509.Certificate).Equal
	return ca.cert.Equal(other.cert) && slices.EqualFunc(ca.above, other.above, same) && slices.EqualFunc(ca.roots, other.roots, same)
}

// NotAfter returns when the CA's certificate ends.
func (ca *CA) NotAfter() time.Time { return ca.cert.NotAfter }

// Sign answers a certificate request with a certificate for id, for servers and
// clients. What names the request asks for is ignored: who asked is known by
// other means, and gets that identity only. ttl 0 is the default; it is cut to
// MaxWorkloadTTL and to the CA's own end. The chain is leaf first, roots last.
func (ca *CA) Sign(request []byte, id ID, ttl time.Duration, now time.Time) ([]*x509.Certificate, error) {
	if id.IsZero() {
		return nil, errNobody
	}
	req, err := decodeRequest(request)
	if err != nil {
		return nil, err
	}
	return ca.issue(req.PublicKey, &x509.Certificate{URIs: []*url.URL{id.URL()}}, ttl, now)
}

// Serve makes a key and a certificate for one of the control plane's own
// servers: its identity, and the DNS names and addresses it is called by.
func (ca *CA) Serve(id ID, dns []string, ips []net.IP, ttl time.Duration, now time.Time) (*ecdsa.PrivateKey, []*x509.Certificate, error) {
	key, err := NewKey()
	if err != nil {
		return nil, nil, fmt.Errorf("make server key: %w", err)
	}
	template := &x509.Certificate{DNSNames: dns, IPAddresses: ips}
	if !id.IsZero() {
		template.URIs = []*url.URL{id.URL()}
	}
	chain, err := ca.issue(key.Public(), template, ttl, now)
	return key, chain, err
}

func (ca *CA) issue(public any, template *x509.Certificate, ttl time.Duration, now time.Time) ([]*x509.Certificate, error) {
	if ttl <= 0 {
		ttl = DefaultWorkloadTTL
	}
	number, err := serial()
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	template.SerialNumber = number
	template.NotBefore = now.Add(-skew)
	template.NotAfter = now.Add(min(ttl, MaxWorkloadTTL))
	if template.NotAfter.After(ca.cert.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return slices.Concat([]*x509.Certificate{leaf}, ca.above, ca.roots), nil
}
