package gatewayapi

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/model"
)

// A Gateway of a class that another controller has is left alone, whatever the class is called.
func TestWhoseGateways(t *testing.T) {
	class := func(name, controller string) *config.Object {
		return &config.Object{Kind: &kind.Kind{Kind: "GatewayClass"}, Name: name, Value: &gatewayv1.GatewayClass{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: gatewayv1.GatewayClassSpec{ControllerName: gatewayv1.GatewayController(controller)},
		}}
	}
	gateway := &config.Object{Kind: &kind.Kind{Kind: "Gateway"}, Namespace: "prod", Name: "edge"}
	for _, test := range []struct {
		of      string
		classes []*config.Object
		alone   bool // there is no istiod
		want    bool
	}{
		{of: "istio", alone: true, want: true},
		{of: "malla", alone: true, want: true},
		{of: "nginx", alone: true},
		{of: "istio", alone: true, classes: []*config.Object{class("istio", istioController)}, want: true},
		{of: "istio", alone: true, classes: []*config.Object{class("istio", "somebody.example/else")}},
		{of: "edge", alone: true, classes: []*config.Object{class("edge", Controller)}, want: true},
		// Beside an istiod its classes are its own, and ours are those that we, or people, made.
		{of: "istio"},
		{of: "malla"},
		{of: "istio", classes: []*config.Object{class("istio", istioController)}},
		{of: "edge", classes: []*config.Object{class("edge", istioController)}},
		{of: "istio", classes: []*config.Object{class("istio", Controller)}, want: true},
		{of: "malla", classes: []*config.Object{class("malla", Controller)}, want: true},
	} {
		gateway.Value = &gatewayv1.Gateway{Spec: gatewayv1.GatewaySpec{GatewayClassName: gatewayv1.ObjectName(test.of), Listeners: []gatewayv1.Listener{{Name: "http", Port: 80, Protocol: "HTTP"}}}}
		out := Compile(Objects{Classes: test.classes, Gateways: []*config.Object{gateway}}, Env{AsIstio: test.alone,
			Front: func(string, string) Front { return Front{} }, Services: func(string) []*model.Service { return nil },
		})
		if _, got := out.Status[refOf(gateway)]; got != test.want || len(out.Deployments) == 1 != test.want {
			t.Errorf("a Gateway of class %q beside %d classes, alone %t, is ours: %t, want %t", test.of, len(test.classes), test.alone, got, test.want)
		}
	}
}

// What a Gateway is served by has its name and its class's, and a Gateway with which those make no name is told so.
func TestNamesOfServices(t *testing.T) {
	for name, want := range map[string]bool{"edge": true, strings.Repeat("e", 57): true, strings.Repeat("e", 58): false, "edge.prod": false} {
		gateway := &config.Object{Kind: &kind.Kind{Kind: "Gateway"}, Namespace: "prod", Name: name,
			Value: &gatewayv1.Gateway{Spec: gatewayv1.GatewaySpec{GatewayClassName: "istio", Listeners: []gatewayv1.Listener{{Name: "http", Port: 80, Protocol: "HTTP"}}}}}
		out := Compile(Objects{Gateways: []*config.Object{gateway}}, Env{AsIstio: true,
			Front: func(string, string) Front { return Front{Addresses: []string{"10.0.0.1"}} }, Services: func(string) []*model.Service { return nil },
		})
		status := out.Status[refOf(gateway)].(*gatewayv1.GatewayStatus)
		if got := meta.IsStatusConditionTrue(status.Conditions, "Programmed"); got != want || len(out.Deployments) == 1 != want {
			t.Errorf("a Gateway of the name %q is served: %t by %d, want %t: %v", name, got, len(out.Deployments), want, status.Conditions)
		}
	}
}

// A namespace cannot take another's name by a label.
func TestANamespaceIsKnownByItsName(t *testing.T) {
	c := &compiler{env: Env{Namespace: func(string) map[string]string { return map[string]string{"kubernetes.io/metadata.name": "prod"} }}}
	prod := &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "prod"}}
	for namespace, want := range map[string]bool{"prod": true, "evil": false} {
		if got := c.allows(gatewayv1.NamespacesFromSelector, prod, "infra", namespace); got != want {
			t.Errorf("namespace %s is taken for prod: %t, want %t", namespace, got, want)
		}
	}
}
