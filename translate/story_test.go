package translate_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/mallamesh/malla/translate/story"
)

var update = flag.Bool("update", false, "rewrite what the stories want")

// TestStories reads testdata: one behavior per file. Its comment says which,
// its sections say what there is (see package story), and each section want/...
// is a question with its answer.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("stories: %v, %d files", err, len(files))
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { tell(t, name) })
	}
}

func tell(t *testing.T, name string) {
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(strings.TrimSpace(string(archive.Comment))) == 0 {
		t.Errorf("%s: a story opens with the sentence that it proves", name)
	}
	s, err := story.Read(archive)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for i, f := range archive.Files {
		question, ok := strings.CutPrefix(f.Name, "want/")
		if !ok {
			continue
		}
		asked++
		got, err := s.Answer(question)
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
			continue
		}
		if want := string(f.Data); got != want {
			if *update {
				archive.Files[i].Data = []byte(got)
				continue
			}
			t.Errorf("%s:\n%s", f.Name, diff(want, got))
		}
	}
	if asked == 0 {
		t.Errorf("%s asks nothing", name)
	}
	if *update {
		if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// diff shows which lines are missing and which are too many.
func diff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out strings.Builder
	for _, l := range w {
		if !slices.Contains(g, l) {
			fmt.Fprintf(&out, "- %s\n", l)
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			fmt.Fprintf(&out, "+ %s\n", l)
		}
	}
	return out.String() + "\nall of it:\n" + got
}
