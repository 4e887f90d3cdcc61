package config

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// chosen marks the generations of what was chosen from, so that they are never those of all.
const chosen = 1 << 63

// Only returns the snapshot without what is in namespaces that keep refuses. The namespaces
// themselves stay, and so does what is in none. A kind of which nothing is left out shares its
// memory with s.
//
// Generations are those of s, raised to that of the last change of namespaces or of a
// ConfigMap, which is where it is said what is kept, and are none of those of s itself: what was made
// of a kind can be kept for as long as its generation stays.
func (s *Snapshot) Only(keep func(namespace string, labels map[string]string) bool) *Snapshot {
	kept := make(map[string]bool)
	for _, o := range s.List("Namespace") {
		kept[o.Name] = keep(o.Name, o.Value.(*corev1.Namespace).Labels)
	}
	known := func(ns string) bool {
		in, ok := kept[ns]
		if !ok {
			in = keep(ns, nil) // an object may be seen before its namespace
			kept[ns] = in
		}
		return in
	}
	out := &Snapshot{generation: s.generation, kinds: make(map[string]*set, len(s.kinds))}
	decided := max(s.KindGeneration("Namespace"), s.KindGeneration("ConfigMap"))
	for name, k := range s.kinds {
		list := k.list
		if slices.ContainsFunc(list, func(o *Object) bool { return o.Namespace != "" && !known(o.Namespace) }) {
			list = slices.DeleteFunc(slices.Clone(list), func(o *Object) bool { return o.Namespace != "" && !known(o.Namespace) })
		}
		out.kinds[name] = &set{generation: chosen | max(k.generation, decided), list: list}
	}
	return out
}
