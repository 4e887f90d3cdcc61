// Package kind is the one table of the kinds of objects that malla knows.
//
// Everything that must agree on kinds reads it here: the API server of the local
// mesh, the loader of files, validation, the control plane's informers and the
// handbook. A kind that is not in the table is refused by name.
//
// All served versions of a kind are one object: their fields are the same, so a
// conversion is a change of apiVersion.
package kind

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A Class says what malla does with a kind, or with a field of a kind.
type Class uint8

const (
	// Used kinds and fields have the effect that their users expect.
	Used Class = iota
	// Ignored kinds and fields are accepted without effect here; people are told once.
	Ignored
	// Refused ones are an error that says so.
	Refused
	// Unmet kinds and fields are accepted with a notice, and the object's status says that they are not met.
	Unmet
)

// A Kind is one row of the table.
type Kind struct {
	Group      string
	Versions   []string // served, the stored one first; all have the same fields (Ignored kinds: about)
	Kind       string
	key        string // see Key
	Plural     string
	Singular   string   // lower case of Kind if empty
	Short      []string // short names for the command line
	Categories []string // "all", "istio-io", ...
	Namespaced bool
	Class      Class
	// New makes an empty object of the stored version's Go type: an
	// *unstructured.Unstructured for kinds that have none here.
	New func() runtime.Object
	// Subresources: "status", "scale", and for pods "log", "exec".
	Subresources []string
	// Columns are those of `get` besides NAME and AGE, for kinds whose columns are
	// plain fields (the others are made by the API server). Priority 1 shows with -o wide.
	Columns []Column
	// Fields lists the fields that are not Used, or of whose values some are not.
	// A field that is not listed is Used.
	Fields []Field
	// Why says why the kind is not Used.
	Why string
}

// A Field classifies a field of a kind and all below it.
type Field struct {
	// Path is dotted, with [] for list elements and {} for map entries:
	// "spec.template.spec.containers[].resources".
	Path  string
	Class Class
	// Values restricts the row to these values of the field; with "!" in front, to
	// all values but that one. Empty values (false, 0, "", {}, []) never count.
	Values []string
	// Why says what happens instead, or what to do.
	Why string
}

// Concerns reports whether the row is about this value of the field.
func (f *Field) Concerns(value string) bool {
	if len(f.Values) == 0 {
		return true
	}
	not := strings.HasPrefix(f.Values[0], "!")
	for _, v := range f.Values {
		if strings.TrimPrefix(v, "!") == value {
			return !not
		}
	}
	return not
}

// A Column shows one field of an object, found by JSONPath as in a CRD.
type Column struct {
	Name, Type, JSONPath string
	Priority             int32
}

// GVK returns the stored version's group, version and kind.
func (k *Kind) GVK() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: k.Group, Version: k.Versions[0], Kind: k.Kind}
}

// GVR returns the resource of the stored version.
func (k *Kind) GVR() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.Group, Version: k.Versions[0], Resource: k.Plural}
}

// Key names the kind among all: by its Kind, or with its group, as kubectl writes it,
// if another one of the table is called the same ("Gateway.gateway.networking.k8s.io").
// Snapshots, references and messages use it.
func (k *Kind) Key() string {
	if k.key != "" {
		return k.key
	}
	return k.Kind
}

// Serves reports whether version is one of the kind's served versions.
func (k *Kind) Serves(version string) bool {
	for _, v := range k.Versions {
		if v == version {
			return true
		}
	}
	return false
}

// One returns the singular name.
func (k *Kind) One() string {
	if k.Singular != "" {
		return k.Singular
	}
	return strings.ToLower(k.Kind)
}

// Has reports whether the kind has the subresource.
func (k *Kind) Has(subresource string) bool {
	for _, s := range k.Subresources {
		if s == subresource {
			return true
		}
	}
	return false
}

// Named finds the row of a kind by its key, as configuration is looked up.
func Named(key string) (*Kind, bool) {
	for _, k := range All {
		if k.Key() == key {
			return k, true
		}
	}
	return nil, false
}

// String returns the class as documentation names it.
func (c Class) String() string {
	return [...]string{"used", "accepted without effect", "refused", "refused by status"}[c]
}

// ByGVK finds the row of a kind in any served version.
func ByGVK(gvk schema.GroupVersionKind) (*Kind, bool) {
	for _, k := range All {
		if k.Group == gvk.Group && k.Kind == gvk.Kind && k.Serves(gvk.Version) {
			return k, true
		}
	}
	return nil, false
}

// ByGK finds the row of a kind whatever its version.
func ByGK(gk schema.GroupKind) (*Kind, bool) {
	for _, k := range All {
		if k.Group == gk.Group && k.Kind == gk.Kind {
			return k, true
		}
	}
	return nil, false
}

// ByResource finds the row of a resource ("deployments") in any served version.
func ByResource(gvr schema.GroupVersionResource) (*Kind, bool) {
	for _, k := range All {
		if k.Group == gvr.Group && k.Plural == gvr.Resource && k.Serves(gvr.Version) {
			return k, true
		}
	}
	return nil, false
}
