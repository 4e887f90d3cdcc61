package test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestStoriesArePlayed: a story of translate has requests, which test/foreign plays through our proxy and a real Envoy, or says in one line
// why traffic cannot show what it says; each answer belongs to a request.
func TestStoriesArePlayed(t *testing.T) {
	files, err := filepath.Glob("../translate/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("stories: %v, %d files", err, len(files))
	}
	played := 0
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		requests, why, before := 0, "", ""
		for _, f := range append(a.Files, txtar.File{Name: "the end"}) {
			switch {
			case strings.HasPrefix(f.Name, "request "):
				requests++
			case f.Name == "no requests":
				why = strings.TrimSpace(string(f.Data))
			case f.Name == "answer" && !strings.HasPrefix(before, "request "):
				t.Errorf("%s: an answer follows on %q, want a request", file, before)
			}
			if strings.HasPrefix(before, "request ") && f.Name != "answer" {
				t.Errorf("%s: %q has no answer; run: go test ./test/foreign -run Stories -update", file, before)
			}
			before = f.Name
		}
		switch {
		case requests > 0 && why != "":
			t.Errorf("%s has requests, and says why it has none: %s", file, why)
		case requests == 0 && (why == "" || strings.Contains(why, "\n")):
			t.Errorf("%s: want sections \"request WHERE\", or one line \"no requests\" that says why traffic cannot show it", file)
		case requests > 0:
			played++
		}
	}
	t.Logf("%d of %d stories are played", played, len(files))
}
