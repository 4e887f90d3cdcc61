//go:build linux

package script_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

const speaksFirst = `
apiVersion: v1
kind: Namespace
metadata: {name: legacy}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: client, namespace: legacy}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client, sidecar.istio.io/inject: "false"}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: client, image: curlimages/curl, command: [sleep, infinity]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: greeter}
spec:
  selector: {matchLabels: {app: greeter}}
  template:
    metadata: {labels: {app: greeter}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: greeter, image: "istio/tcp-echo-server:1.3", args: ["9000,9001,3306", "hello"], env: [{name: GREETING, value: 220 ready}], ports: [{containerPort: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: greeter}
spec:
  selector: {app: greeter}
  ports: [{name: a, port: 9000}, {name: tcp-b, port: 9001}, {name: db, port: 3306}]
`

// TestServersThatSpeakFirst: a client that waits for the server's first word hears it, whatever its port declares, from
// inside of the mesh and from outside; what it says then is answered.
func TestServersThatSpeakFirst(t *testing.T) {
	linux(t)
	outside := speaker(t, "220 outside")
	dir := dirOf(t, map[string]string{"all.yaml": speaksFirst + sleeper("client", ""), "outside.yaml": fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {ports: [{name: mail, port: 2525}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: outside-1, labels: {kubernetes.io/service-name: outside}}
addressType: IPv4
ports: [{name: mail, port: %[2]d, protocol: TCP}]
endpoints: [{addresses: ["%[1]s"], conditions: {ready: true}}]
`, hostAddress, outside)})
	m := mesh.Up(t, mesh.Options{Name: "speakfirst", Paths: []string{dir}, Flags: []string{"--inject"}})
	listen := func(namespace, host string, port, limit int) mesh.Result {
		script := fmt.Sprintf("exec 3<>/dev/tcp/%s/%d && head -n 1 <&3", host, port)
		return m.ExecIn(namespace, "deploy/client", "client", "timeout", fmt.Sprint(limit), "bash", "-c", script)
	}
	for _, port := range []int{9000, 9001, 3306} { // sniffed, declared by its name, and by its number
		for _, namespace := range []string{"default", "legacy"} {
			if r := listen(namespace, "greeter.default", port, 8); strings.TrimSpace(r.Out) != "220 ready" {
				t.Errorf("port %d, a silent client in %s: %s, want the greeting", port, namespace, r)
			}
		}
	}
	if r := listen("default", "outside", 2525, 8); strings.TrimSpace(r.Out) != "220 outside" {
		t.Errorf("outside of the mesh, a port that declares nothing: %s, want the greeting", r)
	}
	talk := "exec 3<>/dev/tcp/greeter/9000 && head -n 1 <&3 && echo you >&3 && head -n 1 <&3"
	if r := m.Exec("deploy/client", "client", "timeout", "8", "bash", "-c", talk); r.Out != "220 ready\nhello you\n" {
		t.Errorf("a client that answers the greeting: %s", r)
	}

	// Who wants Istio's way has it: then the server waits for the client for ever.
	h := httpbin{m}
	restore := h.meshConfig(t, "accessLogFile: /dev/stdout\nprotocolDetectionTimeout: 0s")
	mesh.Until(t, 20*time.Second, "without a limit a silent client hears nothing", func() error {
		if r := listen("default", "greeter", 9000, 3); r.Out != "" {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	restore()
	mesh.Until(t, 20*time.Second, "and with one it does again", func() error {
		if r := listen("default", "greeter", 9000, 4); strings.TrimSpace(r.Out) != "220 ready" {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
}
