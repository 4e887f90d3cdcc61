package config

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mallamesh/malla/config/kind"
)

// Typed converts an object in any served version to the Go type of its kind.
// The argument is not changed.
func Typed(k *kind.Kind, u *unstructured.Unstructured) (runtime.Object, error) {
	value := k.New()
	if raw, ok := value.(*unstructured.Unstructured); ok {
		u.DeepCopyInto(raw)
		raw.SetGroupVersionKind(k.GVK())
		return raw, nil
	}
	// By way of JSON: Istio's types are protobuf and know only this door.
	data, err := json.Marshal(u.Object)
	if err == nil {
		err = json.Unmarshal(data, value)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", k.Key(), u.GetNamespace(), u.GetName(), err)
	}
	value.GetObjectKind().SetGroupVersionKind(k.GVK())
	return value, nil
}
