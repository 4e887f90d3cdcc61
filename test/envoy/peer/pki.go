package peer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/youmark/pkcs8"
	"golang.org/x/crypto/ocsp"
	"software.sslmate.com/src/go-pkcs12"
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
	{"revoked", "ca", "spiffe://cluster.local/ns/default/sa/revoked", []string{"revoked.example"}, time.Hour},
	{"rsa", "ca", "", []string{"server.example"}, time.Hour},
	{"deep", "middle", "spiffe://cluster.local/ns/default/sa/deep", []string{"deep.example"}, time.Hour},
	{"odd", "ca", "", []string{`odd;URI=spiffe://evil,By=x"y`}, time.Hour},
}

// odd is a subject whose names hold what means something where subjects are written.
var odd = pkix.Name{
	CommonName: "a\",URI=spiffe://evil;x\r\nX-Evil: \u00e9 +<>\\=", Organization: []string{" o ", "#p"},
	ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "a@b"}, {Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "x"}},
}

// NewPKI makes keys and certificates in a directory.
func NewPKI(dir string) (*PKI, error) {
	p := &PKI{Dir: dir, pairs: map[string]tls.Certificate{}, roots: map[string]*x509.Certificate{}}
	for i, ca := range [][2]string{{"ca", "ca"}, {"other-ca", "other-ca"}, {"middle", "ca"}} {
		t := template(int64(i+1), ca[0], time.Hour)
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
		if err := p.issue(ca[0], t, ca[1]); err != nil {
			return nil, err
		}
		if ca[0] == ca[1] {
			p.roots[ca[0]] = p.pairs[ca[0]].Leaf
		}
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
		if l.name == "odd" {
			t.Subject = odd
		}
		if l.name == "server" {
			t.EmailAddresses, t.IPAddresses = []string{"server@server.example"}, []net.IP{net.IPv4(10, 1, 2, 3)}
			if err := addOtherName(t, "server-principal"); err != nil {
				return nil, err
			}
		}
		if err := p.issue(l.name, t, l.issuer); err != nil {
			return nil, err
		}
	}
	if err := p.encrypt(); err != nil {
		return nil, err
	}
	if err := p.staple(); err != nil {
		return nil, err
	}
	return p, p.revoke()
}

// revoke writes revocation lists: the one of ca names "revoked", the one of middle nobody.
func (p *PKI) revoke() error {
	var both []byte
	for _, ca := range []string{"ca", "middle"} {
		list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
		if ca == "ca" {
			list.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: p.pairs["revoked"].Leaf.SerialNumber, RevocationTime: time.Now().Add(-time.Minute)}}
		}
		der, err := x509.CreateRevocationList(rand.Reader, list, p.pairs[ca].Leaf, p.pairs[ca].PrivateKey.(crypto.Signer))
		if err != nil {
			return err
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
		both = append(both, text...)
		if err := os.WriteFile(filepath.Join(p.Dir, ca+"-crl.pem"), text, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(p.Dir, "both-crl.pem"), both, 0o600)
}

// addOtherName gives a certificate a principal's name beside the names that it has, which crypto/x509 cannot write.
func addOtherName(t *x509.Certificate, name string) error {
	text, err := asn1.MarshalWithParams(name, "utf8")
	if err != nil {
		return err
	}
	var names []asn1.RawValue
	oid, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3})
	if err != nil {
		return err
	}
	wrapped, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: text})
	if err != nil {
		return err
	}
	names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: append(oid, wrapped...)})
	for _, d := range t.DNSNames {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(d)})
	}
	for _, e := range t.EmailAddresses {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte(e)})
	}
	for _, u := range t.URIs {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u.String())})
	}
	for _, ip := range t.IPAddresses {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 7, Bytes: ip.To4()})
	}
	value, err := asn1.Marshal(names)
	t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value})
	return err
}

func template(serial int64, name string, valid time.Duration) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid),
		KeyUsage: x509.KeyUsageDigitalSignature}
}

// issue makes a key and a certificate; an issuer of the same name signs itself.
func (p *PKI) issue(name string, t *x509.Certificate, issuer string) error {
	key, err := newKey(name)
	if err != nil {
		return err
	}
	parent, signer := t, any(key)
	if issuer != name {
		parent, signer = p.pairs[issuer].Leaf, p.pairs[issuer].PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", name, err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if !t.IsCA && issuer != "ca" && p.roots[issuer] == nil { // the authority between goes along
		cert = append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.pairs[issuer].Leaf.Raw})...)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	for file, text := range map[string][]byte{name + ".pem": cert, name + "-key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(p.Dir, file), text, 0o600); err != nil {
			return err
		}
	}
	p.pairs[name], err = tls.X509KeyPair(cert, keyPEM)
	return err
}

// newKey makes an RSA key for the certificate of that name, else one of P-256.
func newKey(name string) (crypto.Signer, error) {
	if name == "rsa" {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// encrypt writes second's key as PKCS #8 and with its certificate as PKCS #12, under the password "secret".
func (p *PKI) encrypt() error {
	pair := p.pairs["second"]
	der, err := pkcs8.MarshalPrivateKey(pair.PrivateKey, []byte("secret"), nil)
	if err != nil {
		return err
	}
	both, err := pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, nil, "secret")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.Dir, "second.p12"), both, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.Dir, "second-key-encrypted.pem"), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der}), 0o600)
}

// staple writes server.ocsp, by which ca says that the certificate of that name is good.
func (p *PKI) staple() error {
	ca := p.pairs["ca"]
	r, err := ocsp.CreateResponse(ca.Leaf, ca.Leaf, ocsp.Response{Status: ocsp.Good, SerialNumber: p.pairs["server"].Leaf.SerialNumber,
		ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}, ca.PrivateKey.(crypto.Signer))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.Dir, "server.ocsp"), r, 0o600)
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
