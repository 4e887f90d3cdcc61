package gatewayapi

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/model"
)

type object interface {
	metav1.Object
	runtime.Object
}

// A fleet is n teams, each with ten listeners, five routes to another namespace that it has a grant of, and a
// BackendTLSPolicy there. Each team has a Gateway of its own, or they share one by ListenerSets.
func fleet(n int, shared bool) (Objects, Env) {
	var out Objects
	make := func(of, namespace, name string, value object) *config.Object {
		k, _ := kind.Named(of)
		value.SetName(name)
		return &config.Object{Kind: k, Namespace: namespace, Name: name, Value: value}
	}
	all, sets, gateway := gatewayv1.NamespacesFromAll, gatewayv1.Kind("ListenerSet"), gatewayv1.Namespace("infra")
	port := gatewayv1.PortNumber(80)
	services := map[string][]*model.Service{}
	if shared {
		out.Gateways = append(out.Gateways, make(kind.APIGateway, "infra", "edge", &gatewayv1.Gateway{Spec: gatewayv1.GatewaySpec{
			GatewayClassName: "istio", AllowedListeners: &gatewayv1.AllowedListeners{Namespaces: &gatewayv1.ListenerNamespaces{From: &all}},
			Listeners: []gatewayv1.Listener{{Name: "http", Port: 80, Protocol: "HTTP"}},
		}}))
	}
	for i := range n {
		team, data := fmt.Sprint("team", i), fmt.Sprint("data", i)
		var listeners []gatewayv1.Listener
		for j := range 10 {
			host := gatewayv1.Hostname(fmt.Sprintf("l%d.%s.example.com", j, team))
			listeners = append(listeners, gatewayv1.Listener{Name: gatewayv1.SectionName(fmt.Sprint("l", j)), Port: 80, Protocol: "HTTP", Hostname: &host})
		}
		parent := gatewayv1.ParentReference{Name: "edge"}
		if shared {
			parent.Kind = &sets
			var entries []gatewayv1.ListenerEntry
			for _, l := range listeners {
				entries = append(entries, gatewayv1.ListenerEntry(l))
			}
			out.ListenerSets = append(out.ListenerSets, make("ListenerSet", team, "edge", &gatewayv1.ListenerSet{Spec: gatewayv1.ListenerSetSpec{
				ParentRef: gatewayv1.ParentGatewayReference{Name: "edge", Namespace: &gateway}, Listeners: entries}}))
		} else {
			out.Gateways = append(out.Gateways, make(kind.APIGateway, team, "edge", &gatewayv1.Gateway{Spec: gatewayv1.GatewaySpec{GatewayClassName: "istio", Listeners: listeners}}))
		}
		to := gatewayv1.Namespace(data)
		for j := range 5 {
			out.HTTPRoutes = append(out.HTTPRoutes, make("HTTPRoute", team, fmt.Sprint("r", j), &gatewayv1.HTTPRoute{Spec: gatewayv1.HTTPRouteSpec{
				CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{parent}},
				Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
					BackendObjectReference: gatewayv1.BackendObjectReference{Name: "db", Namespace: &to, Port: &port}}}}}},
			}}))
		}
		out.Grants = append(out.Grants, make("ReferenceGrant", data, "grant", &gatewayv1.ReferenceGrant{Spec: gatewayv1.ReferenceGrantSpec{
			From: []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Namespace: gatewayv1.Namespace(team)}}, To: []gatewayv1.ReferenceGrantTo{{Kind: "Service"}}}}))
		system := gatewayv1.WellKnownCACertificatesSystem
		out.BackendTLSPolicies = append(out.BackendTLSPolicies, make("BackendTLSPolicy", data, "db", &gatewayv1.BackendTLSPolicy{Spec: gatewayv1.BackendTLSPolicySpec{
			TargetRefs: []gatewayv1.LocalPolicyTargetReferenceWithSectionName{{LocalPolicyTargetReference: gatewayv1.LocalPolicyTargetReference{Kind: "Service", Name: "db"}}},
			Validation: gatewayv1.BackendTLSPolicyValidation{Hostname: "db.example.com", WellKnownCACertificates: &system}}}))
		host := "db." + data + ".svc.cluster.local"
		services[host] = []*model.Service{{Host: host, Name: "db", Namespace: data, Kubernetes: true, Ports: []model.Port{{Number: 80, Protocol: model.HTTP}}}}
	}
	return out, Env{ClusterDomain: "cluster.local", AsIstio: true, Services: func(host string) []*model.Service { return services[host] },
		Front: func(string, string) Front { return Front{} }, Namespace: func(string) map[string]string { return nil }}
}

// BenchmarkCompile is a cluster of 1,000 Gateways with 10,000 listeners and 5,000 routes.
func BenchmarkCompile(b *testing.B) {
	for _, shared := range []bool{false, true} {
		b.Run(map[bool]string{false: "gateways", true: "sets"}[shared], func(b *testing.B) {
			objects, env := fleet(1000, shared)
			for b.Loop() {
				Compile(objects, env)
			}
		})
	}
}

// The names that stand for a host are those that say so of themselves, the most specific first.
func TestWider(t *testing.T) {
	for host, want := range map[string]string{
		"a.b.c": "a.b.c *.b.c *.c *", "*.b.c": "*.b.c *.c *", "a": "a *", "*": "* *",
	} {
		var got []string
		for name := range wider(host) {
			if !model.HostMatches(name, host) {
				t.Errorf("%q does not stand for %q", name, host)
			}
			got = append(got, name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: got %v, want %s", host, got, want)
		}
	}
}
