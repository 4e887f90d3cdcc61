package memory

import (
	"testing"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/source/kube"
)

// Both sources can stand in each other's place.
var (
	_ config.Source = (*Source)(nil)
	_ config.Source = (*kube.Source)(nil)
)

func TestSource(t *testing.T) {
	s := New()
	if err := s.PutYAML("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: prod}\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Changes():
	default:
		t.Error("a change must be told")
	}
	select {
	case <-s.Changes():
		t.Error("several changes are one value")
	default:
	}
	if _, ok := s.Snapshot().Get("ConfigMap", "default", "a"); !ok {
		t.Error("an object without namespace belongs to default")
	}
	if _, ok := s.Snapshot().Get("Namespace", "", "prod"); !ok {
		t.Error("a Namespace belongs to no namespace")
	}
	s.Delete("ConfigMap", "default", "a")
	if n := len(s.Snapshot().List("ConfigMap")); n != 0 || !s.HasSynced() {
		t.Errorf("%d config maps after Delete", n)
	}
	if err := s.PutYAML("apiVersion: v1\nkind: Nothing\nmetadata: {name: a}\n"); err == nil {
		t.Error("an unknown kind must be an error")
	}
	if err := s.PutYAML("a: ["); err == nil {
		t.Error("bad YAML must be an error")
	}
}
