package config

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/config/kind"
)

func configMap(namespace, name, version string) *Object {
	k, _ := kind.Named("ConfigMap")
	o, err := FromTyped(k, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, ResourceVersion: version,
		Annotations: map[string]string{SourceAnnotation: name + ".yaml:3"}}})
	if err != nil {
		panic(err)
	}
	return o
}

func TestSnapshot(t *testing.T) {
	s := Objects(configMap("b", "y", "1"), configMap("a", "z", "1"), configMap("a", "x", "1"), configMap("b", "x", "1"))
	var got []string
	for _, o := range s.List("ConfigMap") {
		got = append(got, o.Namespace+"/"+o.Name)
	}
	if want := []string{"a/x", "a/z", "b/x", "b/y"}; !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v: by namespace, then name", got, want)
	}
	if in := s.In("ConfigMap", "b"); len(in) != 2 || in[0].Name != "x" {
		t.Errorf("in b: %v", in)
	}
	if in := s.In("ConfigMap", "c"); len(in) != 0 {
		t.Errorf("in c: %v", in)
	}
	if o, ok := s.Get("ConfigMap", "a", "z"); !ok || o.String() != "ConfigMap a/z" || o.Pos != "z.yaml:3" {
		t.Errorf("a/z: %v", o)
	}
	if _, ok := s.Get("ConfigMap", "a", "y"); ok {
		t.Error("a/y is not there")
	}
	if _, ok := s.Get("Secret", "a", "x"); ok || len(s.List("Secret")) != 0 {
		t.Error("there are no secrets")
	}
}

// A snapshot never changes, a change makes a new one, and no change makes none.
func TestGenerations(t *testing.T) {
	var s Store
	if s.Snapshot() != Empty || s.Snapshot().Generation() != 0 {
		t.Error("a store without objects has the empty snapshot")
	}
	s.Put(configMap("a", "x", "1"))
	first := s.Snapshot()
	if first.Generation() == 0 || s.Snapshot() != first {
		t.Error("without a change it must be the same snapshot")
	}
	s.Put(configMap("a", "x", "1")) // the same version again, as a resync brings it
	s.Delete("ConfigMap", "a", "nothing")
	if s.Snapshot() != first {
		t.Error("the same version of an object is no change")
	}
	s.Put(configMap("a", "x", "2"))
	second := s.Snapshot()
	if second.Generation() <= first.Generation() || second.KindGeneration("ConfigMap") != second.Generation() {
		t.Error("a change makes a higher generation, of its kind too")
	}
	if o, _ := first.Get("ConfigMap", "a", "x"); o.Version != "1" {
		t.Error("the snapshot before has changed")
	}
	s.Replace("ConfigMap", []*Object{configMap("a", "y", "1")})
	third := s.Snapshot()
	if list := third.List("ConfigMap"); len(list) != 1 || list[0].Name != "y" {
		t.Errorf("after Replace: %v", list)
	}
	pod, _ := kind.Named("Pod")
	o, err := FromTyped(pod, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}})
	if err != nil {
		t.Fatal(err)
	}
	s.Put(o)
	fourth := s.Snapshot()
	if &fourth.List("ConfigMap")[0] != &third.List("ConfigMap")[0] || fourth.KindGeneration("ConfigMap") != third.KindGeneration("ConfigMap") {
		t.Error("a kind that did not change must share its memory with the snapshot before")
	}
}

// Random edits give what a store made from scratch gives.
func TestRandomEdits(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var s Store
	model := map[key]*Object{}
	for step := range 2000 {
		k := key{fmt.Sprintf("ns%d", r.IntN(5)), fmt.Sprintf("n%d", r.IntN(20))}
		switch r.IntN(10) {
		case 0:
			s.Delete("ConfigMap", k.namespace, k.name)
			delete(model, k)
		case 1:
			var list []*Object
			clear(model)
			for range r.IntN(30) {
				o := configMap(fmt.Sprintf("ns%d", r.IntN(5)), fmt.Sprintf("n%d", r.IntN(20)), fmt.Sprint(step))
				if model[o.key()] == nil {
					model[o.key()] = o
					list = append(list, o)
				}
			}
			s.Replace("ConfigMap", list)
		default:
			o := configMap(k.namespace, k.name, fmt.Sprint(step))
			s.Put(o)
			model[k] = o
		}
		if r.IntN(3) > 0 {
			continue
		}
		got := s.Snapshot().List("ConfigMap")
		if len(got) != len(model) || !slices.IsSortedFunc(got, func(a, b *Object) int { return compareKeys(a.key(), b.key()) }) {
			t.Fatalf("step %d: %d objects, want %d in order", step, len(got), len(model))
		}
		for _, o := range got {
			if model[o.key()] != o {
				t.Fatalf("step %d: %v is not the last one put", step, o)
			}
		}
	}
}

// All served versions of a kind are one object.
func TestVersionsAreOne(t *testing.T) {
	for _, v := range []string{"v1", "v1beta1", "v1alpha3"} {
		o, err := FromUnstructured(&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.istio.io/" + v, "kind": "VirtualService",
			"metadata": map[string]any{"name": "x", "namespace": "a"},
			"spec": map[string]any{
				"hosts": []any{"reviews"},
				"http":  []any{map[string]any{"timeout": "1m30s", "route": []any{map[string]any{"destination": map[string]any{"host": "reviews"}, "weight": int64(3)}}}},
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
		vs := o.Value.(*networkingv1.VirtualService)
		if vs.APIVersion != "networking.istio.io/v1" || vs.Spec.Http[0].Timeout.AsDuration().Seconds() != 90 || vs.Spec.Http[0].Route[0].Weight != 3 {
			t.Errorf("%s: found %+v", v, vs)
		}
	}
	if _, err := FromUnstructured(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Nothing"}}); err == nil {
		t.Error("an unknown kind must be an error")
	}
}

// Gateways of Istio and of Gateway API are told apart, whatever they are called.
func TestTwoKindsOfOneName(t *testing.T) {
	object := func(key string) *Object {
		k, ok := kind.Named(key)
		if !ok {
			t.Fatalf("no kind %s", key)
		}
		return &Object{Kind: k, Namespace: "prod", Name: "gw"}
	}
	istio, standard := object("Gateway"), object(kind.APIGateway)
	s := Objects(istio, standard)
	if a, _ := s.Get("Gateway", "prod", "gw"); a != istio {
		t.Errorf("Istio's Gateway: %v", a)
	}
	if b, _ := s.Get(kind.APIGateway, "prod", "gw"); b != standard || b.String() != "Gateway.gateway.networking.k8s.io prod/gw" {
		t.Errorf("Gateway API's Gateway: %v", b)
	}
}
