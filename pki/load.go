package pki

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The keys of a Secret that holds a CA, as Istio names them. A Secret of type
// kubernetes.io/tls, which cert-manager writes, does as well.
const (
	CAFile    = "ca-cert.pem"
	KeyFile   = "ca-key.pem"
	ChainFile = "cert-chain.pem"
	RootFile  = "root-cert.pem"
)

// AnchorsFile is the key beside the root that workloads are given, with certificates of further authorities (MeshConfig's caCertificates).
// Whom these vouch for may be a workload, never the control plane, and so they stand apart.
const AnchorsFile = "trust-anchors.pem"

// minRSABits is the shortest RSA key with which crypto/rsa signs.
const minRSABits = 1024

// LoadCA reads a CA from its files: its certificate and key, what stands between
// it and the roots (may be missing), and the roots (may be missing: then the
// certificate is the root). All of it must fit together and be good at the time
// now. An error begins with the name of the file that is to blame.
func LoadCA(files map[string][]byte, now time.Time) (*CA, error) {
	name := func(own, tls string) string {
		if len(files[CAFile]) == 0 && len(files["tls.crt"]) > 0 {
			return tls
		}
		return own
	}
	caFile, keyFile, rootFile := name(CAFile, "tls.crt"), name(KeyFile, "tls.key"), name(RootFile, "ca.crt")
	certs, err := read(files, caFile)
	if err != nil {
		return nil, err
	}
	key, err := caKey(files[keyFile], certs[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	ca := &CA{cert: certs[0], key: key, roots: certs[:1]}
	if len(files[rootFile]) > 0 {
		if ca.roots, err = read(files, rootFile); err != nil {
			return nil, err
		}
		ca.roots = unique(ca.roots)
	}
	between := certs
	if len(files[ChainFile]) > 0 {
		chain, err := read(files, ChainFile)
		if err != nil {
			return nil, err
		}
		between = slices.Concat(certs, chain)
	}
	ca.above = ca.intermediates(between)
	if err := ca.check(caFile, rootFile, now); err != nil {
		return nil, err
	}
	return ca, nil
}

func read(files map[string][]byte, name string) ([]*x509.Certificate, error) {
	if len(files[name]) == 0 {
		return nil, fmt.Errorf("%s: is missing or empty", name)
	}
	certs, err := DecodeCertificates(files[name])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return certs, nil
}

// caKey reads the key of a certificate.
func caKey(in []byte, cert *x509.Certificate) (crypto.Signer, error) {
	if len(in) == 0 {
		return nil, errors.New("is missing or empty")
	}
	key, err := DecodeKey(in)
	if err != nil {
		return nil, err
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(cert.PublicKey) {
		return nil, errors.New("the key is not the certificate's")
	}
	if r, ok := key.(*rsa.PrivateKey); ok && r.N.BitLen() < minRSABits {
		return nil, fmt.Errorf("the RSA key has %d bits, want at least %d", r.N.BitLen(), minRSABits)
	}
	return key, nil
}

// intermediates picks from certificates those that peers need between a leaf and
// a root. Istio's own recipe writes the CA itself and the root into the chain too.
func (ca *CA) intermediates(certs []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range unique(certs) {
		if !contains(ca.roots, c) && !SelfSigned(c) {
			out = append(out, c)
		}
	}
	return out
}

func unique(certs []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range certs {
		if !contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

func contains(list []*x509.Certificate, c *x509.Certificate) bool {
	return slices.ContainsFunc(list, c.Equal)
}

// SelfSigned reports whether a certificate is a root in form: it may sign, and
// vouches for itself.
func SelfSigned(c *x509.Certificate) bool {
	return c.IsCA && c.CheckSignatureFrom(c) == nil
}

// check makes sure that what the CA signs will be trusted by who trusts its roots.
func (ca *CA) check(caFile, rootFile string, now time.Time) error {
	switch c := ca.cert; {
	case !c.IsCA:
		return fmt.Errorf("%s: the certificate may not sign others (basic constraints)", caFile)
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("%s: the certificate may not sign others (key usage)", caFile)
	case !now.Before(c.NotAfter):
		return fmt.Errorf("%s: the certificate ended at %s", caFile, c.NotAfter.UTC().Format(time.RFC3339))
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range ca.roots {
		o.Roots.AddCert(c)
	}
	for _, c := range ca.above {
		o.Intermediates.AddCert(c)
	}
	if _, err := ca.cert.Verify(o); err != nil {
		return fmt.Errorf("%s: no way from the certificate to a root of %s, with what %s adds: %w", caFile, rootFile, ChainFile, err)
	}
	return nil
}
