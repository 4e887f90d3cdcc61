package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// stapled is a certificate with an OCSP response that may be shown until then.
func stapled(t *testing.T, serial int64, until time.Time) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	staple, err := ocsp.CreateResponse(leaf, leaf, ocsp.Response{SerialNumber: leaf.SerialNumber, Status: ocsp.Good, ThisUpdate: until.Add(-24 * time.Hour), NextUpdate: until}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf, OCSPStaple: staple}
}

// While a certificate is replaced, no handshake judges the response of one by the time of the other.
func TestStapleGoesWithItsCertificate(t *testing.T) {
	old, fresh := stapled(t, 1, time.Now().Add(-time.Hour)), stapled(t, 2, time.Now().Add(time.Hour))
	id, server := NewIdentity("c"), &Server{}
	if err := id.Set(old); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for range 3000 {
			_ = id.Set(fresh)
			_ = id.Set(old)
		}
	})
	over := make(chan struct{})
	go func() { done.Wait(); close(over) }()
	for {
		c, err := server.stapled(id)
		if err != nil {
			t.Fatal(err)
		}
		if has, want := len(c.OCSPStaple) > 0, c.Leaf == fresh.Leaf; has != want {
			t.Fatalf("certificate %v was shown with a response: %v, want %v", c.Leaf.SerialNumber, has, want)
		}
		select {
		case <-over:
			return
		default:
		}
	}
}
