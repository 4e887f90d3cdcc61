package load

import (
	"sync"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mallamesh/malla/base/field"
)

// A Doc is one object and where it was written.
type Doc struct {
	Object *unstructured.Unstructured
	File   string
	Line   int // the first line of the object

	text chunk
	base []step // from the document's root to the object, if it is an item of a list
	once sync.Once
	root *yaml.Node // of the object; nil if positions are not known
}

type step struct {
	name  string
	index int // of a list element, when name is empty
}

// Source returns the object's position, file:line.
func (d *Doc) Source() string { return position(d.File, d.Line) }

// Pos returns the position of a field, file:line; for a field that was not
// written, that of the nearest one around it that was.
func (d *Doc) Pos(at *field.Path) string { return position(d.File, d.line(at)) }

func (d *Doc) line(at *field.Path) int {
	// Positions are asked for when something is wrong: most documents are never parsed twice.
	d.once.Do(func() {
		var doc yaml.Node
		if err := yaml.Unmarshal(d.text.text, &doc); err != nil || len(doc.Content) == 0 {
			return
		}
		d.root = doc.Content[0]
		for _, s := range d.base {
			if next := child(d.root, s); next != nil {
				d.root = next
			}
		}
	})
	if d.root == nil {
		return max(d.Line, 1)
	}
	n, line := d.root, d.root.Line
	for _, s := range steps(at) {
		if inner := embedded(n); inner != nil {
			n = inner
		}
		if key := keyOf(n, s); key != nil {
			line = key.Line
		}
		next := child(n, s)
		if next == nil {
			break
		}
		if s.name == "" {
			line = next.Line
		}
		n = next
	}
	return d.text.line + line - 1
}

// embedded returns the YAML in a text block (a ConfigMap's MeshConfig), with its
// lines counted as those of the document, nil if n is not one.
func embedded(n *yaml.Node) *yaml.Node {
	var doc yaml.Node
	if n.Kind != yaml.ScalarNode || n.Style&yaml.LiteralStyle == 0 || yaml.Unmarshal([]byte(n.Value), &doc) != nil || len(doc.Content) == 0 {
		return nil
	}
	shift(doc.Content[0], n.Line)
	return doc.Content[0]
}

func shift(n *yaml.Node, lines int) {
	n.Line += lines
	for _, c := range n.Content {
		shift(c, lines)
	}
}

func steps(at *field.Path) []step {
	var list []step
	at.Walk(func(name string, index int) { list = append(list, step{name, index}) })
	return list
}

// child returns the value of a field or list element, nil if n has none.
func child(n *yaml.Node, s step) *yaml.Node {
	n = resolve(n)
	switch {
	case s.name == "" && n.Kind == yaml.SequenceNode && s.index < len(n.Content):
		return n.Content[s.index]
	case s.name != "" && n.Kind == yaml.MappingNode:
		return lookup(n, s.name, 0)
	}
	return nil
}

// keyOf returns the node of a field's name, nil if n does not have the field itself.
func keyOf(n *yaml.Node, s step) *yaml.Node {
	n = resolve(n)
	if n.Kind == yaml.MappingNode && s.name != "" {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == s.name {
				return n.Content[i]
			}
		}
	}
	return nil
}

// lookup finds a field of a mapping, also in what it merges with "<<".
func lookup(n *yaml.Node, name string, merged int) *yaml.Node {
	n = resolve(n)
	if n.Kind != yaml.MappingNode || merged > 10 {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name && n.Content[i].Tag != "!!merge" {
			return n.Content[i+1]
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			continue
		}
		from := []*yaml.Node{n.Content[i+1]}
		if list := resolve(from[0]); list.Kind == yaml.SequenceNode {
			from = list.Content
		}
		for _, f := range from {
			if found := lookup(f, name, merged+1); found != nil {
				return found
			}
		}
	}
	return nil
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for range 10 {
		if n.Kind != yaml.AliasNode || n.Alias == nil {
			break
		}
		n = n.Alias
	}
	return n
}
