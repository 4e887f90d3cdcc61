package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/url"
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
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate // intermediates above cert; nil if cert is the root
	root  *x509.Certificate
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
	return &CA{cert: cert, key: key, root: cert}, nil
}

// LoadCA reads a CA. chainPEM (may be empty) holds the certificates between
// certPEM and the root, rootPEM (may be empty: certPEM is the root) the root.
func LoadCA(certPEM, keyPEM, chainPEM, rootPEM []byte) (*CA, error) {
	certs, err := DecodeCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	key, err := DecodeKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	ca := &CA{cert: certs[0], key: key, root: certs[0]}
	if !key.PublicKey.Equal(ca.cert.PublicKey) {
		return nil, errors.New("load CA: the key is not the certificate's")
	}
	if !ca.cert.IsCA {
		return nil, errors.New("load CA: the certificate may not sign others (basic constraints)")
	}
	if len(chainPEM) > 0 {
		if ca.chain, err = DecodeCertificates(chainPEM); err != nil {
			return nil, fmt.Errorf("load CA chain: %w", err)
		}
	}
	if len(rootPEM) > 0 {
		roots, err := DecodeCertificates(rootPEM)
		if err != nil {
			return nil, fmt.Errorf("load CA root: %w", err)
		}
		ca.root = roots[0]
	}
	return ca, nil
}

// CertificatePEM returns the CA's certificate.
func (ca *CA) CertificatePEM() []byte { return EncodeCertificates(ca.cert) }

// KeyPEM returns the CA's private key, to be kept in a Secret.
func (ca *CA) KeyPEM() ([]byte, error) { return EncodeKey(ca.key) }

// RootPEM returns what others must trust.
func (ca *CA) RootPEM() []byte { return EncodeCertificates(ca.root) }

// Root returns the root certificate.
func (ca *CA) Root() *x509.Certificate { return ca.root }

// NotAfter returns when the CA's certificate ends.
func (ca *CA) NotAfter() time.Time { return ca.cert.NotAfter }

// Sign answers a certificate request with a certificate for id, for servers and
// clients. What names the request asks for is ignored: who asked is known by
// other means, and gets that identity only. ttl 0 is the default; it is cut to
// MaxWorkloadTTL and to the CA's own end. The chain is leaf first, root last.
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
	chain := []*x509.Certificate{leaf}
	if !ca.cert.Equal(ca.root) {
		chain = append(chain, ca.cert)
		chain = append(chain, ca.chain...)
	}
	return append(chain, ca.root), nil
}
