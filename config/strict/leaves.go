package strict

import (
	"maps"
	"slices"

	"github.com/mallamesh/malla/config/kind"
)

// A Leaf is a field of a type that has none below it, or of which a table speaks as a whole.
type Leaf struct {
	Path string // as tables write it: spec.http[].route[].weight
	Rows []*kind.Field
}

// Leaves lists the fields of the type in the order of their names, each once: what a type that
// contains itself has deeper down is left out.
func (p *Plan) Leaves() []Leaf { return leaves(p.schema, p.tree, "", map[*schema]bool{}) }

func leaves(s *schema, t *tree, path string, above map[*schema]bool) []Leaf {
	var rows []*kind.Field
	if t != nil {
		rows = t.rows
	}
	if above[s] || slices.ContainsFunc(rows, func(r *kind.Field) bool { return len(r.Values) == 0 }) {
		return []Leaf{{path, rows}}
	}
	var out []Leaf
	above[s] = true
	switch s.shape {
	case object:
		for _, name := range s.names() {
			out = append(out, leaves(s.fields[name], t.child(name), join(path, name), above)...)
		}
	case list:
		out = leaves(s.elem, t.child("[]"), path+"[]", above)
	case mapping:
		out = leaves(s.elem, t.child("{}"), path+"{}", above)
	}
	delete(above, s)
	if len(out) == 0 {
		return []Leaf{{path, rows}}
	}
	if len(rows) > 0 && len(out) > 0 && out[0].Path != path {
		out = append([]Leaf{{path, rows}}, out...) // some values of the whole are special
	}
	return out
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// Set lists the leaves that a value of the type sets.
func (p *Plan) Set(v any) []string {
	out := map[string]bool{}
	setIn(v, p.schema, "", out)
	return slices.Sorted(maps.Keys(out))
}

func setIn(v any, s *schema, path string, out map[string]bool) {
	out[path] = true
	switch v := v.(type) {
	case map[string]any:
		for name, sub := range v {
			if s.shape == mapping {
				setIn(sub, s.elem, path+"{}", out)
			} else if f := s.fields[name]; f != nil {
				setIn(sub, f, join(path, name), out)
			}
		}
	case []any:
		if s.shape != list {
			return
		}
		for _, e := range v {
			setIn(e, s.elem, path+"[]", out)
		}
	}
}
