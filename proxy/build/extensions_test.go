package build_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/proxy/stream"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

const (
	buffers  = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer"
	cors     = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"
	inspects = "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
)

func extension(t *testing.T, name, typ, fields string) xdsclient.Resource {
	return resource(t, name, &corev3.TypedExtensionConfig{}, fmt.Sprintf("{name: %q, typed_config: {'@type': %q, %s}}", name, typ, fields))
}

// extended is a listener with an HTTP filter and a listener filter that come by themselves.
func extended(t *testing.T, filter, more string) xdsclient.Resource {
	return resource(t, "l", &listenerv3.Listener{}, fmt.Sprintf(`
name: l
address: {socket_address: {address: 127.0.0.1, port_value: 8080}}
listener_filters: [{name: look, config_discovery: {config_source: %s, type_urls: [%q]}}]
filter_chains:
- filters:
  - name: hcm
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: in
      route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]}
      http_filters:
      - {name: %q, config_discovery: {config_source: %s, type_urls: [%q], %s}}
      - {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
`, ads, inspects, filter, ads, buffers, more))
}

func (w *world) filters() []stream.Factory {
	return w.Runtime().Listeners[0].Chains[0].Filter.(*stream.Config).Live.Now().Filters
}

// A listener waits for filters that come by themselves. From then on they come, change and go under connections that stay: what they
// are served by is the same, and so is a filter that nothing was said of. What one place cannot take, none takes.
func TestFiltersComeByThemselves(t *testing.T) {
	w := newWorld(t)
	w.take(xdsclient.ListenerType, extended(t, "limit", ""))
	if got := w.wants(xdsclient.ExtensionType); got != "limit look" {
		t.Errorf("asks for %q, want limit and look", got)
	}
	w.take(xdsclient.ExtensionType, extension(t, "limit", buffers, "max_request_bytes: 1"))
	w.expect("a listener filter is on its way", "")
	w.take(xdsclient.ExtensionType, extension(t, "look", inspects, ""))
	w.expect("all filters are there", "L:l")

	first, was := w.Runtime().Listeners[0], w.filters()
	w.take(xdsclient.ExtensionType, extension(t, "limit", buffers, "max_request_bytes: 2"))
	if now := w.filters(); now[0] == was[0] || now[1] != was[1] {
		t.Error("want another buffer filter and the same router")
	}
	before := w.filters()
	for _, bad := range []xdsclient.Resource{extension(t, "limit", cors, ""), extension(t, "limit", buffers, "max_request_bytes: 0"), extension(t, "look", buffers, "max_request_bytes: 2")} {
		refused := w.Apply(xdsclient.Update{Type: xdsclient.ExtensionType, Resources: []xdsclient.Resource{bad}})
		if len(refused) != 1 || !strings.Contains(refused[0].Err.Error(), "typed_config") {
			t.Errorf("refused %v, want a mistake in typed_config", refused)
		}
	}
	if !slices.Equal(w.filters(), before) || w.Runtime().Listeners[0] != first {
		t.Error("what was refused has changed something")
	}
	w.Apply(xdsclient.Update{Type: xdsclient.ExtensionType, Removed: []string{"look", "limit"}})
	now := w.Runtime().Listeners[0]
	if !now.FiltersMissing || !now.InPlace || now.Chains[0] != first.Chains[0] || now.Version == first.Version {
		t.Errorf("without its listener filter the listener is %+v, want one in the place of the first, with its chain, that takes no connections", now)
	}
	if w.filters()[0] == before[0] {
		t.Error("a filter that has gone is still there")
	}
	w.take(xdsclient.ExtensionType, extension(t, "look", inspects, ""), extension(t, "limit", buffers, "max_request_bytes: 2"))
	if w.Runtime().Listeners[0].FiltersMissing || w.filters()[0].Name() != "limit" {
		t.Error("filters have come again, and are missing")
	}
}

// A listener that differs from its predecessor in more than its chains does not take its place, also if its listener filter comes while it waits:
// what the predecessor has begun to look at stays with it.
func TestListenerFilterComesToOneThatWaits(t *testing.T) {
	w := newWorld(t)
	old := extended(t, "limit", "")
	w.take(xdsclient.ListenerType, old)
	w.take(xdsclient.ExtensionType, extension(t, "limit", buffers, "max_request_bytes: 1"), extension(t, "look", inspects, ""))
	first := w.Runtime().Listeners[0]
	m := &listenerv3.Listener{}
	if err := old.Body.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	m.ListenerFilters[0].Name = "sees"
	body, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	w.take(xdsclient.ListenerType, xdsclient.Resource{Name: "l", Version: "2", Body: body})
	if w.Runtime().Listeners[0] != first {
		t.Fatal("the new listener does not wait for its filter")
	}
	w.take(xdsclient.ExtensionType, extension(t, "sees", inspects, ""))
	if now := w.Runtime().Listeners[0]; now == first || now.InPlace {
		t.Errorf("another listener in the place of the first: %v, in place: %v; want another one beside it", now != first, now.InPlace)
	}
}

// A newer listener begins with what has come for its filters; what does not fit there it goes without. A filter that nobody waits for, or
// waits for no longer, has its default.
func TestFiltersOfANewListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.take(xdsclient.ListenerType, extended(t, "limit", ""))
		w.take(xdsclient.ExtensionType, extension(t, "limit", buffers, "max_request_bytes: 1"), extension(t, "look", inspects, ""))
		first := w.filters()[0]
		w.take(xdsclient.ListenerType, extended(t, "other", fmt.Sprintf("default_config: {'@type': %q, max_request_bytes: 3}, apply_default_config_without_warming: true", buffers)))
		if w.filters()[0] == first || w.filters()[0].Name() != "other" {
			t.Error("the listener waits for a filter that it has a default of")
		}
		if got := w.wants(xdsclient.ExtensionType); got != "look other" {
			t.Errorf("asks for %q, want what the new listener has", got)
		}
		w.take(xdsclient.ListenerType, extended(t, "late", ""))
		if w.filters()[0].Name() != "other" {
			t.Error("the listener does not wait for its filter")
		}
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if w.filters()[0].Name() != "late" {
			t.Error("the listener waits for its filter longer than the filter may take")
		}
		refused := w.Apply(xdsclient.Update{Type: xdsclient.ListenerType, Resources: []xdsclient.Resource{
			extended(t, "bad", fmt.Sprintf("default_config: {'@type': %q}", buffers))}})
		if len(refused) != 1 || !strings.Contains(refused[0].Err.Error(), "http_filters[0].config_discovery.default_config") {
			t.Errorf("refused %v, want the default that breaks a rule", refused)
		}
		w.Close()
	})
}
