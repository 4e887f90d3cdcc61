package build

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cel/typed"
	"github.com/mallamesh/malla/proxy/metadata"
)

// message makes a message of any type one of metadata, with a mistake if its type is not known.
func (r *reader) message(of *anypb.Any, at *field.Path) *metadata.Message {
	m, err := newMessage(of)
	if err != nil {
		r.errs.Addf(at, "%v", err)
	}
	return m
}

// messages makes what is configured as typed metadata. Types that are not known are left out: nobody could read them.
func messages(all map[string]*anypb.Any) map[string]*metadata.Message {
	out := map[string]*metadata.Message{}
	for name, of := range all {
		if m, err := newMessage(of); err == nil {
			out[name] = m
		}
	}
	return out
}

func newMessage(of *anypb.Any) (*metadata.Message, error) {
	m, err := of.UnmarshalNew()
	if err != nil {
		return nil, err
	}
	var inside []proto.Message
	fields := plainMessage(m.ProtoReflect(), &inside)
	expression, err := typed.Value(m, inside...)
	if err != nil {
		return nil, err
	}
	return &metadata.Message{Type: of.GetTypeUrl(), Wire: of.GetValue(), Fields: fields, Expression: expression}, nil
}

// plainMessage makes a message plain data, by the names of the fields that are set. Messages of any type in it stay what is sent of
// them; those that are known are added to inside.
func plainMessage(m protoreflect.Message, inside *[]proto.Message) metadata.Struct {
	out := metadata.Struct{}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			out[string(f.Name())] = plainMap(f, v.Map(), inside)
		case f.IsList():
			list := make([]any, v.List().Len())
			for i := range list {
				list[i] = plainValue(f, v.List().Get(i), inside)
			}
			out[string(f.Name())] = list
		default:
			out[string(f.Name())] = plainValue(f, v, inside)
		}
		return true
	})
	if of, ok := m.Interface().(*anypb.Any); ok {
		if held, err := of.UnmarshalNew(); err == nil {
			*inside = append(*inside, held)
			plainMessage(held.ProtoReflect(), inside)
		}
	}
	return out
}

func plainMap(f protoreflect.FieldDescriptor, m protoreflect.Map, inside *[]proto.Message) any {
	texts, others := metadata.Struct{}, map[any]any{}
	m.Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
		item := plainValue(f.MapValue(), v, inside)
		switch k := plainValue(f.MapKey(), key.Value(), inside).(type) {
		case string:
			texts[k] = item
		default:
			others[k] = item
		}
		return true
	})
	if len(others) > 0 {
		return others
	}
	return texts
}

func plainValue(f protoreflect.FieldDescriptor, v protoreflect.Value, inside *[]proto.Message) any {
	if f.Message() != nil {
		return plainMessage(v.Message(), inside)
	}
	switch v := v.Interface().(type) {
	case bool:
		return v
	case string:
		return v
	case []byte:
		return string(v)
	case int32:
		return float64(v)
	case int64:
		return float64(v)
	case uint32:
		return float64(v)
	case uint64:
		return float64(v)
	case float32:
		return float64(v)
	case float64:
		return v
	case protoreflect.EnumNumber:
		return float64(v)
	}
	panic("build: " + string(f.FullName()) + " has a value of no kind")
}
