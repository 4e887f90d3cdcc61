package build

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mallamesh/malla/test/envoy/scenario"
)

// Every field of every message in the table stands in testdata/fields, in a file for
// each of Envoy's packages, with what shows that it works:
//
//	RouteAction.prefix_rewrite: route/prefix_rewrite       a scenario of test/envoy that sets it, and to which it matters:
//	                                                       go test ./test/envoy -run TestDropped -drop RouteAction.prefix_rewrite
//	RouteAction.cluster: proxy/route TestForward           a test
//	RouteAction.rate_limits: refused
//	RouteAction.max_grpc_timeout: without effect           the table says why
//	RouteAction.hash_policy: todo                          supported, and nothing shows it yet
//
// So a field that a new version of Envoy's API brings fails the test until somebody
// has thought about it. go test ./proxy/build -update brings lines up to date of which
// the table has changed, and looks for scenarios; it never adds a field that is refused.

// maxTodo is how many supported fields nothing shows yet. It only goes down.
const maxTodo = 0

func fieldFile(p protoreflect.FullName) string {
	return filepath.Join("testdata", "fields", string(p)+".txt")
}

// readFields reads testdata/fields: proofs by full name.
func readFields(t *testing.T) map[string]string {
	t.Helper()
	out, err := scenario.Proofs(os.DirFS(filepath.Join("testdata", "fields")))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// scenariosByField lists, for every field, the scenarios that set it, and which scenarios are about a configuration
// that is refused.
func scenariosByField(t *testing.T) (out map[string][]string, refused map[string]bool) {
	t.Helper()
	all, err := scenario.Load(os.DirFS("../../test/envoy/testdata"))
	if err != nil {
		t.Fatal(err)
	}
	out, refused = map[string][]string{}, map[string]bool{}
	for _, s := range all {
		refused[s.Name] = s.Refused
		set, err := s.Fields()
		if err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		for f := range set {
			out[f] = append(out[f], s.Name)
		}
	}
	return out, refused
}

// A field that nobody has classified, a proof that is none, and a line that the table
// contradicts are mistakes.
func TestEveryFieldIsClassified(t *testing.T) {
	have := readFields(t)
	scenarios, refused := scenariosByField(t)
	if *update {
		updateFields(t, have, scenarios, refused)
	}
	todo := 0
	for _, m := range Messages {
		for i := range m.Descriptor.Fields().Len() {
			fd := m.Descriptor.Fields().Get(i)
			full := string(fd.FullName())
			proof, there := have[full]
			delete(have, full)
			if !there {
				t.Errorf("%s is new, and nobody has said what becomes of it: support it in the table, or write \"%s.%s: refused\" into %s",
					full, m.Name(), fd.Name(), fieldFile(m.Descriptor.ParentFile().Package()))
				continue
			}
			if err := m.judge(fd.Name(), proof, scenarios[full]); err != nil {
				t.Errorf("%s: %v (go test ./proxy/build -update looks for another)", full, err)
			}
			if proof == "todo" {
				todo++
			}
		}
	}
	for full := range have {
		t.Errorf("%s stands in testdata/fields, and is in no message of the table", full)
	}
	if todo > maxTodo {
		t.Errorf("%d supported fields have nothing that shows them, want at most %d: write a scenario (test/envoy/README.md) or name a test", todo, maxTodo)
	}
	t.Logf("%d supported fields have nothing that shows them", todo)
}

// judge says what is wrong with the line of a field.
func (m *Message) judge(name protoreflect.Name, proof string, scenarios []string) error {
	switch m.Fields[name].Support {
	case Refused:
		if proof != "refused" {
			return fmt.Errorf("found %q, want refused, as the table says", proof)
		}
		return nil
	case WithoutEffect:
		if proof != "without effect" {
			return fmt.Errorf("found %q, want \"without effect\", as the table says", proof)
		}
		return nil
	}
	pkg, test, isTest := strings.Cut(proof, " ")
	switch {
	case proof == "todo" || slices.Contains(scenarios, proof):
		return nil
	case isTest && hasTest(pkg, test):
		return nil
	}
	return fmt.Errorf("%q shows nothing: want a scenario that sets it, or a test as \"DIRECTORY TestName\"", proof)
}

// hasTest reports whether a directory has a test of that name.
func hasTest(dir, name string) bool {
	files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(dir), "*_test.go"))
	if err != nil || !regexp.MustCompile(`^(Test|Fuzz)\w+$`).MatchString(name) {
		return false
	}
	return slices.ContainsFunc(files, func(path string) bool {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		return err == nil && slices.ContainsFunc(f.Decls, isFunc(name))
	})
}

// updateFields writes the files anew: what holds stays as it is.
func updateFields(t *testing.T, have map[string]string, scenarios map[string][]string, refused map[string]bool) {
	t.Helper()
	files := map[protoreflect.FullName]*bytes.Buffer{}
	for _, name := range sortedMessages() {
		m := Messages[name]
		p := m.Descriptor.ParentFile().Package()
		if files[p] == nil {
			files[p] = &bytes.Buffer{}
		}
		for i := range m.Descriptor.Fields().Len() {
			fd := m.Descriptor.Fields().Get(i)
			full := string(fd.FullName())
			proof := have[full]
			if support := m.Fields[fd.Name()].Support; m.judge(fd.Name(), proof, scenarios[full]) != nil || proof == "todo" {
				switch {
				case support == WithoutEffect:
					proof = "without effect"
				case support == Refused && proof != "":
					proof = "refused"
				case support == Refused:
					continue // that is for a person to say
				default:
					proof = cmp.Or(plainest(scenarios, refused, full), "todo")
				}
			}
			have[full] = proof
			fmt.Fprintf(files[p], "%s.%s: %s\n", m.Name(), fd.Name(), proof)
		}
	}
	old, _ := filepath.Glob("testdata/fields/*.txt")
	for _, f := range old {
		os.Remove(f)
	}
	for p, b := range files {
		if b.Len() == 0 {
			continue
		}
		if err := os.WriteFile(fieldFile(p), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for full := range have {
		if !inTable(full) {
			delete(have, full)
		}
	}
}

// plainest returns the scenario that sets least beside the field. One that is refused is for a person to name.
func plainest(scenarios map[string][]string, refused map[string]bool, full string) string {
	size := map[string]int{}
	for _, all := range scenarios {
		for _, s := range all {
			size[s]++
		}
	}
	best := ""
	for _, s := range scenarios[full] {
		if !refused[s] && (best == "" || size[s] < size[best]) {
			best = s
		}
	}
	return best
}

func sortedMessages() []protoreflect.FullName {
	return slices.Sorted(maps.Keys(Messages))
}

func inTable(full string) bool {
	name := protoreflect.FullName(full)
	m := Messages[name.Parent()]
	return m != nil && m.Descriptor.Fields().ByName(name.Name()) != nil
}

func isFunc(name string) func(ast.Decl) bool {
	return func(d ast.Decl) bool {
		f, ok := d.(*ast.FuncDecl)
		return ok && f.Recv == nil && f.Name.Name == name
	}
}

// The pages show what the table says; -update writes them.
func TestPages(t *testing.T) {
	shown := readFields(t)
	for full, proof := range shown {
		if proof == "refused" || proof == "without effect" || proof == "todo" {
			delete(shown, full)
		}
	}
	want := Pages(shown)
	const root = "../../docs"
	if *update {
		old, _ := filepath.Glob(root + "/xds/*.md")
		for _, f := range old {
			os.Remove(f)
		}
		for path, text := range want {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, path), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for path, text := range want {
		got, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, text) {
			t.Errorf("docs/%s is not what the table says: run go test ./proxy/build -update", path)
		}
	}
}
