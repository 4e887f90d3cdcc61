//go:build linux

package script_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

// A machine is a pod here that no Service selects: all that is known of it is what its proxy says.
const legacyMachine = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: legacy}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: legacy}
spec:
  metadata: {labels: {machine: legacy}}
  template: {serviceAccount: legacy, ports: {http: 8080}}
  probe: {periodSeconds: 1, failureThreshold: 1, grpc: {port: 50051, service: shop}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy}
spec:
  hosts: [legacy.example.test]
  addresses: [240.0.0.7]
  location: MESH_INTERNAL
  resolution: STATIC
  workloadSelector: {labels: {machine: legacy}}
  ports: [{number: 80, name: http, protocol: HTTP}]
---
apiVersion: v1
kind: Pod
metadata:
  name: vm
  annotations:
    proxy.istio.io/config: |
      proxyMetadata: {ISTIO_META_AUTO_REGISTER_GROUP: legacy, ISTIO_METAJSON_LABELS: '{"app": "old"}'}
spec:
  serviceAccountName: legacy
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: gcr.io/google-samples/hello-app:1.0, env: [{name: PORT, value: "8080"}]}
  - {name: health, image: example.com/health, env: [{name: MALLA_TEST_HEALTH, value: "1"}]}
`

// foreignMachine has a real Envoy, whose agent asks the application as its settings say.
const foreignMachine = `
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: foreign}
spec: {template: {serviceAccount: legacy, ports: {http: 8080}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: foreign
  annotations:
    sidecar.malla.dev/proxy: envoy
    proxy.istio.io/config: |
      proxyMetadata: {ISTIO_META_AUTO_REGISTER_GROUP: foreign}
      readinessProbe: {periodSeconds: 1, failureThreshold: 1, grpc: {port: 50051, service: shop}}
spec:
  serviceAccountName: legacy
  terminationGracePeriodSeconds: 1
  containers:
  - {name: health, image: example.com/health, env: [{name: MALLA_TEST_HEALTH, value: "1"}]}
`

// TestMachine: a workload that registers itself is there for as long as its proxy is, and gets requests while it is well.
func TestMachine(t *testing.T) {
	linux(t)
	m := mesh.Up(t, mesh.Options{Name: "machine", Paths: []string{dirOf(t, map[string]string{"all.yaml": legacyMachine + foreignMachine + sleeper("client", "")})},
		Flags: []string{"--inject", "--image", healthImage(t)}, Env: []string{"MALLA_ENVOY=" + process.Envoy(t)}})
	ip := m.Field("pod/vm", ".status.podIP")
	ask := func() string {
		return m.Exec("deploy/client", "client", "/malla", "sample", "curl", "-sS", "--max-time", "5", "-w", " %{http_code}", "-H", "Host: legacy.example.test", "http://240.0.0.7/").Out
	}
	until := func(healthy, answer string) {
		t.Helper()
		mesh.Until(t, 15*time.Second, "healthy "+healthy+", and answers "+answer, func() error {
			got := m.Field("workloadentry/legacy-"+ip, `.status.conditions[?(@.type=="Healthy")].status`)
			if said := ask(); got != healthy || !strings.Contains(said, answer) {
				return fmt.Errorf("healthy %q, answer %q", got, said)
			}
			return nil
		})
	}
	until("True", "Hostname: vm")
	words(t, "the entry", m.Must("get", "workloadentry", "legacy-"+ip, "-o", "jsonpath={.metadata.labels} {.spec} {.metadata.ownerReferences[0].kind}"),
		`"machine":"legacy"`, `"app":"old"`, `"serviceAccount":"legacy"`, "WorkloadGroup")
	if got := m.Exec("deploy/client", "client", "/malla", "sample", "curl", "-sS", "http://127.0.0.1:15000/clusters").Out; !strings.Contains(got, "outbound|80||legacy.example.test::"+ip+":8080::") {
		t.Errorf("the endpoint is not known to the client:\n%s", got)
	}
	m.Exec("vm", "health", "touch", "/tmp/sick")
	until("False", " 503")
	words(t, "why", m.Field("workloadentry/legacy-"+ip, `.status.conditions[?(@.type=="Healthy")].message`), "service is NOT_SERVING")
	m.Exec("vm", "health", "rm", "/tmp/sick")
	until("True", "Hostname: vm")

	foreign := "workloadentry/foreign-" + m.Field("pod/foreign", ".status.podIP")
	for _, step := range []struct{ command, want string }{{"true", "True"}, {"touch", "False"}, {"rm", "True"}} {
		m.Exec("foreign", "health", step.command, "/tmp/sick")
		mesh.Until(t, 15*time.Second, "a real Envoy's machine is healthy: "+step.want, func() error {
			if got := m.Field(foreign, `.status.conditions[?(@.type=="Healthy")].status`); got != step.want {
				return fmt.Errorf("%q", got)
			}
			return nil
		})
	}

	m.Must("delete", "pod", "vm")
	began := time.Now()
	mesh.Until(t, 30*time.Second, "nobody is registered any more", func() error {
		if r := m.Run("get", "workloadentries", "--no-headers"); strings.Contains(r.Out, "legacy") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	if d := time.Since(began); d < 5*time.Second {
		t.Errorf("the entry was gone after %s; a proxy that connects anew within 10s is to find it", d)
	}
}
