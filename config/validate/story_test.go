package validate

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/mallamesh/malla/config/load"
)

var update = flag.Bool("update", false, "write what was found into the stories")

// TestStories: a sentence, manifests, and what their author is told.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(strings.TrimSpace(string(a.Comment))) == 0 {
				t.Error("the story has no sentence")
			}
			want := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
			var got strings.Builder
			for i, f := range a.Files {
				if i != want {
					tell(&got, f.Name, f.Data)
				}
			}
			if *update {
				if want < 0 {
					a.Files, want = append(a.Files, txtar.File{Name: "want"}), len(a.Files)
				}
				a.Files[want].Data = []byte(got.String())
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 {
				t.Fatal("no section want; run go test -update and read it")
			}
			if diff := cmp.Diff(string(a.Files[want].Data), got.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// tell writes what the author of a file is told.
func tell(b *strings.Builder, name string, data []byte) {
	docs, errs := load.Bytes(name, data)
	for _, e := range errs {
		fmt.Fprintln(b, e)
	}
	for _, d := range docs {
		r := Object(d.Object, d.Pos)
		for _, e := range r.Errors {
			fmt.Fprintln(b, e)
		}
		for _, n := range r.Notices {
			fmt.Fprintf(b, "%s: notice: %s\n", n.Pos, n)
		}
		if len(r.Errors)+len(r.Notices) == 0 {
			fmt.Fprintf(b, "%s: good\n", d.Source())
		}
	}
}
