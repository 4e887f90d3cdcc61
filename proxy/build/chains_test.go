package build_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// A listener takes over the chains of the one before it if nothing but chains has changed, as long as they are the same; what a chain
// holds is given back when the last listener that has it goes.
func TestChainsTakenOver(t *testing.T) {
	w := &world{T: t}
	env := newEnv(t, &w.published)
	w.Store = build.NewStore(env, nil)
	w.Dynamic(xdsclient.ListenerType, 0)
	w.Dynamic(xdsclient.ClusterType, 0)
	w.Start()
	defer w.Close()
	w.take(xdsclient.ClusterType, resource(t, "host", &clusterv3.Cluster{}, "{name: host, type: STATIC}"))
	apply := func(fields string, chains ...string) []*listen.Chain {
		w.take(xdsclient.ListenerType, resource(t, "in", &listenerv3.Listener{}, fmt.Sprintf("{name: in, address: {socket_address: {address: 127.0.0.1, port_value: 8080}}, %s filter_chains: [%s]}", fields, strings.Join(chains, ", "))))
		return w.Runtime().Listeners[0].Chains
	}
	counted := func(name string) bool {
		var b bytes.Buffer
		_ = env.Stats.WritePrometheus(&b, stats.Options{})
		return strings.Contains(b.String(), `"`+name+`"`)
	}
	first := apply("", tcpChain(1, "a"), tcpChain(2, "b"))
	second := apply("", tcpChain(2, "b"), tcpChain(1, "c"))
	if second[0] != first[1] || second[1] == first[0] {
		t.Error("the chain that is the same was not taken over, or another one was")
	}
	if !counted("b") || !counted("c") || counted("a") {
		t.Error("want statistics of the chains that are there, and of those only")
	}
	third := apply("per_connection_buffer_limit_bytes: 100,", tcpChain(2, "b"), tcpChain(1, "c"))
	if third[0] == second[0] || third[1] == second[1] {
		t.Error("chains were taken over though more has changed than chains")
	}
	w.Apply(xdsclient.Update{Type: xdsclient.ListenerType, Removed: []string{"in"}})
	if counted("b") || counted("c") {
		t.Error("statistics of chains that have gone are still there")
	}
}

// What a listener counts, and what its chains count, is there while the connections are that it still serves.
func TestStatisticsUntilDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t}
		env := newEnv(t, &w.published)
		env.Drain = 10 * time.Second
		w.Store = build.NewStore(env, nil)
		w.Dynamic(xdsclient.ListenerType, 0)
		w.Dynamic(xdsclient.ClusterType, 0)
		w.Start()
		defer w.Close()
		w.take(xdsclient.ClusterType, resource(t, "host", &clusterv3.Cluster{}, "{name: host, type: STATIC}"))
		apply := func(chain string) {
			w.take(xdsclient.ListenerType, resource(t, "in", &listenerv3.Listener{}, fmt.Sprintf("{name: in, stat_prefix: edge, address: {socket_address: {address: 127.0.0.1, port_value: 8080}}, filter_chains: [%s]}", chain)))
		}
		check := func(when, want string) {
			t.Helper()
			var b bytes.Buffer
			_ = env.Stats.WritePrometheus(&b, stats.Options{})
			var there []string
			for _, name := range []string{"edge", "a", "b"} {
				if strings.Contains(b.String(), `"`+name+`"`) {
					there = append(there, name)
				}
			}
			if got := strings.Join(there, " "); got != want {
				t.Errorf("%s: there are statistics of %q, want %q", when, got, want)
			}
		}
		apply(tcpChain(1, "a"))
		apply(tcpChain(1, "b"))
		check("a chain drains", "edge a b")
		time.Sleep(11 * time.Second)
		check("the chain has drained", "edge b")
		w.Apply(xdsclient.Update{Type: xdsclient.ListenerType, Removed: []string{"in"}})
		check("the listener drains", "edge b")
		time.Sleep(11 * time.Second)
		check("the listener has drained", "")
	})
}

func tcpChain(port int, prefix string) string {
	return fmt.Sprintf(`{filter_chain_match: {destination_port: %d}, filters: [{name: tcp, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: %s, cluster: host}}]}`, port, prefix)
}
