package api

import (
	"slices"
	"testing"
)

// `get all` shows kinds in discovery's order: as in a cluster, pods come before services.
func TestKindsAreListedByName(t *testing.T) {
	s := &Server{kinds: newKinds()}
	for _, group := range []string{"", "apps", "networking.istio.io"} {
		var names []string
		for _, f := range s.resources(group, "v1") {
			names = append(names, f.name)
		}
		if len(names) == 0 || !slices.IsSorted(names) {
			t.Errorf("group %q lists %v, want them by name", group, names)
		}
	}
}
