package compile_test

import (
	"strings"
	"testing"

	"github.com/mallamesh/malla/model"
)

// What has no effect because an older object has it, or because there is nothing that
// it is about, is told; what is seen by different namespaces only is not in conflict.
func TestObjectsWithoutEffect(t *testing.T) {
	doc := func(kind, name, created, spec string) string {
		group := "networking.istio.io/v1"
		if kind == "PeerAuthentication" {
			group = "security.istio.io/v1"
		}
		ns, name, _ := strings.Cut(name, "/")
		return "---\napiVersion: " + group + "\nkind: " + kind + "\nmetadata: {name: " + name + ", namespace: " + ns +
			", creationTimestamp: \"2026-01-0" + created + "T00:00:00Z\"}\nspec: " + spec + "\n"
	}
	const route = `http: [{route: [{destination: {host: reviews.prod.svc.cluster.local}}]}]`
	for _, test := range []struct{ what, docs, want string }{
		{"rules for a host that older ones have", doc("VirtualService", "prod/young", "2", "{hosts: [reviews], "+route+"}") + doc("VirtualService", "prod/old", "1", "{hosts: [other, reviews], "+route+"}"),
			"VirtualService prod/young: spec.hosts[0]: the host reviews.prod.svc.cluster.local has the rules of VirtualService prod/old, which is older: for sidecars these have no effect"},
		{"rules that no namespace sees both of", doc("VirtualService", "prod/old", "1", "{hosts: [reviews], exportTo: [\".\"], "+route+"}") +
			doc("VirtualService", "dev/young", "2", "{hosts: [reviews.prod.svc.cluster.local], exportTo: [\".\"], "+route+"}"), ""},
		{"younger rules that a namespace has for itself", doc("VirtualService", "prod/old", "1", "{hosts: [reviews], "+route+"}") +
			doc("VirtualService", "dev/young", "2", "{hosts: [reviews.prod.svc.cluster.local], exportTo: [\".\"], "+route+"}"), ""},
		{"older rules that a namespace has for itself", doc("VirtualService", "prod/old", "1", "{hosts: [reviews], exportTo: [\".\"], "+route+"}") +
			doc("VirtualService", "prod/young", "2", "{hosts: [reviews], "+route+"}"), ""},
		{"rules that everybody has something nearer for", doc("VirtualService", "prod/old", "1", "{hosts: [reviews], exportTo: [dev], "+route+"}") +
			doc("VirtualService", "dev/young", "2", "{hosts: [reviews.prod.svc.cluster.local], exportTo: [\".\"], "+route+"}"),
			"VirtualService prod/old: spec.hosts[0]: the host reviews.prod.svc.cluster.local has the rules of VirtualService dev/young, which fewer namespaces see: for sidecars these have no effect"},
		{"rules of a gateway, which are merged", doc("Gateway", "prod/g", "1", `{selector: {istio: edge}, servers: [{port: {number: 80, name: p, protocol: HTTP}, hosts: ["*"]}]}`) +
			doc("VirtualService", "prod/old", "1", "{hosts: [a.example.com], gateways: [g], "+route+"}") + doc("VirtualService", "prod/young", "2", "{hosts: [a.example.com], gateways: [g], "+route+"}"), ""},
		{"a destination that nobody has", doc("DestinationRule", "prod/d", "1", "{host: nowhere}"),
			"DestinationRule prod/d: spec.host: no service has the host nowhere.prod.svc.cluster.local: the rule has no effect"},
		{"a wildcard that some service matches", doc("DestinationRule", "prod/d", "1", `{host: "*.prod.svc.cluster.local"}`), ""},
		{"a policy and a subset that an older rule has", doc("DestinationRule", "prod/old", "1", "{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1}]}") +
			doc("DestinationRule", "prod/young", "2", "{host: reviews, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}, subsets: [{name: v2}, {name: v1}]}"),
			"DestinationRule prod/young: spec.trafficPolicy: the traffic policy for reviews.prod.svc.cluster.local is that of DestinationRule prod/old, which is older: this one has no effect\n" +
				"DestinationRule prod/young: spec.subsets[1]: the subset v1 of reviews.prod.svc.cluster.local is that of an older DestinationRule: this one has no effect"},
		{"a gateway that nobody serves", doc("Gateway", "prod/g", "1", `{selector: {b: c, istio: gone}, servers: [{port: {number: 80, name: p, protocol: HTTP}, hosts: ["*"]}]}`),
			"Gateway prod/g: spec.selector: no pod has the labels b=c,istio=gone: nobody serves it"},
		{"a selector with pods in another namespace only", doc("PeerAuthentication", "prod/p", "1", "{selector: {matchLabels: {istio: edge}}, mtls: {mode: STRICT}}") +
			doc("PeerAuthentication", "edge/p", "1", "{selector: {matchLabels: {istio: edge}}, mtls: {mode: STRICT}}"),
			"PeerAuthentication prod/p: spec.selector: no pod of namespace prod has the labels istio=edge: it has no effect"},
		{"two for one namespace", doc("PeerAuthentication", "prod/old", "1", "{mtls: {mode: STRICT}}") + doc("PeerAuthentication", "prod/young", "2", "{mtls: {mode: DISABLE}}") +
			doc("Sidecar", "prod/old", "1", `{egress: [{hosts: ["./*"]}]}`) + doc("Sidecar", "prod/young", "2", `{egress: [{hosts: ["*/*"]}]}`) + doc("Sidecar", "dev/only", "3", `{egress: [{hosts: ["*/*"]}]}`),
			"PeerAuthentication prod/young: spec: has no selector, nor has PeerAuthentication prod/old, which is older: this one has no effect\n" +
				"Sidecar prod/young: spec: has no workloadSelector, nor has Sidecar prod/old, which is older: this one has no effect"},
	} {
		if got := told(t, strings.TrimPrefix(test.docs, "---\n"), service("reviews", model.Port{Number: 80, Protocol: model.HTTP})); got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.what, got, test.want)
		}
	}
}
