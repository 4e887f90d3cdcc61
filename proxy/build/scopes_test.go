package build_test

import (
	"fmt"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stream"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

func scopedListener(t *testing.T) xdsclient.Resource {
	return resource(t, "l", &listenerv3.Listener{}, fmt.Sprintf(`
name: l
address: {socket_address: {address: 127.0.0.1, port_value: 8080}}
filter_chains:
- filters:
  - name: hcm
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: in
      scoped_routes:
        name: scopes
        scope_key_builder: {fragments: [{header_value_extractor: {name: X-Scope, index: 0}}]}
        rds_config_source: %s
        scoped_rds: {scoped_rds_config_source: %s}
      http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
`, ads, ads))
}

const direct = "virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]"

func scopeOf(t *testing.T, name, key, fields string) xdsclient.Resource {
	return resource(t, name, &routev3.ScopedRouteConfiguration{}, fmt.Sprintf("{name: %q, key: {fragments: [{string_key: %q}]}, %s}", name, key, fields))
}

// tableFor is the table for requests with a field x-scope.
func (w *world) tableFor(scope string) *route.Table {
	c := w.Runtime().Listeners[0].Chains[0].Filter.(*stream.Config)
	m := &header.Map{}
	m.AddName([]byte("x-scope"), []byte(scope))
	return w.Runtime().ScopesOf(c.ScopeSource).Table(c.ScopeKey, m, nil)
}

// A listener waits for its scopes and for the tables that they name. Later ones come and go while it stays; of an answer in which something
// is wrong nothing counts.
func TestScopesComeByThemselves(t *testing.T) {
	w := newWorld(t)
	w.take(xdsclient.ListenerType, scopedListener(t))
	if !w.Wants()[xdsclient.ScopedRouteType].Wildcard {
		t.Error("scopes are not asked for")
	}
	w.take(xdsclient.ScopedRouteType, scopeOf(t, "a", "1", "route_configuration_name: table"), scopeOf(t, "b", "2", "on_demand: true, route_configuration: {"+direct+"}"))
	if got := w.wants(xdsclient.RouteType); got != "table" {
		t.Errorf("asks for tables %q, want that of the scope", got)
	}
	w.expect("the table of a scope is on its way", "")
	w.take(xdsclient.RouteType, resource(t, "table", &routev3.RouteConfiguration{}, "{name: table, "+direct+"}"))
	w.expect("all is there", "L:l R:table")
	if w.tableFor("1") != w.Runtime().Table("table") || w.tableFor("2") == nil || w.tableFor("3") != nil {
		t.Error("want the table that came by itself in scope 1, another in 2, and none in 3")
	}

	first := w.Runtime().Listeners[0]
	for _, bad := range []struct {
		why      string
		resource xdsclient.Resource
	}{
		{"scope key conflict found, first scope is 'a', second scope is 'c'", scopeOf(t, "c", "1", "route_configuration_name: table")},
		{"route_configuration", scopeOf(t, "c", "3", "")},
		{"on_demand", scopeOf(t, "c", "3", "on_demand: true, route_configuration_name: table")},
		{"route_configuration.vhds", scopeOf(t, "c", "3", "route_configuration: {vhds: {config_source: "+ads+"}}")},
	} {
		good := scopeOf(t, "d", "4", "route_configuration_name: table")
		refused := w.Apply(xdsclient.Update{Type: xdsclient.ScopedRouteType, Resources: []xdsclient.Resource{good, bad.resource}, Removed: []string{"b"}})
		if len(refused) == 0 || !strings.Contains(refused[len(refused)-1].Err.Error(), bad.why) {
			t.Errorf("refused %v, want %s", refused, bad.why)
		}
	}
	if w.tableFor("4") != nil || w.tableFor("2") == nil {
		t.Error("a part of an answer that was refused counts")
	}

	w.Apply(xdsclient.Update{Type: xdsclient.ScopedRouteType, Removed: []string{"a"}, Resources: []xdsclient.Resource{scopeOf(t, "e", "1", "route_configuration: {"+direct+"}")}})
	if w.Runtime().Listeners[0] != first || w.tableFor("1") == nil {
		t.Error("a scope takes the key of one that goes: want it, and the same listener")
	}
	if got := w.wants(xdsclient.RouteType); got != "" {
		t.Errorf("asks for tables %q, want none: no scope names one", got)
	}
	w.Apply(xdsclient.Update{Type: xdsclient.ListenerType, Removed: []string{"l"}})
	if w.Wants()[xdsclient.ScopedRouteType].Wildcard {
		t.Error("scopes are asked for, and nobody has any")
	}
}
