package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mallamesh/malla/pki"
)

// certificates writes what mutual TLS needs into dir, as a mesh would issue it:
// ECDSA P-256, one leaf that is server and client, signed by the root.
func (b *bench) certificates(dir string) {
	if err := writeCertificates(dir, time.Now()); err != nil {
		b.Fatalf("certificates: %v", err)
	}
}

func writeCertificates(dir string, now time.Time) error {
	id := pki.ID{TrustDomain: "cluster.local", Namespace: "bench", Account: "default"}
	ca, err := pki.NewCA(id.TrustDomain, now)
	if err != nil {
		return err
	}
	key, chain, err := ca.Serve(id, []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour, now)
	if err != nil {
		return err
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		return err
	}
	cert := pki.EncodeCertificates(chain[0])
	for name, text := range map[string][]byte{"cert.pem": cert, "key.pem": keyPEM, "both.pem": slices.Concat(cert, keyPEM), "ca.pem": ca.RootPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// clientTLS is a client that presents the certificate of dir and never resumes.
func clientTLS(dir, curve string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	root, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	c := &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: x509.NewCertPool(), ServerName: "localhost", NextProtos: []string{"http/1.1"}}
	c.RootCAs.AppendCertsFromPEM(root)
	switch curve {
	case "":
	case "P-256":
		c.CurvePreferences = []tls.CurveID{tls.CurveP256}
	default:
		return nil, fmt.Errorf("found curve %q, want P-256 or none", curve)
	}
	return c, nil
}
