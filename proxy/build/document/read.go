package document

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mallamesh/malla/base/field"
)

// maxDepth is how deep lists and messages may be nested: that of protobuf's C++ library.
const maxDepth = 100

// maxMistakes is how many mistakes are told; with aliases there may be more than anybody reads.
const maxMistakes = 100

// Read fills m with what text says. name is for messages, and says what text is: a name that ends in json is JSON's, one
// that ends in yaml or yml is YAML's, .pb and .pb_text are protobuf's own, and behind any other there is YAML unless it reads as JSON. notes are what has no effect
// though it is no mistake. The error is a [field.List]; m then holds what could be read.
func Read(name string, text []byte, m proto.Message) (notes field.List, err error) {
	if isBinary(name) || isText(name) {
		return nil, readProtobuf(name, text, m)
	}
	root, notes, err := parse(name, text)
	if err != nil {
		return notes, err
	}
	r := &reader{name: name, json: root.json, notes: notes, left: 2*len(text) + 1<<18}
	n := r.open(root.node)
	if k := kindOf(n); k != object {
		r.fail(nil, n, "found %s, want the fields of a message (%s)", r.show(n), m.ProtoReflect().Descriptor().FullName())
		return r.notes, r.errs.Err()
	}
	r.message(m.ProtoReflect(), n, nil, 1)
	return r.notes, r.errs.Err()
}

// A tree is a text that has been taken apart.
type tree struct {
	node *yaml.Node
	json bool
}

// parse takes a text apart; what it means is not looked at.
func parse(name string, text []byte) (t tree, notes field.List, err error) {
	lower := strings.ToLower(name)
	isYAML := strings.HasSuffix(lower, "yaml") || strings.HasSuffix(lower, "yml")
	if !isYAML {
		node, line, err := parseJSON(text)
		if err == nil {
			return tree{node, true}, nil, nil
		}
		if strings.HasSuffix(lower, ".json") {
			return t, nil, field.List{{Pos: position(name, line), Msg: err.Error()}}
		}
	}
	node, more, err := parseYAML(text)
	if err != nil {
		line, msg := yamlLine(err)
		return t, nil, field.List{{Pos: position(name, line), Msg: msg}}
	}
	if node == nil {
		return t, nil, field.List{{Pos: position(name, 0), Msg: "is empty"}}
	}
	if more > 0 {
		notes = append(notes, &field.Error{Pos: position(name, more), Msg: "a second document begins here, of which nothing is read"})
	}
	return tree{node, false}, notes, nil
}

// position is a place in a file as people write it.
func position(name string, line int) string {
	if line <= 0 {
		return name
	}
	if name == "" {
		return fmt.Sprintf("line %d", line)
	}
	return fmt.Sprintf("%s:%d", name, line)
}

// A reader fills messages with what a tree says.
type reader struct {
	name  string
	json  bool
	errs  field.List
	notes field.List
	left  int // how much may be read yet; only aliases can use it up
	over  bool
}

// fail notes a mistake at n.
func (r *reader) fail(at *field.Path, n *yaml.Node, format string, args ...any) {
	if len(r.errs) < maxMistakes {
		r.errs = append(r.errs, &field.Error{At: at, Pos: position(r.name, n.Line), Msg: fmt.Sprintf(format, args...)})
	}
}

// unknown notes a field, at n, that a message of a kind has not.
func (r *reader) unknown(at *field.Path, n *yaml.Node, d protoreflect.MessageDescriptor) {
	before := len(r.errs)
	r.fail(at, n, "%s has no such field%s", d.FullName(), field.Suggest(n.Value, fieldNames(d)))
	for _, e := range r.errs[before:] {
		e.Unknown = true
	}
}

// note notes what has no effect.
func (r *reader) note(at *field.Path, n *yaml.Node, format string, args ...any) {
	if len(r.notes) < maxMistakes {
		r.notes = append(r.notes, &field.Error{At: at, Pos: position(r.name, n.Line), Msg: fmt.Sprintf(format, args...)})
	}
}

// open returns what stands at n, which may be an alias, and takes it from what may be read.
func (r *reader) open(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	r.left -= 1 + len(n.Value)/32
	return n
}

// deeper reports whether there may be another level, and more at all.
func (r *reader) deeper(n *yaml.Node, at *field.Path, depth int) bool {
	switch {
	case r.over:
		return false
	case r.left < 0:
		r.over = true
		r.errs = append(r.errs, &field.Error{At: at, Pos: position(r.name, n.Line), Msg: "aliases make more of the text than is read"})
		return false
	case depth > maxDepth:
		r.fail(at, n, "is nested more than %d deep", maxDepth)
		return false
	}
	return true
}

// errKey is of keys that are no text.
var errKey = errors.New("want text as a key")

// keyOf returns a key as text: it is what stands there.
func (r *reader) keyOf(n *yaml.Node) (string, error) {
	n = r.open(n)
	switch {
	case n.Kind != yaml.ScalarNode:
		return "", errKey
	case kindOf(n) == null:
		return "null", nil // whichever of its names stands there
	}
	return n.Value, nil
}

// manyKeys is from which on keys are looked up instead of compared.
const manyKeys = 32

// each calls fn for the entries of an object in their order. Of equal keys in YAML the last counts, which is noted; those of JSON
// are all told, since what they do to a message is more.
func (r *reader) each(n *yaml.Node, at *field.Path, fn func(key string, k, v *yaml.Node)) {
	last := map[string]int{}
	if !r.json && len(n.Content) > 2*manyKeys {
		for i := 0; i < len(n.Content); i += 2 {
			if key, err := r.keyOf(n.Content[i]); err == nil {
				last[key] = i
			}
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Tag == "!ignore" { // Envoy's, for what only carries anchors
			continue
		}
		key, err := r.keyOf(k)
		if err != nil {
			r.fail(at, k, "found %s, %v", r.show(k), err)
			continue
		}
		if again := r.again(n, i, key, last); again != nil {
			r.note(at.Child(key), k, "stands there again in line %d, which is what counts", again.Line)
			continue
		}
		fn(key, k, v)
	}
}

// again returns where a key of YAML stands again.
func (r *reader) again(n *yaml.Node, i int, key string, last map[string]int) *yaml.Node {
	switch {
	case r.json:
		return nil
	case len(last) > 0:
		if j := last[key]; j > i {
			return n.Content[j]
		}
		return nil
	}
	for j := i + 2; j < len(n.Content); j += 2 {
		if k := n.Content[j]; k.Value == key && k.Kind == yaml.ScalarNode || k.Kind == yaml.AliasNode || kindOf(k) == null {
			if other, err := r.keyOf(k); err == nil && other == key && k.Tag != "!ignore" {
				return k
			}
		}
	}
	return nil
}
