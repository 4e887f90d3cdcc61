package validate

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/strict"
)

var metadataPlan = sync.OnceValue(func() *strict.Plan {
	return strict.Type(reflect.TypeFor[metav1.ObjectMeta](), nil)
})

// maxAnnotations bounds all annotations of an object, as Kubernetes does.
const maxAnnotations = 256 << 10

func (c *checker) metadata(u *unstructured.Unstructured, k *kind.Kind) {
	at := field.At("metadata")
	if u.Object["metadata"] == nil {
		c.Errs.Addf(at, "missing; want at least a name")
		return
	}
	v, ok := c.Value(u.Object["metadata"], metadataPlan(), at)
	if !ok {
		return
	}
	m := v.(map[string]any)
	name, _ := m["name"].(string)
	generate, _ := m["generateName"].(string)
	switch {
	case name == "" && generate == "" && !c.Bad(at.Child("name")):
		c.Errs.Addf(at.Child("name"), "missing; every object has a name")
	case name != "":
		c.texts(at.Child("name"), name, nameRule(k)(name))
	}
	ns, _ := m["namespace"].(string)
	switch {
	case ns == "":
	case !k.Namespaced:
		c.Errs.Addf(at.Child("namespace"), "found %q, but a %s belongs to no namespace; leave it out", ns, k.Kind)
	default:
		c.texts(at.Child("namespace"), ns, validation.IsDNS1123Label(ns))
	}
	labels, _ := m["labels"].(map[string]any)
	c.labels(at.Child("labels"), labels)
	annotations, _ := m["annotations"].(map[string]any)
	size := 0
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		c.texts(at.Child("annotations").Child(key), key, validation.IsQualifiedName(strings.ToLower(key)))
		value, _ := annotations[key].(string)
		size += len(key) + len(value)
	}
	if size > maxAnnotations {
		c.Errs.Addf(at.Child("annotations"), "%d bytes together, want at most %d", size, maxAnnotations)
	}
}

func (c *checker) labels(at *field.Path, labels map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value, _ := labels[key].(string)
		c.texts(at.Child(key), key, validation.IsQualifiedName(key))
		c.texts(at.Child(key), value, validation.IsValidLabelValue(value))
	}
}

func (c *checker) texts(at *field.Path, found string, problems []string) {
	for _, p := range problems {
		c.Errs.Addf(at, "found %q: %s", found, problem(p))
	}
}

// nameRule returns how objects of a kind may be called.
func nameRule(k *kind.Kind) func(string) []string {
	switch {
	case k.Group == "" && k.Kind == "Namespace":
		return validation.IsDNS1123Label
	case k.Group == "" && k.Kind == "Service":
		return validation.IsDNS1035Label
	case strings.HasPrefix(k.Group, "rbac."):
		return func(name string) []string {
			if strings.ContainsAny(name, "/%") || name == "." || name == ".." {
				return []string{"want a name without / and %"}
			}
			return nil
		}
	}
	return validation.IsDNS1123Subdomain
}
