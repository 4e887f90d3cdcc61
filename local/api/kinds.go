package api

import (
	"sort"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/mallamesh/malla/config/kind"
)

// A resource is a row of the table of kinds, as the server sees it.
type resource struct {
	*kind.Kind
	gr  schema.GroupResource
	key string // store.Key.Resource
	// native kinds are Kubernetes' own: their Go type is the whole schema, and
	// unknown fields are those that it does not have.
	native bool
	// strategic kinds have a Go type that knows patch strategies.
	strategic bool
}

// kinds indexes the table of kinds by path.
type kinds struct {
	all    []*resource // in the table's order
	byGR   map[schema.GroupResource]*resource
	byGK   map[schema.GroupKind]*resource
	keys   map[string]*resource
	groups []string // sorted; "" first
}

func newKinds() *kinds {
	k := &kinds{byGR: map[schema.GroupResource]*resource{}, byGK: map[schema.GroupKind]*resource{}, keys: map[string]*resource{}}
	seen := map[string]bool{}
	for _, row := range kind.All {
		if row.Class == kind.Refused {
			continue
		}
		gr := schema.GroupResource{Group: row.Group, Resource: row.Plural}
		res := &resource{Kind: row, gr: gr, key: gr.String(), strategic: scheme.Scheme.Recognizes(row.GVK())}
		// Kinds without effect are kept as they come: their versions may differ in fields.
		res.native = res.strategic && row.Class == kind.Used
		k.all = append(k.all, res)
		k.byGR[gr] = res
		k.keys[res.key] = res
		k.byGK[schema.GroupKind{Group: row.Group, Kind: row.Kind}] = res
		if !seen[row.Group] {
			seen[row.Group] = true
			k.groups = append(k.groups, row.Group)
		}
	}
	sort.Strings(k.groups)
	return k
}

// versions returns the served versions of a group, preferred first.
func (k *kinds) versions(group string) []string {
	var out []string
	seen := map[string]bool{}
	for _, res := range k.all {
		if res.Group != group {
			continue
		}
		for _, v := range res.Versions {
			if !seen[v] {
				seen[v] = true
				out = append(out, v)
			}
		}
	}
	return out
}

// in returns the resources of a group and version.
func (k *kinds) in(group, version string) []*resource {
	var out []*resource
	for _, res := range k.all {
		if res.Group == group && res.Serves(version) {
			out = append(out, res)
		}
	}
	return out
}

// mustKind returns a kind that the server itself depends on.
func (k *kinds) mustKind(group, name string) *resource {
	res := k.byGK[schema.GroupKind{Group: group, Kind: name}]
	if res == nil {
		panic("local/api: the table of kinds lacks " + name)
	}
	return res
}

// apiVersion returns "apps/v1", or "v1" in the core group.
func apiVersion(group, version string) string {
	return schema.GroupVersion{Group: group, Version: version}.String()
}

// byKey returns the resource whose objects have this store key, or nil.
func (k *kinds) byKey(key string) *resource { return k.keys[key] }

func sameGroup(apiVersion, group string) bool {
	gv, err := schema.ParseGroupVersion(apiVersion)
	return err == nil && gv.Group == group
}
