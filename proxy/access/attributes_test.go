package access

import (
	"testing"

	"github.com/mallamesh/malla/proxy/cel"
)

// Every attribute can be asked for of a record that knows nothing, as that of a connection without a chain does.
func TestAttributesOfNothing(t *testing.T) {
	for object, list := range attributes {
		for name := range list {
			e, err := CompileExpression(object+"."+name+" == 1 || true", cel.Options{})
			if err != nil {
				t.Error(err)
			} else if !e.Holds(&Record{}) {
				t.Errorf("%s.%s of an empty record has ended its expression", object, name)
			}
		}
	}
}

// An expression sees the fields of an object that a filter has left, as formats do.
func TestExpressionsSeeFields(t *testing.T) {
	var r Record
	NewObject("peer", "namespace").Set(&r.State, []byte("text"), []byte("{}"), []byte("prod"))
	r.State.Set("plain", []byte("value"), false)
	for expression, want := range map[string]string{
		"filter_state.peer.namespace":    "prod",
		"filter_state['peer'].none":      "-",
		"filter_state.plain":             "value",
		"filter_state.plain.namespace":   "-", // a text has none
		"has(filter_state.peer)":         "true",
		"'peer' in filter_state":         "true",
		"filter_state.pe":                "-",
		"has(filter_state.peer.nothing)": "false",
	} {
		f, err := Compile("%CEL(" + expression + ")%")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(f.Append(nil, &r)); got != want {
			t.Errorf("%s is %s, want %s", expression, got, want)
		}
	}
}
