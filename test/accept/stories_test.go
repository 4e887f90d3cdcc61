package accept

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/mallamesh/malla/translate/story"
)

// stories reads those of translate, by name.
func stories(t *testing.T) map[string]*story.Story {
	files, err := filepath.Glob("../../translate/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("stories: %v, %d files", err, len(files))
	}
	out := make(map[string]*story.Story)
	for _, name := range files {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := story.Read(archive)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(name), ".txtar")] = s
	}
	return out
}
