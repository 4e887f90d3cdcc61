package build

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/youmark/pkcs8"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/mallamesh/malla/base/field"
)

// certificate reads a certificate with its key: in PEM, of which the key may be encrypted (PKCS #8), or both in one
// encrypted file (PKCS #12).
func (r *reader) certificate(c *tlsv3.TlsCertificate, at *field.Path) *tls.Certificate {
	password := bytes.TrimRight(r.data(c.GetPassword(), at.Child("password")), "\r\n")
	var pair tls.Certificate
	var err error
	if c.GetPkcs12() != nil {
		if c.GetCertificateChain() != nil || c.GetPrivateKey() != nil {
			r.errs.Addf(at.Child("pkcs12"), "is set beside certificate_chain or private_key, want one or the other")
		}
		at = at.Child("pkcs12")
		pair, err = fromPKCS12(r.data(c.GetPkcs12(), at), password)
	} else {
		chain, key := r.data(c.GetCertificateChain(), at.Child("certificate_chain")), r.data(c.GetPrivateKey(), at.Child("private_key"))
		if c.GetPassword() != nil {
			if key, err = decrypted(key, password); err != nil {
				r.errs.Addf(at.Child("private_key"), "%v", err)
				return nil
			}
		}
		pair, err = tls.X509KeyPair(chain, bytes.TrimSpace(key))
	}
	if err != nil {
		r.errs.Addf(at, "%s%s", strings.TrimPrefix(err.Error(), "tls: "), filesOf(c))
		return nil
	}
	if c.GetOcspStaple() != nil {
		pair.OCSPStaple = r.data(c.GetOcspStaple(), at.Child("ocsp_staple"))
	}
	return &pair
}

// filesOf says in which files a certificate and its key are.
func filesOf(c *tlsv3.TlsCertificate) string {
	switch {
	case c.GetPkcs12().GetFilename() != "":
		return " (" + c.GetPkcs12().GetFilename() + ")"
	case c.GetPkcs12() != nil || c.GetCertificateChain().GetFilename() == "" && c.GetPrivateKey().GetFilename() == "":
		return ""
	}
	return fmt.Sprintf(" (certificate %s, key %s)", placeOf(c.GetCertificateChain()), placeOf(c.GetPrivateKey()))
}

// fileOf is the file that a certificate stands in, if it does in one.
func fileOf(c *tlsv3.TlsCertificate) string {
	return cmp.Or(c.GetPkcs12(), c.GetCertificateChain()).GetFilename()
}

// placeOf says where data comes from, in Envoy's words.
func placeOf(d *corev3.DataSource) string { return cmp.Or(d.GetFilename(), "<inline>") }

// decrypted returns a key in plain PEM; one that is not encrypted stays as it is.
func decrypted(text, password []byte) ([]byte, error) {
	block, _ := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("found no PEM")
	case block.Headers["DEK-Info"] != "":
		return nil, errors.New("is encrypted as OpenSSL did before PKCS #8, which anybody can guess fast; want ENCRYPTED PRIVATE KEY")
	case block.Type != "ENCRYPTED PRIVATE KEY":
		return text, nil
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, password)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

func fromPKCS12(data, password []byte) (pair tls.Certificate, err error) {
	key, leaf, authorities, err := pkcs12.DecodeChain(data, string(password))
	if err != nil {
		return pair, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return pair, fmt.Errorf("found a key of type %T, want one that signs", key)
	}
	if public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
		return pair, errors.New("the key is not the certificate's")
	}
	pair = tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for _, c := range authorities {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair, nil
}
