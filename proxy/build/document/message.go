package document

import (
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mallamesh/malla/base/field"
)

// message fills m with what stands at n.
func (r *reader) message(m protoreflect.Message, n *yaml.Node, at *field.Path, depth int) {
	if !r.deeper(n, at, depth) {
		return
	}
	k := kindOf(n)
	if special, is := wellKnown(m); is {
		if known, ok := special.(*anypb.Any); ok {
			r.any(known, n, at, depth)
			return
		}
		if k != object || structured(special) { // else it is written as the message that it is
			r.known(m, special, n, at, depth)
			return
		}
	}
	if k != object {
		r.fail(at, n, "found %s, want the fields of %s", r.show(n), m.Descriptor().FullName())
		return
	}
	r.fields(m, n, at, depth, false)
}

// wellKnown returns a message that has a form of its own.
func wellKnown(m protoreflect.Message) (proto.Message, bool) {
	if m.Descriptor().ParentFile().Package() != "google.protobuf" {
		return nil, false
	}
	switch v := m.Interface().(type) {
	case *anypb.Any, *structpb.Struct, *structpb.Value, *structpb.ListValue, *durationpb.Duration, *timestamppb.Timestamp, *fieldmaskpb.FieldMask:
		return v, true
	}
	if strings.HasSuffix(string(m.Descriptor().Name()), "Value") && m.Descriptor().Fields().ByNumber(1) != nil {
		return m.Interface(), true // a wrapper
	}
	return nil, false
}

// structured reports whether fields in a message are its content, and not those that protobuf gives it.
func structured(m proto.Message) bool {
	switch m.(type) {
	case *structpb.Struct, *structpb.Value:
		return true
	}
	return false
}

// known fills a message that has a form of its own.
func (r *reader) known(m protoreflect.Message, special proto.Message, n *yaml.Node, at *field.Path, depth int) {
	k := kindOf(n)
	said := ""
	if k == text {
		said = textOf(n)
	}
	switch v := special.(type) {
	case *structpb.Struct:
		r.structure(v, n, at, depth)
	case *structpb.Value:
		r.value(v, n, at, depth)
	case *structpb.ListValue:
		if k != list {
			r.fail(at, n, "found %s, want a list", r.show(n))
			return
		}
		r.values(v, n, at, depth)
	case *durationpb.Duration:
		var ok bool
		if v.Seconds, v.Nanos, ok = durationOf(said); !ok {
			r.fail(at, n, "found %s, want seconds, such as 1.5s%s", r.show(n), unitOf(n.Value))
		}
	case *timestamppb.Timestamp:
		t, err := time.Parse(time.RFC3339Nano, said)
		if err != nil || len(said) < 20 || t.Year() < 1 {
			r.fail(at, n, "found %s, want a time such as 2006-01-02T15:04:05Z", r.show(n))
			return
		}
		proto.Merge(v, timestamppb.New(t))
	case *fieldmaskpb.FieldMask:
		if k != text {
			r.fail(at, n, "found %s, want the names of fields with commas between", r.show(n))
			return
		}
		v.Paths = masks(said)
	default:
		fd := m.Descriptor().Fields().ByNumber(1)
		if value, ok := r.scalar(fd, n, at); ok {
			m.Set(fd, value)
		}
	}
}

// masks reads names of fields: in JSON they have capitals in place of underscores.
func masks(s string) (paths []string) {
	if s == "" {
		return nil
	}
	for path := range strings.SplitSeq(s, ",") {
		var b strings.Builder
		for _, c := range []byte(path) {
			if c >= 'A' && c <= 'Z' {
				b.WriteByte('_')
				c += 'a' - 'A'
			}
			b.WriteByte(c)
		}
		paths = append(paths, b.String())
	}
	return paths
}

func (r *reader) structure(s *structpb.Struct, n *yaml.Node, at *field.Path, depth int) {
	if kindOf(n) != object {
		r.fail(at, n, "found %s, want keys with values", r.show(n))
		return
	}
	s.Fields = make(map[string]*structpb.Value, len(n.Content)/2)
	r.each(n, at, func(key string, k, v *yaml.Node) {
		if s.Fields[key] != nil {
			r.fail(at.Child(key), k, "stands there twice")
			return
		}
		value := &structpb.Value{}
		s.Fields[key] = value
		r.value(value, r.open(v), at.Child(key), depth+1)
	})
}

func (r *reader) value(v *structpb.Value, n *yaml.Node, at *field.Path, depth int) {
	switch kindOf(n) {
	case null:
		v.Kind = &structpb.Value_NullValue{}
	case yesNo:
		b, _ := yes(n.Value)
		v.Kind = &structpb.Value_BoolValue{BoolValue: b}
	case number:
		f, _ := floatOf(textOf(n))
		v.Kind = &structpb.Value_NumberValue{NumberValue: f}
	case text:
		v.Kind = &structpb.Value_StringValue{StringValue: textOf(n)}
	case list:
		l := &structpb.ListValue{}
		v.Kind = &structpb.Value_ListValue{ListValue: l}
		if r.deeper(n, at, depth) {
			r.values(l, n, at, depth)
		}
	case object:
		s := &structpb.Struct{}
		v.Kind = &structpb.Value_StructValue{StructValue: s}
		if r.deeper(n, at, depth) {
			r.structure(s, n, at, depth)
		}
	}
}

func (r *reader) values(l *structpb.ListValue, n *yaml.Node, at *field.Path, depth int) {
	l.Values = make([]*structpb.Value, len(n.Content))
	for i, v := range n.Content {
		l.Values[i] = &structpb.Value{}
		r.value(l.Values[i], r.open(v), at.Index(i), depth+1)
	}
}

// any packs a message of the type that it names.
func (r *reader) any(a *anypb.Any, n *yaml.Node, at *field.Path, depth int) {
	if kindOf(n) != object {
		r.fail(at, n, `found %s, want "@type" and the fields of a message`, r.show(n))
		return
	}
	var typed *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key, err := r.keyOf(n.Content[i]); err != nil || key != "@type" {
			continue
		}
		if typed != nil && r.json {
			r.fail(at.Child("@type"), n.Content[i], "stands there twice")
		}
		typed = r.open(n.Content[i+1])
	}
	switch {
	case typed == nil && len(n.Content) == 0:
		return
	case typed == nil:
		r.fail(at, n, `has no "@type", want type.googleapis.com/ and the name of a message`)
		return
	case kindOf(typed) != text:
		r.fail(at.Child("@type"), typed, "found %s, want type.googleapis.com/ and the name of a message", r.show(typed))
		return
	}
	a.TypeUrl = textOf(typed)
	host, name, _ := cutLast(a.TypeUrl)
	if host == "" {
		r.fail(at.Child("@type"), typed, "found %q, want type.googleapis.com/ before the name of the message", a.TypeUrl)
		return
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		r.fail(at, typed, "type %q is not supported", a.TypeUrl)
		return
	}
	m := kind.New()
	r.fields(m, n, at, depth, true)
	if a.Value, err = (proto.MarshalOptions{AllowPartial: true, Deterministic: true}).Marshal(m.Interface()); err != nil {
		r.fail(at, n, "%v", err)
	}
}

func cutLast(s string) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}

// fields fills m with the entries of an object. packed says that m is packed into an Any, whose type stands among them.
func (r *reader) fields(m protoreflect.Message, n *yaml.Node, at *field.Path, depth int, packed bool) {
	d := m.Descriptor()
	special := false
	if packed {
		_, special = wellKnown(m)
	}
	var set map[protoreflect.FullName]*yaml.Node // of several fields of which one may be set
	r.each(n, at, func(key string, k, v *yaml.Node) {
		v = r.open(v)
		switch {
		case packed && key == "@type":
			return
		case special && key == "value":
			r.message(m, v, at, depth+1)
			return
		case special:
			r.fail(at.Child(key), k, `want only "@type" and "value", which holds the %s`, d.Name())
			return
		}
		fd := d.Fields().ByName(protoreflect.Name(key))
		if fd == nil {
			fd = d.Fields().ByJSONName(key)
		}
		if fd == nil {
			r.unknown(at.Child(key), k, d)
			return
		}
		at := at.Child(string(fd.Name()))
		if one := fd.ContainingOneof(); one != nil && !one.IsSynthetic() && kindOf(v) != null {
			if first := set[one.FullName()]; first != nil {
				r.fail(at, k, "is set beside %s (line %d), want only one of %s", first.Value, first.Line, strings.Join(choices(one), ", "))
				return
			}
			if set == nil {
				set = map[protoreflect.FullName]*yaml.Node{}
			}
			set[one.FullName()] = k
		} else if m.Has(fd) {
			r.note(at, k, "stands there twice; what comes last counts, and lists grow")
		}
		r.field(m, fd, v, at, depth)
	})
}

func fieldNames(d protoreflect.MessageDescriptor) (names []string) {
	for i := range d.Fields().Len() {
		names = append(names, string(d.Fields().Get(i).Name()))
	}
	return names
}

func choices(one protoreflect.OneofDescriptor) (names []string) {
	for i := range one.Fields().Len() {
		names = append(names, string(one.Fields().Get(i).Name()))
	}
	return names
}

// field sets a field to what stands at n.
func (r *reader) field(m protoreflect.Message, fd protoreflect.FieldDescriptor, n *yaml.Node, at *field.Path, depth int) {
	switch {
	case fd.IsMap():
		r.entries(m, fd, n, at, depth+1)
	case fd.IsList():
		if kindOf(n) != list {
			r.element(m.Mutable(fd).List(), fd, n, at, depth) // one element stands for a list of it
			return
		}
		r.elements(m.Mutable(fd).List(), fd, n, at, depth+1)
	case fd.Message() != nil:
		if kindOf(n) == null && fd.Message().FullName() != "google.protobuf.Value" {
			return
		}
		r.message(m.Mutable(fd).Message(), n, at, depth+1)
	case kindOf(n) == null:
	default:
		if v, ok := r.scalar(fd, n, at); ok {
			m.Set(fd, v)
		}
	}
}

// elements adds to a list. A list in it is its elements, unless it may be one itself.
func (r *reader) elements(l protoreflect.List, fd protoreflect.FieldDescriptor, n *yaml.Node, at *field.Path, depth int) {
	if !r.deeper(n, at, depth) {
		return
	}
	for i, v := range n.Content {
		v = r.open(v)
		if kindOf(v) == list && !mayBeList(fd) {
			r.elements(l, fd, v, at, depth+1)
			continue
		}
		at := at.Index(i)
		if kindOf(v) == null && !mayBeNull(fd) { // it is there, and has nothing
			l.Append(l.NewElement())
			continue
		}
		r.element(l, fd, v, at, depth)
	}
}

func mayBeList(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && (fd.Message().FullName() == "google.protobuf.Value" || fd.Message().FullName() == "google.protobuf.ListValue")
}

func mayBeNull(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && fd.Message().FullName() == "google.protobuf.Value"
}

func (r *reader) element(l protoreflect.List, fd protoreflect.FieldDescriptor, n *yaml.Node, at *field.Path, depth int) {
	switch {
	case kindOf(n) == null && !mayBeNull(fd):
	case fd.Message() != nil:
		r.message(l.AppendMutable().Message(), n, at, depth+1)
	default:
		if v, ok := r.scalar(fd, n, at); ok {
			l.Append(v)
		}
	}
}

// entries adds to a map.
func (r *reader) entries(m protoreflect.Message, fd protoreflect.FieldDescriptor, n *yaml.Node, at *field.Path, depth int) {
	switch kindOf(n) {
	case null:
		return
	case object:
	default:
		r.fail(at, n, "found %s, want keys with values", r.show(n))
		return
	}
	if !r.deeper(n, at, depth) {
		return
	}
	entries, value := m.Mutable(fd).Map(), fd.MapValue()
	seen := map[string]bool{}
	r.each(n, at, func(name string, k, v *yaml.Node) {
		v = r.open(v)
		at := at.Child(name)
		key, ok := mapKey(fd.MapKey(), name)
		if !ok {
			r.fail(at, k, "found %q as a key, want %s", name, fd.MapKey().Kind())
			return
		}
		if seen[name] {
			r.fail(at, k, "stands there twice")
			return
		}
		seen[name] = true
		switch {
		case kindOf(v) == null && !mayBeNull(value):
			entries.Set(key, entries.NewValue())
		case value.Message() != nil:
			new := entries.NewValue()
			r.message(new.Message(), v, at, depth+1)
			entries.Set(key, new)
		default:
			if v, ok := r.scalar(value, v, at); ok {
				entries.Set(key, v)
			}
		}
	})
}

// mapKey reads the key of a map that has other keys than text.
func mapKey(fd protoreflect.FieldDescriptor, s string) (protoreflect.MapKey, bool) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(s).MapKey(), true
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(s == "true").MapKey(), s == "true" || s == "false"
	}
	if _, err := strconv.ParseInt(s, 10, 64); err != nil {
		if _, err := strconv.ParseUint(s, 10, 64); err != nil {
			return protoreflect.MapKey{}, false
		}
	}
	v, err := numberOf(fd.Kind(), s)
	if err != nil {
		return protoreflect.MapKey{}, false
	}
	return v.MapKey(), true
}
