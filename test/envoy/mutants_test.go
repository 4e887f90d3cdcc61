//go:build linux

package envoy_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mallamesh/malla/test/envoy/scenario"
	"github.com/mallamesh/malla/test/script/mesh"
)

var mutate = flag.String("mutate", "", "break the functions that the scenarios of this `pattern` guard, one after another, and expect the scenarios to fail")

// mutantVariable chooses the mutant of a binary that has them all.
const mutantVariable = "MALLA_MUTANT"

// A mutant is a guarded function that does nothing: it returns at once, with zero
// values, or with true where it says yes or no.
type mutant struct {
	scenario.Guard
	yes bool
}

// TestMutants shows that scenarios guard what they say they do. It is only run when
// asked for: go test ./test/envoy -run TestMutants -mutate route/ -timeout 1h.
func TestMutants(t *testing.T) {
	if *mutate == "" {
		t.Skip("-mutate chooses scenarios")
	}
	by := map[scenario.Guard][]*scenario.Scenario{}
	var chosen []*scenario.Scenario
	for _, s := range load(t) {
		if ok, err := regexp.MatchString(*mutate, s.Name); err != nil {
			t.Fatal(err)
		} else if !ok {
			continue
		}
		chosen = append(chosen, s)
		for _, g := range s.Guards {
			by[g] = append(by[g], s)
		}
	}
	guards := make([]scenario.Guard, 0, len(by))
	for g := range by {
		guards = append(guards, g)
	}
	sort.Slice(guards, func(i, j int) bool { return fmt.Sprint(guards[i]) < fmt.Sprint(guards[j]) })
	m := plant(t, guards)
	sound := m.survivors(t, 0, chosen)
	for _, s := range chosen {
		if !slices.Contains(sound, s) { // it would seem to notice every mutant
			t.Errorf("%s fails without a mutant", s.Name)
		}
	}
	slots := make(chan struct{}, runtime.NumCPU()) // each waits most of its time
	var group sync.WaitGroup
	for _, g := range guards {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			left := by[g]
			for i, mutant := range m.all {
				if mutant.Guard == g && len(left) > 0 {
					left = m.survivors(t, i+1, left)
				}
			}
			for _, s := range left {
				t.Errorf("%s does not notice that %s %s does nothing", s.Name, g.File, g.Func)
			}
		})
	}
	group.Wait()
}

// mutants is a binary with a mutant for each number from 1.
type mutants struct {
	dir string
	all []mutant
}

// plant builds malla-proxy with all mutants in it, asleep.
func plant(t *testing.T, guards []scenario.Guard) *mutants {
	t.Helper()
	m := &mutants{dir: t.TempDir()}
	root := mesh.Root(t)
	overlay := map[string]string{}
	add := func(path, text string) {
		file := filepath.Join(m.dir, strconv.Itoa(len(overlay))+".go")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay[filepath.Join(root, path)] = file
	}
	add("base/mutant/mutant.go", "package mutant\n\nimport (\n\t\"os\"\n\t\"strconv\"\n)\n\nvar N, _ = strconv.Atoi(os.Getenv(\""+mutantVariable+"\"))\n")
	for len(guards) > 0 {
		file := guards[0].File
		n := slices.IndexFunc(guards, func(g scenario.Guard) bool { return g.File != file })
		if n < 0 {
			n = len(guards)
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		add(file, m.infect(t, file, text, guards[:n]))
		guards = guards[n:]
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(m.dir, "overlay.json")
	if err := os.WriteFile(list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-overlay", list, "-o", filepath.Join(m.dir, "malla-proxy"), "./cmd/malla-proxy")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build mutants: %v\n%s", err, out)
	}
	return m
}

// infect adds the mutants of one file's functions, at the start of each body, so that
// what follows is still compiled and imports stay in use.
func (m *mutants) infect(t *testing.T, file string, text []byte, guards []scenario.Guard) string {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	type insertion struct {
		at   int
		text string
	}
	list := []insertion{{fset.Position(f.Name.End()).Offset, "; import \"github.com/mallamesh/malla/base/mutant\""}}
	for _, g := range guards {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil || nameOf(fn) != g.Func {
				continue
			}
			at := fset.Position(fn.Body.Lbrace).Offset + 1
			kinds := []bool{false}
			if answers(fn) {
				kinds = append(kinds, true)
			}
			for _, yes := range kinds {
				m.all = append(m.all, mutant{g, yes})
				list = append(list, insertion{at, fmt.Sprintf(" if mutant.N == %d { %s }; ", len(m.all), giveUp(fset, fn, yes))})
			}
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].at > list[j].at })
	for _, i := range list {
		text = slices.Concat(text[:i.at], []byte(i.text), text[i.at:])
	}
	return string(text)
}

func nameOf(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	typ := fn.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	switch generic := typ.(type) {
	case *ast.IndexExpr:
		typ = generic.X
	case *ast.IndexListExpr:
		typ = generic.X
	}
	return typ.(*ast.Ident).Name + "." + fn.Name.Name
}

// answers reports whether the last result is a yes or no.
func answers(fn *ast.FuncDecl) bool {
	r := fn.Type.Results
	if r == nil || len(r.List) == 0 {
		return false
	}
	id, ok := r.List[len(r.List)-1].Type.(*ast.Ident)
	return ok && id.Name == "bool"
}

// giveUp is the code that returns from a function.
func giveUp(fset *token.FileSet, fn *ast.FuncDecl, yes bool) string {
	var b, names bytes.Buffer
	n := 0
	if fn.Type.Results == nil {
		return "return"
	}
	for _, r := range fn.Type.Results.List {
		for range max(len(r.Names), 1) {
			n++
			fmt.Fprintf(&b, "var mutant%d ", n)
			_ = printer.Fprint(&b, fset, r.Type)
			b.WriteString("; ")
			if n > 1 {
				names.WriteString(", ")
			}
			fmt.Fprintf(&names, "mutant%d", n)
		}
	}
	if yes {
		fmt.Fprintf(&b, "mutant%d = true; ", n)
	}
	return b.String() + "return " + names.String()
}

// survivors plays scenarios with a mutant awake (0: none), and returns those that do not fail.
func (m *mutants) survivors(t *testing.T, number int, some []*scenario.Scenario) (out []*scenario.Scenario) {
	t.Helper()
	byDir := map[string][]string{}
	for _, s := range some {
		byDir[s.Dir()] = append(byDir[s.Dir()], regexp.QuoteMeta(filepath.Base(s.Name)))
	}
	for dir, names := range byDir {
		cmd := exec.Command(os.Args[0], "-test.v", "-test.timeout", "2m", "-test.run", "^TestScenarios$/^"+dir+"$/^("+strings.Join(names, "|")+")$")
		cmd.Env = append(os.Environ(), mutantVariable+"="+strconv.Itoa(number), "MALLA_BIN="+filepath.Join(m.dir, "malla"))
		text, err := cmd.CombinedOutput()
		if err == nil || bytes.Contains(text, []byte("--- PASS: TestScenarios/")) {
			for _, s := range some {
				if s.Dir() == dir && bytes.Contains(text, []byte("--- PASS: TestScenarios/"+s.Name+" ")) {
					out = append(out, s)
				}
			}
		}
	}
	return out
}
