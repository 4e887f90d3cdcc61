package accept

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/load"
	"github.com/mallamesh/malla/config/validate"
	"github.com/mallamesh/malla/model"
)

// TestValidIsAccepted: what validation finds nothing wrong with compiles, and
// no proxy refuses what is made of it. The objects are those of the stories of
// config/validate that are good, each story's as one mesh.
func TestValidIsAccepted(t *testing.T) {
	files, err := filepath.Glob("../../config/validate/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("stories: %v, %d files", err, len(files))
	}
	objects := 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			w := &world{t: t}
			for _, d := range goodDocuments(t, file) {
				k, _ := kind.ByGVK(d.Object.GroupVersionKind())
				if k.Namespaced && d.Object.GetNamespace() == "" {
					d.Object.SetNamespace("default")
				}
				value, err := config.Typed(k, d.Object)
				if err != nil {
					t.Errorf("valid, but it cannot be converted: %v", err)
					continue
				}
				w.take(k, value)
				objects++
			}
			w.pod("default", "bystander", corev1.PodTemplateSpec{}) // it sees what is for all
			w.gateway()
			for _, s := range w.services {
				w.endpoints(s)
			}
			mesh, problems := w.compile()
			for _, p := range problems {
				if !p.Notice {
					t.Errorf("valid, but it does not compile: %v", p)
				}
			}
			for _, p := range w.proxies() {
				known(t, model.NewView(p, mesh))
			}
		})
	}
	if objects < 20 {
		t.Errorf("the stories have %d good objects, want at least 20: is this test reading them?", objects)
	}
}

// goodDocuments are those of a story without errors, of kinds that have effects.
func goodDocuments(t *testing.T, file string) (good []*load.Doc) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		if f.Name == "want" {
			continue
		}
		docs, _ := load.Bytes(f.Name, f.Data)
		for _, d := range docs {
			k, ok := kind.ByGVK(d.Object.GroupVersionKind())
			if ok && k.Class != kind.Ignored && len(validate.Object(d.Object, nil).Errors) == 0 {
				good = append(good, d)
			}
		}
	}
	return good
}
