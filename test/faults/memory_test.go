package faults

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/script/mesh"
)

// Clients that ask for much and take nothing would fill any memory. The proxy resets what they hold before
// it has more than it may; who asks meanwhile is served or told when to come again, and the admin interface answers.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	flood := raw(t, func(c net.Conn, _ string) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
		piece := make([]byte, 64<<10)
		for {
			if _, err := c.Write(piece); err != nil {
				return
			}
		}
	})
	good, _ := echoServer(t)
	const limit = 120 << 20
	at := map[string]string{flood: hop.Free(t), good: hop.Free(t)}
	text := ""
	for _, part := range []string{"listeners", "clusters"} {
		text += "  " + part + ":\n"
		for to, from := range at {
			name := map[string]string{flood: "flood", good: "good"}[to]
			if part == "clusters" {
				text += fmt.Sprintf("  - {name: %s, circuit_breakers: {thresholds: [{max_connections: 5000, max_pending_requests: 5000, max_requests: 5000}]}, load_assignment: {cluster_name: %s, endpoints: [{lb_endpoints: [{endpoint: {address: %s}}]}]}}\n", name, name, hop.Socket(to))
				continue
			}
			text += manager(name, from, "{match: {prefix: /}, route: {cluster: "+name+", timeout: 0s}}")
		}
	}
	x := hop.Configured(t, nil, fmt.Sprintf(`overload_manager:
  refresh_interval: 0.1s
  buffer_factory_config: {minimum_account_to_track_power_of_two: 16}
  resource_monitors:
  - {name: heap, typed_config: {"@type": %[1]sextensions.resource_monitors.fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: %[2]d}}
  actions:
  - {name: envoy.overload_actions.reset_high_memory_stream, triggers: [{name: heap, scaled: {scaling_threshold: 0.7, saturation_threshold: 0.9}}]}
  - {name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: heap, threshold: {value: 0.95}}]}
static_resources:
%[3]s`, ads, limit, text))
	const resets = "envoy.overload_actions.reset_high_memory_stream.count"
	var told, served int
	ask := func() {
		t.Helper()
		resp, err := http.Get("http://" + at[good] + "/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		switch {
		case resp.StatusCode == 200:
			served++
		case resp.StatusCode == 503 && resp.Header.Get("retry-after") != "":
			told++
		default:
			t.Fatalf("a request was answered %s, want 200, or 503 with retry-after", resp.Status)
		}
	}
	for range 300 {
		c, err := net.Dial("tcp", at[flood])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nhost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		pause(3 * time.Millisecond)
		ask()
	}
	if text, err := peer.Ask(x.Admin, "/ready"); err != nil || text == "" {
		t.Errorf("the admin interface says %q, %v", text, err)
	}
	mesh.Until(t, 20*time.Second, "all is well again", func() error {
		ask()
		if p := x.Stat(t, "overload.heap.pressure"); p >= 90 {
			return fmt.Errorf("the pressure is %d %%", p)
		}
		return nil
	})
	u := holds(t, x)
	t.Logf("%d requests were served and %d told to come again; %d streams were reset; the proxy has held %d MB at most", served, told, x.Stat(t, resets), u.most>>20)
	if x.Stat(t, resets) < 100 || served == 0 {
		t.Errorf("%d streams were reset, want most of 300; %d requests were served, want some", x.Stat(t, resets), served)
	}
	if u.most > 2*limit {
		t.Errorf("the proxy has held %d MB, want not much more than %d", u.most>>20, limit>>20)
	}
}
