package envoyfilter

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/base/field"
)

const typeField = "@type"

// value reads v into m. Names may be written in either of protobuf's ways
// (typed_config, typedConfig).
func (r *Reading) value(m proto.Message, v *structpb.Struct, at *field.Path) {
	before := len(r.Errors)
	r.known(m.ProtoReflect().Descriptor(), structpb.NewStructValue(v), at)
	if len(r.Errors) > before {
		return
	}
	data, err := flat(structpb.NewStructValue(v)).MarshalJSON()
	if err == nil {
		err = protojson.Unmarshal(data, m)
	}
	if err != nil {
		r.Errors.Addf(at, "want a %s: %s", m.ProtoReflect().Descriptor().Name(), plain(err))
	}
}

// plain is an error of protojson without where it stands in text that nobody wrote, and without
// the spaces of two sorts by which it keeps people from comparing errors.
func plain(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	text = strings.TrimSpace(strings.TrimPrefix(text, "proto:"))
	if strings.HasPrefix(text, "(line ") || strings.HasPrefix(text, "syntax error (line ") {
		if _, rest, ok := strings.Cut(text, "): "); ok {
			text = rest
		}
	}
	return text
}

// known finds fields and types that do not exist.
func (r *Reading) known(d protoreflect.MessageDescriptor, v *structpb.Value, at *field.Path) {
	fields := v.GetStructValue().GetFields()
	if fields == nil {
		return // of the wrong form, or nothing
	}
	if d.FullName() == "google.protobuf.Any" {
		r.knownAny(fields, at)
		return
	}
	if d.ParentFile().Package() == "google.protobuf" {
		return // has a form of its own
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := d.Fields().ByJSONName(name)
		if f == nil {
			f = d.Fields().ByTextName(name)
		}
		if f == nil {
			r.Errors.Addf(at.Child(name), "%s has no such field%s", d.Name(), field.Suggest(name, namesOf(d)))
			continue
		}
		r.knownField(f, fields[name], at.Child(name))
	}
}

func (r *Reading) knownField(f protoreflect.FieldDescriptor, v *structpb.Value, at *field.Path) {
	r.scripts(f, v, at)
	switch {
	case f.IsMap():
		if f.MapValue().Message() == nil {
			return
		}
		entries := v.GetStructValue().GetFields()
		for _, k := range slices.Sorted(maps.Keys(entries)) {
			r.known(f.MapValue().Message(), entries[k], at.Child(k))
		}
	case f.Message() == nil:
	case f.IsList():
		for i, e := range v.GetListValue().GetValues() {
			r.known(f.Message(), e, at.Index(i))
		}
	default:
		r.known(f.Message(), v, at)
	}
}

func (r *Reading) knownAny(fields map[string]*structpb.Value, at *field.Path) {
	url := fields[typeField].GetStringValue()
	if url == "" {
		r.Errors.Addf(at.Child(typeField), `missing; want the type of the configuration, for example "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer"`)
		return
	}
	if typedStructs[url] {
		inner := map[string]*structpb.Value{typeField: structField(fields, "type_url")}
		maps.Copy(inner, structField(fields, "value").GetStructValue().GetFields())
		r.knownAny(inner, at.Child("value"))
		return
	}
	t, err := protoregistry.GlobalTypes.FindMessageByURL(url)
	if err != nil {
		r.Errors.Addf(at.Child(typeField), "found %q, which proxies do not support", url)
		return
	}
	d := t.Descriptor()
	if d.ParentFile().Package() == "google.protobuf" {
		return // what is in it stands under value
	}
	rest := maps.Clone(fields)
	delete(rest, typeField)
	r.known(d, structpb.NewStructValue(&structpb.Struct{Fields: rest}), at)
}

// typedStructs are messages that hold a configuration as JSON beside its type, from the
// time when a control plane did not know what it passed on.
var typedStructs = map[string]bool{
	"type.googleapis.com/udpa.type.v1.TypedStruct": true, "type.googleapis.com/xds.type.v3.TypedStruct": true,
}

// structField returns a field by its name in either of protobuf's ways.
func structField(fields map[string]*structpb.Value, name string) *structpb.Value {
	if v, ok := fields[name]; ok {
		return v
	}
	head, tail, _ := strings.Cut(name, "_")
	if tail == "" {
		return nil
	}
	return fields[head+strings.ToUpper(tail[:1])+tail[1:]]
}

// flat returns v with the configuration itself in the place of each typed struct.
func flat(v *structpb.Value) *structpb.Value {
	switch v := v.GetKind().(type) {
	case *structpb.Value_ListValue:
		out := &structpb.ListValue{}
		for _, e := range v.ListValue.GetValues() {
			out.Values = append(out.Values, flat(e))
		}
		return structpb.NewListValue(out)
	case *structpb.Value_StructValue:
		fields := v.StructValue.GetFields()
		if typedStructs[fields[typeField].GetStringValue()] {
			inner := maps.Clone(structField(fields, "value").GetStructValue().GetFields())
			if inner == nil {
				inner = map[string]*structpb.Value{}
			}
			inner[typeField] = structField(fields, "type_url")
			return flat(structpb.NewStructValue(&structpb.Struct{Fields: inner}))
		}
		out := make(map[string]*structpb.Value, len(fields))
		for k, e := range fields {
			out[k] = flat(e)
		}
		return structpb.NewStructValue(&structpb.Struct{Fields: out})
	}
	return v
}

// namesOf lists the names of a message's fields as Envoy's documentation writes them.
func namesOf(d protoreflect.MessageDescriptor) []string {
	var out []string
	for i := range d.Fields().Len() {
		out = append(out, d.Fields().Get(i).TextName())
	}
	return out
}

// whole checks a message that is to stand for itself by Envoy's own rules, with the
// configurations in it.
func (r *Reading) whole(m proto.Message, at *field.Path) {
	if err := check(m); err != nil {
		r.Errors.Addf(at, "Envoy does not take it: %v", err)
	}
}

func check(m proto.Message) error {
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			return err
		}
	}
	var bad error
	visit(m.ProtoReflect(), func(a *anypb.Any) {
		inner, err := a.UnmarshalNew()
		if err == nil {
			err = check(inner)
		}
		bad = errors.Join(bad, err)
	})
	return bad
}

// part checks a message that is to be merged into another one: what stands in it must be right, what does not may come from there.
// How long a list is is not known.
func (r *Reading) part(m proto.Message, at *field.Path) {
	all := violations(m)
	slices.Sort(all)
	for _, v := range slices.Compact(all) {
		r.Errors.Addf(at, "Envoy does not take it: %s", v)
	}
}

// violations are what values in a message, and in the messages in it, break of Envoy's own rules.
func violations(m proto.Message) (out []string) {
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		var all interface{ AllErrors() []error }
		if err := v.ValidateAll(); errors.As(err, &all) {
			for _, e := range all.AllErrors() {
				if said, ok := violation(m.ProtoReflect(), e); ok {
					out = append(out, said)
				}
			}
		}
	}
	m.ProtoReflect().Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case d.IsMap() && d.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
				out = append(out, violations(e.Message().Interface())...)
				return true
			})
		case d.IsMap() || d.Message() == nil:
		case d.IsList():
			for i := range v.List().Len() {
				out = append(out, violations(v.List().Get(i).Message().Interface())...)
			}
		default:
			out = append(out, violations(v.Message().Interface())...)
		}
		return true
	})
	if a, ok := m.(*anypb.Any); ok {
		if inner, err := a.UnmarshalNew(); err == nil {
			out = append(out, violations(inner)...)
		}
	}
	return out
}

// violation says what an error of a message's own fields is about, if it is one of what stands there.
func violation(m protoreflect.Message, err error) (string, bool) {
	var e interface {
		Field() string
		Reason() string
		Cause() error
	}
	if !errors.As(err, &e) || e.Cause() != nil { // what is in it is looked at by itself
		return "", false
	}
	for i := range m.Descriptor().Fields().Len() {
		d := m.Descriptor().Fields().Get(i)
		if !strings.EqualFold(strings.ReplaceAll(string(d.Name()), "_", ""), e.Field()) {
			continue
		}
		return fmt.Sprintf("invalid %s.%s: %s", m.Descriptor().Name(), e.Field(), e.Reason()), m.Has(d) && !d.IsList() && !d.IsMap()
	}
	return "", false
}

// visit calls f for every Any in the message.
func visit(m protoreflect.Message, f func(*anypb.Any)) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		f(a)
		return
	}
	m.Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case d.IsMap():
			if d.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool { visit(e.Message(), f); return true })
			}
		case d.Message() == nil:
		case d.IsList():
			for i := range v.List().Len() {
				visit(v.List().Get(i).Message(), f)
			}
		default:
			visit(v.Message(), f)
		}
		return true
	})
}
