package compile_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// told compiles and returns what authors are told, without what other tests are about.
func told(t *testing.T, text string, services ...*model.Service) string {
	t.Helper()
	cfg := model.DefaultMeshConfig()
	var store config.Store
	for _, o := range objects(t, text) {
		store.Put(o)
	}
	pods := []*model.Workload{{Name: "gateway", Namespace: "edge", Labels: map[string]string{"istio": "ingressgateway"}},
		{Name: "edge", Namespace: "edge", Labels: map[string]string{"istio": "edge"}}, {Name: "other", Namespace: "edge", Labels: map[string]string{"istio": "other"}}}
	_, problems := compile.Mesh(store.Snapshot(), &cfg, &model.Registry{Services: services, Workloads: pods}, nil)
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.Error.Error())
	}
	return strings.Join(lines, "\n")
}

func service(name string, ports ...model.Port) *model.Service {
	return &model.Service{Host: name + ".prod.svc.cluster.local", Namespace: "prod", Name: name, Ports: ports, VIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}}
}

// Rules that name what is not there are in force, and their author is told by path.
func TestRulesThatNameNothing(t *testing.T) {
	const rules = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x, namespace: prod}
spec:
  hosts: [x]
  gateways: [mesh, edge, ./other, infra/gate]
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 50}
    - {destination: {host: reviews, subset: v2}, weight: 0}
    - {destination: {host: reviews.prod.svc.cluster.local, port: {number: 81}}, weight: 50}
    mirrors:
    - {destination: {host: nowhere}}
  - route: [{destination: {host: api.example.com}}]
  tcp:
  - route: [{destination: {host: gone}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: prod}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: prod}
spec: {host: "*.prod.svc.cluster.local", subsets: [{name: v1, labels: {version: v1}}]}
`
	got := told(t, rules, service("reviews", model.Port{Number: 80, Protocol: model.HTTP}), &model.Service{Host: "*.example.com", Namespace: "prod", Ports: []model.Port{{Number: 443, Protocol: model.TLS}}})
	want := strings.Join([]string{
		"VirtualService prod/x: spec.gateways[2]: there is no Gateway prod/other",
		"VirtualService prod/x: spec.gateways[3]: there is no Gateway infra/gate",
		"VirtualService prod/x: spec.http[0].route[1].destination.subset: no DestinationRule for reviews.prod.svc.cluster.local has a subset v2: requests are answered 503",
		"VirtualService prod/x: spec.http[0].route[2].destination.port.number: reviews.prod.svc.cluster.local has no port 81, but 80",
		"VirtualService prod/x: spec.http[0].mirrors[0].destination.host: no service has the host nowhere.prod.svc.cluster.local: requests are answered 503",
		"VirtualService prod/x: spec.tcp[0].route[0].destination.host: no service has the host gone.prod.svc.cluster.local: requests are answered 503",
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Retries that may have an application do something twice are in force, and their author is told.
func TestRetriesThatRepeat(t *testing.T) {
	for _, test := range []struct{ match, retries, want string }{
		{"", `{attempts: 3, retryOn: "5xx,connect-failure"}`, "5xx"},
		{"", `{attempts: 2, retryOn: "gateway-error, 503,reset"}`, "gateway-error, 503, reset"},
		{"match: [{method: {exact: GET}}, {uri: {prefix: /cart}}], ", `{attempts: 2, retryOn: reset}`, "reset"},
		{"match: [{method: {exact: GET}}, {method: {exact: PUT}}], ", `{attempts: 2, retryOn: reset}`, ""},    // may be repeated
		{"", `{attempts: 2, retryOn: "connect-failure,refused-stream,reset-before-request,unavailable"}`, ""}, // never arrived
		{"", `{attempts: 2}`, ""},
		{"", `{attempts: 0}`, ""},
	} {
		got := told(t, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x, namespace: prod}
spec: {hosts: [x], http: [{`+test.match+`retries: `+test.retries+`, route: [{destination: {host: reviews}}]}]}
`, service("reviews", model.Port{Number: 80, Protocol: model.HTTP}))
		if want := "VirtualService prod/x: spec.http[0].retries.retryOn: " + test.want + " sends requests again"; test.want == "" && got != "" || test.want != "" && !strings.HasPrefix(got, want) {
			t.Errorf("%s%s: told %q, want %q", test.match, test.retries, got, test.want)
		}
	}
}

// A server that finds its port taken by another kind of traffic is left out, and said so.
func TestGatewayPortsThatClash(t *testing.T) {
	const gateways = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: old, namespace: a, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {selector: {istio: edge}, servers: [{port: {number: 443, name: p, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: [x.example.com]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: young, namespace: b, creationTimestamp: "2026-02-01T00:00:00Z"}
spec: {selector: {istio: edge}, servers: [{port: {number: 443, name: p, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: elsewhere, namespace: b, creationTimestamp: "2026-03-01T00:00:00Z"}
spec: {selector: {istio: other}, servers: [{port: {number: 443, name: p, protocol: HTTP}, hosts: ["*"]}, {port: {number: 443, name: q, protocol: TCP}, hosts: ["*"]}]}
`
	want := "Gateway b/young: spec.servers: the server of port 443 speaks HTTP, but Gateway a/old, which is older, speaks TLS there: it is left out\n" +
		"Gateway b/elsewhere: spec.servers: the server of port 443 speaks TCP, but the one before it speaks HTTP there: it is left out"
	if got := told(t, gateways); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Of services without addresses that carry bytes on one port, the oldest gets them all.
func TestServicesThatNothingTellsApart(t *testing.T) {
	entry := func(name string, at int64, ports ...model.Port) *model.Service {
		return &model.Service{Host: name, Namespace: "prod", Created: time.Unix(at, 0), Ports: ports, External: true,
			From: model.Ref{Kind: "ServiceEntry", Namespace: "prod", Name: strings.ReplaceAll(name, ".", "-")}}
	}
	db := model.Port{Number: 3306, Protocol: model.TCP}
	addressed := entry("c.example.com", 1, db)
	addressed.VIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	got := told(t, "", entry("a.example.com", 20, model.Port{Number: 443, Protocol: model.TLS}, db), entry("b.example.com", 10, db), addressed, entry("d.example.com", 30, model.Port{Number: 443, Protocol: model.TLS}))
	want := "ServiceEntry prod/a-example-com: spec.ports[1]: bytes to port 3306 go to b.example.com of ServiceEntry prod/b-example-com, which is older, and not to a.example.com: " +
		"without addresses nothing tells them apart; give one of them spec.addresses, or have the proxies answer names (ISTIO_META_DNS_CAPTURE and ISTIO_META_DNS_AUTO_ALLOCATE in proxyMetadata)"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
