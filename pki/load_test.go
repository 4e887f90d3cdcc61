package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"
)

// made is a CA certificate of a hierarchy that an operator made elsewhere.
type made struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (m made) pem() []byte { return EncodeCertificates(m.cert) }

// make signs a CA certificate with the key, by itself if above is nil.
func makeCA(t *testing.T, name string, key crypto.Signer, above *made, change func(*x509.Certificate)) made {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if above != nil {
		parent, signer = above.cert, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made{cert, key}
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pkcs8(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return block("PRIVATE KEY", der)
}

// An operator's CA loads with the kinds of keys that operators have, and what it
// signs is trusted by who trusts its roots.
func TestOperatorsKeys(t *testing.T) {
	rs, p384 := rsaKey(t), ecKey(t, elliptic.P384())
	sec1, err := x509.MarshalECPrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		key  crypto.Signer
		text []byte
	}{
		"RSA, PKCS #1":        {rs, block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rs))},
		"RSA, PKCS #8":        {rs, pkcs8(t, rs)},
		"ECDSA, PKCS #8":      {p384, pkcs8(t, p384)},
		"ECDSA, SEC 1":        {p384, block("EC PRIVATE KEY", sec1)},
		"ECDSA, after params": {p384, append(block("EC PARAMETERS", []byte{6, 5, 43, 129, 4, 0, 34}), block("EC PRIVATE KEY", sec1)...)},
	} {
		t.Run(name, func(t *testing.T) {
			root := makeCA(t, "root", ecKey(t, elliptic.P256()), nil, nil)
			ca := makeCA(t, "intermediate", test.key, &root, nil)
			for form, files := range map[string]map[string][]byte{
				"Istio's":        {CAFile: ca.pem(), KeyFile: test.text, ChainFile: append(ca.pem(), root.pem()...), RootFile: root.pem()},
				"cert-manager's": {"tls.crt": ca.pem(), "tls.key": test.text, "ca.crt": root.pem()},
			} {
				loaded, err := LoadCA(files, now)
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				chain, err := loaded.Sign(request(t, reviews), reviews, 0, now)
				if err != nil {
					t.Fatalf("%s: %v", form, err)
				}
				if len(chain) != 3 || !chain[1].Equal(ca.cert) || !chain[2].Equal(root.cert) {
					t.Errorf("%s: chain of %d, want leaf, intermediate and root, each once", form, len(chain))
				}
				verify(t, chain, root.cert)
			}
		})
	}
}

// verify checks a chain as a peer does that trusts one root.
func verify(t *testing.T, chain []*x509.Certificate, root *x509.Certificate) {
	t.Helper()
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now}
	o.Roots.AddCert(root)
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(o); err != nil {
		t.Errorf("not trusted: %v", err)
	}
}

// Two intermediates stand between leaf and root, wherever the operator wrote them.
func TestLongChain(t *testing.T) {
	root := makeCA(t, "root", ecKey(t, elliptic.P256()), nil, nil)
	upper := makeCA(t, "upper", ecKey(t, elliptic.P256()), &root, nil)
	lower := makeCA(t, "lower", ecKey(t, elliptic.P256()), &upper, nil)
	key := pkcs8(t, lower.key)
	for name, files := range map[string]map[string][]byte{
		"in the chain":           {CAFile: lower.pem(), KeyFile: key, ChainFile: upper.pem(), RootFile: root.pem()},
		"behind the certificate": {CAFile: append(lower.pem(), upper.pem()...), KeyFile: key, RootFile: root.pem()},
	} {
		ca, err := LoadCA(files, now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		chain, err := ca.Sign(request(t, reviews), reviews, 0, now)
		if err != nil || len(chain) != 4 {
			t.Fatalf("%s: %d certificates, %v", name, len(chain), err)
		}
		verify(t, chain, root.cert)
	}
}

// While an operator replaces a root, the bundle has both, and both are told.
func TestAllRootsAreKept(t *testing.T) {
	old := makeCA(t, "old", ecKey(t, elliptic.P256()), nil, nil)
	next := makeCA(t, "next", ecKey(t, elliptic.P256()), nil, nil)
	ca, err := LoadCA(map[string][]byte{CAFile: next.pem(), KeyFile: pkcs8(t, next.key), RootFile: append(old.pem(), next.pem()...)}, now)
	if err != nil {
		t.Fatal(err)
	}
	if roots, err := DecodeCertificates(ca.RootPEM()); err != nil || len(roots) != 2 {
		t.Errorf("%d roots, %v, want both", len(roots), err)
	}
	chain, err := ca.Sign(request(t, reviews), reviews, 0, now)
	if err != nil || len(chain) != 3 || !chain[1].Equal(old.cert) || !chain[2].Equal(next.cert) {
		t.Errorf("chain of %d, %v, want the leaf and both roots", len(chain), err)
	}
}

// What cannot be used is named by its file.
func TestBadFiles(t *testing.T) {
	root := makeCA(t, "root", ecKey(t, elliptic.P256()), nil, nil)
	ca := makeCA(t, "ca", ecKey(t, elliptic.P256()), &root, nil)
	other := makeCA(t, "other", ecKey(t, elliptic.P256()), nil, nil)
	leaf := makeCA(t, "leaf", ecKey(t, elliptic.P256()), &root, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	ended := makeCA(t, "ended", ecKey(t, elliptic.P256()), &root, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	good := map[string][]byte{CAFile: ca.pem(), KeyFile: pkcs8(t, ca.key), RootFile: root.pem()}
	with := func(pairs ...any) map[string][]byte {
		files := maps.Clone(good)
		for i := 0; i < len(pairs); i += 2 {
			files[pairs[i].(string)] = pairs[i+1].([]byte)
		}
		return files
	}
	if _, err := LoadCA(good, now); err != nil {
		t.Fatal(err)
	}
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")})
	for name, test := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"no certificate":      {with(CAFile, []byte(nil)), "ca-cert.pem: is missing"},
		"no key":              {with(KeyFile, []byte(nil)), "ca-key.pem: is missing"},
		"nonsense":            {with(KeyFile, []byte("hello")), "ca-key.pem: decode key: no PEM block"},
		"an encrypted key":    {with(KeyFile, encrypted), "ca-key.pem: decode key: it is encrypted"},
		"an Ed25519 key":      {with(KeyFile, pkcs8(t, ed)), "ca-key.pem: decode key: found ed25519.PrivateKey, want an RSA or ECDSA key"},
		"a certificate":       {with(KeyFile, ca.pem()), `ca-key.pem: decode key: found PEM type "CERTIFICATE"`},
		"another's key":       {with(KeyFile, pkcs8(t, other.key)), "ca-key.pem: the key is not the certificate's"},
		"another root":        {with(RootFile, other.pem()), "ca-cert.pem: no way from the certificate to a root of root-cert.pem"},
		"broken root":         {with(RootFile, []byte("x")), "root-cert.pem: decode certificates"},
		"broken chain":        {with(ChainFile, []byte("x")), "cert-chain.pem: decode certificates"},
		"a leaf":              {with(CAFile, leaf.pem(), KeyFile, pkcs8(t, leaf.key)), "ca-cert.pem: the certificate may not sign others"},
		"an ended one":        {with(CAFile, ended.pem(), KeyFile, pkcs8(t, ended.key)), "ca-cert.pem: the certificate ended at"},
		"a TLS Secret's root": {map[string][]byte{"tls.crt": ca.pem(), "tls.key": pkcs8(t, ca.key), "ca.crt": []byte("x")}, "ca.crt: decode certificates"},
	} {
		if _, err := LoadCA(test.files, now); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}
