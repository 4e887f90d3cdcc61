package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/local/api"
)

func gatewayAPI(version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: version, Resource: resource}
}

func document(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

// An object gets the defaults of its kind's definition, whatever the version it is written
// in, and is the same in each.
func TestAnHTTPRouteIsCompletedAndServedInAllVersions(t *testing.T) {
	s, _ := start(t, api.Options{})
	c, err := dynamic.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t)
	_, err = c.Resource(gatewayAPI("v1beta1", "httproutes")).Namespace("default").Create(ctx, document(t, `
apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata: {name: a}
spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: web, port: 80}]}]}`), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Resource(gatewayAPI("v1", "httproutes")).Namespace("default").Get(ctx, "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := json.Marshal(got.Object["spec"])
	const want = `{"parentRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"gw"}],` +
		`"rules":[{"backendRefs":[{"group":"","kind":"Service","name":"web","port":80,"weight":1}],"matches":[{"path":{"type":"PathPrefix","value":"/"}}]}]}`
	if string(spec) != want || got.GetAPIVersion() != "gateway.networking.k8s.io/v1" || got.GetGeneration() != 1 {
		t.Errorf("%s, generation %d:\n%s\nwant\n%s", got.GetAPIVersion(), got.GetGeneration(), spec, want)
	}
}

// Two kinds are called Gateway: each is its own, and a new one of Gateway API waits for a controller.
func TestBothKindsOfGatewaysAreServed(t *testing.T) {
	s, _ := start(t, api.Options{})
	c, err := dynamic.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t)
	istio := schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "gateways"}
	if _, err := c.Resource(istio).Namespace("default").Create(ctx, document(t, `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}`), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	o, err := c.Resource(gatewayAPI("v1", "gateways")).Namespace("default").Create(ctx, document(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}`), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	status, _ := json.Marshal(o.Object["status"])
	if !strings.Contains(string(status), "Waiting for controller") {
		t.Errorf("the status of a new Gateway: %s", status)
	}
	if err := c.Resource(istio).Namespace("default").Delete(ctx, "gw", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resource(gatewayAPI("v1beta1", "gateways")).Namespace("default").Get(ctx, "gw", metav1.GetOptions{}); err != nil {
		t.Errorf("Gateway API's Gateway went with Istio's: %v", err)
	}
}

func TestAGatewayClassKeepsItsController(t *testing.T) {
	s, _ := start(t, api.Options{})
	c, err := dynamic.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	ctx, classes := within(t), c.Resource(gatewayAPI("v1", "gatewayclasses"))
	o, err := classes.Create(ctx, document(t, `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: other}
spec: {controllerName: example.com/one}`), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	unstructured.SetNestedField(o.Object, "example.com/two", "spec", "controllerName")
	if _, err := classes.Update(ctx, o, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.controllerName") {
		t.Errorf("another controllerName: %v", err)
	}
}
