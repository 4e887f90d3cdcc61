package pki

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"
)

var (
	now     = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	reviews = ID{"cluster.local", "default", "reviews"}
)

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA("cluster.local", now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func request(t *testing.T, id ID) []byte {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := Request(key, id)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func TestWorkloadCertificate(t *testing.T) {
	ca := newCA(t)
	chain, err := ca.Sign(request(t, reviews), reviews, 0, now)
	if err != nil {
		t.Fatal(err)
	}
	leaf := chain[0]
	roots := x509.NewCertPool()
	roots.AddCert(ca.Root())
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("usage %v: %v", usage, err)
		}
	}
	if id, err := IDOf(leaf); err != nil || id != reviews {
		t.Errorf("identity %v, %v, want %v", id, err, reviews)
	}
	if got := leaf.NotAfter.Sub(now); got != DefaultWorkloadTTL {
		t.Errorf("lives %v, want %v", got, DefaultWorkloadTTL)
	}
	if leaf.IsCA || len(chain) != 2 || !chain[1].Equal(ca.Root()) {
		t.Errorf("want a leaf and the root, got %d certificates, leaf signs: %v", len(chain), leaf.IsCA)
	}
}

func TestRequestCannotChooseItsName(t *testing.T) {
	// Whoever calls as reviews and asks for admin's name gets reviews.
	chain, err := newCA(t).Sign(request(t, ID{"cluster.local", "istio-system", "admin"}), reviews, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := IDOf(chain[0]); id != reviews {
		t.Errorf("got the identity %v", id)
	}
}

func TestLifetimeIsBounded(t *testing.T) {
	ca := newCA(t)
	for _, test := range []struct {
		name string
		ttl  time.Duration
		at   time.Time
		want time.Time
	}{
		{"at most 90 days", 1000 * 24 * time.Hour, now, now.Add(MaxWorkloadTTL)},
		{"never beyond the CA", MaxWorkloadTTL, ca.NotAfter().Add(-time.Hour), ca.NotAfter()},
	} {
		chain, err := ca.Sign(request(t, reviews), reviews, test.ttl, test.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := chain[0].NotAfter; !got.Equal(test.want) {
			t.Errorf("%s: ends %v, want %v", test.name, got, test.want)
		}
	}
}

func TestCASurvivesItsPEM(t *testing.T) {
	ca := newCA(t)
	key, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadCA(map[string][]byte{CAFile: ca.CertificatePEM(), KeyFile: key}, now)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.RootPEM(), ca.RootPEM()) {
		t.Error("root changed")
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	ca := newCA(t)
	good := request(t, reviews)
	for name, csr := range map[string][]byte{
		"empty":         nil,
		"no PEM":        []byte("hello"),
		"a certificate": ca.CertificatePEM(),
		"cut":           good[:len(good)/2],
	} {
		if _, err := ca.Sign(csr, reviews, 0, now); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := ca.Sign(good, ID{}, 0, now); err == nil {
		t.Error("signed for nobody")
	}
}

func TestParseID(t *testing.T) {
	for in, want := range map[string]ID{
		"spiffe://cluster.local/ns/default/sa/reviews": reviews,
		"spiffe://cluster.local/ns/default":            {},
		"spiffe://cluster.local/sa/a/ns/b":             {},
		"https://cluster.local/ns/default/sa/reviews":  {},
		"spiffe://cluster.local/ns//sa/reviews":        {},
	} {
		got, err := ParseID(in)
		if got != want || (err == nil) != (want != ID{}) {
			t.Errorf("ParseID(%q) = %v, %v", in, got, err)
		}
	}
	if got := reviews.String(); got != "spiffe://cluster.local/ns/default/sa/reviews" {
		t.Errorf("String() = %q", got)
	}
}

func FuzzPEM(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if certs, err := DecodeCertificates(in); err == nil && len(certs) == 0 {
			t.Fatal("no certificate and no error")
		}
		if key, err := DecodeKey(in); err == nil && key == nil {
			t.Fatal("no key and no error")
		}
		_, _ = decodeRequest(in)
	})
}
