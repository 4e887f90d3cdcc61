package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// A PKI holds the certificates of a run: authorities "ca" and "other-ca", and what
// they issued. Each is there as NAME.pem, with its key as NAME-key.pem.
type PKI struct {
	Dir   string
	pairs map[string]tls.Certificate
	roots map[string]*x509.Certificate
}

// leaves are the certificates that every scenario may use: the name, its DNS names,
// its SPIFFE identity, who issued it, how long it is valid.
var leaves = []struct {
	name, issuer, spiffe string
	dns                  []string
	valid                time.Duration
}{
	{"server", "ca", "spiffe://cluster.local/ns/default/sa/server", []string{"server.example", "*.wild.example"}, time.Hour},
	{"second", "ca", "", []string{"second.example"}, time.Hour},
	{"client", "ca", "spiffe://cluster.local/ns/default/sa/client", []string{"client.example"}, time.Hour},
	{"stranger", "other-ca", "spiffe://elsewhere/ns/default/sa/client", []string{"stranger.example"}, time.Hour},
	{"expired", "ca", "", []string{"server.example"}, -time.Minute},
}

// NewPKI makes keys and certificates in a directory.
func NewPKI(dir string) (*PKI, error) {
	p := &PKI{Dir: dir, pairs: map[string]tls.Certificate{}, roots: map[string]*x509.Certificate{}}
	for i, name := range []string{"ca", "other-ca"} {
		t := template(int64(i+1), name, time.Hour)
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
		if err := p.issue(name, t, name); err != nil {
			return nil, err
		}
		p.roots[name] = p.pairs[name].Leaf
	}
	for i, l := range leaves {
		t := template(int64(i+10), l.name, l.valid)
		t.DNSNames = l.dns
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		if l.spiffe != "" {
			id, err := url.Parse(l.spiffe)
			if err != nil {
				return nil, err
			}
			t.URIs = []*url.URL{id}
		}
		if err := p.issue(l.name, t, l.issuer); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func template(serial int64, name string, valid time.Duration) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid),
		KeyUsage: x509.KeyUsageDigitalSignature}
}

// issue makes a key and a certificate; an issuer of the same name signs itself.
func (p *PKI) issue(name string, t *x509.Certificate, issuer string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	parent, signer := t, any(key)
	if issuer != name {
		parent, signer = p.pairs[issuer].Leaf, p.pairs[issuer].PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", name, err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	for file, text := range map[string][]byte{name + ".pem": cert, name + "-key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(p.Dir, file), text, 0o600); err != nil {
			return err
		}
	}
	p.pairs[name], err = tls.X509KeyPair(cert, keyPEM)
	return err
}

// Certificate returns a certificate with its key; an unknown name is an empty one.
func (p *PKI) Certificate(name string) tls.Certificate { return p.pairs[name] }

// Pool returns the roots of one authority.
func (p *PKI) Pool(name string) *x509.CertPool {
	pool := x509.NewCertPool()
	if c := p.roots[name]; c != nil {
		pool.AddCert(c)
	}
	return pool
}
