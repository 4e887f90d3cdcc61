//go:build linux

package script_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

// asEnvoy is what a pod's template says to get a real Envoy.
const asEnvoy = "      annotations: {sidecar.malla.dev/proxy: envoy}\n"

// half copies the sample bookinfo with a real Envoy beside four of its eight applications.
func half(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(mesh.Samples(t, "bookinfo"))); err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, name := range []string{"bookinfo.yaml", "bookinfo-ratings-v2.yaml"} {
		path := filepath.Join(dir, "platform", "kube", name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		docs := strings.Split(string(text), "\n---\n")
		for i, d := range docs {
			for _, app := range []string{"details-v1", "reviews-v2", "reviews-v3", "ratings-v1"} {
				if strings.Contains(d, "kind: Deployment\nmetadata:\n  name: "+app+"\n") {
					docs[i] = strings.Replace(d, "  template:\n    metadata:\n", "  template:\n    metadata:\n"+asEnvoy, 1)
					changed++
				}
			}
		}
		write(t, path, strings.Join(docs, "\n---\n"))
	}
	if changed != 4 {
		t.Fatalf("%d Deployments of the sample are annotated, want 4", changed)
	}
	return dir
}

// TestEnvoySidecars: who has a real Envoy beside the application is a member of the mesh like all others.
func TestEnvoySidecars(t *testing.T) {
	linux(t)
	env := []string{"MALLA_ENVOY=" + process.Envoy(t)}
	m := mesh.Up(t, mesh.Options{Name: "envoy", Paths: []string{half(t)}, Env: env})
	run := func(name string, f func(bookinfo, *testing.T)) {
		t.Run(name, func(t *testing.T) { f(bookinfo{m.In(t)}, t) })
	}
	run("they are Envoys", func(b bookinfo, t *testing.T) {
		n := 0
		for _, p := range b.Tree() {
			if p.Is("proxy", "envoy") {
				n++
			}
		}
		if n != 4 {
			t.Errorf("%d agents of an Envoy, want 4", n)
		}
	})
	run("the page holds the data of all services", bookinfo.page)
	run("without rules the three versions take turns", func(b bookinfo, t *testing.T) {
		if err := b.shows(map[string]float64{"none": 1, "black": 1, "red": 1})(); err != nil {
			t.Error(err)
		}
	})
	run("weights hold", bookinfo.weights)
	run("a timeout counts the application's time", bookinfo.timeout)
	run("a pod killed whole under load costs no request", bookinfo.podKilled)
	run("a rollout costs no request", bookinfo.rollout)
	run("traffic does not need the control plane", bookinfo.controlPlaneAway)
}

// mixed is a server and a client beside each proxy. The ports of the servers declare nothing.
const mixed = `
apiVersion: v1
kind: Service
metadata: {name: web-NAME}
spec: {selector: {app: web-NAME}, ports: [{port: 8000, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: greeter-NAME}
spec: {selector: {app: greeter-NAME}, ports: [{port: 50051}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-NAME, labels: {app: web-NAME}, annotations: {sidecar.malla.dev/proxy: NAME}}
spec: {containers: [{name: app, image: mccutchen/go-httpbin, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: greeter-NAME, labels: {app: greeter-NAME}, annotations: {sidecar.malla.dev/proxy: NAME}}
spec: {containers: [{name: app, image: example.com/health, ports: [{containerPort: 50051}], env: [{name: MALLA_TEST_HEALTH, value: "1"}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: caller-NAME, labels: {app: caller-NAME}, annotations: {sidecar.malla.dev/proxy: NAME}}
spec: {containers: [{name: app, image: example.com/health, env: [{name: MALLA_TEST_HEALTH, value: "1"}]}]}
`

// TestSniffedPortsBetweenProxies: on a port that declares nothing, either proxy tells the other that it carries
// HTTP, so that it is counted as such, by our proxy at whichever end it is.
func TestSniffedPortsBetweenProxies(t *testing.T) {
	linux(t)
	dir := t.TempDir()
	for _, name := range []string{"malla", "envoy"} {
		write(t, filepath.Join(dir, name+".yaml"), strings.ReplaceAll(mixed, "NAME", name))
	}
	write(t, filepath.Join(dir, "strict.yaml"), "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n")
	m := mesh.Up(t, mesh.Options{Name: "sniffed", Paths: []string{dir}, Env: []string{"MALLA_ENVOY=" + process.Envoy(t)}, Flags: []string{"--inject", "--image", healthImage(t)}})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const requests = 5
	ask := func(t *testing.T, from, to string) {
		t.Helper()
		for range requests {
			r := m.In(t).Exec("caller-"+from, "app", append(curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "web-"+to+":8000/status/207")...)
			if r.Out != "207" {
				t.Fatalf("from %s to %s: %s", from, to, r)
			}
		}
		if got := m.In(t).Exec("caller-"+from, "app", "env", envCall+"=greeter-"+to+":50051", self).Out; got != strings.Repeat("SERVING\n", calls) {
			t.Fatalf("gRPC from %s to %s: %s", from, to, got)
		}
	}
	t.Run("malla to Envoy, counted at the source", func(t *testing.T) {
		ask(t, "malla", "envoy")
		counted(t, m, "caller-malla", "web-envoy", requests, "reporter=source", "source_workload=caller-malla", "request_protocol=http", "response_code=207",
			"destination_principal=spiffe://cluster.local/ns/default/sa/default")
		counted(t, m, "caller-malla", "greeter-envoy", calls, "reporter=source", "response_code=200")
	})
	t.Run("Envoy to malla, counted at the destination", func(t *testing.T) {
		ask(t, "envoy", "malla")
		counted(t, m, "web-malla", "web-malla", requests, "reporter=destination", "connection_security_policy=mutual_tls", "request_protocol=http", "response_code=207",
			"source_principal=spiffe://cluster.local/ns/default/sa/default")
		counted(t, m, "greeter-malla", "greeter-malla", calls, "reporter=destination", "connection_security_policy=mutual_tls", "response_code=200")
	})
	t.Run("Envoy to Envoy", func(t *testing.T) { ask(t, "envoy", "envoy") })
	t.Run("the agent answers for health and metrics", func(t *testing.T) {
		r := m.In(t).Exec("web-envoy", "istio-proxy", append(curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "localhost:15021/healthz/ready")...)
		if r.Out != "200" {
			t.Errorf("health: %s", r)
		}
		for _, port := range []string{"15090", "15020"} {
			words(t, "metrics on "+port, metricsOf(t, m, "web-envoy", port), "envoy_server_live", `envoy_cluster_name="xds-grpc"`)
		}
	})
	t.Run("what proxies tell each other stays with them", func(t *testing.T) {
		r := m.In(t).Exec("caller-malla", "app", append(curl, "-sS", "web-envoy:8000/headers")...)
		if r.Code != 0 || strings.Contains(strings.ToLower(r.Out), "peer-metadata") {
			t.Errorf("the application got %s", r)
		}
	})
	t.Run("it ends when it is told to", func(t *testing.T) {
		start := time.Now()
		m.In(t).Must("delete", "pod", "web-envoy", "--wait=true")
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("the pod took %v to end, want less than its grace period", took)
		}
	})
}

// counted waits until our proxy of a pod has counted requests to a service.
func counted(t *testing.T, m *mesh.Mesh, pod, service string, want float64, labels ...string) {
	t.Helper()
	labels = append(labels, "destination_service="+service+".default.svc.cluster.local")
	amounts(t, fmt.Sprintf("requests to %s, counted by the sidecar of %s", service, pod), func() string { return metricsOf(t, m, pod, "15020") }, labels,
		map[string]float64{"istio_requests_total": want})
}
