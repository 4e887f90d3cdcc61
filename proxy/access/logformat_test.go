package access

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mallamesh/malla/base/logformat"
)

// What is checked where a format is written is what can be written here: every
// operator, and whether it has an argument and a length.
func TestOperatorsAreThoseThatConfigKnows(t *testing.T) {
	have := map[string]logformat.Operator{}
	for name, o := range operators {
		have[name] = logformat.Operator{Argument: logformat.Argument(o.argument), Length: o.length}
	}
	if d := cmp.Diff(logformat.Operators, have); d != "" {
		t.Errorf("base/logformat has other operators (-there +here):\n%s", d)
	}
}

// Formats that have names are made of operators that are there.
func TestNamedFormatsCompile(t *testing.T) {
	for _, name := range append(slices.Clone(logformat.MeshNames), "envoy") {
		if _, ok := Named(name); !ok {
			t.Errorf("no format %s", name)
		}
	}
}
