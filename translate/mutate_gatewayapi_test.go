package translate_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
	"github.com/mallamesh/malla/translate/story"
)

// around is what mutants of Gateway API find: the parents and the services that stories name, and a
// route of somebody else at the same Gateways.
const around = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: NAMESPACE}
spec:
  gatewayClassName: istio
  allowedListeners: {namespaces: {from: All}}
  listeners:
  - {name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
  - {name: tcp, port: 9000, protocol: TCP, allowedRoutes: {namespaces: {from: All}}}
  - {name: closed, port: 443, protocol: TLS, tls: {mode: Passthrough}, allowedRoutes: {namespaces: {from: All}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: NAMESPACE}
spec: {parentRefs: [{name: edge}], hostnames: [bystander.example.net], rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: shop, port: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: NAMESPACE}
spec: {clusterIP: 10.96.0.NUMBER, selector: {app: shop}, ports: [{name: http, port: 80}, {name: tcp, port: 443}]}
---
`

// surrounded returns the mesh of the bystander with a mutant of Gateway API among what it
// could be about.
func (w *world) surrounded(t testing.TB, mutant *config.Object) *model.Mesh {
	text := ""
	for i, ns := range []string{"mutant", "infra", "prod"} {
		text += strings.NewReplacer("NAMESPACE", ns, "NUMBER", string(rune('1'+i))).Replace(around)
	}
	objects, err := story.Objects(strings.TrimSuffix(text, "---\n"))
	if err != nil {
		t.Fatal(err)
	}
	all := &world{objects: append(slices.Clone(w.objects), objects...), broken: w.broken}
	return all.mesh(mutant)
}

// onGateways looks at what gateways get that somebody else's route shares with a mutant: all of it is what proxies take,
// or they would refuse everybody's, and the host of the other route is as it was.
func (w *world) onGateways(t testing.TB, mutant *config.Object, doc map[string]any) {
	if mutant.Kind.Group != kind.GatewayAPI {
		return
	}
	m := w.surrounded(t, mutant)
	for _, ns := range []string{"mutant", "infra", "prod"} {
		v := model.NewView(&model.Proxy{Type: model.Router, Namespace: ns, Name: "gw", Labels: map[string]string{"gateway.networking.k8s.io/gateway-name": "edge"}, IPs: onlooker.IPs}, m)
		for _, url := range []string{translate.ClusterType, translate.ListenerType, translate.RouteType} {
			for _, name := range translate.Names(v, url) {
				r, ok := translate.Resource(v, url, name)
				if !ok {
					continue
				}
				if err := r.(interface{ ValidateAll() error }).ValidateAll(); err != nil {
					t.Errorf("proxies refuse %s: %v\n%s", name, err, text(doc))
				}
			}
		}
		table, ok := translate.Routes(v, "http.80")
		if mutant.Kind.Kind == "Gateway" || mutant.Kind.Kind == "ListenerSet" || mutant.Kind.Kind == "GatewayClass" || mutant.Kind.Kind == "ReferenceGrant" {
			continue // whose business hosts and ports are
		}
		found := false
		for _, h := range table.GetVirtualHosts() {
			if slices.Contains(h.Domains, "bystander.example.net") {
				found = true
				if len(h.Routes) != 1 || h.Routes[0].Name != ns+".web.0" {
					t.Errorf("a bystander's host was changed by\n%s", text(doc))
				}
			}
		}
		if !ok || !found {
			t.Errorf("a bystander's host was lost by\n%s", text(doc))
		}
	}
}
