//go:build linux

package script_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/pki"
	"github.com/mallamesh/malla/test/script/mesh"
)

// A workload of another mesh, with a certificate of that mesh's authority, is let in by who is strict as soon as MeshConfig trusts the
// authority, and for as long.
func TestAnotherMeshIsTrusted(t *testing.T) {
	linux(t)
	partner, err := pki.NewCA("partner.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, chain, err := partner.Serve(pki.ID{TrustDomain: "partner.example", Namespace: "shop", Account: "cart"}, nil, nil, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	quoted := func(text []byte) string {
		out, err := json.Marshal(string(text))
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	settings := func(more string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    accessLogFile: /dev/stdout\n    trustDomainAliases: [partner.example]\n" + more
	}
	app := deployment("web", httpbinImage) + service("web", 80, 80) + "---\n" + settings("") + `
---
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Secret
metadata: {name: partner}
stringData: {cert: ` + quoted(pki.EncodeCertificates(chain[0])) + `, key: ` + quoted(secret) + `}
---
apiVersion: v1
kind: Pod
metadata: {name: partner, labels: {sidecar.istio.io/inject: "false"}}
spec:
  containers: [{name: app, image: curlimages/curl, command: [sleep, infinity], volumeMounts: [{name: secret, mountPath: /partner}]}]
  volumes: [{name: secret, secret: {secretName: partner}}]
`
	m := mesh.Up(t, mesh.Options{Name: "anchors", Paths: []string{dirOf(t, map[string]string{"app.yaml": app})}})
	call := append(slices.Clone(curl), "-sk", "--cert", "/partner/cert", "--key", "/partner/key", "-o", "/dev/null", "-w", "%{http_code}",
		"https://"+m.Field("pod/"+m.Pod("app=web"), ".status.podIP")+":80/status/200")
	says := func(when, want string) {
		t.Helper()
		mesh.Until(t, 30*time.Second, when, func() error {
			if r := m.Exec("partner", "app", call...); strings.TrimSpace(r.Out) != want {
				return fmt.Errorf("%s, want %s", r, want)
			}
			return nil
		})
	}
	says("before anybody trusts it", "000")
	m.Apply(settings("    caCertificates:\n    - pem: " + quoted(partner.RootPEM()) + "\n"))
	says("trusted", "200")
	m.Apply(settings(""))
	says("trusted no more", "000")
}
