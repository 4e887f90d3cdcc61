package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A key that is written twice hides what was meant: apply says so, as up does, with file and line, of every document.
func TestApplyReadsFilesAsUpDoes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yaml")
	const twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: one}\ndata: {b: two}\n"
	if err := os.WriteFile(file, []byte(twice+"---\n"+twice), 0o600); err != nil {
		t.Fatal(err)
	}
	err := readable([]string{"-", "https://example.com/x.yaml", filepath.Dir(file), file})
	if err == nil {
		t.Fatal("a key that is written twice is taken")
	}
	for _, want := range []string{file + ":5", file + ":11", "data"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
	if err := os.WriteFile(file, []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := readable([]string{file}); err != nil {
		t.Errorf("a file that is right: %v", err)
	}
}
