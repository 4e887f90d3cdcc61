//go:build linux

package script_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

const brokenRules = `
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: webz}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: younger}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: web}}]}]
`

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {from: %s}\n---\n"

// What is wrong with an object, or with a document that never was one, is seen where
// people look for it; it goes with its cause. No pod is needed for that.
func TestWhatIsWrongIsSeen(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{
		"rules.yaml": brokenRules, "web.yaml": service("web", 80, 80)[len("\n---\n"):],
		"gizmo.yaml": "apiVersion: example.com/v1\nkind: Gizmo\nmetadata: {name: x}\n",
		"torn.yaml":  "kind: [x\n",
		"typo.yaml":  "apiVersion: v1\nkind: Service\nmetadata: {name: typo}\nspec: {selectr: {app: x}, ports: [{port: 80}]}\n",
	})
	m := mesh.New(t, mesh.Options{Name: "wrong"})
	m.Start(mesh.Options{Paths: []string{dir}})
	within := func(limit time.Duration, what string, good func() error) {
		t.Helper()
		mesh.Until(t, limit, what, good)
	}
	shows := func(word string, wanted bool, args ...string) func() error {
		return func() error {
			if r := m.Run(args...); strings.Contains(r.Out, word) != wanted {
				return fmt.Errorf("%q in it is to be %v: %s", word, wanted, r)
			}
			return nil
		}
	}
	const missing = "no service has the host webz.default.svc.cluster.local"

	t.Run("a finding is on the object", func(t *testing.T) {
		within(10*time.Second, "STATUS", shows(missing, true, "get", "vs", "web"))
		words(t, "describe", m.Must("describe", "vs", "web"), missing, "Reconciled", "ReferencedResourceNotFound", "IST0101", "spec.http[0].route[0].destination.host")
		words(t, "-o yaml", m.Must("get", "vs", "web", "-o", "yaml"), "validationMessages:", "code: IST0101", "level: WARNING")
		within(10*time.Second, "the younger rules", shows("has the rules of VirtualService default/web", true, "get", "vs", "younger"))
	})
	t.Run("it is written once, and restarts of the control plane do not touch it", func(t *testing.T) {
		version := m.Field("vs/web", ".metadata.resourceVersion")
		for range 2 {
			within(5*time.Second, "another restart, of which kubectl allows one a second", func() error {
				if r := m.Run("rollout", "restart", "deployment/istiod", "-n", "istio-system"); r.Code != 0 {
					return fmt.Errorf("%s", r)
				}
				return nil
			})
			m.Rollout("istiod", "-n", "istio-system")
		}
		write(t, filepath.Join(dir, "more.yaml"), fmt.Sprintf(configMap, "more", "x"))
		within(5*time.Second, "something else", shows("more", true, "get", "cm"))
		if now := m.Field("vs/web", ".metadata.resourceVersion"); now != version {
			t.Errorf("version %s, before the restarts %s", now, version)
		}
	})
	t.Run("it goes with its cause", func(t *testing.T) {
		write(t, filepath.Join(dir, "webz.yaml"), service("webz", 80, 80)[len("\n---\n"):])
		within(5*time.Second, "STATUS", shows(missing, false, "get", "vs", "web"))
		if got := m.Field("vs/web", ".status"); got != "" {
			t.Errorf("nothing is wrong, but status is %s", got)
		}
	})
	t.Run("what was refused and never was an object", func(t *testing.T) {
		words(t, "get svc", m.Must("get", "svc"), "typo", "refused: ", "typo.yaml:4: spec.selectr")
		r := m.Run("get", "all")
		words(t, "get all", r.Out+r.Err, "gizmo.yaml:2: ", "Gizmo", "torn.yaml:")
		if r := m.Run("describe", "svc", "typo"); r.Code == 0 || !strings.Contains(r.Err, "typo.yaml:4: spec.selectr") {
			t.Errorf("describe: %s", r)
		}
		if r := m.Stop(); r.Code != 0 {
			t.Fatalf("stop: %s", r)
		}
		m.Start(mesh.Options{Paths: []string{dir}})
		words(t, "after a restart of up", m.Must("get", "refusals"), "gizmo.yaml:2: ", "torn.yaml:", "typo.yaml:4: ")
		for _, name := range []string{"gizmo.yaml", "torn.yaml"} {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		write(t, filepath.Join(dir, "typo.yaml"), service("typo", 80, 80)[len("\n---\n"):])
		within(5*time.Second, "no refusals", shows("refused", false, "get", "refusals"))
		if r := m.Run("get", "svc"); strings.Contains(r.Out+r.Err, "refused") || !strings.Contains(r.Out, "typo") {
			t.Errorf("mended: %s", r)
		}
	})
	t.Run("an object belongs to its last writer", func(t *testing.T) {
		from := func(want string) func() error {
			return func() error {
				if r := m.Run("get", "cm", "own", "-o", "jsonpath={.data.from}"); r.Out != want {
					return fmt.Errorf("from %s, want %s", r, want)
				}
				return nil
			}
		}
		a, b := filepath.Join(dir, "own-a.yaml"), filepath.Join(dir, "own-b.yaml")
		write(t, a, fmt.Sprintf(configMap, "own", "a"))
		within(5*time.Second, "the first file", from("a"))
		write(t, b, fmt.Sprintf(configMap, "own", "b"))
		within(5*time.Second, "the second file is told", shows("own-a.yaml:1", true, "get", "cm", "own"))
		if err := from("a")(); err != nil {
			t.Error(err)
		}
		if err := os.Remove(a); err != nil {
			t.Fatal(err)
		}
		within(5*time.Second, "the second file's", from("b"))
		m.Apply(fmt.Sprintf(configMap, "own", "hand"))
		if err := os.Remove(b); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "after.yaml"), fmt.Sprintf(configMap, "after", "x"))
		within(5*time.Second, "the removal was seen", shows("after", true, "get", "cm"))
		if err := from("hand")(); err != nil {
			t.Error(err)
		}
	})
}
