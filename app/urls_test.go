//go:build linux

package app

import (
	"net/netip"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"

	"github.com/mallamesh/malla/local/broker"
)

// What is offered on this machine is told with the scheme that is spoken there.
func TestLinks(t *testing.T) {
	object := func(apiVersion, kind, name string, spec map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"namespace": "default", "name": name}, "spec": spec}}
	}
	server := func(number int64, protocol string) any {
		return map[string]any{"port": map[string]any{"number": number, "protocol": protocol}, "hosts": []any{"*"}}
	}
	port := func(number int64, name string) any { return map[string]any{"port": number, "name": name} }
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		virtualServices: "VirtualServiceList", istioGateways: "GatewayList", standardGateways: "GatewayList", standardRoutes: "HTTPRouteList", services: "ServiceList",
	})
	match := map[string]any{"path": map[string]any{"type": "Exact", "value": "/page"}}
	for at, o := range map[schema.GroupVersionResource]*unstructured.Unstructured{ // by resource: the client would guess "gatewaies"
		istioGateways: object("networking.istio.io/v1", "Gateway", "gw", map[string]any{"servers": []any{
			server(80, "HTTP"), server(443, "HTTPS"), server(31400, "TCP"), server(9000, "TCP"), server(9000, "TLS")}}),
		standardGateways: object("gateway.networking.k8s.io/v1", "Gateway", "web", map[string]any{"gatewayClassName": "istio", "listeners": []any{
			map[string]any{"port": int64(8090), "protocol": "HTTP"}}}),
		standardRoutes: object("gateway.networking.k8s.io/v1", "HTTPRoute", "web", map[string]any{"parentRefs": []any{map[string]any{"name": "web"}},
			"rules": []any{map[string]any{"matches": []any{match}}}}),
		services: object("v1", "Service", "db", map[string]any{"ports": []any{port(5432, "tcp-pg"), port(8080, "http")}}),
	} {
		if _, err := client.Resource(at).Namespace("default").Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	var offered []broker.Published
	for i, p := range []struct {
		owner string
		port  uint16
	}{{"istio-system/istio-ingressgateway", 80}, {"istio-system/istio-ingressgateway", 443}, {"istio-system/istio-ingressgateway", 31400},
		{"istio-system/istio-ingressgateway", 9000}, {"default/db", 5432}, {"default/db", 8080}, {"default/web-istio", 8090}} {
		offered = append(offered, broker.Published{Owner: p.owner, Port: p.port, Host: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(1001+i))})
	}
	var got []string
	for _, l := range (&state{dynamic: client}).links(t.Context(), offered) {
		got = append(got, l.URL)
	}
	want := []string{"http://127.0.0.1:1001", "https://127.0.0.1:1002", "tcp://127.0.0.1:1003", "https://127.0.0.1:1004", "tcp://127.0.0.1:1005", "http://127.0.0.1:1006", "http://127.0.0.1:1007/page"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
