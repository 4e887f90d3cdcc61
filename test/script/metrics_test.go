//go:build linux

package script_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// metricsOf reads the metrics of a pod's sidecar from one of its ports: 15090 is
// Envoy's, 15020 the merged one.
func metricsOf(t *testing.T, m *mesh.Mesh, pod, port string, flags ...string) string {
	t.Helper()
	args := append(append([]string{"exec", pod, "-c", "istio-proxy"}, flags...), "--")
	return m.In(t).Must(append(append(args, curl...), "-sS", "localhost:"+port+"/stats/prometheus")...)
}

// sum adds the series of a name that have all of the labels, and counts them.
func sum(metrics, name string, labels ...string) (total float64, series int) {
	for _, l := range strings.Split(metrics, "\n") {
		head, value, _ := strings.Cut(l, "} ")
		got, set, _ := strings.Cut(head, "{")
		if got != name || !has("{"+set+",", labels) {
			continue
		}
		n, _ := strconv.ParseFloat(value, 64)
		total, series = total+n, series+1
	}
	return total, series
}

// has reports whether a set of labels ("{a="b",c="d",") holds each of some ("a=b").
func has(set string, labels []string) bool {
	for _, l := range labels {
		name, value, _ := strings.Cut(l, "=")
		pair := fmt.Sprintf("%s=%q,", name, value)
		if !strings.Contains(set, ","+pair) && !strings.Contains(set, "{"+pair) {
			return false
		}
	}
	return true
}

// amounts waits until sums are as wanted; a name of wants may carry labels of its
// own: `istio_request_bytes_bucket le=100`.
func amounts(t *testing.T, what string, read func() string, labels []string, wants map[string]float64) {
	t.Helper()
	mesh.Until(t, 10*time.Second, what, func() error {
		text := read()
		for name, want := range wants {
			f := strings.Fields(name)
			got, n := sum(text, f[0], append(f[1:], labels...)...)
			if n == 0 || got != want {
				return fmt.Errorf("%s with %q: %v in %d series, want %v", name, labels, got, n, want)
			}
		}
		return nil
	})
}

// Both sides of a call count it: requests, their duration, and the bytes of their
// bodies, under Istio's names and labels, on both ports.
func (h httpbin) metrics(t *testing.T) {
	const requests, body = 7, 300 // a status of our own tells these from all others
	for range requests {
		if got := h.status("-o", "/dev/null", "-X", "POST", "-d", strings.Repeat("b", body), "httpbin:8000/status/207"); !strings.HasPrefix(got, "207") {
			t.Fatalf("curl: %s", got)
		}
	}
	both := []string{
		"source_workload=sleep", "source_canonical_service=sleep", "source_canonical_revision=latest", "source_workload_namespace=default",
		"source_principal=spiffe://cluster.local/ns/default/sa/sleep", "source_app=sleep", "source_cluster=Kubernetes",
		"destination_workload=httpbin", "destination_workload_namespace=default", "destination_principal=spiffe://cluster.local/ns/default/sa/httpbin",
		"destination_app=httpbin", "destination_version=v1", "destination_service=httpbin.default.svc.cluster.local",
		"destination_canonical_service=httpbin", "destination_canonical_revision=v1", "destination_service_name=httpbin",
		"destination_service_namespace=default", "destination_cluster=Kubernetes",
		"request_protocol=http", "response_code=207", "grpc_response_status=", "response_flags=-",
	}
	wants := map[string]float64{
		"istio_requests_total":                                  requests,
		"istio_request_duration_milliseconds_count":             requests,
		"istio_request_duration_milliseconds_bucket le=3600000": requests,
		"istio_request_bytes_count":                             requests,
		"istio_request_bytes_bucket le=250":                     0, // heads count too, as on the wire
		"istio_request_bytes_bucket le=2500":                    requests,
		"istio_response_bytes_count":                            requests,
		"istio_response_bytes_bucket le=50":                     0,
		"istio_response_bytes_bucket le=1000":                   requests,
	}
	for _, side := range []struct{ pod, reporter, security string }{
		{"deploy/sleep", "source", "unknown"},
		{"deploy/httpbin", "destination", "mutual_tls"},
	} {
		labels := append([]string{"reporter=" + side.reporter, "connection_security_policy=" + side.security}, both...)
		for _, port := range []string{"15090", "15020"} {
			amounts(t, side.reporter+" on "+port, func() string { return metricsOf(t, h.Mesh, side.pod, port) }, labels, wants)
		}
		text := metricsOf(t, h.Mesh, side.pod, "15090")
		if bytes, _ := sum(text, "istio_request_bytes_sum", labels...); bytes < requests*body || bytes > requests*(body+1000) {
			t.Errorf("%s: %v bytes of requests, want %d of bodies and some of heads", side.reporter, bytes, requests*body)
		}
		if took, _ := sum(text, "istio_request_duration_milliseconds_sum", labels...); took > 10000 {
			t.Errorf("%s: %v ms of requests", side.reporter, took)
		}
	}
}

// What an application offers for scraping comes out of port 15020 as well.
func (h httpbin) merged(t *testing.T) {
	app := deployment("counts", "nginx",
		`        ports: [{containerPort: 8080}]`,
		`        volumeMounts: [{name: conf, mountPath: /etc/nginx/conf.d}]`,
		`      volumes: [{name: conf, configMap: {name: counts}}]`) + `
---
apiVersion: v1
kind: ConfigMap
metadata: {name: counts}
data:
  default.conf: |
    server {
      listen 8080;
      location /numbers { return 200 "# TYPE my_orders_total counter\nmy_orders_total 42\n"; }
    }
`
	app = strings.Replace(app, "    metadata: {labels: {app: counts}}", `    metadata: {labels: {app: counts}, annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8080", prometheus.io/path: /numbers}}`, 1)
	h.Apply(app)
	defer h.Delete(app)
	h.Rollout("counts")
	if text := metricsOf(t, h.Mesh, "deploy/counts", "15020"); !strings.Contains(text, "\nmy_orders_total 42\n") || !strings.Contains(text, "istio_build{") {
		t.Errorf("15020 lacks the application's number or the sidecar's: %.3000s", text)
	}
	if text := metricsOf(t, h.Mesh, "deploy/counts", "15090"); strings.Contains(text, "my_orders_total") {
		t.Error("15090 has the application's number: it is the sidecar's own")
	}
}
