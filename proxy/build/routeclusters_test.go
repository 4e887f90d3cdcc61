package build_test

import (
	"fmt"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

const tableListener = `{name: l, address: {socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: [{filters: [{name: http, typed_config: {
  "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: l,
  http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}],
  route_config: {%s}}}]}]}`

// A table of the bootstrap names static clusters, unless it says that others may come later.
func TestClustersOfStaticTables(t *testing.T) {
	const host = `virtual_hosts: [{name: v, domains: ["*"], `
	for _, test := range []struct{ table, found string }{
		{host + `routes: [{match: {prefix: /}, route: {cluster: there}}]}]`, ""},
		{host + `routes: [{match: {prefix: /}, route: {cluster: gone}}]}]`, "route.cluster"},
		{`validate_clusters: true, ` + host + `routes: [{match: {prefix: /}, route: {cluster: gone}}]}]`, "route.cluster"},
		{`validate_clusters: false, ` + host + `routes: [{match: {prefix: /}, route: {cluster: gone}}]}]`, ""},
		{host + `routes: [{match: {prefix: /}, route: {cluster_header: gone}}]}]`, ""}, // only the request knows
		{host + `routes: [{match: {prefix: /}, redirect: {host_redirect: gone}}]}]`, ""},
		{host + `routes: [{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: there, weight: 1}, {name: gone, weight: 1}]}}}]}]`, "weighted_clusters.clusters[1].name"},
		{host + `routes: [{match: {prefix: /}, route: {weighted_clusters: {clusters: [{cluster_header: gone, weight: 1}]}}}]}]`, ""},
		{host + `routes: [{match: {prefix: /}, route: {cluster: there, request_mirror_policies: [{cluster: gone}]}}]}]`, "route.request_mirror_policies[0].cluster"},
		{host + `routes: [{match: {prefix: /}, route: {cluster: there, request_mirror_policies: [{cluster_header: gone}]}}]}]`, ""},
		{host + `request_mirror_policies: [{cluster: gone}], routes: [{match: {prefix: /}, route: {cluster: there}}]}]`, "virtual_hosts[0].request_mirror_policies[0].cluster"},
		{host + `request_mirror_policies: [{cluster: gone}], routes: [{match: {prefix: /}, route: {cluster: there, request_mirror_policies: [{cluster: there}]}}]}]`, ""}, // nobody's
		{`request_mirror_policies: [{cluster: gone}], ` + host + `routes: [{match: {prefix: /}, route: {cluster: there}}]}]`, "route_config.request_mirror_policies[0].cluster"},
		{`request_mirror_policies: [{cluster: gone}], ` + host + `request_mirror_policies: [{cluster: there}], routes: [{match: {prefix: /}, route: {cluster: there}}]}]`, ""},
	} {
		err := static(t, fmt.Sprintf("static_resources: {clusters: [{name: there, type: STATIC, connect_timeout: 1s}], listeners: [%s]}", fmt.Sprintf(tableListener, test.table)))
		switch {
		case test.found == "" && err != nil:
			t.Errorf("%s\nis refused: %v", test.table, err)
		case test.found != "" && (err == nil || !strings.Contains(err.Error(), test.found+`: found "gone"`)):
			t.Errorf("%s\nerror %v, want one about %s", test.table, err, test.found)
		}
	}
}

func static(t *testing.T, bootstrap string) error {
	t.Helper()
	m, err := build.ParseBootstrap("b.yaml", []byte(bootstrap), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := build.NewBootstrap("b.yaml", m)
	if err != nil {
		t.Fatal(err)
	}
	var published []*shard.Runtime
	s := build.NewStore(newEnv(t, &published), nil)
	defer s.Close()
	return s.Static(b)
}

// What comes from a control plane waits for its clusters, so that it cannot have them validated.
func TestClustersOfTablesThatCome(t *testing.T) {
	for _, test := range []struct {
		validate string
		refused  int
	}{{"", 0}, {"validate_clusters: false, ", 0}, {"validate_clusters: true, ", 1}} {
		var published []*shard.Runtime
		s := build.NewStore(newEnv(t, &published), nil)
		s.Start()
		table := test.validate + `virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: later}}]}]`
		for _, u := range []xdsclient.Update{
			{Type: xdsclient.ListenerType, Resources: []xdsclient.Resource{resource(t, "l", &listenerv3.Listener{}, fmt.Sprintf(tableListener, table))}},
			{Type: xdsclient.RouteType, Resources: []xdsclient.Resource{resource(t, "r", &routev3.RouteConfiguration{}, "{name: r, "+table+"}")}},
		} {
			if got := s.Apply(u); len(got) != test.refused {
				t.Errorf("%s with %q: refused %v, want %d", u.Type, test.validate, got, test.refused)
			}
		}
		s.Close()
	}
}
