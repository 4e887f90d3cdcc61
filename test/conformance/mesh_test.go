package conformance

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	update = flag.Bool("update", false, "write docs/conformance.md")
	only   = flag.String("only", "", "run this test of the suite only")
	keep   = flag.Duration("limit", 40*time.Minute, "until the suite is given up")
)

const page = "../../docs/conformance.md"

// before is what the mesh begins with: gateways that are reached from inside.
const before = `
apiVersion: v1
kind: ConfigMap
metadata: {name: gateways, namespace: istio-system, labels: {gateway.istio.io/defaults-for-class: malla}}
data: {service: "spec: {type: ClusterIP}"}
`

// TestMesh starts a mesh and runs the suite in it. What passes may not become less.
func TestMesh(t *testing.T) {
	if os.Getenv("MALLA_CONFORMANCE") == "" {
		t.Skip("takes long; set MALLA_CONFORMANCE=1")
	}
	dir, err := os.MkdirTemp("", "gw") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := &runner{t: t, dir: dir, bin: os.Getenv("MALLA_BIN")}
	if m.bin == "" {
		m.bin = filepath.Join(dir, "malla")
		m.must("go", "build", "-C", "../..", "-o", m.bin, "./cmd/malla")
	}
	m.must("go", "test", "-c", "-o", filepath.Join(dir, "suite"), ".")
	m.must("go", "build", "-o", filepath.Join(dir, "client"), "./echo") // what the tests type in its container
	m.must("go", "build", "-o", filepath.Join(dir, "echo-basic"), "sigs.k8s.io/gateway-api/conformance/echo-basic")
	if err := os.MkdirAll(filepath.Join(dir, "manifests"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifests", "before.yaml"), []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.malla("stop") })
	if out, err := m.malla("up", "--detach",
		"--image", "registry.k8s.io/gateway-api/echo-basic="+filepath.Join(dir, "echo-basic"),
		"--image", "registry.k8s.io/gateway-api/echo-advanced="+filepath.Join(dir, "client"),
		"--image", "registry.k8s.io/coredns/coredns=sh -c 'sleep 100000'",
		"--image", "suite="+filepath.Join(dir, "suite"),
		filepath.Join(dir, "manifests")); err != nil {
		t.Fatalf("up: %v\n%s", err, out)
	}
	m.start()
	text := m.wait(*keep)
	if err := os.WriteFile(filepath.Join(os.TempDir(), "malla-conformance.log"), []byte(text), 0o644); err != nil {
		t.Error(err)
	}
	found := results(text)
	if len(found) == 0 {
		t.Fatalf("the suite ran no test:\n%s", text[max(0, len(text)-4000):])
	}
	want := written(found)
	if *only != "" {
		t.Log(want)
		return
	}
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range found {
		if r.verdict == "FAIL" && strings.Contains(string(have), "| "+r.name+" | passed") {
			t.Errorf("%s passed before:\n%s", r.name, r.why)
		}
	}
}

// A runner runs commands for a test.
type runner struct {
	t        *testing.T
	dir, bin string
}

func (m *runner) must(name string, args ...string) {
	m.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (m *runner) malla(args ...string) (string, error) {
	c := exec.Command(m.bin, append([]string{"--mesh", "conformance"}, args...)...)
	c.Dir = m.dir
	c.Env = append(os.Environ(), "MALLA_HOME="+filepath.Join(m.dir, "home"), "PATH="+m.dir+":"+os.Getenv("PATH")) // containers have this PATH
	var both bytes.Buffer
	c.Stdout, c.Stderr = &both, &both
	err := c.Run()
	return both.String(), err
}

// start makes the pod that the suite runs in.
func (m *runner) start() {
	m.t.Helper()
	config, err := m.malla("kubeconfig")
	token := regexp.MustCompile(`(?m)^\s*token: (\S+)`).FindStringSubmatch(config)
	if err != nil || token == nil {
		m.t.Fatalf("kubeconfig: %v\n%s", err, config)
	}
	pod := fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: suite, namespace: default}
spec:
  restartPolicy: Never
  containers:
  - name: suite
    image: suite
    args: [-test.v, -test.run, ^TestSuite$, -test.parallel, '1', -test.timeout, %s]
    env: [{name: %s, value: %q}, {name: %s, value: %q}]
`, *keep, envToken, token[1], envOnly, *only)
	file := filepath.Join(m.dir, "suite.yaml")
	if err := os.WriteFile(file, []byte(pod), 0o600); err != nil {
		m.t.Fatal(err)
	}
	if out, err := m.malla("apply", "-f", file); err != nil {
		m.t.Fatalf("apply: %v\n%s", err, out)
	}
}

// wait returns what the suite has written at its end.
func (m *runner) wait(limit time.Duration) string {
	m.t.Helper()
	until(limit, time.Second, func() bool { // what there is by then is looked at in any case
		phase, err := m.malla("get", "pod", "suite", "-o", "jsonpath={.status.phase}")
		return err == nil && (phase == "Succeeded" || phase == "Failed")
	})
	out, err := m.malla("logs", "suite")
	if err != nil {
		m.t.Fatalf("logs: %v\n%s", err, out)
	}
	return out
}

// A result is what became of one test of the suite.
type result struct {
	name, verdict string
	why           string // the lines of a test that failed or was skipped
}

var verdictLine = regexp.MustCompile(`^    --- (PASS|FAIL|SKIP): TestSuite/([^/ ]+) \(`)

// results reads the output of go test -v.
func results(text string) []result {
	reasons := map[string][]string{}
	current := ""
	var out []result
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "=== RUN   TestSuite/"); ok {
			current, _, _ = strings.Cut(strings.TrimSpace(name), "/")
			continue
		}
		if name, ok := strings.CutPrefix(line, "=== NAME  TestSuite/"); ok {
			current, _, _ = strings.Cut(strings.TrimSpace(name), "/")
			continue
		}
		if m := verdictLine.FindStringSubmatch(line); m != nil {
			out = append(out, result{name: m[2], verdict: m[1]})
			continue
		}
		if current != "" {
			reasons[current] = append(reasons[current], strings.TrimRight(line, "\n"))
		}
	}
	for i := range out {
		out[i].why = strings.Join(reasons[out[i].name], "\n")
	}
	slices.SortFunc(out, func(a, b result) int { return cmp.Compare(a.name, b.name) })
	return out
}

// written is the page.
func written(found []result) string {
	count := map[string]int{}
	for _, r := range found {
		count[r.verdict]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<!-- Printed by MALLA_CONFORMANCE=1 go test -run TestMesh . -update in test/conformance; do not edit. -->
# Conformance to Gateway API

The standard's own suite (sigs.k8s.io/gateway-api/conformance v1.6.1) ran in a mesh on one machine: the profiles GATEWAY-HTTP,
GATEWAY-GRPC, GATEWAY-TLS, GATEWAY-TCP, MESH-HTTP and MESH-GRPC, with the features that GatewayClass malla names in its status
and all of the mesh's side.
Of %d tests %d passed, %d failed, and %d were skipped, because they are about features that are not there.

| test | |
| --- | --- |
`, len(found), count["PASS"], count["FAIL"], count["SKIP"])
	for _, r := range found {
		fmt.Fprintf(&b, "| %s | %s |\n", r.name, map[string]string{"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}[r.verdict])
	}
	return b.String()
}
