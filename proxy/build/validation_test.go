package build

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mallamesh/malla/pki"
)

// Whoever says system_root_certs trusts the authorities of the system, and nobody else. (Envoy passes the field over
// and believes everybody.)
func TestSystemRoots(t *testing.T) {
	ca, err := pki.NewCA("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	system := &tlsv3.CertificateValidationContext{SystemRootCerts: &tlsv3.CertificateValidationContext_SystemRootCerts{}}
	r := &reader{env: testEnv(t)}
	if roots, _ := r.validation(system, nil); len(roots) != 1 || !roots[0].Equal(ca.Root()) || len(r.errs) > 0 {
		t.Errorf("found %d roots, want the one of the system: %v", len(roots), r.errs)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if r.validation(system, nil); len(r.errs) == 0 {
		t.Error("nobody says that the system has no authorities")
	}
}
