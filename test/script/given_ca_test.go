//go:build linux

package script_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/pki"
	"github.com/mallamesh/malla/test/script/mesh"
)

// A mesh whose files bring Secret cacerts begins with that CA: there is no moment
// in which another root is trusted.
func TestTheFirstFilesBringTheCA(t *testing.T) {
	linux(t)
	ca, err := pki.NewCA("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: cacerts, namespace: istio-system}\ndata:\n"
	for name, text := range map[string][]byte{
		pki.CAFile: ca.CertificatePEM(), pki.KeyFile: key, pki.ChainFile: ca.CertificatePEM(), pki.RootFile: ca.RootPEM(),
	} {
		secret += fmt.Sprintf("  %s: %s\n", name, base64.StdEncoding.EncodeToString(text))
	}
	before := "" // so many documents that a control plane that does not wait has its CA before the last is read
	for i := range 300 {
		before += fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: before-%d}\ndata: {pad: %q}\n---\n", i, strings.Repeat("x", 2000))
	}
	m := mesh.Up(t, mesh.Options{Name: "ca", Paths: []string{dirOf(t, map[string]string{"ca.yaml": before + secret})}})
	if got := m.Must("get", "configmap", "istio-ca-root-cert", "-o", `jsonpath={.data.root-cert\.pem}`); got != string(ca.RootPEM()) {
		t.Errorf("the root that pods are given:\n%s\nwant:\n%s", got, ca.RootPEM())
	}
	if r := m.Run("get", "secret", "istio-ca-secret", "-n", "istio-system"); r.Code == 0 {
		t.Error("a CA of malla's own was made as well")
	}
}
