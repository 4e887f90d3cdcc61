package build_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// resource reads a message in YAML.
func resource(t *testing.T, name string, m proto.Message, text string) xdsclient.Resource {
	t.Helper()
	converted, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(converted, m); err != nil {
		t.Fatal(err)
	}
	body, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return xdsclient.Resource{Name: name, Version: "1", Body: body}
}

const ads = "{ads: {}, resource_api_version: V3, initial_fetch_timeout: 15s}"

func edsCluster(t *testing.T, name, more string) xdsclient.Resource {
	return resource(t, name, &clusterv3.Cluster{}, fmt.Sprintf("{name: %q, type: EDS, eds_cluster_config: {eds_config: %s}%s}", name, ads, more))
}

func load(t *testing.T, name, address string) xdsclient.Resource {
	return resource(t, name, &endpointv3.ClusterLoadAssignment{}, fmt.Sprintf(
		"{cluster_name: %q, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: 80}}}}]}]}", name, address))
}

func routesTo(t *testing.T, name, cluster string) xdsclient.Resource {
	return resource(t, name, &routev3.RouteConfiguration{}, fmt.Sprintf(
		"{name: %q, virtual_hosts: [{name: all, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: %q}}]}]}", name, cluster))
}

func httpListener(t *testing.T, name, routes string) xdsclient.Resource {
	return resource(t, name, &listenerv3.Listener{}, fmt.Sprintf(`
name: %q
address: {socket_address: {address: 127.0.0.1, port_value: 8080}}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: in
      rds: {route_config_name: %q, config_source: %s}
      http_filters:
      - {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
`, name, routes, ads))
}

// world is a store whose pictures a test looks at.
type world struct {
	*testing.T
	*build.Store
	published []*shard.Runtime
}

func newWorld(t *testing.T) *world {
	w := &world{T: t}
	w.Store = build.NewStore(newEnv(t, &w.published), nil)
	w.Dynamic(xdsclient.ClusterType, 0)
	w.Dynamic(xdsclient.ListenerType, 0)
	w.Start()
	t.Cleanup(w.Close)
	return w
}

// take applies an update that must be accepted.
func (w *world) take(typeURL string, resources ...xdsclient.Resource) {
	w.Helper()
	for _, f := range w.Apply(xdsclient.Update{Type: typeURL, Resources: resources}) {
		w.Errorf("refused %s: %v", f.Name, f.Err)
	}
}

// picture is what is in force: listeners, clusters with their hosts, route tables.
func (w *world) picture() string {
	r := w.Runtime()
	var out []string
	for _, l := range r.Listeners {
		out = append(out, "L:"+l.Name)
	}
	for _, n := range slices.Sorted(maps.Keys(r.Clusters)) {
		hosts := ""
		for _, h := range r.Clusters[n].Hosts().All {
			hosts += "=" + h.Addr.Addr().String()
		}
		out = append(out, "C:"+n+hosts)
	}
	for _, n := range slices.Sorted(maps.Keys(r.Routes)) {
		out = append(out, "R:"+n)
	}
	return strings.Join(out, " ")
}

func (w *world) expect(why, want string) {
	w.Helper()
	if got := w.picture(); got != want {
		w.Errorf("%s:\n got %s\nwant %s", why, got, want)
	}
}

func (w *world) wants(typeURL string) string {
	return strings.Join(w.Wants()[typeURL].Names, " ")
}

// A listener becomes visible when everything behind it has come.
func TestClosure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take(xdsclient.ClusterType, edsCluster(t, "a", ""))
		w.expect("a cluster waits for its endpoints", "")
		if got := w.wants(xdsclient.EndpointType); got != "a" {
			t.Errorf("wants endpoints %q, want a", got)
		}
		w.take(xdsclient.ListenerType, httpListener(t, "in", "80"))
		w.expect("a listener waits for its routes", "")
		if got := w.wants(xdsclient.RouteType); got != "80" {
			t.Errorf("wants routes %q, want 80", got)
		}
		if ready, why := w.Ready(); ready || !strings.Contains(why, "in") {
			t.Errorf("ready %v, %q while the listener waits", ready, why)
		}
		w.take(xdsclient.RouteType, routesTo(t, "80", "a"))
		w.expect("routes wait for their cluster", "")
		w.take(xdsclient.EndpointType, load(t, "a", "10.0.0.1"))
		w.expect("all at once", "L:in C:a=10.0.0.1 R:80")
		if ready, why := w.Ready(); !ready {
			t.Errorf("not ready: %s", why)
		}

		before := len(w.published)
		w.take(xdsclient.EndpointType, load(t, "a", "10.0.0.2"))
		w.expect("endpoints change inside the cluster", "L:in C:a=10.0.0.2 R:80")
		if len(w.published) != before {
			t.Error("a change of endpoints made a new runtime")
		}
		w.take(xdsclient.ListenerType, httpListener(t, "in", "80"))
		if len(w.published) != before {
			t.Error("the same listener again made a new runtime")
		}
	})
}

// A route to a cluster that does not exist holds nothing up when the clusters and
// the routes are of one version of the server's configuration.
func TestUnknownClusterOfTheSameVersion(t *testing.T) {
	for _, test := range []struct {
		what, clusters, routes, want string
	}{
		{"one version", "7", "7", "L:in C:a R:80"},
		{"routes that are newer", "7", "8", "C:a"},
		{"a server without versions", "", "", "C:a"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.Apply(xdsclient.Update{Type: xdsclient.ClusterType, Version: test.clusters, Resources: []xdsclient.Resource{edsCluster(t, "a", "")}})
			w.Apply(xdsclient.Update{Type: xdsclient.EndpointType, Version: test.clusters, Removed: []string{"a"}})
			w.Apply(xdsclient.Update{Type: xdsclient.ListenerType, Version: test.clusters, Resources: []xdsclient.Resource{httpListener(t, "in", "80")}})
			w.Apply(xdsclient.Update{Type: xdsclient.RouteType, Version: test.routes, Resources: []xdsclient.Resource{routesTo(t, "80", "nosuch")}})
			w.expect(test.what, test.want)
			time.Sleep(time.Second)
			synctest.Wait()
			w.expect(test.what+", a second later", "L:in C:a R:80")
		})
	}
}

// What does not come is not waited for beyond initial_fetch_timeout; that a name
// does not exist is an answer.
func TestInitialFetchTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take(xdsclient.ListenerType, httpListener(t, "in", "80"))
		time.Sleep(14 * time.Second)
		w.expect("before the time is over", "")
		time.Sleep(2 * time.Second)
		w.expect("after it", "L:in")

		w.take(xdsclient.ListenerType, httpListener(t, "other", "90"))
		w.expect("the next waits", "L:in")
		w.Apply(xdsclient.Update{Type: xdsclient.RouteType, Removed: []string{"90"}})
		w.expect("until it is told that there are none", "L:in L:other")
	})
}

// A refused resource keeps its last version, and the rest of the response goes in.
func TestLastGoodVersionStays(t *testing.T) {
	w := newWorld(t)
	w.take(xdsclient.ClusterType, resource(t, "a", &clusterv3.Cluster{}, "{name: a, type: STATIC, connect_timeout: 1s}"))
	refused := w.Apply(xdsclient.Update{Type: xdsclient.ClusterType, Resources: []xdsclient.Resource{
		resource(t, "a", &clusterv3.Cluster{}, "{name: a, type: STATIC, lrs_report_endpoint_metrics: [x]}"),
		resource(t, "b", &clusterv3.Cluster{}, "{name: b, type: STATIC}"),
		resource(t, "c", &clusterv3.Cluster{}, "{name: c, lb_policy: MAGLEV, maglev_lb_config: {table_size: 10}}"),
	}})
	var said []string
	for _, f := range refused {
		said = append(said, f.Name+": "+f.Err.Error())
	}
	want := []string{
		"a: lrs_report_endpoint_metrics: is not supported",
		"c: lb_policy: table_size 10, want a prime up to 5000011",
	}
	if !slices.Equal(said, want) {
		t.Errorf("refused\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
	w.expect("the others are in, a is what it was", "C:a C:b")
	if got := w.Runtime().Cluster("a").ConnectTimeout; got != time.Second {
		t.Errorf("a has connect_timeout %v, want that of its last good version", got)
	}
}

// Routes are not put in force before the clusters they name can take requests; a
// cluster is not taken away as long as routes in force name it.
func TestMakeBeforeBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take(xdsclient.ClusterType, edsCluster(t, "v1", ""))
		w.take(xdsclient.EndpointType, load(t, "v1", "10.0.0.1"))
		w.take(xdsclient.ListenerType, httpListener(t, "in", "80"))
		w.take(xdsclient.RouteType, routesTo(t, "80", "v1"))
		old := w.Runtime().Table("80")

		w.take(xdsclient.ClusterType, edsCluster(t, "v2", ""))
		w.take(xdsclient.RouteType, routesTo(t, "80", "v2"))
		if w.Runtime().Table("80") != old {
			t.Error("routes to v2 are in force before v2 has endpoints")
		}
		w.Apply(xdsclient.Update{Type: xdsclient.ClusterType, Removed: []string{"v1"}})
		w.expect("v1 stays, the routes in force name it", "L:in C:v1=10.0.0.1 R:80")
		w.take(xdsclient.EndpointType, load(t, "v2", "10.0.0.2"))
		if w.Runtime().Table("80") == old {
			t.Error("routes to v2 are not in force although v2 is complete")
		}
		time.Sleep(warming)
		w.expect("v1 is gone when nothing names it", "L:in C:v2=10.0.0.2 R:80")

		table := w.Runtime().Table("80")
		w.take(xdsclient.RouteType, routesTo(t, "80", "nobody"))
		if w.Runtime().Table("80") != table {
			t.Error("no time was given to a cluster that may be on its way")
		}
		time.Sleep(2 * time.Second)
		if w.Runtime().Table("80") == table {
			t.Error("routes wait forever for a cluster that nobody knows")
		}
	})
}

// warming is longer than anything waits for a cluster.
const warming = 6 * time.Second

// A removed listener goes; its routes are not asked for any more.
func TestRemovedListener(t *testing.T) {
	w := newWorld(t)
	w.take(xdsclient.ListenerType, httpListener(t, "in", "80"))
	w.Apply(xdsclient.Update{Type: xdsclient.RouteType, Removed: []string{"80"}})
	w.expect("there", "L:in")
	w.Apply(xdsclient.Update{Type: xdsclient.ListenerType, Removed: []string{"in"}})
	w.expect("gone", "")
	if got := w.wants(xdsclient.RouteType); got != "" {
		t.Errorf("still wants routes %q", got)
	}
}

// The connections of a listener that has gone are routed until they end, by routes that are kept up to date.
func TestRoutesOfARetiredListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t}
		env := newEnv(t, &w.published)
		env.Drain = 10 * time.Second
		w.Store = build.NewStore(env, nil)
		w.Dynamic(xdsclient.ClusterType, 0)
		w.Dynamic(xdsclient.ListenerType, 0)
		w.Start()
		defer w.Close()
		w.take(xdsclient.ClusterType, resource(t, "a", &clusterv3.Cluster{}, "{name: a, type: STATIC}"))
		w.take(xdsclient.ListenerType, httpListener(t, "in", "80"))
		w.take(xdsclient.RouteType, routesTo(t, "80", "a"))
		w.expect("there", "L:in C:a R:80")
		w.take(xdsclient.ListenerType, httpListener(t, "in", "90"))
		w.take(xdsclient.RouteType, routesTo(t, "90", "a"))
		w.expect("with other routes", "L:in C:a R:80 R:90")
		time.Sleep(5 * time.Second)
		w.Apply(xdsclient.Update{Type: xdsclient.ListenerType, Removed: []string{"in"}})
		w.expect("gone", "C:a R:80 R:90")
		if got := w.wants(xdsclient.RouteType); got != "80 90" {
			t.Errorf("wants routes %q, want those of connections that are served", got)
		}
		time.Sleep(6 * time.Second)
		w.Wants()
		w.expect("the first connections have ended", "C:a R:90")
		time.Sleep(5 * time.Second)
		w.Wants()
		w.expect("all have ended", "C:a")
		if got := w.wants(xdsclient.RouteType); got != "" {
			t.Errorf("still wants routes %q", got)
		}
	})
}

// A control plane cannot replace what the bootstrap holds.
func TestStaticWins(t *testing.T) {
	var published []*shard.Runtime
	s := build.NewStore(newEnv(t, &published), nil)
	defer s.Close()
	m, err := build.ParseBootstrap("b.yaml", []byte("static_resources: {clusters: [{name: a, type: STATIC, connect_timeout: 1s}]}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := build.NewBootstrap("b.yaml", m)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Static(b); err != nil {
		t.Fatal(err)
	}
	s.Start()
	refused := s.Apply(xdsclient.Update{Type: xdsclient.ClusterType, Resources: []xdsclient.Resource{resource(t, "a", &clusterv3.Cluster{}, "{name: a, type: STATIC, connect_timeout: 9s}")}})
	if len(refused) != 1 || s.Runtime().Cluster("a").ConnectTimeout != time.Second {
		t.Errorf("refused %v, connect_timeout %v", refused, s.Runtime().Cluster("a").ConnectTimeout)
	}
}

// Tools look for route tables among the routes, also for those that stand inside of listeners.
func TestDumpShowsInlineTables(t *testing.T) {
	w := newWorld(t)
	l := httpListener(t, "in", "80")
	var m listenerv3.Listener
	if err := l.Body.UnmarshalTo(&m); err != nil {
		t.Fatal(err)
	}
	var hcm hcmv3.HttpConnectionManager
	config := m.FilterChains[0].Filters[0]
	if err := config.GetTypedConfig().UnmarshalTo(&hcm); err != nil {
		t.Fatal(err)
	}
	hcm.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{Name: "inside"}}
	config.GetTypedConfig().MarshalFrom(&hcm)
	l.Body.MarshalFrom(&m)
	w.take(xdsclient.ListenerType, l)
	for _, part := range w.Dump(false) {
		d, ok := part.(*adminv3.RoutesConfigDump)
		if !ok {
			continue
		}
		var table routev3.RouteConfiguration
		if n := len(d.StaticRouteConfigs); n != 1 || d.StaticRouteConfigs[0].RouteConfig.UnmarshalTo(&table) != nil || table.Name != "inside" {
			t.Errorf("%d tables inside of listeners, want the one of in", n)
		}
		return
	}
	t.Error("no routes in the dump")
}

// A workload serves when what it was first sent is in force; an Envoy has started then, refused or not.
func TestARefusedFirstListenerIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take(xdsclient.ClusterType)
		bad := resource(t, "in", &listenerv3.Listener{}, `{name: in}`)
		good := resource(t, "in", &listenerv3.Listener{}, `
name: in
address: {socket_address: {address: 127.0.0.1, port_value: 8080}}
filter_chains:
- filters:
  - {name: tcp, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: in, cluster: none}}`)
		refuse := func() {
			t.Helper()
			if refused := w.Apply(xdsclient.Update{Type: xdsclient.ListenerType, Resources: []xdsclient.Resource{bad}}); len(refused) != 1 {
				t.Fatalf("refused: %v", refused)
			}
		}
		refuse()
		if ready, why := w.Ready(); !ready {
			t.Errorf("an Envoy has started by now; ours: %s", why)
		}
		const want = "config received from XDS server, but was rejected: lds: in: "
		if taken, why := w.Taken(); taken || !strings.HasPrefix(why, want) {
			t.Errorf("taken %v, %q; want %q", taken, why, want)
		}
		w.take(xdsclient.ListenerType, httpListener(t, "other", "80"))
		if taken, _ := w.Taken(); taken {
			t.Error("another listener stands in for the refused one")
		}
		w.take(xdsclient.ListenerType, good)
		if taken, why := w.Taken(); !taken {
			t.Errorf("the mended listener is not taken: %s", why)
		}
		refuse()
		w.Apply(xdsclient.Update{Type: xdsclient.ListenerType, Resources: []xdsclient.Resource{resource(t, "more", &listenerv3.Listener{}, `{name: more}`)}})
		if taken, why := w.Taken(); !taken {
			t.Errorf("what is refused later takes the workload away: %s", why)
		}
	})
}

// A version that waited when its cluster was taken away is not forgotten when it comes again.
func TestClusterThatComesBackWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		other := resource(t, "a", &clusterv3.Cluster{}, fmt.Sprintf("{name: a, type: EDS, eds_cluster_config: {service_name: other, eds_config: %s}}", ads))
		w.take(xdsclient.ClusterType, edsCluster(t, "a", ""))
		w.take(xdsclient.EndpointType, load(t, "a", "10.0.0.1"))
		w.take(xdsclient.ListenerType, httpListener(t, "in", "r"))
		w.take(xdsclient.RouteType, routesTo(t, "r", "a"))
		w.expect("the first version", "L:in C:a=10.0.0.1 R:r")
		w.take(xdsclient.ClusterType, other)
		w.Apply(xdsclient.Update{Type: xdsclient.ClusterType, Removed: []string{"a"}})
		w.take(xdsclient.ClusterType, other)
		w.take(xdsclient.EndpointType, load(t, "other", "10.0.0.2"))
		w.expect("the second one, which came back", "L:in C:a=10.0.0.2 R:r")
	})
}

// What is wanted again before anybody has heard that it was not is still there: nobody asks for it anew.
func TestWhatIsWantedAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take(xdsclient.ClusterType, edsCluster(t, "a", ""))
		w.take(xdsclient.ListenerType, httpListener(t, "in", "r"))
		w.wants(xdsclient.RouteType)
		w.take(xdsclient.EndpointType, load(t, "a", "10.0.0.1"))
		w.take(xdsclient.RouteType, routesTo(t, "r", "a"))
		w.Apply(xdsclient.Update{Type: xdsclient.ListenerType, Removed: []string{"in"}})
		w.take(xdsclient.ListenerType, httpListener(t, "other", "r"))
		w.expect("a listener takes the place of another", "L:other C:a=10.0.0.1 R:r")
		w.Apply(xdsclient.Update{Type: xdsclient.ListenerType, Removed: []string{"other"}})
		w.wants(xdsclient.RouteType)
		w.take(xdsclient.ListenerType, httpListener(t, "in", "r"))
		w.expect("what was given up has to come again", "C:a=10.0.0.1")
		if got := w.wants(xdsclient.RouteType); got != "r" {
			t.Errorf("wants routes %q, want r", got)
		}
	})
}
