package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/config/source/memory"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/registry"
)

// A mistake in the settings of the mesh opens nothing that was closed: the last good ones stay in
// force until it is mended, and after a start what can be read counts.
func TestBadSettingsChangeNothing(t *testing.T) {
	const good = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\ndiscoverySelectors: [{matchLabels: {mesh: in}}]"
	s := memory.New()
	put := func(text string) {
		t.Helper()
		if err := s.PutYAML("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n"); err != nil {
			t.Fatal(err)
		}
	}
	c := &controlPlane{o: ControlOptions{Namespace: "istio-system"}}
	for _, step := range []struct {
		text   string
		closed bool // by the good settings
		wrong  string
	}{
		{good, true, ""},
		{"outboundTrafficPolicy: [", true, "stay in force"},
		{"discoverySelectors: [{matchExpressions: [{key: mesh, operator: Is}]}]", true, "stay in force"},
		{"outboundTrafficPolicy: {mode: ALLOW_ANY}\nnothing: 1", true, "stay in force"},
		{"outboundTrafficPolicy: {mode: ALLOW_ANY}", false, ""},
		{"outboundTrafficPolicy: {mode: REGISTRY_ONLY}\nnothing: 1", false, "stay in force"},
	} {
		put(step.text)
		cfg, found := c.settings(s.Snapshot())
		if closed := cfg.Outbound == model.RegistryOnly && !cfg.Discovers("outside", nil); closed != step.closed {
			t.Errorf("%s: closed %t, want %t", step.text, closed, step.closed)
		}
		if (len(found) > 0) != (step.wrong != "") || len(found) > 0 && !strings.Contains(found[0].text, step.wrong) {
			t.Errorf("%s: found %v, want %q", step.text, found, step.wrong)
		}
	}
	c = &controlPlane{o: ControlOptions{Namespace: "istio-system"}}
	put(good + "\nnothing: 1")
	if cfg, found := c.settings(s.Snapshot()); cfg.Outbound != model.RegistryOnly || len(found) != 1 || strings.Contains(found[0].text, "stay in force") {
		t.Errorf("after a start: outbound %v, found %v", cfg.Outbound, found)
	}
}

// A mistake changes nothing over a restart either: what was good last is kept in a ConfigMap.
func TestLastGoodSettingsOutliveTheControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset().CoreV1().ConfigMaps("istio-system")
		s := memory.New()
		put := func(name, text string) {
			t.Helper()
			if err := s.PutYAML(fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: istio-system}\ndata: {mesh: %q}\n", name, text)); err != nil {
				t.Fatal(err)
			}
		}
		start := func() *controlPlane {
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			c := &controlPlane{o: ControlOptions{Namespace: "istio-system"}, lastGood: newLastGood(client, slog.New(slog.DiscardHandler))}
			go c.lastGood.run(ctx)
			return c
		}
		kept := func() string {
			t.Helper()
			synctest.Wait()
			cm, err := client.Get(t.Context(), mesh.LastGood, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return cm.Data["mesh"]
		}
		c := start()
		c.settings(s.Snapshot())
		if got := kept(); got != "" {
			t.Errorf("without settings %q is kept", got)
		}
		const good = "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"
		put("istio", good)
		c.settings(s.Snapshot())
		put("istio", "outboundTrafficPolicy: {mode: SOMETIMES}")
		c.settings(s.Snapshot())
		if got := kept(); got != good {
			t.Errorf("%q is kept, want %q", got, good)
		}
		put(mesh.LastGood, kept())
		cfg, found := start().settings(s.Snapshot())
		if cfg.Outbound != model.RegistryOnly || len(found) != 1 || !strings.Contains(found[0].text, "stay in force") {
			t.Errorf("after a restart: outbound %v, found %v", cfg.Outbound, found)
		}
		if got := kept(); got != good {
			t.Errorf("after a restart %q is kept, want %q", got, good)
		}
	})
}

// An Ingress that is served says where: at the address of the Service for Ingresses. Of others, and before there is
// an address, nothing is said.
func TestIngressesSayWhereTheyAreServed(t *testing.T) {
	s := memory.New()
	for _, text := range []string{
		"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: ours, namespace: shop, uid: u}\nspec: {ingressClassName: istio, defaultBackend: {service: {name: web, port: {number: 80}}}}",
		"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: old, namespace: shop, annotations: {kubernetes.io/ingress.class: malla}}\nspec: {defaultBackend: {service: {name: web, port: {number: 80}}}}",
		"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: theirs, namespace: shop, annotations: {kubernetes.io/ingress.class: nginx}}\nspec: {defaultBackend: {service: {name: web, port: {number: 80}}}}",
		"apiVersion: v1\nkind: Service\nmetadata: {name: istio-ingressgateway, namespace: istio-system}\nspec: {type: LoadBalancer, selector: {istio: ingressgateway}, ports: [{name: http, port: 80}]}",
	} {
		if err := s.PutYAML(text); err != nil {
			t.Fatal(err)
		}
	}
	said := func() string {
		snap, cfg := s.Snapshot(), model.DefaultMeshConfig()
		cfg.RootNamespace = "istio-system"
		var r registry.Builder
		m, _ := compile.Mesh(snap, &cfg, r.Build(snap, &cfg), nil)
		var st standards
		st.ingresses(snap.List("Ingress"), compile.Ingresses(m), compile.IngressPoints(snap, &cfg))
		var out []string
		for id, w := range st.more {
			if w.Status == nil {
				continue // only what we have said of it ourselves is taken back
			}
			text, err := json.Marshal(w.Status)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%s/%s %s %s", id.Namespace, id.Name, w.UID, text))
		}
		slices.Sort(out)
		return strings.Join(out, "\n")
	}
	if got := said(); got != "" {
		t.Errorf("before there is an address: %s", got)
	}
	if err := s.PutYAML("apiVersion: v1\nkind: Service\nmetadata: {name: istio-ingressgateway, namespace: istio-system}\nspec: {type: LoadBalancer, ports: [{name: http, port: 80}]}\nstatus: {loadBalancer: {ingress: [{ip: 127.0.0.1, ipMode: Proxy}, {hostname: edge.test}]}}"); err != nil {
		t.Fatal(err)
	}
	const at = `{"loadBalancer":{"ingress":[{"ip":"127.0.0.1"},{"hostname":"edge.test"}]}}`
	if got, want := said(), "shop/old  "+at+"\nshop/ours u "+at; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
