package seed

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mallamesh/malla/config/kind"
)

// mustGVR returns the resource of a kind in the embedded manifests.
func mustGVR(name string) schema.GroupVersionResource {
	for _, k := range kind.All {
		if k.Kind == name {
			return k.GVR()
		}
	}
	panic("seed: kind " + name + " is not in the table of kinds")
}
