package faults

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/script/mesh"
)

// manager is a listener with a connection manager of some routes.
func manager(name, at, routes string) string {
	return fmt.Sprintf(`  - name: %[1]s
    address: %[2]s
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": %[4]sextensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: %[1]s
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [%[3]s]}]}
          http_filters:
          - {name: router, typed_config: {"@type": %[4]sextensions.filters.http.router.v3.Router}}
`, name, hop.Socket(at), routes, ads)
}

// A server that stands still (SIGSTOP: its system goes on accepting connections and bytes) costs some requests a try, and
// none its answer; soon it is asked no more, and when it goes on it is asked again.
func TestServerStandsStill(t *testing.T) {
	t.Parallel()
	var hosts [2]*hop.Proxy
	var addresses [2]string
	var endpoints []string
	for i := range hosts {
		addresses[i] = hop.Free(t)
		hosts[i] = hop.Configured(t, nil, "static_resources:\n  listeners:\n"+manager("app", addresses[i], fmt.Sprintf("{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: host%d}}}", i)))
		endpoints = append(endpoints, fmt.Sprintf("{endpoint: {address: %s}}", hop.Socket(addresses[i])))
	}
	at := hop.Free(t)
	x := hop.Configured(t, nil, "static_resources:\n  listeners:\n"+manager("main", at, `{match: {prefix: /}, route: {cluster: app, timeout: 15s, retry_policy: {retry_on: "5xx", num_retries: 3, per_try_timeout: 0.5s, retry_host_predicate: [{name: p, typed_config: {"@type": `+ads+`extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}], host_selection_retry_max_attempts: 5}}}`)+`  clusters:
  - name: app
    connect_timeout: 1s
    circuit_breakers: {thresholds: [{max_retries: 100}]}
    outlier_detection: {consecutive_5xx: 3, interval: 0.5s, base_ejection_time: 3s, max_ejection_percent: 100}
    load_assignment: {cluster_name: app, endpoints: [{lb_endpoints: [`+strings.Join(endpoints, ", ")+"]}]}\n")
	var counts tally
	begun := time.Now()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	defer client.CloseIdleConnections()
	over := make(chan struct{})
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(20 * time.Millisecond):
					counts.ask(client, "GET", "http://"+at+"/", nil)
				}
			}
		})
	}
	pause(time.Second)
	pid := hosts[1].Cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ejected := func(want int64) func() error {
		return func() error {
			if n := x.Stat(t, "cluster.app.outlier_detection.ejections_active"); n != want {
				return fmt.Errorf("%d hosts are ejected, want %d", n, want)
			}
			return nil
		}
	}
	mesh.Until(t, 10*time.Second, "the host that stands still is asked no more", ejected(1))
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	mesh.Until(t, 15*time.Second, "the host is asked again", ejected(0))
	before := hosts[1].Stat(t, "http.app.downstream_rq_total")
	mesh.Until(t, 10*time.Second, "the host answers", func() error {
		if n := hosts[1].Stat(t, "http.app.downstream_rq_total"); n < before+20 {
			return fmt.Errorf("it has had %d requests since", n-before)
		}
		return nil
	})
	close(over)
	all.Wait()
	t.Logf("%d requests were answered in %v", counts.ok, time.Since(begun))
	if len(counts.bad) > 0 || counts.ok < 100 {
		t.Errorf("%d requests were answered; failed: %v", counts.ok, counts.bad)
	}
}
