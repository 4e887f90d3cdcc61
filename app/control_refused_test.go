package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/mallamesh/malla/control/xds"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
	"github.com/mallamesh/malla/translate/story"
)

// One response holds many resources, and only those that are wrong are told of.
func TestWhatOfARefusedResponseIsAtFault(t *testing.T) {
	names := []string{"a", "b", "0.0.0.0_8443"}
	for _, test := range []struct {
		who   string
		nack  xds.Nack
		blame []blame
	}{
		{"malla's proxy gives each its reason", xds.Nack{Names: names, Detail: "b: no key\nno cert\n0.0.0.0_8443: no chain"}, []blame{{"b", "no key\nno cert\n"}, {"0.0.0.0_8443", "no chain"}}},
		{"an Envoy makes one sentence", xds.Nack{Names: names[2:], Detail: "Error adding/updating listener(s) 0.0.0.0_8443: no chain"}, []blame{{"0.0.0.0_8443", "Error adding/updating listener(s) 0.0.0.0_8443: no chain"}}},
		{"who names none of one means it", xds.Nack{Names: names[:1], Detail: "invalid path"}, []blame{{"a", "invalid path"}}},
		{"who names none of many blames nobody", xds.Nack{Names: names[1:], Detail: "it is wet"}, nil},
	} {
		if got := blamed(test.nack); !slices.Equal(got, test.blame) {
			t.Errorf("%s: %q, want %q", test.who, got, test.blame)
		}
	}
}

// What a proxy says costs as much as it is long, however many resources it refuses, and only so much of it is told.
func TestWhatIsRefusedIsBounded(t *testing.T) {
	var names, words []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("outbound|%d||reviews.prod.svc.cluster.local", 10000+i))
		words = append(words, fmt.Sprintf("w%03d", i))
	}
	n := xds.Nack{Names: names, Detail: strings.Repeat("a line\n", 1000) + names[0] + ": no\n" + strings.Repeat("a line\n", 100)}
	if got := testing.AllocsPerRun(1, func() { blamed(n) }); got > 5000 { // one for each name and line would be a million
		t.Errorf("%v allocations for 1000 names and 1100 lines", got)
	}
	if got := blamed(xds.Nack{Names: words, Detail: strings.Join(words, ": no\n")}); len(got) != maxBlamed {
		t.Errorf("%d resources are told apart, want the first %d", len(got), maxBlamed)
	}
	if got := blamed(xds.Nack{Names: words, Detail: strings.Join(words, " ")}); len(got) != maxBlamed {
		t.Errorf("%d resources of a sentence are told apart, want the first %d", len(got), maxBlamed)
	}
	if got := reasons(strings.Join(words, "\n")); len(got) != maxReasons {
		t.Errorf("%d reasons, want the first %d", len(got), maxReasons)
	}
}

const scripts = `
-- config.yaml --
kind: EnvoyFilter
metadata: {name: innocent, namespace: prod}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_OUTBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch: {operation: INSERT_BEFORE, value: {name: first, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, inlineCode: "function envoy_on_request(h) end"}}}
---
kind: EnvoyFilter
metadata: {name: guilty, namespace: prod}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_OUTBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch: {operation: INSERT_BEFORE, value: {name: second, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, inlineCode: "function envoy_on_request(h) end"}}}
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_OUTBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch: {operation: INSERT_BEFORE, value: {name: third, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, inlineCode: "error('no')"}}}
  - applyTo: NETWORK_FILTER
    match: {context: SIDECAR_OUTBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch: {operation: MERGE, value: {typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, max_request_headers_kb: 9}}}
---
kind: EnvoyFilter
metadata: {name: elsewhere, namespace: prod}
spec:
  configPatches:
  - applyTo: LISTENER
    match: {context: SIDECAR_INBOUND}
    patch: {operation: MERGE, value: {per_connection_buffer_limit_bytes: 9}}
-- services --
reviews.prod 9080/http vip=10.96.0.1
-- endpoints --
reviews.prod 10.244.1.1:9080
-- proxy --
sidecar prod/client 10.244.0.9
`

// A patch is at fault for what would not be there without it, wherever that came to stand; others of the workload are not. One reason is told
// once, before the proxies that have it, and those that have nothing else are told apart.
func TestWhichPatchIsAtFault(t *testing.T) {
	s, err := story.Read(txtar.Parse([]byte(scripts)))
	if err != nil {
		t.Fatal(err)
	}
	const listener = "0.0.0.0_9080"
	proxy := func(name string, lacking []string, detail ...string) xds.Refused {
		p := *s.View.Proxy
		p.Name = name
		return xds.Refused{Proxy: &p, Nack: xds.Nack{Type: translate.ListenerType, Names: []string{listener}, Lacking: lacking, Detail: listener + ": " + strings.Join(detail, "\n")}}
	}
	told := func(refused ...xds.Refused) string {
		list, of := complaints(refused, s.View.Mesh, newTracer(nil))
		out := ""
		for _, x := range list {
			out += x.problem(of[x]).text + "\n"
		}
		return out
	}
	manager := "filter_chains[0].filters[0].typed_config"
	third := manager + ".http_filters[7].typed_config.inline_code: no good"
	for _, test := range []struct{ what, got, want string }{
		{"a script, in a new pod too", told(proxy("a", nil, third, strings.Replace(third, "_chains[0]", "_chains[1]", 1)), proxy("b", nil, third), proxy("c", []string{listener}, third)),
			"EnvoyFilter prod/guilty: spec.configPatches[1].patch.value: no good: 2 proxies (a.prod, b.prod) refuse LDS 0.0.0.0_9080 over this, and keep what they had; " +
				"the proxy c.prod refuses LDS 0.0.0.0_9080 over this, and has nothing in its place: it is not ready\n"},
		{"what another patch has changed of the same message", told(proxy("a", nil, manager+".max_request_headers_kb: too few", third)),
			"EnvoyFilter prod/guilty: spec.configPatches[2].patch.value: too few: the proxy a.prod refuses LDS 0.0.0.0_9080 over this, and keeps what it had\n" +
				"EnvoyFilter prod/guilty: spec.configPatches[1].patch.value: no good: the proxy a.prod refuses LDS 0.0.0.0_9080 over this, and keeps what it had\n"},
		{"who does not say where may mean any that changes the listener", told(proxy("a", nil, "it is wet")),
			"EnvoyFilter prod/guilty: spec.configPatches: it is wet: the proxy a.prod refuses LDS 0.0.0.0_9080 over this, and keeps what it had\n" +
				"EnvoyFilter prod/innocent: spec.configPatches[0].patch.value: it is wet: the proxy a.prod refuses LDS 0.0.0.0_9080 over this, and keeps what it had\n"},
	} {
		if test.got != test.want {
			t.Errorf("%s:\n%swant\n%s", test.what, test.got, test.want)
		}
	}
	// Only so many reasons are traced; the rest is nobody's in particular.
	var many []xds.Refused
	for i := range 2 * maxTraced {
		many = append(many, proxy("a", nil, fmt.Sprintf("%s.http_filters[7].typed_config.inline_code: %d", manager, i)))
	}
	tr := newTracer(nil)
	complaints(many, s.View.Mesh, tr)
	if list, _ := complaints(many, s.View.Mesh, tr); len(list) != maxTraced+maxTraced*len(model.NewView(s.View.Proxy, s.View.Mesh).Patchers(patched[translate.ListenerType]...)) {
		t.Errorf("%d complaints", len(list))
	}
}

// Which patch is at fault is found out aside: until then nobody is told of it, and whoever pushes configuration does not wait. What proxies no
// longer refuse is forgotten. What takes too long is the doing of all patches.
func TestFaultsAreFoundAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := story.Read(txtar.Parse([]byte(scripts)))
		if err != nil {
			t.Fatal(err)
		}
		refused := func(detail string) []xds.Refused {
			return []xds.Refused{{Proxy: s.View.Proxy, Nack: xds.Nack{Type: translate.ListenerType, Names: []string{"0.0.0.0_9080"}, Detail: "0.0.0.0_9080: " + detail}}}
		}
		const detail = "filter_chains[0].filters[0].typed_config.http_filters[7].typed_config.inline_code: no good"
		told := 0
		tr := newTracer(func() { told++ })
		ctx, stop := context.WithCancel(t.Context())
		go tr.run(ctx)
		if list, _ := complaints(refused(detail), s.View.Mesh, tr); len(list) != 0 {
			t.Errorf("%v is told before anybody can know", list)
		}
		synctest.Wait()
		if list, _ := complaints(refused(detail), s.View.Mesh, tr); told != 1 || len(list) != 1 || list[0].about.Name != "guilty" {
			t.Errorf("told %d times, %v; want once, that guilty is at fault", told, list)
		}
		complaints(nil, s.View.Mesh, tr)
		if len(tr.answers)+len(tr.queue) != 0 {
			t.Error("an answer stays that nobody asks for")
		}
		stop()
		synctest.Wait()
		complaints(refused(detail), s.View.Mesh, tr)
		a, mine := tr.next()
		mine.find(func() bool { return false })
		a.found, a.done = mine.found, mine.done
		if list, _ := complaints(refused(detail), s.View.Mesh, tr); len(list) != 3 {
			t.Errorf("%v when there was no time, want all three objects that may be meant", list)
		}
	})
}
