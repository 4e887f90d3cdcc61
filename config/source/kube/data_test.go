package kube

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/config"
)

// Of a Secret only certificates, their keys and roots come into this process; what
// has none is not there, and what only passwords change of is not new.
func TestOnlyCertificatesOfSecrets(t *testing.T) {
	const secret = `{"kind": "Secret", "apiVersion": "v1", "type": "Opaque", "metadata": {"name": %q, "namespace": "prod", "uid": %[1]q, "resourceVersion": %q}, "data": {%s}}`
	const roots = `{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": %q, "namespace": %q, "resourceVersion": "1"}, "data": {%s}}`
	api := &server{
		groups: map[string][]string{"v1": {"secrets", "configmaps"}},
		lists: map[string]string{
			"v1/secrets":    fmt.Sprintf(secret, "tls", "1", `"tls.crt": "YQ==", "tls.key": "Yg==", "password": "Yw=="`) + "," + fmt.Sprintf(secret, "login", "1", `"password": "Yw=="`),
			"v1/configmaps": fmt.Sprintf(roots, "roots", "prod", `"ca.crt": "a", "service": "", "x": "y"`) + "," + fmt.Sprintf(roots, "lease", "prod", `"x": "y"`) + "," + fmt.Sprintf(roots, "istio", "prod", `"mesh": ""`),
		},
	}
	s := start(t, api)
	keys := func(n *config.Snapshot) (out []string) {
		for _, o := range n.List("Secret") {
			for k := range o.Value.(*corev1.Secret).Data {
				out = append(out, o.Name+"/"+k)
			}
		}
		for _, o := range n.List("ConfigMap") {
			for k := range o.Value.(*corev1.ConfigMap).Data {
				out = append(out, o.Name+"/"+k)
			}
		}
		slices.Sort(out)
		return out
	}
	until(t, s, "certificates and roots alone, and what gateways are patched with", func(n *config.Snapshot) bool {
		return slices.Equal(keys(n), []string{"roots/ca.crt", "roots/service", "tls/tls.crt", "tls/tls.key"})
	})
	secrets := api.events("v1/secrets")
	secrets <- fmt.Sprintf(`{"type": "MODIFIED", "object": %s}`, fmt.Sprintf(secret, "tls", "2", `"tls.crt": "YQ==", "tls.key": "Yg==", "password": "ZA=="`))
	secrets <- fmt.Sprintf(`{"type": "MODIFIED", "object": %s}`, fmt.Sprintf(secret, "login", "3", `"ca.crt": "YQ=="`))
	until(t, s, "roots more", func(n *config.Snapshot) bool { return len(n.List("Secret")) == 2 })
	if o, _ := s.Snapshot().Get("Secret", "prod", "tls"); o.Version != "1" {
		t.Errorf("a password that changes makes a new version: %s", o.Version)
	}
	secrets <- fmt.Sprintf(`{"type": "MODIFIED", "object": %s}`, fmt.Sprintf(secret, "tls", "4", `"password": "ZA=="`))
	until(t, s, "a Secret that has lost its certificate is gone", func(n *config.Snapshot) bool {
		return slices.Equal(keys(n), []string{"login/ca.crt", "roots/ca.crt", "roots/service"})
	})
}
