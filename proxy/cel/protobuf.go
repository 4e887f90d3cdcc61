package cel

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	exprpb "google.golang.org/genproto/googleapis/api/expr/v1alpha1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mallamesh/malla/proxy/metadata"
)

// known are the types of the messages that there have been. Values keep those that there were when they were made.
var known struct {
	sync.Mutex
	types *types.Registry
	names map[protoreflect.FullName]bool
}

// Protobuf is a message of protobuf, and those are inside of it that its messages of any type hold: all are given.
func Protobuf(m proto.Message, inside ...proto.Message) (Value, error) {
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
	return v, nil
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
		return appendQuoted(dst, v.String())
	case protoreflect.BytesKind:
		return appendQuoted(dst, string(v.Bytes()))
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return append(append(dst, e.Name()...), ' ')
		}
		return append(strconv.AppendInt(dst, int64(v.Enum()), 10), ' ')
	case protoreflect.FloatKind:
		return append(fmt.Appendf(dst, "%v", float32(v.Float())), ' ')
	case protoreflect.DoubleKind:
		return append(appendNumber(dst, v.Float()), ' ')
	}
	return append(fmt.Append(dst, v.Interface()), ' ')
}

// appendMessages appends messages by name as protobuf's text in one line: what they hold stands there as bytes.
func appendMessages(dst []byte, name string, all map[string]*metadata.Message) []byte {
	for _, key := range slices.Sorted(maps.Keys(all)) {
		dst = appendQuoted(append(append(dst, name...), " { key: "...), key)
		dst = appendQuoted(append(dst, "value { type_url: "...), all[key].Type)
		if len(all[key].Wire) > 0 {
			dst = appendQuoted(append(dst, "value: "...), string(all[key].Wire))
		}
		dst = append(dst, "} } "...)
	}
	return dst
}

// Unparse returns the text of an expression that was parsed by somebody else.
func Unparse(e *exprpb.Expr) (string, error) {
	return cel.AstToString(cel.ParsedExprToAst(&exprpb.ParsedExpr{Expr: e}))
}
