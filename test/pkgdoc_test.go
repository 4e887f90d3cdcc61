// Package test holds what is true of the whole module, and in its directories
// the suites that need a running program, a real Envoy or a real cluster.
package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryPackageSaysWhatItPromises(t *testing.T) {
	for _, p := range packages(t, "./...") {
		if len(p.GoFiles) == 0 {
			continue
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// walk calls f for every file of the module that Git would hold.
func walk(t *testing.T, f func(path string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() && d.Name() != ".git" { // which is a file in a second work tree
			f(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A test that sleeps is slow when the machine is fast and wrong when it is slow.
// Inside testing/synctest sleep is fake; scripts on the real binary poll with the
// one helper in test/script.
func TestNoTestSleeps(t *testing.T) {
	walk(t, func(path string) {
		if !strings.HasSuffix(path, "_test.go") || strings.Contains(path, "test/script") {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Error(err)
			return
		}
		fake := false
		for _, i := range file.Imports {
			fake = fake || i.Path.Value == `"testing/synctest"`
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if ok && sel.Sel.Name == "Sleep" && !fake {
				t.Errorf("%s: sleeps for real", path)
			}
			return true
		})
	})
}

// Nothing here speaks of the place where it was written.
func TestNoWorkplaceInTheRepository(t *testing.T) {
	banned := []string{"/wor" + "k/main", "/wor" + "k/shared", "/tmp/" + "plan", "proxy.gol" + "ang.org"}
	walk(t, func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			return
		}
		for _, b := range banned {
			if strings.Contains(string(text), b) {
				t.Errorf("%s holds %q", path, b)
			}
		}
	})
}
