package cel

import (
	"fmt"
	"reflect"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
)

// A Value is what an attribute is.
type Value = ref.Val

// Null is nothing, where something might be.
var Null Value = types.NullValue

// String is a text.
func String(s string) Value { return types.String(s) }

// Bytes is a text that is compared with b'...' only.
func Bytes(b []byte) Value { return types.Bytes(b) }

// Bool is true or false.
func Bool(b bool) Value { return types.Bool(b) }

// Int is a number.
func Int(n int64) Value { return types.Int(n) }

// Uint is a number that is never below 0.
func Uint(n uint64) Value { return types.Uint(n) }

// Time is a moment.
func Time(t time.Time) Value { return types.Timestamp{Time: t} }

// Duration is a span of time.
func Duration(d time.Duration) Value { return types.Duration{Duration: d} }

// Fields are metadata by name; each value is a Struct.
func Fields(fields metadata.Struct) Value {
	return types.NewStringInterfaceMap(types.DefaultTypeAdapter, fields)
}

// Spaces are structs by name.
type Spaces map[string]metadata.Struct

// Metadata is Envoy's metadata: what is in each namespace.
func Metadata(spaces Spaces, messages map[string]*metadata.Message) Value {
	return Message{{"filter_metadata", spaces}, {"typed_filter_metadata", Messages(messages)}}
}

// Messages are messages by name.
type Messages map[string]*metadata.Message

// base is what values of ours have in common: there is nothing else that they can be turned into.
type base struct{}

func (base) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("an attribute is no %v", t)
}

func (base) ConvertToType(ref.Type) ref.Val { return types.NewErr("an attribute is of no other type") }

// An Object is an attribute with attributes below it, which are found when they are asked for: request, for example. As
// in Envoy its size is 0.
type Object Lookup

// ConvertToNative is cel-go's.
func (Object) ConvertToNative(t reflect.Type) (any, error) { return base{}.ConvertToNative(t) }

// ConvertToType is cel-go's.
func (Object) ConvertToType(t ref.Type) ref.Val { return base{}.ConvertToType(t) }

// Type is cel-go's.
func (Object) Type() ref.Type { return types.MapType }

// Value is cel-go's.
func (o Object) Value() any { return o }

// Equal is cel-go's; an object is like no other.
func (Object) Equal(ref.Val) ref.Val { return types.False }

// Find is cel-go's.
func (o Object) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	return o(string(name))
}

// Get is cel-go's.
func (o Object) Get(key ref.Val) ref.Val { return get(o, key) }

// Contains is cel-go's.
func (o Object) Contains(key ref.Val) ref.Val { return contains(o, key) }

// Size is cel-go's.
func (Object) Size() ref.Val { return types.Int(0) }

// Iterator is cel-go's.
func (Object) Iterator() traits.Iterator { return Fields(nil).(traits.Mapper).Iterator() }

// headers are the fields of a message.
type headers struct {
	base
	m *header.Map
}

// Headers are header fields by name, several of one name in one text; there are none in nil.
func Headers(m *header.Map) Value {
	if m == nil {
		m = new(header.Map)
	}
	return headers{m: m}
}

func (headers) Type() ref.Type { return types.MapType }
func (h headers) Value() any   { return h.m }

func (h headers) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	v, ok := joined(h.m, string(name))
	return types.String(v), ok
}

func (h headers) Get(key ref.Val) ref.Val      { return get(h, key) }
func (h headers) Contains(key ref.Val) ref.Val { return contains(h, key) }
func (h headers) Size() ref.Val                { return types.Int(h.m.Len()) }
func (h headers) Equal(other ref.Val) ref.Val  { return h.fields().Equal(other) }
func (h headers) Iterator() traits.Iterator    { return h.fields().Iterator() }

// fields are the fields as a map.
func (h headers) fields() traits.Mapper {
	all := map[string]string{}
	for _, f := range h.m.Fields() {
		if name := string(f.Name); all[name] == "" {
			all[name], _ = joined(h.m, name)
		}
	}
	return types.NewStringStringMap(types.DefaultTypeAdapter, all)
}

// joined is the value of a field, with commas between several.
func joined(m *header.Map, name string) (string, bool) {
	var list [4][]byte
	values := m.Values(list[:0], appendLower(nil, name))
	if len(values) == 0 && name == "host" {
		values = m.Values(list[:0], []byte(":authority"))
	}
	switch len(values) {
	case 0:
		return "", false
	case 1:
		return string(values[0]), true
	}
	out := append([]byte(nil), values[0]...)
	for _, v := range values[1:] {
		out = append(append(out, ','), v...)
	}
	return string(out), true
}

func appendLower(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

func get(m traits.Mapper, key ref.Val) ref.Val {
	if v, ok := m.Find(key); ok {
		return v
	}
	return types.NewErr("no such key: %v", key)
}

func contains(m traits.Mapper, key ref.Val) ref.Val {
	_, ok := m.Find(key)
	return types.Bool(ok)
}

// A Message is one of protobuf's, with all of its fields in their order. A field has what it does not hold: nothing.
type Message []Field

// A Field is a field of a message.
type Field struct {
	Name  string
	Value any // string, metadata.Struct, Spaces, Messages or Message
}

// messageType is the type of all messages.
var messageType = types.NewObjectType("malla.Message", traits.FieldTesterType|traits.IndexerType)

// ConvertToNative is cel-go's.
func (Message) ConvertToNative(t reflect.Type) (any, error) { return base{}.ConvertToNative(t) }

// ConvertToType is cel-go's.
func (Message) ConvertToType(t ref.Type) ref.Val { return base{}.ConvertToType(t) }

// Type is cel-go's.
func (Message) Type() ref.Type { return messageType }

// Value is cel-go's.
func (m Message) Value() any { return []Field(m) }

// Equal is cel-go's.
func (m Message) Equal(other ref.Val) ref.Val {
	o, ok := other.(Message)
	return types.Bool(ok && reflect.DeepEqual(m, o))
}

func (m Message) field(name ref.Val) (*Field, ref.Val) {
	for i := range m {
		if name.Equal(types.String(m[i].Name)) == types.True {
			return &m[i], nil
		}
	}
	return nil, types.NewErr("no such field: %v", name)
}

// Get is cel-go's.
func (m Message) Get(name ref.Val) ref.Val {
	f, err := m.field(name)
	if err != nil {
		return err
	}
	switch v := f.Value.(type) {
	case string:
		return types.String(v)
	case Message:
		return v
	case metadata.Struct:
		return Fields(v)
	case Spaces:
		return types.DefaultTypeAdapter.NativeToValue(map[string]metadata.Struct(v))
	case Messages:
		all := make(map[string]ref.Val, len(v))
		for name, m := range v {
			all[name] = m.Expression.(Value)
		}
		return types.DefaultTypeAdapter.NativeToValue(all)
	}
	panic(fmt.Sprintf("cel: field %s is a %T", f.Name, f.Value))
}

// IsSet is cel-go's.
func (m Message) IsSet(name ref.Val) ref.Val {
	f, err := m.field(name)
	if err != nil {
		return err
	}
	return types.Bool(!f.empty())
}

func (f *Field) empty() bool {
	switch v := f.Value.(type) {
	case string:
		return v == ""
	case metadata.Struct:
		return len(v) == 0
	case Spaces:
		return len(v) == 0
	case Messages:
		return len(v) == 0
	case Message:
		return v == nil
	}
	panic(fmt.Sprintf("cel: field %s is a %T", f.Name, f.Value))
}
