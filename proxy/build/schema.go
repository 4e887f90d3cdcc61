package build

import (
	"fmt"
	"slices"
	"strings"

	structv3 "github.com/cncf/xds/go/xds/type/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
)

// A Support says what becomes of a field.
type Support uint8

// The ways. A field that the table does not name is Refused.
const (
	Refused       Support = iota
	Read                  // it does what Envoy's documentation says
	WithoutEffect         // it may be set and does nothing here; the reason says why that is right
	Limited               // only some of its values may be set; the others are refused
)

// A Field is one row of the table.
type Field struct {
	Name    protoreflect.Name
	Support Support
	Reason  string   // for WithoutEffect and Limited; for Refused, if there is more to say
	Values  []string // for Limited: as they are written in JSON ("AUTO", "false")
	Data    bool     // what stands in it is data, not configuration
}

// A Message is the part of the table about one message.
type Message struct {
	Descriptor protoreflect.MessageDescriptor
	Fields     map[protoreflect.Name]Field
}

// message declares a part of the table.
func message(m proto.Message, fields ...[]Field) *Message {
	out := &Message{Descriptor: m.ProtoReflect().Descriptor(), Fields: map[protoreflect.Name]Field{}}
	for _, f := range slices.Concat(fields...) {
		if _, twice := out.Fields[f.Name]; twice {
			panic(fmt.Sprintf("build: field %s of %s stands in the table twice", f.Name, out.Descriptor.FullName()))
		}
		out.Fields[f.Name] = f
	}
	return out
}

// reads declares fields that are read.
func reads(names ...protoreflect.Name) []Field {
	out := make([]Field, len(names))
	for i, n := range names {
		out[i] = Field{Name: n, Support: Read}
	}
	return out
}

// holds declares fields that are read as data: messages of any type, which configure nothing.
func holds(names ...protoreflect.Name) []Field {
	out := reads(names...)
	for i := range out {
		out[i].Data = true
	}
	return out
}

// ignores declares fields that may be set and do nothing.
func ignores(reason string, names ...protoreflect.Name) []Field {
	out := make([]Field, len(names))
	for i, n := range names {
		out[i] = Field{Name: n, Support: WithoutEffect, Reason: reason}
	}
	return out
}

// refuses declares fields of which the reason why they are refused is worth telling.
func refuses(reason string, names ...protoreflect.Name) []Field {
	out := make([]Field, len(names))
	for i, n := range names {
		out[i] = Field{Name: n, Support: Refused, Reason: reason}
	}
	return out
}

// only declares a field of which some values may be set.
func only(name protoreflect.Name, reason string, values ...string) []Field {
	return []Field{{Name: name, Support: Limited, Reason: reason, Values: values}}
}

// Messages is the table: everything that may occur in configuration, by full name.
var Messages = func() map[protoreflect.FullName]*Message {
	table := map[protoreflect.FullName]*Message{}
	for _, m := range slices.Concat( // by name, each on a line of its own
		accessFields,
		balanceFields,
		bootstrapFields,
		clusterFields,
		commonFields,
		compressionFields,
		detectorFields,
		dynamicForwardFields,
		endpointFields,
		filterStateFields,
		followFields,
		healthCheckFields,
		http2Fields,
		httpFields,
		identityFields,
		insideFields,
		listenerFields,
		listenerFilterFields,
		loadFields,
		localReplyFields,
		luaFields,
		matcherFields,
		metadataFields,
		optionalFilterFields,
		overloadFields,
		pickFields,
		predicateFields,
		proxyProtocolFields,
		rateLimitFields,
		rateDescriptorFields,
		resolverFields,
		routeFields,
		tapFields,
		tcpFields,
		tlsFields,
		upstreamFilterFields,
		valueFields,
		vhdsFields,
	) {
		name := m.Descriptor.FullName()
		if table[name] != nil {
			panic(fmt.Sprintf("build: message %s stands in the table twice", name))
		}
		table[name] = m
	}
	return table
}()

// maxDepth bounds how deep messages may be nested: predicates and filters may
// contain themselves.
const maxDepth = 64

// Check returns a mistake for everything in m that would not be honored.
func Check(m proto.Message) field.List {
	var errs field.List
	checkAll(m, nil, 0, &errs)
	return errs
}

// checkAll looks into a message that has just come in: what of it is supported, then what its values may be.
func checkAll(m proto.Message, at *field.Path, depth int, errs *field.List) {
	checkMessage(m.ProtoReflect(), at, depth, errs)
	checkValues(m, at, errs)
}

func checkMessage(m protoreflect.Message, at *field.Path, depth int, errs *field.List) {
	name := m.Descriptor().FullName()
	if depth > maxDepth {
		errs.Addf(at, "messages are nested more than %d deep", maxDepth)
		return
	}
	if name == "google.protobuf.Any" {
		checkAny(m.Interface().(*anypb.Any), at, depth, errs)
		return
	}
	if m.Descriptor().ParentFile().Package() == "google.protobuf" {
		return // wrappers, durations, structs: plain values
	}
	rows := Messages[name]
	if rows == nil {
		errs.Addf(at, "message %s is not supported", name)
		return
	}
	for b := m.GetUnknown(); len(b) > 0; {
		number, _, n := protowire.ConsumeField(b)
		if n < 0 {
			errs.Addf(at, "message %s does not parse", name)
			break
		}
		errs.Addf(at, "field number %d of message %s is not known to this version", number, name)
		b = b[n:]
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() { // in declared order, so that messages read the same every time
		fd := fields.Get(i)
		if !m.Has(fd) {
			continue
		}
		checkField(m, fd, rows.Fields[fd.Name()], at.Child(string(fd.Name())), depth, errs)
	}
}

func checkField(m protoreflect.Message, fd protoreflect.FieldDescriptor, row Field, at *field.Path, depth int, errs *field.List) {
	switch row.Support {
	case WithoutEffect:
		return
	case Refused:
		if row.Reason != "" {
			errs.Addf(at, "is not supported: %s", row.Reason)
			return
		}
		errs.Addf(at, "is not supported")
		return
	case Limited:
		if got := valueText(m, fd); !slices.Contains(row.Values, got) {
			errs.Addf(at, "found %s, want %s: %s", got, strings.Join(row.Values, " or "), row.Reason)
		}
		return
	}
	v := m.Get(fd)
	switch {
	case row.Data:
	case mayBeLeftOut(m, fd): // whoever wrote it said so
	case m.Descriptor().FullName() == filterConfigName && string(fd.Name()) == "config" && v.Message().Interface().(*anypb.Any).GetTypeUrl() == "": // the filter is on, and that is all
	case fd.IsMap():
		if fd.MapValue().Message() == nil {
			return
		}
		for _, key := range sortedKeys(v.Map()) {
			checkMessage(v.Map().Get(key).Message(), at.Child(key.String()), depth+1, errs)
		}
	case fd.Enum() != nil:
		checkEnum(fd, v, at, errs)
	case fd.Message() == nil:
		checkNumber(m, fd, at, errs)
	case fd.IsList():
		for i := range v.List().Len() {
			checkMessage(v.List().Get(i).Message(), at.Index(i), depth+1, errs)
		}
	default:
		checkMessage(v.Message(), at, depth+1, errs)
	}
}

// checkEnum refuses values that have no meaning here, of a control plane that is newer than we are.
func checkEnum(fd protoreflect.FieldDescriptor, v protoreflect.Value, at *field.Path, errs *field.List) {
	known := fd.Enum().Values()
	if !fd.IsList() {
		if known.ByNumber(v.Enum()) == nil {
			errs.Addf(at, "found %d, which no %s has", v.Enum(), fd.Enum().FullName())
		}
		return
	}
	for i := range v.List().Len() {
		if n := v.List().Get(i).Enum(); known.ByNumber(n) == nil {
			errs.Addf(at.Index(i), "found %d, which no %s has", n, fd.Enum().FullName())
		}
	}
}

// mayBeLeftOut reports whether a field holds a configuration of a kind that we do not know, in a message that says
// of itself is_optional.
func mayBeLeftOut(m protoreflect.Message, fd protoreflect.FieldDescriptor) bool {
	optional := m.Descriptor().Fields().ByName("is_optional")
	if optional == nil || optional.Kind() != protoreflect.BoolKind || !m.Get(optional).Bool() ||
		fd.Message() == nil || fd.IsMap() || fd.IsList() || fd.Message().FullName() != "google.protobuf.Any" {
		return false
	}
	a, ok := m.Get(fd).Message().Interface().(*anypb.Any)
	return ok && !known(a)
}

// known reports whether a typed configuration is of a kind that we know. A struct is of the kind that it names.
func known(a *anypb.Any) bool {
	if s := new(structv3.TypedStruct); a.UnmarshalTo(s) == nil {
		return s.GetTypeUrl() == tcpFaultType
	}
	return Messages[a.MessageName()] != nil
}

// checkAny looks into a typed configuration.
func checkAny(a *anypb.Any, at *field.Path, depth int, errs *field.List) {
	if Messages[a.MessageName()] == nil {
		errs.Addf(at, "type %q is not supported", a.GetTypeUrl())
		return
	}
	m, err := a.UnmarshalNew()
	if err != nil {
		errs.Addf(at, "%s does not parse: %v", a.MessageName(), err)
		return
	}
	checkAll(m, at, depth+1, errs)
}

// valueText returns a value as a person would write it in JSON.
func valueText(m protoreflect.Message, fd protoreflect.FieldDescriptor) string {
	v := m.Get(fd)
	if fd.Message() != nil && !fd.IsList() && !fd.IsMap() {
		inner := v.Message()
		if value := inner.Descriptor().Fields().ByName("value"); value != nil && inner.Descriptor().ParentFile().Package() == "google.protobuf" {
			return valueText(inner, value)
		}
		return "{...}"
	}
	if fd.Enum() != nil && !fd.IsList() {
		if d := fd.Enum().Values().ByNumber(v.Enum()); d != nil {
			return string(d.Name())
		}
	}
	if fd.IsList() || fd.IsMap() {
		return "[...]"
	}
	return v.String()
}

func sortedKeys(m protoreflect.Map) []protoreflect.MapKey {
	var keys []protoreflect.MapKey
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	return keys
}
