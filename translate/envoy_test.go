package translate_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/mallamesh/malla/translate/story"
)

// TestEnvoyAccepts asks a real Envoy about everything that the stories make,
// route tables and endpoints included. Without one it is skipped, but never in CI.
func TestEnvoyAccepts(t *testing.T) {
	if testing.Short() {
		t.Skip("a real Envoy is not asked with -short")
	}
	envoy, err := story.FindEnvoy("..")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range archive.Files {
				if f.Name == "not for envoy" {
					t.Skip(strings.TrimSpace(string(f.Data)))
				}
			}
			s, err := story.Read(archive)
			if err != nil {
				t.Fatal(err)
			}
			s.View.Proxy.Stock = true
			if err := story.Validate(envoy, t.TempDir(), s.View); err != nil {
				t.Error(err)
			}
		})
	}
}
