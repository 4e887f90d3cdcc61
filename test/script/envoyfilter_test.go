//go:build linux

package script_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

type patches struct{ *mesh.Mesh }

// TestEnvoyFilter is what people patch first, with traffic: each object acts at once, and its
// deletion brings back what was.
func TestEnvoyFilter(t *testing.T) {
	linux(t)
	m := mesh.Up(t, mesh.Options{Name: "envoyfilter", Paths: []string{filepath.Join("testdata", "envoyfilter")}})
	for _, app := range []string{"meshed", "plain", "sleep"} {
		m.Rollout(app)
	}
	run := func(name string, f func(patches, *testing.T)) {
		t.Run(name, func(t *testing.T) { f(patches{m.In(t)}, t) })
	}
	run("the gateway's server header", patches.serverHeader)
	run("requests at a sidecar's door", patches.localRateLimit)
	run("a buffer and a timeout", patches.bufferAndTimeout)
	run("a bad patch", patches.badPatch)
	run("what a proxy refuses", patches.refused)
	run("a rollout under what a proxy refuses", patches.stalled)
}

// own is the server header that httpbin sends itself.
const own = "gunicorn/19.9.0"

// server waits for the server header that each host's answers have at the gateway, "" for none.
func (p patches) server(t *testing.T, limit time.Duration, meshed, plain string) {
	t.Helper()
	c := mesh.Client(3 * time.Second)
	defer c.CloseIdleConnections()
	mesh.Until(t, limit, fmt.Sprintf("server %q of the pod with a sidecar, %q without", meshed, plain), func() error {
		for host, want := range map[string]string{"meshed.example": meshed, "plain.example": plain} {
			a, err := mesh.Get(c, p.URL("/status/200"), "host: "+host)
			if err != nil {
				return err
			}
			if got := a.Header.Get("server"); a.Status != 200 || got != want {
				return fmt.Errorf("%s: %d, server %q", host, a.Status, got)
			}
		}
		return nil
	})
}

const passThrough = `
  - applyTo: NETWORK_FILTER
    match: {context: GATEWAY, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch:
      operation: MERGE
      value:
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          server_header_transformation: PASS_THROUGH`

const removeHeaders = `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: gateway-response-remove-headers, namespace: istio-system}
spec:
  workloadSelector: {labels: {istio: ingressgateway}}
  configPatches:`

func (p patches) serverHeader(t *testing.T) {
	p.server(t, 10*time.Second, "istio-envoy", "istio-envoy")
	p.Apply(removeHeaders + passThrough + `
  - applyTo: ROUTE_CONFIGURATION
    match: {context: GATEWAY}
    patch: {operation: MERGE, value: {response_headers_to_remove: [server]}}
`)
	p.server(t, 5*time.Second, "", "")
	if out := p.curl("-i", "meshed:8000/status/200"); !strings.Contains(strings.ToLower(out), "server: ") {
		t.Errorf("between sidecars the header must stay:\n%s", out)
	}
	p.Apply(removeHeaders + passThrough + "\n")
	p.server(t, 5*time.Second, "istio-envoy", own)
	p.Must("delete", "envoyfilter", "gateway-response-remove-headers", "-n", "istio-system")
	p.server(t, time.Second, "istio-envoy", "istio-envoy")
}

func (p patches) curl(args ...string) string {
	return p.Exec("deploy/sleep", "sleep", append(append([]string{}, curl...), append([]string{"-sS"}, args...)...)...).Out
}

// code asks for a path of the application with the sidecar.
func (p patches) code(path string, args ...string) string {
	return p.curl(append(args, "-o", "/dev/null", "-w", "%{http_code}", "meshed:8000"+path)...)
}

func (p patches) localRateLimit(t *testing.T) {
	limit := `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: limit}
spec:
  workloadSelector: {labels: {app: meshed}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/udpa.type.v1.TypedStruct
          type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          value:
            stat_prefix: http_local_rate_limiter
            token_bucket: {max_tokens: 4, tokens_per_fill: 4, fill_interval: 3600s}
            filter_enabled: {runtime_key: local_rate_limit_enabled, default_value: {numerator: 100, denominator: HUNDRED}}
            filter_enforced: {runtime_key: local_rate_limit_enforced, default_value: {numerator: 100, denominator: HUNDRED}}
            response_headers_to_add: [{append_action: OVERWRITE_IF_EXISTS_OR_ADD, header: {key: x-local-rate-limit, value: "true"}}]
`
	p.Apply(limit)
	mesh.Until(t, 5*time.Second, "429 after four", func() error {
		if out := p.curl("-i", "meshed:8000/status/200"); !strings.Contains(out, "429") || !strings.Contains(out, "x-local-rate-limit: true") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	p.Delete(limit)
	mesh.Until(t, time.Second, "no limit any more", func() error {
		if got := p.code("/status/200"); got != "200" {
			return fmt.Errorf("status %s", got)
		}
		return nil
	})
}

func (p patches) bufferAndTimeout(t *testing.T) {
	both := `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: both}
spec:
  workloadSelector: {labels: {app: sleep}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_OUTBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch:
      operation: INSERT_BEFORE
      value: {name: envoy.filters.http.buffer, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 10}}
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {name: "meshed.default.svc.cluster.local:8000", route: {action: ROUTE}}}}
    patch: {operation: MERGE, value: {route: {timeout: 0.3s}}}
`
	p.Apply(both)
	want := func(limit time.Duration, large, slow string) {
		t.Helper()
		mesh.Until(t, limit, "a large body "+large+", a slow answer "+slow, func() error {
			if a, b := p.code("/post", "-d", "a body of more than ten bytes"), p.code("/delay/1"); a != large || b != slow {
				return fmt.Errorf("large %s, slow %s", a, b)
			}
			return nil
		})
	}
	want(5*time.Second, "413", "504")
	p.Delete(both)
	want(5*time.Second, "200", "200")
}

// badPatch: an object that nobody could act on is refused with its path, and what was there stays.
func (p patches) badPatch(t *testing.T) {
	r := p.RunIn(10*time.Second, `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: bad}
spec:
  configPatches:
  - {applyTo: HTTP_FILTER, patch: {operation: INSERT_FIRST, value: {name: x, typed_config: {"@type": type.googleapis.com/nobody.Knows}}}}
`, "apply", "-f", "-")
	if r.Code == 0 || !strings.Contains(r.Err, "spec.configPatches[0].patch.value.typed_config.@type") {
		t.Errorf("%s", r)
	}
	if got := p.code("/status/200"); got != "200" {
		t.Errorf("status %s", got)
	}
}

// refused: of what the control plane takes and proxies do not, the author hears on the object, until it is right.
func (p patches) refused(t *testing.T) {
	filter := func(value string) string {
		return `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: eager}
spec:
  workloadSelector: {labels: {app: sleep}}
  configPatches:
  - applyTo: CLUSTER
    match: {context: SIDECAR_OUTBOUND, cluster: {service: meshed.default.svc.cluster.local}}
    patch: {operation: MERGE, value: ` + value + `}
`
	}
	p.Apply(filter("{preconnect_policy: {per_upstream_preconnect_ratio: 3}}"))
	p.Apply(filter("{preconnect_policy: {per_upstream_preconnect_ratio: 2.5}}"))
	told := func() string {
		return strings.Join(strings.Fields(p.Run("get", "envoyfilter", "eager", "-o", "yaml").Out), " ")
	}
	const reason = "connection_pool_per_downstream_connection" // Envoy has it, our proxy has not
	if out := told(); strings.Contains(out, reason) {
		t.Errorf("nothing is wrong yet:\n%s", out)
	}
	p.Apply(filter("{" + reason + ": true}"))
	mesh.Until(t, 10*time.Second, "the object says which proxy refuses what", func() error {
		if out := told(); !strings.Contains(out, "the proxy sleep-") || !strings.Contains(out, reason) {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	if got := p.code("/status/200"); got != "200" {
		t.Errorf("the last good cluster must stay: status %s", got)
	}
	p.Apply(filter("{preconnect_policy: {per_upstream_preconnect_ratio: 2}}"))
	mesh.Until(t, 10*time.Second, "the finding is gone", func() error {
		if out := told(); strings.Contains(out, reason) {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	p.Must("delete", "envoyfilter", "eager")
}

// stalled: a pod whose first configuration its proxy refuses does not get ready, so that those before it serve on; the rollout
// ends when the cause goes.
func (p patches) stalled(t *testing.T) {
	script := func(name, source string) string {
		return `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: ` + name + `}
spec:
  workloadSelector: {labels: {app: meshed}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch:
      operation: INSERT_BEFORE
      value: {name: ` + name + `, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, inlineCode: "` + source + `"}}
`
	}
	if r := p.RunIn(10*time.Second, script("torn", "function envoy_on_request(h) en"), "apply", "-f", "-"); r.Code == 0 || !strings.Contains(r.Err, "spec.configPatches[0].patch.value.typed_config.inlineCode: script load error") {
		t.Errorf("a script that does not compile: %s", r)
	}
	innocent, guilty := script("innocent", "function envoy_on_request(h) end"), script("guilty", "error('not today')")
	p.Apply(innocent)
	p.Apply(guilty)
	p.Must("rollout", "restart", "deployment/meshed")
	mesh.Until(t, 20*time.Second, "the object says that the new pod has nothing and the old one what it had", func() error {
		out := strings.Join(strings.Fields(p.Run("get", "envoyfilter", "guilty", "-o", "yaml").Out), " ")
		if !strings.Contains(out, "has nothing in its place: it is not ready") || !strings.Contains(out, "and keeps what it had") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	if out := p.Run("get", "envoyfilter", "innocent", "-o", "yaml").Out; strings.Contains(out, "not today") {
		t.Errorf("the innocent one is blamed:\n%s", out)
	}
	if r := p.RunIn(10*time.Second, "", "rollout", "status", "deployment/meshed", "--timeout=2s"); r.Code == 0 {
		t.Errorf("the rollout has gone on: %s", r)
	}
	if got := p.code("/status/200"); got != "200" {
		t.Errorf("the old pod must serve: status %s", got)
	}
	p.Delete(guilty)
	p.Rollout("meshed")
	p.Delete(innocent)
	if got := p.code("/status/200"); got != "200" {
		t.Errorf("the new pod must serve: status %s", got)
	}
}
