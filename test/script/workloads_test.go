//go:build linux

package script_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

const workloads = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-any}
spec: {selector: {app: web}, ports: [{name: http, port: 8000, targetPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-early}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {app: never-ready}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other-name}
spec: {type: ExternalName, externalName: web-any.default.svc.cluster.local, ports: [{name: http, port: 8000}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: kong/httpbin, ports: [{containerPort: 80}]}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web-early}
spec:
  serviceName: web-early
  selector: {matchLabels: {app: never-ready}}
  replicas: 0
  template:
    metadata: {labels: {app: never-ready}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: kong/httpbin, ports: [{containerPort: 80}], readinessProbe: {exec: {command: ["false"]}}}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: agent, image: curlimages/curl, command: [sleep, infinity]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  completions: 2
  parallelism: 2
  template: {spec: {restartPolicy: Never, containers: [{name: once, image: curlimages/curl, command: [sh, -c, "until curl -fsS web-0.web/get; do sleep 0.2; done"]}]}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: yearly}
spec:
  schedule: "0 0 1 1 *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: curlimages/curl, command: ["true"]}]}}}}
`

// TestWorkloads: the kinds that make pods besides Deployments, and the ways to call pods that have names.
func TestWorkloads(t *testing.T) {
	linux(t)
	m := mesh.Up(t, mesh.Options{Name: "workloads", Paths: []string{dirOf(t, map[string]string{"all.yaml": workloads})}, Flags: []string{"--inject"}})
	for kind, row := range map[string]string{
		"statefulset/web": "web 2/2", "daemonset/agent": "agent 1 1 1 1 1", "cronjob/yearly": "yearly 0 0 1 1 * <none> False 0 <none>",
	} {
		if got := strings.Join(strings.Fields(m.Must("get", kind, "--no-headers")), " "); !strings.HasPrefix(got, row) {
			t.Errorf("%s: %q, want %q", kind, got, row)
		}
	}
	mesh.Until(t, 20*time.Second, "the Job, whose pods have sidecars, is complete", func() error {
		if got := strings.Join(strings.Fields(m.Must("get", "job/once", "--no-headers")), " "); !strings.HasPrefix(got, "once Complete 2/2") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	from := func(pod, container string, args ...string) mesh.Result {
		return m.Exec(pod, container, append(append([]string{}, curl...), append([]string{"-sS", "--max-time", "5", "-w", " %{http_code}"}, args...)...)...)
	}
	for _, host := range []string{"web-0.web", "web-1.web.default.svc.cluster.local", "web", "web-any:8000", "other-name:8000"} {
		if r := from("ds/agent", "agent", "http://"+host+"/headers"); !strings.HasSuffix(r.Out, " 200") || !strings.Contains(r.Out, "spiffe://cluster.local/ns/default/sa/default") {
			t.Errorf("http://%s: %s, want 200 over mutual TLS", host, r)
		}
	}
	if r := m.Exec("web-1", "web", "hostname"); strings.TrimSpace(r.Out) != "web-1" {
		t.Errorf("a pod's host name: %s", r)
	}
	for range 6 { // by turns to itself and to the other
		if r := from("web-0", "web", "http://web-any:8000/get"); !strings.HasSuffix(r.Out, " 200") {
			t.Errorf("a pod that calls itself through its service: %s", r)
		}
	}
	m.Must("scale", "statefulset/web-early", "--replicas=1")
	mesh.Until(t, 10*time.Second, "publishNotReadyAddresses: a pod that is never ready answers", func() error {
		if r := from("ds/agent", "agent", "http://web-early-0.web-early/get"); !strings.HasSuffix(r.Out, " 200") {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	m.Must("scale", "statefulset/web", "--replicas=1")
	m.Must("rollout", "status", "statefulset/web", "--timeout=20s")
}
