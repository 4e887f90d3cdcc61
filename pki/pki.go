// Package pki makes and reads the keys and certificates of a mesh.
//
// Workload certificates are SPIFFE X.509-SVIDs (one URI SAN, spiffe://<trust
// domain>/ns/<namespace>/sa/<account>) on ECDSA P-256 keys; a [CA] signs them,
// whose own key may be RSA, since operators bring what they have.
// The clock is the caller's, so expiry and rotation can be tested. Nothing here
// touches files or the network, and no function logs or returns a key except in
// the PEM that its name promises.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

const (
	typeCertificate = "CERTIFICATE"
	typeRequest     = "CERTIFICATE REQUEST"
	typeKey         = "PRIVATE KEY"     // PKCS #8
	typeRSAKey      = "RSA PRIVATE KEY" // PKCS #1, as Istio's own CA writes
	typeECKey       = "EC PRIVATE KEY"  // SEC 1, as openssl writes
)

// NewKey returns a new ECDSA P-256 key.
func NewKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// EncodeKey returns the key as PKCS #8 in PEM.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: typeKey, Bytes: der}), nil
}

// DecodeKey reads an RSA or ECDSA key from PEM: PKCS #8, PKCS #1 or SEC 1.
// Blocks before the key are passed over, as openssl writes the parameters of a
// curve there.
func DecodeKey(in []byte) (crypto.Signer, error) {
	for found := ""; ; {
		var block *pem.Block
		block, in = pem.Decode(in)
		switch {
		case block == nil && found == "":
			return nil, errors.New("decode key: no PEM block")
		case block == nil:
			return nil, fmt.Errorf("decode key: found PEM type %q, want %q, %q or %q, not encrypted", found, typeKey, typeRSAKey, typeECKey)
		case block.Headers["DEK-Info"] != "":
			return nil, errors.New("decode key: it is encrypted, want it plain")
		}
		found = block.Type
		var key any
		var err error
		switch block.Type {
		case typeECKey:
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case typeRSAKey:
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case typeKey:
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("decode key: %w", err)
		}
		switch key := key.(type) {
		case *ecdsa.PrivateKey:
			return key, nil
		case *rsa.PrivateKey:
			return key, nil
		}
		return nil, fmt.Errorf("decode key: found %T, want an RSA or ECDSA key", key)
	}
}

// EncodeCertificates returns the certificates in PEM, in order.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: typeCertificate, Bytes: c.Raw})...)
	}
	return out
}

// DecodeCertificates reads every certificate of a PEM file, at least one.
func DecodeCertificates(in []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, in = pem.Decode(in)
		if block == nil {
			break
		}
		if block.Type != typeCertificate {
			return nil, fmt.Errorf("decode certificates: found PEM type %q, want %q", block.Type, typeCertificate)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("decode certificates: %w", err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("decode certificates: no PEM block")
	}
	return certs, nil
}

// Request returns a certificate signing request in PEM for the workload id.
func Request(key *ecdsa.PrivateKey, id ID) ([]byte, error) {
	template := &x509.CertificateRequest{SignatureAlgorithm: x509.ECDSAWithSHA256}
	if !id.IsZero() {
		template.URIs = append(template.URIs, id.URL())
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: typeRequest, Bytes: der}), nil
}

// decodeRequest reads a request and checks that its sender holds the key.
func decodeRequest(in []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(in)
	if block == nil || block.Type != typeRequest {
		return nil, fmt.Errorf("decode certificate request: no PEM block of type %q", typeRequest)
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("decode certificate request: %w", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check certificate request: %w", err)
	}
	return req, nil
}

// serial returns 127 random bits, positive and never zero (RFC 5280, section 4.1.2.2).
func serial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return n.Add(n, big.NewInt(1)), nil
}
