//go:build linux

package envoy_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

const cgroupBootstrap = `
admin: {address: {socket_address: {address: {{ip}}, port_value: 9901}}}
overload_manager:
  refresh_interval: 0.1s
  resource_monitors:
  - {name: memory, typed_config: {"@type": type.googleapis.com/envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig{{bound}}}}
  actions:
  - {name: envoy.overload_actions.stop_accepting_requests, triggers: [{name: memory, threshold: {value: 0.9}}]}
static_resources:
  listeners:
  - name: main
    address: {socket_address: {address: {{ip}}, port_value: 8080}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]}
          http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
`

// What a control group's files say of memory is pressure to both proxies alike, in either version of control groups: they stop
// taking requests, and take them again. The files are the test's: each proxy has a mount namespace in which they are the machine's.
func TestCgroupMemory(t *testing.T) {
	if out, err := exec.Command("unshare", "-Urm", "true").CombinedOutput(); err != nil {
		process.Skip(t, fmt.Sprintf("no mount namespaces: %v %s", err, out))
	}
	programs := []program{{path: process.Envoy(t), envoy: true}, {path: process.Proxy(t)}}
	for _, version := range []struct {
		name, used, limit, bound string
		most                     uint64
	}{
		{"2", "memory.current", "memory.max", "", 1000},
		{"1", "memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "", 1000},
		{"2, bounded by the configuration", "memory.current", "memory.max", ", max_memory_bytes: 500", 500},
	} {
		for _, p := range programs {
			t.Run(p.String()+"/version "+version.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				write := func(file string, n uint64) {
					t.Helper()
					path := filepath.Join(dir, file)
					if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, fmt.Appendf(nil, "%d\n", n), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				write(version.limit, 1000)
				write(version.used, version.most/2)
				s := &side{program: p, dir: t.TempDir()}
				s.reserve(t)
				ip := s.network + ".0.1"
				config := filepath.Join(s.dir, "bootstrap.yaml")
				if err := os.WriteFile(config, []byte(fill(cgroupBootstrap, map[string]string{"ip": ip, "bound": version.bound})), 0o600); err != nil {
					t.Fatal(err)
				}
				inside := []string{"-Urm", "sh", "-c", `mount --bind "$0" /sys/fs/cgroup && exec "$@"`, dir, p.path}
				s.run = start(t, "unshare", append(inside, s.args(config, "--concurrency", "1")...)...)
				if !s.lives(t) {
					t.Fatalf("%s has ended", s)
				}
				answers := func(pressure string, status int) {
					t.Helper()
					mesh.Until(t, 20*time.Second, fmt.Sprintf("status %d at a pressure of %s", status, pressure), func() error {
						resp, err := http.Get("http://" + ip + ":8080/")
						if err != nil {
							return err
						}
						resp.Body.Close()
						text, err := peer.Ask(s.admin(), "/stats?filter=overload.memory.pressure")
						if err != nil {
							return err
						}
						if want := "overload.memory.pressure: " + pressure + "\n"; resp.StatusCode != status || text != want {
							return fmt.Errorf("status %d, %s", resp.StatusCode, text)
						}
						return nil
					})
				}
				answers("50", http.StatusOK)
				write(version.used, version.most*95/100)
				answers("95", http.StatusServiceUnavailable)
				write(version.used, version.most*2)
				answers("200", http.StatusServiceUnavailable)
				write(version.used, version.most/10)
				answers("10", http.StatusOK)
			})
		}
	}
}
