package kube

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/model"
)

// Secrets and ConfigMaps are used for everything. Of those that hold certificates or
// roots only these are kept, and patches for gateways; the mesh's settings whole; of the others nothing, not
// even their existence, so that a lease which is written every two seconds makes no
// work here and nobody's password is in this process's memory.

// keep drops what does not concern the control plane from an object, and reports
// whether anything does.
func (k *sink) keep(value runtime.Object) bool {
	switch v := value.(type) {
	case *corev1.ConfigMap:
		if v.Namespace == k.s.o.Namespace && (slices.Contains(mesh.Names, v.Name) || v.Name == mesh.LastGood || v.Name == k.s.o.Shared) {
			return true
		}
		maps.DeleteFunc(v.Data, func(key, text string) bool {
			return other(key, text) && !slices.Contains(model.GatewayEntries(), key) && !slices.Contains(model.UnmadeEntries(), key)
		})
		maps.DeleteFunc(v.BinaryData, other[[]byte])
		return len(v.Data)+len(v.BinaryData) > 0
	case *corev1.Secret:
		maps.DeleteFunc(v.Data, other[[]byte])
		return len(v.Data) > 0 && v.Type != corev1.SecretTypeServiceAccountToken
	}
	return true
}

func other[V any](key string, _ V) bool { return !slices.Contains(model.CredentialEntries(), key) }

// sameData reports whether two versions of a Secret or a ConfigMap hold the same.
func sameData(a, b *config.Object) bool {
	bytes := func(x, y map[string][]byte) bool { return maps.EqualFunc(x, y, slices.Equal[[]byte]) }
	switch x := a.Value.(type) {
	case *corev1.ConfigMap:
		y := b.Value.(*corev1.ConfigMap)
		return maps.Equal(x.Data, y.Data) && bytes(x.BinaryData, y.BinaryData)
	case *corev1.Secret:
		return bytes(x.Data, b.Value.(*corev1.Secret).Data)
	}
	return false
}
