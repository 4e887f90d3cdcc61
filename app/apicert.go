//go:build linux

package app

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mallamesh/malla/pki"
)

// apiCertificate returns the API server's certificate and the root (PEM) that
// signed it. The root is made at the first start and kept, so that a kubeconfig
// stays good; the certificate is made anew at every start.
func (d meshDir) apiCertificate(inside []netip.Addr) (*tls.Certificate, []byte, error) {
	authority, err := d.apiAuthority()
	if err != nil {
		return nil, nil, err
	}
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, a := range inside {
		ips = append(ips, a.AsSlice())
	}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	key, chain, err := authority.Serve(pki.ID{}, names, ips, pki.MaxWorkloadTTL, time.Now())
	if err != nil {
		return nil, nil, err
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, authority.RootPEM(), nil
}

func (d meshDir) apiAuthority() (*pki.CA, error) {
	path := d.path(fileAuthority)
	text, err := os.ReadFile(path)
	if err == nil {
		cert, key := splitPEM(text)
		if ca, err := pki.LoadCA(map[string][]byte{pki.CAFile: cert, pki.KeyFile: key}, time.Now()); err == nil && time.Until(ca.NotAfter()) > pki.MaxWorkloadTTL {
			return ca, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ca, err := pki.NewCA("malla.local", time.Now())
	if err != nil {
		return nil, err
	}
	key, err := ca.KeyPEM()
	if err != nil {
		return nil, err
	}
	return ca, writeFile(path, append(ca.CertificatePEM(), key...))
}

// splitPEM parts certificates from the key behind them.
func splitPEM(text []byte) (certs, key []byte) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, pem.EncodeToMemory(block)...)
		} else {
			key = append(key, pem.EncodeToMemory(block)...)
		}
	}
	return certs, key
}
