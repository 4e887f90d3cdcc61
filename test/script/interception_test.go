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

// intercepted is an application, with a container to ask from, and what its pod says of its proxy.
const intercepted = `
---
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {app: NAME}, ports: [{name: http, port: 8000, targetPort: TARGET}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  labels: {app: NAME}
  annotations: {ANNOTATIONS}
spec:
  containers:
  - {name: app, image: mccutchen/go-httpbin, ports: [{containerPort: 8080}]}
  - {name: curl, image: curlimages/curl, command: [sleep, infinity]}
`

const interceptedMesh = `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    proxyListenPort: 16001
    proxyInboundListenPort: 16006
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: none}
spec:
  workloadSelector: {labels: {app: none}}
  ingress: [{port: {number: 9090, name: http, protocol: HTTP}, defaultEndpoint: "127.0.0.1:8080"}]
  egress: [{hosts: ["./*"]}]
`

// TestInterception: the three ways in which an application's connections come to its proxy, chosen by annotation or for
// the workload, to ports that the mesh says; all with mutual TLS.
func TestInterception(t *testing.T) {
	linux(t)
	pod := func(name, target, annotations string) string {
		return strings.NewReplacer("NAME", name, "TARGET", target, "ANNOTATIONS", annotations).Replace(intercepted)
	}
	dir := dirOf(t, map[string]string{"all.yaml": interceptedMesh +
		pod("redirect", "8080", "") +
		pod("tproxy", "8080", "sidecar.istio.io/interceptionMode: TPROXY") +
		pod("envoy", "8080", `sidecar.malla.dev/proxy: envoy, proxy.istio.io/config: "interceptionMode: TPROXY"`) +
		pod("none", "9090", `proxy.istio.io/config: "interceptionMode: NONE"`)})
	m := mesh.Up(t, mesh.Options{Name: "interception", Paths: []string{dir}, Flags: []string{"--inject"}, Env: []string{"MALLA_ENVOY=" + process.Envoy(t)}})
	address := func(pod string) string { return m.Field("pod/"+pod, ".status.podIP") }
	ask := func(from, url string, more ...string) mesh.Result {
		return m.Exec("pod/"+from, "curl", append([]string{"curl", "-sS", "-m", "10", url}, more...)...)
	}

	for _, test := range []struct{ from, to, sees string }{
		{"redirect", "tproxy", address("redirect")}, // the application sees its client
		{"tproxy", "redirect", "127.0.0.6"},         // and by REDIRECT its proxy, as in Istio
		{"redirect", "envoy", address("redirect")},
		{"tproxy", "envoy", address("tproxy")},
		{"envoy", "tproxy", address("envoy")},
		{"tproxy", "none", "127.0.0.1"}, // a listener that its Sidecar opens
	} {
		for range 10 {
			if r := ask(test.from, "http://"+test.to+":8000/ip"); !strings.Contains(r.Out, `"`+test.sees+`"`) {
				t.Fatalf("%s asks %s, which sees %s, want %s", test.from, test.to, r, test.sees)
			}
		}
	}
	if r := ask("tproxy", "http://tproxy.default:8000/status/418", "-o", "/dev/null", "-w", "%{http_code}"); r.Out != "418" {
		t.Errorf("an application that calls itself through its service: %s, want 418", r)
	}

	// What is not captured asks its proxy for a host, or goes past it, in plain text, which nobody takes here.
	if r := ask("none", "http://127.0.0.1:8000/ip", "-H", "Host: tproxy"); !strings.Contains(r.Out, `"`+address("none")+`"`) {
		t.Errorf("by its proxy: %s, want that tproxy sees %s", r, address("none"))
	}
	if r := ask("none", "http://tproxy:8000/ip"); r.Code == 0 {
		t.Errorf("past its proxy: %s, want no answer", r)
	}
	if r := ask("none", "http://127.0.0.1:8000/", "-H", "Host: nobody.example", "-o", "/dev/null", "-w", "%{http_code}"); r.Out != "503" {
		t.Errorf("a host that nobody knows has no address to go on to: %s, want 503", r)
	}
	if r := ask("redirect", "http://none:8000/headers"); !strings.Contains(r.Out, "X-Forwarded-Client-Cert") {
		t.Errorf("what comes in at a port that a Sidecar opens: %s, want mutual TLS", r)
	}

	// New ports are for new pods: those that are there have rules for the old ones.
	h := httpbin{m}
	restore := h.meshConfig(t, "accessLogFile: /dev/stdout\nproxyListenPort: 17001\nproxyInboundListenPort: 17006\ndefaultConfig: {proxyHeaders: {envoyDebugHeaders: {disabled: true}}}")
	defer restore()
	m.Apply(pod("late", "8080", ""))
	m.Must("wait", "--for=condition=Ready", "pod/late", "--timeout=60s")
	for _, test := range []struct{ from, to string }{{"late", "redirect"}, {"redirect", "late"}} {
		if r := ask(test.from, "http://"+test.to+":8000/ip"); !strings.Contains(r.Out, "127.0.0.6") {
			t.Errorf("%s asks %s after new ports: %s", test.from, test.to, r)
		}
	}

	// So it is with all that a proxy starts by, and who changes it is told; what it learns while it runs has changed.
	r := m.RunIn(30*time.Second, `
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: threads}
spec: {selector: {matchLabels: {app: redirect}}, concurrency: 2}
`, "apply", "-f", "-")
	if !strings.Contains(r.Err, "until they are restarted: default/redirect;") {
		t.Errorf("settings for one pod: %s, want that it is named", r)
	}
	mesh.Until(t, 10*time.Second, "fewer headers", func() error {
		if r := ask("redirect", "http://tproxy:8000/ip", "-D", "-"); r.Code != 0 || strings.Contains(strings.ToLower(r.Out), "x-envoy-upstream-service-time") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
