package document

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mallamesh/malla/base/field"
)

// Locate sets where the mistakes of a message stand in the text that it was read from: as near as the text has their fields. It
// takes the text apart once more, so that what is right need not remember its lines.
func Locate(name string, text []byte, errs field.List) {
	var t tree
	var err error
	if plain := !isBinary(name) && !isText(name); plain {
		t, _, err = parse(name, text)
	}
	for _, e := range errs {
		if e.Pos != "" {
			continue
		}
		if e.In == name {
			e.In = ""
		}
		line := 0
		if err == nil && t.node != nil && e.At != nil {
			line = lineOf(t.node, e.At)
		}
		e.Pos = position(name, line)
	}
}

// lineOf follows a path as far as it goes.
func lineOf(n *yaml.Node, at *field.Path) int {
	line, lost := 0, false
	at.Walk(func(name string, index int) {
		for n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if lost {
			return
		}
		switch {
		case name != "" && n.Kind == yaml.MappingNode:
			for i := len(n.Content) - 2; i >= 0; i -= 2 { // the last of equal keys counts
				if k := n.Content[i]; k.Value == name || sameName(k.Value, name) {
					line, n = k.Line, n.Content[i+1]
					return
				}
			}
		case name == "" && n.Kind == yaml.SequenceNode && index < len(n.Content):
			n = n.Content[index]
			line = n.Line
			return
		case name == "" && index == 0 && n.Kind != yaml.SequenceNode:
			return // one element stands for a list of it
		}
		lost = true
	})
	return line
}

// sameName reports whether a key is a field's name in the other spelling.
func sameName(key, name string) bool {
	return strings.EqualFold(key, strings.ReplaceAll(name, "_", ""))
}
