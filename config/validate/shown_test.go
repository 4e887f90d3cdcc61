package validate

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Whoever takes a rule away sees a test fail: what each one says stands in a case, or in a test of this package.
func TestEveryRuleIsShown(t *testing.T) {
	shown := ""
	for _, pattern := range []string{"testdata/*.txtar", "*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			shown += string(text)
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	rules := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || name.Sel.Name != "errorf" && name.Sel.Name != "Addf" && name.Sel.Name != "notice" || len(call.Args) < 2 {
				return true
			}
			lit, ok := call.Args[1].(*ast.BasicLit)
			if !ok {
				return true
			}
			says, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			if words := strings.Trim(verb.ReplaceAllString(says, ""), " :"); words == "" {
				return true // it is all of something else
			}
			rules++
			if !matcher(says).MatchString(shown) {
				t.Errorf("%s: no case shows %q", set.Position(call.Pos()), says)
			}
			return true
		})
	}
	if rules < 200 {
		t.Errorf("found %d rules, want some hundreds", rules)
	}
}

var verb = regexp.MustCompile(`%[.0-9]*[a-z]`)

// matcher finds what a rule says, whatever it was told.
func matcher(says string) *regexp.Regexp {
	says = strings.ReplaceAll(says, "%%", "%")
	parts := verb.Split(says, -1)
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(": " + strings.Join(parts, `.*`))
}
