package build

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pairIn writes a certificate and its key, and another key, into a directory.
func pairIn(t *testing.T) (cert, key, other string) {
	t.Helper()
	var keys []*ecdsa.PrivateKey
	dir := t.TempDir()
	put := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for range 2 {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, keys[0].Public(), keys[0])
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for i, k := range keys {
		raw, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, put(fmt.Sprintf("key%d.pem", i), "PRIVATE KEY", raw))
	}
	return put("cert.pem", "CERTIFICATE", der), paths[0], paths[1]
}

// secured reads a bootstrap with a listener that shows a certificate.
func secured(t *testing.T, cert, key string) (*Store, error) {
	t.Helper()
	m, err := ParseBootstrap("b.yaml", fmt.Appendf(nil, `static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters: [{name: t, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: c}}]
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates: [{certificate_chain: {filename: %q}, private_key: {filename: %q}}]
            validation_context: {trusted_ca: {filename: %[1]q}}
  clusters: [{name: c, type: STATIC, connect_timeout: 1s}]`, cert, key), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBootstrap("b.yaml", m)
	if err != nil {
		t.Fatal(err)
	}
	s := NewStore(testEnv(t), nil)
	t.Cleanup(s.Close)
	return s, s.Static(b)
}

// The contexts of what is in force say in which files their certificates are.
func TestContexts(t *testing.T) {
	cert, key, _ := pairIn(t)
	s, err := secured(t, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Contexts(); len(got) != 0 {
		t.Errorf("%d contexts before anything is in force", len(got))
	}
	s.Start()
	got := s.Contexts()
	if len(got) != 1 || len(got[0].Identities) != 1 || got[0].Identities[0].Place() != cert || got[0].Trust.Place() != cert {
		t.Errorf("contexts are %+v, want one with %s", got, cert)
	}
}

// A key that is another certificate's is told with the files of both.
func TestWrongKey(t *testing.T) {
	cert, _, other := pairIn(t)
	_, err := secured(t, cert, other)
	for _, want := range []string{"Listener l: static_resources.listeners[0].filter_chains[0].transport_socket.typed_config.common_tls_context.tls_certificates[0]: ", "private key does not match", cert, other} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
}
