package config_test

import (
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
)

// Istio's kinds take Go's durations, not only the seconds of protobuf's JSON:
// what people write for a cluster means the same here.
func TestDurationsOfIstio(t *testing.T) {
	k, _ := kind.ByGVK(schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1", Kind: "VirtualService"})
	for _, test := range []struct {
		text string
		want time.Duration
	}{
		{"5s", 5 * time.Second},
		{"0.5s", 500 * time.Millisecond},
		{"500ms", 500 * time.Millisecond},
		{"3m", 3 * time.Minute},
		{"1h30m", 90 * time.Minute},
	} {
		value, err := config.Typed(k, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": map[string]any{"name": "x"},
			"spec": map[string]any{"http": []any{map[string]any{"timeout": test.text}}},
		}})
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if got := value.(*networkingv1.VirtualService).Spec.Http[0].Timeout.AsDuration(); got != test.want {
			t.Errorf("%s is read as %s, want %s", test.text, got, test.want)
		}
	}
}
