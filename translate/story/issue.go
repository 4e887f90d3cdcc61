package story

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"sync"
	"time"
)

// A Certificate is somebody's in a story, with its key and the list of what it has revoked.
type Certificate struct {
	Leaf *x509.Certificate
	Key  *ecdsa.PrivateKey
	CRL  []byte // PEM
	key  []byte // DER
}

// issued keeps certificates for as long as the process lives: who reads a story twice, or plays somebody in it, has the same.
var issued struct {
	sync.Mutex
	made map[[2]string]*Certificate // guarded by the mutex
}

// Issue returns the certificate of name that by has signed; one that name has signed itself may also sign others.
func Issue(name, by string) (*Certificate, error) {
	var issuer *Certificate
	if by != name {
		var err error
		if issuer, err = Issue(by, by); err != nil {
			return nil, err
		}
	}
	issued.Lock()
	defer issued.Unlock()
	at := [2]string{name, by}
	if c := issued.made[at]; c != nil {
		return c, nil
	}
	c, err := issue(name, issuer, int64(len(issued.made)+1))
	if err != nil {
		return nil, err
	}
	if issued.made == nil {
		issued.made = map[[2]string]*Certificate{}
	}
	issued.made[at] = c
	return c, nil
}

// issue makes a certificate for an hour; without an issuer it signs itself.
func issue(name string, by *Certificate, serial int64) (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		IsCA: by == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, SubjectKeyId: []byte(name)}
	if by == nil {
		t.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		by = &Certificate{Leaf: t, Key: key}
	}
	c := &Certificate{Key: key}
	der, err := x509.CreateCertificate(rand.Reader, t, by.Leaf, key.Public(), by.Key)
	if err != nil {
		return nil, err
	}
	if c.Leaf, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	if c.key, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, err
	}
	if c.Leaf.IsCA {
		list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, c.Leaf, key)
		if err != nil {
			return nil, err
		}
		c.CRL = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list})
	}
	return c, nil
}

// CertPEM is the certificate as text.
func (c *Certificate) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw})
}

// KeyPEM is its key as text.
func (c *Certificate) KeyPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: c.key})
}
