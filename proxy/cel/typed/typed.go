// Package typed makes values of package cel of protobuf's messages, which no other package of the hot path knows.
//
// A message is a value as in Envoy: its fields have their defaults where they are not set, wrappers and structs are what they stand for, and
// it is written as protobuf's text. It must not change.
package typed

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	mallacel "github.com/mallamesh/malla/proxy/cel"
)

// known are the types of the messages that there have been. Values keep those that there were when they were made.
var known struct {
	sync.Mutex
	types *types.Registry
	names map[protoreflect.FullName]bool
}

// Value is a message, and those are inside of it that its messages of any type hold: all are given.
func Value(m proto.Message, inside ...proto.Message) (mallacel.Value, error) {
	known.Lock()
	defer known.Unlock()
	if known.types == nil {
		r, err := types.NewProtoRegistry()
		if err != nil {
			return nil, err
		}
		known.types, known.names = r, map[protoreflect.FullName]bool{}
	}
	for _, m := range append(inside, m) {
		name := m.ProtoReflect().Descriptor().FullName()
		if known.names[name] {
			continue
		}
		r := known.types.Copy()
		if err := r.RegisterMessage(m); err != nil {
			return nil, err
		}
		known.types, known.names[name] = r, true
	}
	v := known.types.NativeToValue(m)
	if err, is := v.(*types.Err); is {
		return nil, err
	}
	return wrap(v), nil
}

// wrap has every message that is in a value be an object.
func wrap(v ref.Val) ref.Val {
	switch of := v.(type) {
	case traits.Lister:
		return list{of}
	case traits.Mapper:
		return mapper{of}
	}
	fields, ok := v.(fields)
	if m, is := v.Value().(proto.Message); ok && is {
		return object{v, fields, m}
	}
	return v
}

type fields interface {
	traits.Indexer
	traits.FieldTester
}

// An object is a message.
type object struct {
	ref.Val
	fields fields
	m      proto.Message
}

// AppendText is package cel's.
func (o object) AppendText(dst []byte) []byte { return appendMessage(dst, o.m.ProtoReflect()) }

// Get is cel-go's.
func (o object) Get(name ref.Val) ref.Val { return wrap(o.fields.Get(name)) }

// IsSet is cel-go's.
func (o object) IsSet(name ref.Val) ref.Val { return o.fields.IsSet(name) }

// Equal is cel-go's.
func (o object) Equal(other ref.Val) ref.Val {
	if same, ok := other.(object); ok {
		other = same.Val
	}
	return o.Val.Equal(other)
}

type list struct{ traits.Lister }

// Get is cel-go's.
func (l list) Get(i ref.Val) ref.Val { return wrap(l.Lister.Get(i)) }

type mapper struct{ traits.Mapper }

// Get is cel-go's.
func (m mapper) Get(key ref.Val) ref.Val { return wrap(m.Mapper.Get(key)) }

// Find is cel-go's.
func (m mapper) Find(key ref.Val) (ref.Val, bool) {
	v, ok := m.Mapper.Find(key)
	if ok {
		v = wrap(v)
	}
	return v, ok
}

// appendMessage appends a message as protobuf's text in one line.
func appendMessage(dst []byte, m protoreflect.Message) []byte {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		v := m.Get(f)
		switch {
		case f.IsMap():
			all := map[string]protoreflect.Value{}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				all[string(appendSingle(nil, "key", f.MapKey(), k.Value()))] = v
				return true
			})
			for _, key := range slices.Sorted(maps.Keys(all)) {
				dst = append(append(append(dst, f.Name()...), " { "...), key...)
				dst = append(appendSingle(dst, "value", f.MapValue(), all[key]), "} "...)
			}
		case f.IsList():
			for i := range v.List().Len() {
				dst = appendSingle(dst, f.Name(), f, v.List().Get(i))
			}
		default:
			dst = appendSingle(dst, f.Name(), f, v)
		}
	}
	return dst
}

// appendSingle appends a field that holds one value, and a space.
func appendSingle(dst []byte, name protoreflect.Name, f protoreflect.FieldDescriptor, v protoreflect.Value) []byte {
	dst = append(dst, name...)
	if f.Message() != nil {
		return append(appendMessage(append(dst, " { "...), v.Message()), "} "...)
	}
	dst = append(dst, ": "...)
	switch f.Kind() {
	case protoreflect.StringKind:
		return mallacel.AppendQuoted(dst, v.String())
	case protoreflect.BytesKind:
		return mallacel.AppendQuoted(dst, string(v.Bytes()))
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return append(append(dst, e.Name()...), ' ')
		}
		return append(strconv.AppendInt(dst, int64(v.Enum()), 10), ' ')
	case protoreflect.FloatKind:
		return append(fmt.Appendf(dst, "%v", float32(v.Float())), ' ')
	case protoreflect.DoubleKind:
		return append(mallacel.AppendNumber(dst, v.Float()), ' ')
	}
	return append(fmt.Append(dst, v.Interface()), ' ')
}

// Unparse returns the text of an expression that was parsed by somebody else.
func Unparse(e *exprpb.Expr) (string, error) {
	return cel.AstToString(cel.ParsedExprToAst(&exprpb.ParsedExpr{Expr: e}))
}
