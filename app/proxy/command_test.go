package proxy

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const bootstrap = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: b}}]}]}
          http_filters:
          - {name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: b
    type: STATIC
    load_assignment: {cluster_name: b, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]}
%s`

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// --mode validate says what is wrong and where, and touches nothing.
func TestValidate(t *testing.T) {
	var out bytes.Buffer
	good := write(t, fmt.Sprintf(bootstrap, 1, 2, "3", ""))
	if err := Command(t.Context(), "malla-proxy", []string{"-c", good, "--mode", "validate"}, &out, io.Discard); err != nil || !strings.HasSuffix(out.String(), "OK\n") {
		t.Errorf("%v, %q", err, out.String())
	}
	for _, test := range []struct{ text, want string }{
		{fmt.Sprintf(bootstrap, 1, 2, "3", "  - {name: c, type: STATIC, lrs_report_endpoint_metrics: [x]}"), "static_resources.clusters[1].lrs_report_endpoint_metrics: is not supported"},
		{fmt.Sprintf(bootstrap, 1, 2, "3", "overload_manager: {resource_monitors: [{name: heap, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: 1000}}], actions: [{name: a, triggers: [{name: heap, threshold: {value: 0.9}}]}]}"), "overload_manager.actions[0].name: found \"a\", want one of envoy.overload_actions."},
		{"nonsense: 1", "nonsense"},
		{"# a node\nnode: {id: 5}", "envoy.yaml:2: node.id: found 5, want text"},
		{"", "is empty"},
	} {
		err := Command(t.Context(), "malla-proxy", []string{"-c", write(t, test.text), "--mode", "validate"}, &out, io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want it to say %q", err, test.want)
		}
	}
}

// Mistakes on the command line are told from those in configuration.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--stats-tag", "a:b"}, {"--restart-epoch", "1"}, {"--drain-strategy", "gradual"}, {"-c", "x", "--drain-strategy", "never"}, {"--service-node", "n"}, {"--component-log-level", "upstream"}, {"--mode", "dance"}, {"--mode", "validate"}, {"--log-level", "loud"}, {"extra"}, {"--nothing"}, {"-c", write(t, "admin: {}"), "--concurrency", "-1"},
	} {
		err := Command(t.Context(), "malla-proxy", args, io.Discard, io.Discard)
		if usage := (ErrUsage{}); !errors.As(err, &usage) {
			t.Errorf("%v: got %v, want a usage error", args, err)
		}
	}
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A proxy by a bootstrap file carries a request, answers its administration
// interface, and ends when it is told to.
func TestServe(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from ", r.Host) }))
	defer backend.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(backend.URL, "http://"), ":")
	admin, listener := freePort(t), freePort(t)
	told := filepath.Join(t.TempDir(), "admin")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Command(ctx, "malla-proxy", []string{"-c", write(t, fmt.Sprintf(bootstrap, admin, listener, port, "")), "--admin-address-path", told}, io.Discard, io.Discard)
	}()
	get := func(method, url string) (int, string) {
		for {
			req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				select {
				case err := <-done:
					t.Fatalf("proxy ended: %v", err)
				default:
					continue // not listening yet
				}
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			return res.StatusCode, string(body)
		}
	}
	base := fmt.Sprintf("http://127.0.0.1:%d", admin)
	for _, test := range []struct {
		method, url string
		code        int
		want        string
	}{
		{"GET", fmt.Sprintf("http://127.0.0.1:%d/", listener), 200, fmt.Sprintf("hello from 127.0.0.1:%d", listener)},
		{"GET", base + "/ready", 200, "LIVE\n"},
		{"GET", base + "/listeners", 200, fmt.Sprintf("listener_0::127.0.0.1:%d\n", listener)},
		{"GET", base + "/listeners?format=json", 200, `"name": "listener_0"`},
		{"GET", base + "/clusters", 200, "b::127.0.0.1:" + port + "::rq_total::1\n"},
		{"GET", base + "/clusters", 200, "b::added_via_api::false\n"},
		{"GET", base + "/clusters?format=json", 200, `"port_value": ` + port},
		{"GET", base + "/config_dump", 200, `"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump"`},
		{"GET", base + "/config_dump?resource=static_clusters", 200, `"name": "b"`},
		{"GET", base + "/config_dump?resource=nothing", 404, "nothing not found in config dump"},
		{"GET", base + "/config_dump?mask=x", 400, "FieldMask x could not be successfully applied"},
		{"GET", base + "/server_info", 200, `"state": "LIVE"`},
		{"GET", base + "/stats?filter=cluster.b.upstream_rq_total", 200, "cluster.b.upstream_rq_total: 1\n"},
		{"GET", base + "/stats?format=json&filter=cluster.b.upstream_rq_total", 200, `"value":1`},
		{"GET", base + "/stats?format=xml", 400, "xml"},
		{"GET", base + "/stats/prometheus", 200, `envoy_cluster_upstream_rq_total{envoy_cluster_name="b"} 1`},
		{"GET", base + "/certs", 200, "{"},
		{"GET", base + "/memory", 200, "allocated"},
		{"GET", base + "/logging", 405, "POST required"},
		{"POST", base + "/logging?level=debug", 200, "main: debug"},
		{"POST", base + "/logging?level=loud", 400, `found log level "loud"`},
		{"GET", base + "/nothing", 404, "invalid path"},
		{"GET", base + "/help", 200, "/drain_listeners (POST)"},
		{"POST", base + "/quitquitquit", 200, "OK\n"},
	} {
		code, body := get(test.method, test.url)
		if code != test.code || !strings.Contains(body, test.want) {
			body = body[:min(len(body), 500)]
			t.Errorf("%s %s: %d %q, want %d and %q", test.method, test.url, code, body, test.code, test.want)
		}
	}
	if text, err := os.ReadFile(told); err != nil || string(text) != fmt.Sprintf("127.0.0.1:%d", admin) {
		t.Errorf("--admin-address-path: %q, %v", text, err)
	}
	if err := <-done; err != nil {
		t.Errorf("after quitquitquit: %v", err)
	}
	cancel()
}

// What wrappers of Envoy pass is taken: what makes a difference makes it, what does
// nothing says so, and the rest is refused with the reason.
func TestEnvoyFlags(t *testing.T) {
	var usage bytes.Buffer
	if err := Command(t.Context(), "malla-proxy", []string{"--allow-unknown-static-fields"}, io.Discard, &usage); err == nil || !strings.Contains(err.Error(), "no field is ignored in silence") || usage.Len() > 0 {
		t.Errorf("--allow-unknown-static-fields: %v, and %d bytes beside it", err, usage.Len())
	}
	if err := Command(t.Context(), "malla-proxy", []string{"--help"}, &usage, io.Discard); !errors.Is(err, flag.ErrHelp) || !strings.Contains(usage.String(), "-config-path") {
		t.Errorf("--help: %v: %s", err, &usage)
	}
	dir := t.TempDir()
	logged := filepath.Join(dir, "log")
	file := write(t, fmt.Sprintf(bootstrap, 1, 2, "3", "node: {id: file, cluster: file}"))
	args := []string{"-c", file, "--mode", "validate", "--disable-hot-restart", "--base-id", "7", "--parent-shutdown-time-s", "60", "--restart-epoch", "0",
		"--drain-strategy", "immediate", "--component-log-level", "upstream:debug,misc:error", "--cpuset-threads", "--log-path", logged, "--log-format", "%v"}
	var out bytes.Buffer
	if err := Command(t.Context(), "malla-proxy", args, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(logged)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"--component-log-level has no effect", "--log-format has no effect"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the log says %q, want it to say %q", text, want)
		}
	}
	if strings.Contains(string(text), "base-id") {
		t.Errorf("a flag that nothing is lost by is warned of: %s", text)
	}
	for flag, want := range map[string]string{"--version": "malla/", "--hot-restart-version": "disabled\n"} {
		out.Reset()
		if err := Command(t.Context(), "malla-proxy", []string{flag}, &out, io.Discard); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, %q", flag, err, out.String())
		}
	}
}

// Text on the command line is merged into the file's: fields are replaced, lists
// grow. Flags say the rest of who the node is.
func TestBootstrapOfTheCommandLine(t *testing.T) {
	o := Options{
		File: write(t, fmt.Sprintf(bootstrap, 1, 2, "3", "node: {id: file, cluster: file, locality: {region: r, zone: z}}")),
		YAML: "{node: {cluster: text}, static_resources: {clusters: [{name: more, type: STATIC}]}}",
		Node: "flag", Zone: "flag",
	}
	b, _, err := readBootstrap(&o)
	if err != nil {
		t.Fatal(err)
	}
	if n := b.Node; n.GetId() != "flag" || n.GetCluster() != "text" || n.GetLocality().GetRegion() != "r" || n.GetLocality().GetZone() != "flag" {
		t.Errorf("node is %v", n)
	}
	if len(b.Clusters) != 2 || b.Clusters[1].GetName() != "more" || len(b.Listeners) != 1 {
		t.Errorf("%d clusters, %d listeners", len(b.Clusters), len(b.Listeners))
	}
	alone, _, err := readBootstrap(&Options{YAML: o.YAML})
	if err != nil || len(alone.Clusters) != 1 {
		t.Errorf("without a file: %v, %v", alone, err)
	}
	if _, _, err := readBootstrap(&Options{File: o.File, YAML: "nonsense: 1"}); err == nil || !strings.Contains(err.Error(), "--config-yaml") {
		t.Errorf("got %v, want it to say where the mistake is", err)
	}
}
