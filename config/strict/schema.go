// Package strict compares a JSON tree with the type that it is meant for.
//
// Everything in the tree that the type does not have, or that is not of the right
// form, is an error with its path; fields that a table classifies as refused are
// errors too, and those accepted without effect become notices. A copy of the
// tree is made without what was wrong, so that the rest can be converted and
// judged further.
//
// Types are Kubernetes' Go types and Istio's protobuf messages. What values mean
// is not known here.
package strict

import (
	"math"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mallamesh/malla/config/kind"
)

// A shape is what a field's JSON must look like.
type shape uint8

const (
	anything shape = iota
	object
	list
	mapping // of names that the author chooses
	text
	boolean
	integer
	number
	quantity
	intOrText
	timestamp
	duration
	base64Text
	enum
)

// A schema describes a field. Schemas of types that contain themselves are cyclic.
type schema struct {
	shape    shape
	fields   map[string]*schema // of an object
	elem     *schema            // of a list or mapping
	numbers  bool               // the names of a mapping are numbers
	min, max float64            // of an integer
	values   []string           // of an enum
	oneofs   [][]string         // names of fields that exclude each other
}

// A tree holds the rows of a kind's table along the path of their fields.
type tree struct {
	rows     []*kind.Field
	children map[string]*tree
}

func (t *tree) child(name string) *tree {
	if t == nil {
		return nil
	}
	return t.children[name]
}

func (t *tree) add(path []string, f *kind.Field) {
	if len(path) == 0 {
		t.rows = append(t.rows, f)
		return
	}
	if t.children == nil {
		t.children = map[string]*tree{}
	}
	next := t.children[path[0]]
	if next == nil {
		next = &tree{}
		t.children[path[0]] = next
	}
	next.add(path[1:], f)
}

// splitPath cuts "spec.ports[].name" into spec, ports, [], name.
func splitPath(path string) []string {
	path = strings.ReplaceAll(path, "[]", ".[]")
	path = strings.ReplaceAll(path, "{}", ".{}")
	return strings.Split(path, ".")
}

// A Plan is all that a comparison needs to know of a type. It never changes.
type Plan struct {
	schema *schema
	tree   *tree
}

// Type returns the plan for a Go type: Kubernetes', or a protobuf message.
func Type(t reflect.Type, rows []kind.Field) *Plan {
	b := builder{types: map[reflect.Type]*schema{}, messages: map[protoreflect.FullName]*schema{}}
	p := &Plan{tree: &tree{}, schema: b.goType(t)}
	for i := range rows {
		p.tree.add(splitPath(rows[i].Path), &rows[i])
	}
	return p
}

// Fields returns the names of the fields of the type, sorted.
func (p *Plan) Fields() []string { return p.schema.names() }

// Field returns the plan of a field of the type, nil if it has none of the name.
func (p *Plan) Field(name string) *Plan {
	s, ok := p.schema.fields[name]
	if !ok {
		return nil
	}
	return &Plan{schema: s, tree: p.tree.child(name)}
}

// Has reports whether the type has the field at a path as tables write it.
func (p *Plan) Has(path string) bool {
	s := p.schema
	for _, step := range splitPath(path) {
		switch {
		case s == nil:
			return false
		case step == "[]" && s.shape == list, step == "{}" && s.shape == mapping:
			s = s.elem
		default:
			s = s.fields[step]
		}
	}
	return s != nil
}

// A builder makes schemas from Go types and protobuf descriptors.
type builder struct {
	types    map[reflect.Type]*schema
	messages map[protoreflect.FullName]*schema
}

var (
	protoType = reflect.TypeFor[proto.Message]()
	special   = map[reflect.Type]shape{
		reflect.TypeFor[metav1.Time]():          timestamp,
		reflect.TypeFor[metav1.MicroTime]():     timestamp,
		reflect.TypeFor[metav1.Duration]():      duration,
		reflect.TypeFor[resource.Quantity]():    quantity,
		reflect.TypeFor[intstr.IntOrString]():   intOrText,
		reflect.TypeFor[runtime.RawExtension](): anything,
		reflect.TypeFor[metav1.FieldsV1]():      anything,
	}
)

func (b builder) goType(t reflect.Type) *schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s, ok := b.types[t]; ok {
		return s
	}
	s := &schema{}
	b.types[t] = s
	if sh, ok := special[t]; ok {
		s.shape = sh
		return s
	}
	// Kubernetes' own types are protobuf messages of a sort too, but their JSON follows their tags.
	if reflect.PointerTo(t).Implements(protoType) {
		*s = *b.message(reflect.New(t).Interface().(proto.Message).ProtoReflect().Descriptor())
		return s
	}
	switch t.Kind() {
	case reflect.Struct:
		s.shape, s.fields = object, map[string]*schema{}
		b.structFields(t, s.fields)
	case reflect.Slice:
		s.shape = list
		if t.Elem().Kind() == reflect.Uint8 {
			s.shape = base64Text
		} else {
			s.elem = b.goType(t.Elem())
		}
	case reflect.Map:
		s.shape, s.elem = mapping, b.goType(t.Elem())
	case reflect.String:
		s.shape = text
	case reflect.Bool:
		s.shape = boolean
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		s.shape, s.max = integer, math.Ldexp(1, t.Bits())-1
	case reflect.Int8, reflect.Int16, reflect.Int32:
		s.shape, s.min, s.max = integer, -math.Ldexp(1, t.Bits()-1), math.Ldexp(1, t.Bits()-1)-1
	case reflect.Int, reflect.Int64:
		s.shape, s.min, s.max = integer, -1<<63, 1<<63-1
	case reflect.Float64, reflect.Float32:
		s.shape = number
	}
	return s
}

func (b builder) structFields(t reflect.Type, fields map[string]*schema) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
		case f.Anonymous && name == "" || strings.Contains(options, "inline"):
			b.structFields(f.Type, fields)
		default:
			fields[name] = b.goType(f.Type)
		}
	}
}

// message returns the schema of a protobuf message as its JSON is written.
func (b builder) message(d protoreflect.MessageDescriptor) *schema {
	switch d.FullName() {
	case "google.protobuf.Duration":
		return &schema{shape: duration}
	case "google.protobuf.Timestamp":
		return &schema{shape: timestamp}
	case "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.Any":
		return &schema{}
	case "google.protobuf.ListValue":
		return &schema{shape: list, elem: &schema{}}
	}
	if d.ParentFile().Package() == "google.protobuf" && d.Fields().Len() == 1 { // a wrapper: UInt32Value and its like
		return b.scalar(d.Fields().Get(0))
	}
	if s, ok := b.messages[d.FullName()]; ok {
		return s
	}
	s := &schema{shape: object, fields: map[string]*schema{}}
	b.messages[d.FullName()] = s
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		switch {
		case f.IsMap():
			s.fields[f.JSONName()] = &schema{shape: mapping, elem: b.scalar(f.MapValue()), numbers: f.MapKey().Kind() != protoreflect.StringKind}
		case f.IsList():
			s.fields[f.JSONName()] = &schema{shape: list, elem: b.scalar(f)}
		default:
			s.fields[f.JSONName()] = b.scalar(f)
		}
	}
	for i := range d.Oneofs().Len() {
		o := d.Oneofs().Get(i)
		if o.IsSynthetic() {
			continue
		}
		var names []string
		for j := range o.Fields().Len() {
			names = append(names, o.Fields().Get(j).JSONName())
		}
		s.oneofs = append(s.oneofs, names)
	}
	return s
}

// scalar returns the schema of one value of a field.
func (b builder) scalar(f protoreflect.FieldDescriptor) *schema {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return b.message(f.Message())
	case protoreflect.EnumKind:
		s := &schema{shape: enum}
		for i := range f.Enum().Values().Len() {
			s.values = append(s.values, string(f.Enum().Values().Get(i).Name()))
		}
		return s
	case protoreflect.BoolKind:
		return &schema{shape: boolean}
	case protoreflect.StringKind:
		return &schema{shape: text}
	case protoreflect.BytesKind:
		return &schema{shape: base64Text}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return &schema{shape: number}
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return &schema{shape: integer, max: 1<<32 - 1}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return &schema{shape: integer, max: 1<<64 - 1}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return &schema{shape: integer, min: -1 << 31, max: 1<<31 - 1}
	default:
		return &schema{shape: integer, min: -1 << 63, max: 1<<63 - 1}
	}
}

// names returns the fields of an object, sorted.
func (s *schema) names() []string {
	names := make([]string, 0, len(s.fields))
	for n := range s.fields {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
