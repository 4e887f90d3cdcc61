package config_test

import (
	"testing"

	"github.com/mallamesh/malla/config/source/memory"
)

// What is in a namespace that is not kept is not there; when the namespace's labels change it
// is there, and what is made of its kind is made anew.
func TestOnly(t *testing.T) {
	s := memory.New()
	put := func(text string) {
		t.Helper()
		if err := s.PutYAML(text); err != nil {
			t.Fatal(err)
		}
	}
	put("{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {mesh: 'yes'}}}\n---\n{apiVersion: v1, kind: Namespace, metadata: {name: b}}\n" +
		"---\n{apiVersion: v1, kind: Service, metadata: {name: x, namespace: a}}\n---\n{apiVersion: v1, kind: Service, metadata: {name: w, namespace: b}}\n")
	keep := func(_ string, labels map[string]string) bool { return labels["mesh"] == "yes" }
	before := s.Snapshot().Only(keep)
	if n := len(before.List("Service")); n != 1 || before.List("Service")[0].Name != "x" || len(before.List("Namespace")) != 2 {
		t.Errorf("found %d services, want that of namespace a", n)
	}
	if again := s.Snapshot().Only(keep); again.KindGeneration("Service") != before.KindGeneration("Service") {
		t.Error("nothing changed, but the generation did")
	}
	put("{apiVersion: v1, kind: Namespace, metadata: {name: b, labels: {mesh: 'yes'}}}\n")
	after := s.Snapshot().Only(keep)
	if len(after.List("Service")) != 2 || after.KindGeneration("Service") == before.KindGeneration("Service") {
		t.Errorf("found %d services of generation %d, want both, and another generation than %d", len(after.List("Service")), after.KindGeneration("Service"), before.KindGeneration("Service"))
	}
}
