//go:build linux

package app

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// What is offered to type first should be answered.
func TestFirstPath(t *testing.T) {
	const gateways = `
kind: Gateway
apiVersion: networking.istio.io/v1
metadata: {name: gw, namespace: default}
spec: {servers: [{port: {number: 80}}]}
---
kind: Gateway
apiVersion: networking.istio.io/v1
metadata: {name: other, namespace: far}
spec: {servers: [{port: {number: 9000}}]}`
	vs := func(gateway, hosts, http string) string {
		return "kind: VirtualService\napiVersion: networking.istio.io/v1\nmetadata: {name: a, namespace: default}\nspec: {gateways: [" + gateway + "], hosts: [" + hosts + "], http: " + http + "}"
	}
	const standard = `
kind: Gateway
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: web, namespace: default}
spec: {listeners: [{port: 80}]}
---
kind: HTTPRoute
apiVersion: gateway.networking.k8s.io/v1
metadata: {name: web, namespace: default}
spec: {parentRefs: [{name: web}], hostnames: [a.example], rules: [{matches: [{path: {type: PathPrefix, value: /}, method: POST}, {path: {type: PathPrefix, value: /begin}}, {path: {type: Exact, value: /page}}]}]}`
	for _, test := range []struct {
		name, objects string
		want          rule
	}{
		{"a path that a route names whole goes before a prefix", vs("gw", `"*"`, "[{match: [{uri: {prefix: /status}}, {uri: {exact: /headers}}]}]"), rule{"/headers", ""}},
		{"a prefix is better than nothing", vs("gw", `"*"`, "[{}, {match: [{uri: {prefix: /status}}]}]"), rule{"/status", ""}},
		{"a route that wants more than a path is not to be tried", vs("gw", `"*"`, "[{match: [{uri: {exact: /a}, headers: {x: {exact: y}}}, {uri: {exact: /b}, method: {exact: POST}}]}, {match: [{uri: {prefix: /c}}]}]"), rule{"/c", ""}},
		{"nor one that answers with a mistake", vs("gw", `"*"`, "[{fault: {}, match: [{uri: {exact: /a}}]}, {match: [{uri: {exact: /b}}]}]"), rule{"/b", ""}},
		{"the host is the route's", vs("default/gw", "b.example", "[{}]"), rule{"", "b.example"}},
		{"a route at another port is not this one's", vs("far/other", `"*"`, "[{match: [{uri: {exact: /a}}]}]"), rule{}},
		{"a route of the mesh is at no gateway", vs("mesh", `"*"`, "[{match: [{uri: {exact: /a}}]}]"), rule{}},
		{"Gateway API's routes are read alike", standard, rule{"/page", "a.example"}},
	} {
		var p paths
		for _, text := range strings.Split(gateways+"\n---\n"+test.objects, "\n---\n") {
			var u unstructured.Unstructured
			data, err := yaml.YAMLToJSON([]byte(text))
			if err == nil {
				_, _, err = unstructured.UnstructuredJSONScheme.Decode(data, nil, &u)
			}
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case u.GetKind() == "Gateway" && strings.HasPrefix(u.GetAPIVersion(), "gateway."):
				p.standardGateways = append(p.standardGateways, u)
			case u.GetKind() == "Gateway":
				p.gateways = append(p.gateways, u)
			case u.GetKind() == "HTTPRoute":
				p.standard = append(p.standard, u)
			default:
				p.virtualServices = append(p.virtualServices, u)
			}
		}
		if got := p.first(80); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}
