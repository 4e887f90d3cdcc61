package faults

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/script/mesh"
)

// pressed are all that can be done when there is too much of something, and what a client of HTTP/1.1 then sees.
var pressed = []struct{ name, sees string }{
	{"envoy.overload_actions.stop_accepting_requests", "503 in 1"},
	{"envoy.overload_actions.disable_http_keepalive", "200 close"},
	{"envoy.overload_actions.stop_accepting_connections", "silence"},
	{"envoy.overload_actions.reject_incoming_connections", "the end"},
	{"envoy.overload_actions.reduce_timeouts", "200"},
	{"envoy.overload_actions.reset_high_memory_stream", "200"},
	{"envoy.overload_actions.shrink_heap", "200"},
	{"envoy.load_shed_points.tcp_listener_accept", "the end"},
	{"envoy.load_shed_points.http_connection_manager_decode_headers", "503 in 1"},
	{"envoy.load_shed_points.http1_server_abort_dispatch", "500 close"},
	{"envoy.load_shed_points.http2_server_go_away_on_dispatch", "200"},
	{"envoy.load_shed_points.http2_server_go_away_and_close_on_dispatch", "200"},
	{"envoy.load_shed_points.hcm_ondata_creating_codec", "the end"},
	{"envoy.load_shed_points.http_downstream_filter_check", "503 in 1"},
	{"envoy.load_shed_points.connection_pool_new_connection", "503 in 1"},
	{"envoy.load_shed_points.tcp_proxy_on_data", "200"},
	{"envoy.load_shed_points.tcp_proxy_upstream_connect", "200"},
}

// Whatever is done against overload, the admin interface, metrics and a listener for checks of health that is left out of it are answered,
// who is refused with 503 is told when to come again, and when the pressure has gone everybody is served as before.
func TestAdminAndHealthAnswerUnderPressure(t *testing.T) {
	t.Parallel()
	app, _ := echoServer(t)
	dir, at, health := t.TempDir(), hop.Free(t), hop.Free(t)
	press := func(name, to string) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", []byte(to), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	var monitors, actions, points strings.Builder
	for _, p := range pressed {
		press(p.name, "0")
		fmt.Fprintf(&monitors, "  - {name: %s, typed_config: {\"@type\": %sextensions.resource_monitors.injected_resource.v3.InjectedResourceConfig, filename: %s/%s}}\n", p.name, ads, dir, p.name)
		to, typed := &actions, ""
		switch {
		case strings.HasPrefix(p.name, "envoy.load_shed_points."):
			to = &points
		case strings.HasSuffix(p.name, "reduce_timeouts"):
			typed = `, typed_config: {"@type": ` + ads + `config.overload.v3.ScaleTimersOverloadActionConfig, timer_scale_factors: [{timer: HTTP_DOWNSTREAM_STREAM_IDLE, min_timeout: 5s}]}`
		}
		fmt.Fprintf(to, "  - {name: %s, triggers: [{name: %s, threshold: {value: 0.9}}]%s}\n", p.name, p.name, typed)
	}
	x := hop.Configured(t, nil, `overload_manager:
  refresh_interval: 0.05s
  buffer_factory_config: {minimum_account_to_track_power_of_two: 20}
  resource_monitors:
`+monitors.String()+"  actions:\n"+actions.String()+"  loadshed_points:\n"+points.String()+`static_resources:
  listeners:
`+manager("main", at, "{match: {prefix: /}, route: {cluster: app}}")+
		manager("health", health, "{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: well}}}")+
		"    bypass_overload_manager: true\n"+`  clusters:
  - name: app
    max_requests_per_connection: 1
    load_assignment: {cluster_name: app, endpoints: [{lb_endpoints: [{endpoint: {address: `+hop.Socket(app)+`}}]}]}
`)
	for _, p := range pressed {
		press(p.name, "1")
		scale := "overload." + p.name + ".scale_percent"
		mesh.Until(t, 10*time.Second, p.name+" is in force", func() error {
			if n := x.Stat(t, scale); n != 100 {
				return fmt.Errorf("%s is %d", scale, n)
			}
			return nil
		})
		for path, want := range map[string]string{"/ready": "LIVE", "/stats": scale, "/stats/prometheus": "envoy_server_live", "/clusters": "app::", "/memory": "allocated"} {
			if text, err := peer.Ask(x.Admin, path); err != nil || !strings.Contains(text, want) {
				t.Errorf("%s: the admin interface says at %s %.200q, %v, want %q in it", p.name, path, text, err, want)
			}
		}
		if got := sees(t, health); got != "200" {
			t.Errorf("%s: who asks for health sees %s, want 200", p.name, got)
		}
		if got := sees(t, at); got != p.sees {
			t.Errorf("%s: a client sees %s, want %s", p.name, got, p.sees)
		}
		press(p.name, "0")
		mesh.Until(t, 10*time.Second, p.name+" has ended", func() error {
			if got := sees(t, at); got != "200" {
				return fmt.Errorf("a client sees %s", got)
			}
			return nil
		})
	}
}

// sees asks once by a new connection: the status, with what it says of coming again and of the connection's end; or the connection's
// end; or silence.
func sees(t *testing.T, address string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "the end"
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nhost: x\r\n\r\n"); err != nil {
		return "the end"
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second)) // one of those who are pressed sees nothing, the others something in time
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err, ok := err.(net.Error); ok && err.Timeout() {
		return "silence"
	}
	if err != nil {
		return "the end"
	}
	defer resp.Body.Close()
	got := fmt.Sprint(resp.StatusCode)
	if again := resp.Header.Get("retry-after"); again != "" {
		got += " in " + again
	}
	if resp.Close {
		got += " close"
	}
	return got
}
