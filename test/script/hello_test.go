//go:build linux

package script_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// copyHello copies somebody's application, as it is, into a directory where
// tests may save files.
func copyHello(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"01-helloapp.yaml", "02-nginx-proxy.yaml", "03-ingress.yaml"} {
		write(t, filepath.Join(dir, name), sample(t, "hello", name))
	}
	return dir
}

var helloBody = regexp.MustCompile(`^Hello, world!\nVersion: 1\.0\.0\nHostname: hello-(v[123])-[a-z0-9]+-[a-z0-9]{5}\n$`)

type hello struct {
	*mesh.Mesh
	dir string
}

// TestHello is three versions of a greeter behind nginx, with no file edited.
func TestHello(t *testing.T) {
	linux(t)
	dir := copyHello(t)
	m := mesh.Up(t, mesh.Options{Name: "hello", Paths: []string{dir}, Flags: []string{"--inject"}})
	run := func(name string, f func(hello, *testing.T)) {
		t.Run(name, func(t *testing.T) { f(hello{m.In(t), dir}, t) })
	}
	run("four pods of two containers", hello.pods)
	run("versions take turns", hello.thirds)
	run("what no rule names is 404 without a body", hello.noRoute)
	run("a saved file is an apply: the header decides", hello.headerRule)
	run("one in ten is aborted", hello.abort)
	run("a removed file is a delete", hello.removed)
	run("a bad file leaves what was good", hello.badFile)
	run("an object belongs to its last writer", hello.lastWriter)
}

func (h hello) pods(t *testing.T) {
	out := h.Must("get", "pods")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 5 {
		t.Fatalf("want four pods:\n%s", out)
	}
	row := regexp.MustCompile(`^(hello-v[123]|nginx)-[a-z0-9]+-[a-z0-9]{5} +2/2 +Running +0 +\d+s *$`)
	for _, l := range lines[1:] {
		if !row.MatchString(l) {
			t.Errorf("row %q", l)
		}
	}
}

// versions asks n times, on a new connection each if fresh, and counts who
// answered.
func (h hello) versions(n int, fresh bool, header ...string) map[string]int {
	return mesh.Count(n, 4, func(c *http.Client) (string, error) {
		if fresh {
			defer c.CloseIdleConnections()
		}
		a, err := mesh.Get(c, h.URL("/hello"), header...)
		if err != nil {
			return "", err
		}
		if a.Status == http.StatusOK {
			if m := helloBody.FindStringSubmatch(a.Body); m != nil {
				return m[1], nil
			}
		}
		return fmt.Sprintf("%d %s", a.Status, a.Body), nil
	})
}

// fits fails the test unless counts agree with weights.
func fits(t *testing.T, counts map[string]int, weights map[string]float64) {
	t.Helper()
	if err := mesh.Fits(counts, weights); err != nil {
		t.Error(err)
	}
}

func (h hello) thirds(t *testing.T) {
	fits(t, h.versions(600, false), map[string]float64{"v1": 1, "v2": 1, "v3": 1})
}

func (h hello) noRoute(t *testing.T) {
	c := mesh.Client(3 * time.Second)
	for _, path := range []string{"/other", "/"} {
		a, err := mesh.Get(c, h.URL(path))
		if err != nil || a.Status != 404 || a.Body != "" || a.Header.Get("server") != "istio-envoy" {
			t.Errorf("GET %s: %+v, %v, want 404, no body, server istio-envoy", path, a, err)
		}
	}
	h.LogLine("istio=ingressgateway", "istio-proxy", []string{`"GET /other HTTP/1.1" 404 NR route_not_found`}, "-n", "istio-system")
}

func (h hello) headerRule(t *testing.T) {
	load := mesh.Steady(h.URL("/hello"), 100, mesh.OK)
	write(t, filepath.Join(h.dir, "04-rule.yaml"), sample(t, "hello", "rules", "version-header.yaml"))
	if err := mesh.Within(time.Second, func() error {
		if got := h.versions(20, false, "version-app: v1"); got["v1"] != 20 {
			return fmt.Errorf("%v", got)
		}
		return nil
	}); err != nil {
		t.Errorf("v1 for who asks for it: %v", err)
	}
	fits(t, h.versions(200, false, "version-app: v1"), map[string]float64{"v1": 1})
	fits(t, h.versions(600, false), map[string]float64{"v1": 33, "v2": 33, "v3": 34})
	if got := h.versions(60, false, "version-app: v2"); got["v1"] == 0 || got["v2"] == 0 || got["v3"] == 0 || len(got) != 3 {
		t.Errorf("the value v2 falls to the second rule: %v", got)
	}
	if err := load.Stop(); err != nil {
		t.Errorf("during the change: %v", err)
	}
}

func (h hello) abort(t *testing.T) {
	write(t, filepath.Join(h.dir, "04-rule.yaml"), sample(t, "hello", "rules", "abort-10.yaml"))
	const aborted = "404 fault filter abort"
	mesh.Until(t, 5*time.Second, "the first abort", func() error {
		if got := h.versions(40, false); got[aborted] == 0 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	got := h.versions(1000, true)
	fits(t, got, map[string]float64{aborted: 10, "v1": 30, "v2": 30, "v3": 30})
	h.LogLine("app=nginx", "istio-proxy", []string{" 404 FI fault_filter_abort "})
	for _, l := range h.Logs("app=hello", "istio-proxy") {
		if strings.Contains(l, " FI ") {
			t.Errorf("the abort has reached hello: %s", l)
		}
	}
}

func (h hello) removed(t *testing.T) {
	if err := os.Remove(filepath.Join(h.dir, "04-rule.yaml")); err != nil {
		t.Fatal(err)
	}
	mesh.Until(t, 5*time.Second, "the rule gone", func() error {
		if r := h.Run("get", "virtualservice", "hello-svc"); r.Code == 0 {
			return fmt.Errorf("%s", r)
		}
		if got := h.versions(60, false); got["v1"]+got["v2"]+got["v3"] != 60 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

func (h hello) badFile(t *testing.T) {
	path := filepath.Join(h.dir, "03-ingress.yaml")
	good := sample(t, "hello", "03-ingress.yaml")
	load := mesh.Steady(h.URL("/hello"), 50, mesh.OK)
	// One document is wrong; another of the same file is right, and new.
	bad := strings.Replace(good, "- uri: {prefix: /hello}", "- uri: {prefx: /hello}", 1) +
		"\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: beside}\ndata: {a: b}\n"
	write(t, path, bad)
	mesh.Until(t, 5*time.Second, "the other document", func() error {
		if r := h.Run("get", "configmap", "beside"); r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	line := 1 + strings.Count(bad[:strings.Index(bad, "prefx")], "\n")
	mesh.Until(t, 5*time.Second, "the error in malla get", func() error {
		r := h.Run("get", "virtualservices")
		text := r.Out + r.Err
		for _, want := range []string{fmt.Sprintf("03-ingress.yaml:%d", line), "spec.http[0].match[0].uri", "prefx"} {
			if !strings.Contains(text, want) {
				return fmt.Errorf("lacks %q: %s", want, text)
			}
		}
		return nil
	})
	mesh.Until(t, 3*time.Second, "the error in what up prints", func() error {
		if text := h.Log(); !strings.Contains(text, "03-ingress.yaml") || !strings.Contains(text, "prefx") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	if err := mesh.Hold(500*time.Millisecond, func() error {
		if n := load.Failed(); n > 0 {
			return fmt.Errorf("%d requests failed", n)
		}
		return nil
	}); err != nil {
		t.Errorf("the last good version is not in force: %v", err)
	}
	write(t, path, good)
	mesh.Until(t, 5*time.Second, "the error gone", func() error {
		if r := h.Run("get", "virtualservices"); strings.Contains(r.Out+r.Err, "prefx") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	mesh.Until(t, 5*time.Second, "the object that the file no longer has gone", func() error {
		if r := h.Run("get", "configmap", "beside"); r.Code == 0 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if err := load.Stop(); err != nil {
		t.Error(err)
	}
}

func (h hello) lastWriter(t *testing.T) {
	const config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\ndata: {from: %s}\n"
	path := filepath.Join(h.dir, "05-shared.yaml")
	from := func(want string) func() error {
		return func() error {
			r := h.Run("get", "configmap", "shared", "-o", "jsonpath={.data.from}")
			if r.Out != want {
				return fmt.Errorf("%s, want %q", r, want)
			}
			return nil
		}
	}
	write(t, path, fmt.Sprintf(config, "file"))
	mesh.Until(t, 5*time.Second, "the file's object", from("file"))
	h.Apply(fmt.Sprintf(config, "hand"))
	mesh.Until(t, 5*time.Second, "the hand's object", from("hand"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := mesh.Hold(time.Second, from("hand")); err != nil {
		t.Errorf("the file does not own it any more: %v", err)
	}
}
