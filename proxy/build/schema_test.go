package build

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

var update = flag.Bool("update", false, "bring testdata/fields and docs/xds up to date")

// goName is the name that protoc-gen-go gives to a field's getter.
func goName(name protoreflect.Name) string {
	var b strings.Builder
	up := true
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '_' && i+1 < len(name) && name[i+1] >= 'a' && name[i+1] <= 'z':
			up = true
		case c >= '0' && c <= '9':
			b.WriteByte(c)
			up = true
		case up && c >= 'a' && c <= 'z':
			b.WriteByte(c - 'a' + 'A')
			up = false
		default:
			b.WriteByte(c)
			up = false
		}
	}
	return "Get" + b.String()
}

// The table names fields that exist, and says why it accepts what it does not read.
func TestTableNamesRealFields(t *testing.T) {
	for name, m := range Messages {
		for _, f := range m.Fields {
			if m.Descriptor.Fields().ByName(f.Name) == nil {
				t.Errorf("%s has no field %s", name, f.Name)
			}
			if f.Support != Read && f.Reason == "" {
				t.Errorf("%s.%s is accepted without a reason", name, f.Name)
			}
		}
	}
}

// A field that the table calls read, or reads in part, is read: its getter is
// called somewhere in this package.
func TestReadFieldsAreRead(t *testing.T) {
	called := getters(t)
	// Fields that another way than their getter leads to.
	other := map[string]bool{
		"envoy.config.endpoint.v3.ClusterLoadAssignment.policy": true, // its fields are checked, and none of them does anything
		"envoy.config.core.v3.ConfigSource.ads":                 true, // what is left when the others are not set
	}
	for name, m := range Messages {
		for _, f := range m.Fields {
			full := fmt.Sprintf("%s.%s", name, f.Name)
			if f.Support == Read && !called[goName(f.Name)] && !other[full] {
				t.Errorf("%s is in the table as read, and nobody calls %s", full, goName(f.Name))
			}
		}
	}
}

func getters(t *testing.T) map[string]bool {
	t.Helper()
	called := map[string]bool{}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "Get") {
				called[s.Sel.Name] = true
			}
			return true
		})
	}
	return called
}

// Every message that a field in the table can hold is in the table itself, so that
// Check never meets one that it has no rows for.
func TestTableIsClosed(t *testing.T) {
	for name, m := range Messages {
		for _, f := range m.Fields {
			fd := m.Descriptor.Fields().ByName(f.Name)
			if fd == nil || f.Support != Read || f.Data {
				continue
			}
			d := fd.Message()
			if fd.IsMap() {
				d = fd.MapValue().Message()
			}
			if d == nil || d.ParentFile().Package() == "google.protobuf" {
				continue
			}
			if Messages[d.FullName()] == nil {
				t.Errorf("%s.%s holds %s, which has no rows", name, f.Name, d.FullName())
			}
		}
	}
}
