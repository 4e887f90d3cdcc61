package kind

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestTable(t *testing.T) {
	resources := map[schema.GroupResource]bool{}
	names := map[string]bool{}
	for _, k := range All {
		if k.Kind == "" || k.Plural == "" || len(k.Versions) == 0 || k.New == nil {
			t.Errorf("row %+v is not complete", k)
			continue
		}
		if k.New() == nil || k.New() == k.New() {
			t.Errorf("%s: New must make a new object each time", k.Kind)
		}
		if (k.Class == Used) != (k.Why == "") {
			t.Errorf("%s: Why is for kinds that are not used, and those have one; found %q", k.Kind, k.Why)
		}
		gr := schema.GroupResource{Group: k.Group, Resource: k.Plural}
		if resources[gr] {
			t.Errorf("%s stands in the table twice", gr)
		}
		resources[gr] = true
		if names[k.Key()] { // configuration is looked up by it
			t.Errorf("two kinds have the key %s", k.Key())
		}
		names[k.Key()] = true
		if _, refused := RefusedBecause(schema.GroupKind{Group: k.Group, Kind: k.Kind}); refused {
			t.Errorf("%s is accepted and refused", k.Kind)
		}
		for _, f := range k.Fields {
			if f.Class == Used || f.Why == "" {
				t.Errorf("%s %s: want a class other than used, and why", k.Kind, f.Path)
			}
		}
	}
}

func TestVersions(t *testing.T) {
	for _, v := range []string{"v1", "v1beta1", "v1alpha3"} {
		k, ok := ByGVK(schema.GroupVersionKind{Group: "networking.istio.io", Version: v, Kind: "VirtualService"})
		if !ok || k.GVK().Version != "v1" {
			t.Errorf("VirtualService %s: found %v, want the row whose stored version is v1", v, ok)
		}
	}
	if _, ok := ByGVK(schema.GroupVersionKind{Group: "networking.istio.io", Version: "v2", Kind: "VirtualService"}); ok {
		t.Error("VirtualService v2 is served by nobody")
	}
	if k, ok := ByResource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}); !ok || k.Kind != "Deployment" || k.One() != "deployment" || !k.Has("scale") || k.Has("log") {
		t.Errorf("deployments: found %+v", k)
	}
	if k, ok := Named("Gateway"); !ok || k.Group != "networking.istio.io" || k.GVR().Resource != "gateways" {
		t.Errorf("Gateway: found %+v", k)
	}
	if k, ok := Named(APIGateway); !ok || k.Group != GatewayAPI || k.Kind != "Gateway" || k.Key() != "Gateway.gateway.networking.k8s.io" {
		t.Errorf("%s: found %+v", APIGateway, k)
	}
}

func TestConcerns(t *testing.T) {
	for _, test := range []struct {
		values []string
		value  string
		want   bool
	}{
		{nil, "x", true},                       // a row without values is about all
		{[]string{"a", "b"}, "b", true},        // one of those named
		{[]string{"a", "b"}, "c", false},       //
		{[]string{"!a"}, "a", false},           // all but one
		{[]string{"!a"}, "c", true},            //
		{[]string{"!ClusterFirst"}, "c", true}, //
	} {
		f := Field{Values: test.values}
		if got := f.Concerns(test.value); got != test.want {
			t.Errorf("a row for %q: Concerns(%q) = %v, want %v", test.values, test.value, got, test.want)
		}
	}
}

// Nothing may be lost of what the mesh needs.
func TestNeeded(t *testing.T) {
	for _, name := range []string{"Namespace", "ServiceAccount", "ConfigMap", "Secret", "Service", "EndpointSlice", "Pod", "Deployment", "ReplicaSet", "Event",
		"VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "PeerAuthentication"} {
		if !slices.ContainsFunc(All, func(k *Kind) bool { return k.Kind == name && k.Class == Used }) {
			t.Errorf("%s is not a used kind", name)
		}
	}
}

func TestRefusedResource(t *testing.T) {
	for word, want := range map[string]string{
		"persistentvolumeclaims": "PersistentVolumeClaim", "persistentvolumeclaim": "PersistentVolumeClaim", "pvc": "PersistentVolumeClaim",
		"nodes": "Node", "authorizationpolicies": "AuthorizationPolicy",
		"pods": "", "nosuch": "", "persistentvolumeclaims.batch": "", "": "",
	} {
		if r, ok := RefusedResource(word); r.Kind != want || ok != (want != "") {
			t.Errorf("RefusedResource(%q) = %q, %v; want %q", word, r.Kind, ok, want)
		}
	}
}
