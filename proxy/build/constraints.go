package build

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mallamesh/malla/base/field"
)

// constrained is a message that brings Envoy's own rules for its values: what may be empty, how large a number is, of
// which letters a text is. They are written in Envoy's API (protoc-gen-validate), so that they are the same here and
// there; where we call them everything inside of the message is looked at, but not what is packed into an Any.
type constrained interface{ ValidateAll() error }

// violation is what generated code says about one field.
type violation interface {
	Field() string // in Go's spelling; with an index or a key in brackets
	Reason() string
	Cause() error // of what is inside
}

// unchecked are messages that Envoy opens without asking for their rules: with bundles for all domains none needs to
// stand by itself. What we read of them says the rest.
var unchecked = map[protoreflect.FullName]bool{
	"envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig": true,
}

// checkValues adds a mistake for everything in m that breaks a rule of Envoy's API, unless errs has one for the same place.
func checkValues(m proto.Message, at *field.Path, errs *field.List) {
	c, ok := m.(constrained)
	if !ok || unchecked[m.ProtoReflect().Descriptor().FullName()] {
		return
	}
	err := c.ValidateAll()
	if err == nil {
		return
	}
	told := map[string]bool{}
	for _, e := range *errs {
		told[e.At.String()] = true
	}
	var found field.List
	violations(err, m.ProtoReflect(), at, &found)
	for _, e := range found {
		if !told[e.At.String()] {
			*errs = append(*errs, e)
		}
	}
}

// violations turns what generated code says about m, which stands at at, into our own form.
func violations(err error, m protoreflect.Message, at *field.Path, errs *field.List) {
	if all, ok := err.(interface{ AllErrors() []error }); ok {
		for _, e := range all.AllErrors() {
			violations(e, m, at, errs)
		}
		return
	}
	v, ok := err.(violation)
	if !ok {
		errs.Addf(at, "%v", err)
		return
	}
	name, rest, _ := strings.Cut(v.Field(), "[")
	fd := goField(m.Descriptor(), name)
	if fd == nil {
		choice(m.Descriptor(), name, v, at, errs)
		return
	}
	at = at.Child(string(fd.Name()))
	value := m.Get(fd)
	key := strings.TrimSuffix(rest, "]")
	switch i, err := strconv.Atoi(key); {
	case key == "":
	case fd.IsMap():
		at = at.Child(key)
		value = value.Map().Get(protoreflect.ValueOfString(key).MapKey()) // Envoy's API has no others
	case fd.IsList() && err == nil && i < value.List().Len():
		at, value = at.Index(i), value.List().Get(i)
	}
	if v.Cause() != nil && fd.Message() != nil {
		if inner, ok := value.Interface().(protoreflect.Message); ok && inner.IsValid() {
			violations(v.Cause(), inner, at, errs)
			return
		}
	}
	if !m.Has(fd) && fd.HasPresence() || v.Reason() == "value is required" {
		errs.Addf(at, "is not set")
		return
	}
	switch v.Reason() {
	case "value length must be at least 1 runes", "value length must be at least 1 bytes", "value must contain at least 1 item(s)":
		errs.Addf(at, "is empty")
	default:
		errs.Addf(at, "found %s, want %s", foundText(fd, value), wanted(v))
	}
}

// choice tells that nothing is set of several fields, of which one is to be.
func choice(d protoreflect.MessageDescriptor, name string, v violation, at *field.Path, errs *field.List) {
	for i := range d.Oneofs().Len() {
		one := d.Oneofs().Get(i)
		if !sameName(one.Name(), name) {
			continue
		}
		var names []string
		for j := range one.Fields().Len() {
			names = append(names, string(one.Fields().Get(j).Name()))
		}
		errs.Addf(at, "nothing is set of %s, want one of them", strings.Join(names, ", "))
		return
	}
	errs.Addf(at, "%s: %s", name, v.Reason())
}

func goField(d protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	for i := range d.Fields().Len() {
		if fd := d.Fields().Get(i); sameName(fd.Name(), name) {
			return fd
		}
	}
	return nil
}

// sameName reports whether Go spells a name of a message so.
func sameName(name protoreflect.Name, spelled string) bool {
	plain := func(s string) string { return strings.ReplaceAll(s, "_", "") }
	return strings.EqualFold(plain(string(name)), plain(spelled))
}

// patterns are the rules that a person would not read out of a regular expression.
var patterns = map[string]string{
	`"^[^\x00\n\r]*$"`: "text without line feed, carriage return and NUL",
	`"^:?[0-9a-zA-Z!#$%&'*+-.^_|~` + "`" + `]+$"`: "the name of a header",
	`"^[^\x00-\b\n-\x1f\x7f]*$"`:                  "text without control characters",
	`"^[^\\x00-\\x1f\\x7f]*$"`:                    "text without control characters",
	`"^[^?#]+[^?#/]$"`:                            "a path without ?, # and a slash at its end",
}

// wanted says what would be right.
func wanted(v violation) string {
	reason := v.Reason()
	if p, ok := strings.CutPrefix(reason, "value does not match regex pattern "); ok {
		if text, ok := patterns[p]; ok {
			return text
		}
		return "text that matches " + p
	}
	if v.Cause() != nil {
		reason += ": " + v.Cause().Error()
	}
	for _, p := range []struct{ is, say string }{
		{"value must be one of the defined enum values", "one that the API has"},
		{"value must be in list ", "one of "}, {"value must not be in list ", "another than one of "},
		{"value must be inside range ", "one in "}, {"value must be outside range ", "one outside of "},
		{"value must be ", "one that is "}, {"value must contain ", ""}, {"value must equal ", ""},
		{"value length must be ", "a length of "}, {"repeated value must contain unique items", "each only once"},
	} {
		if rest, ok := strings.CutPrefix(reason, p.is); ok {
			return p.say + strings.ReplaceAll(strings.ReplaceAll(rest, "runes", "characters"), "(s)", "s")
		}
	}
	return "another: " + reason
}

// maxFound is how much of a value a message shows.
const maxFound = 80

// foundText returns a value of a field as a message shows it.
func foundText(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		if len(x) > maxFound {
			end := maxFound
			for !utf8.RuneStart(x[end]) {
				end--
			}
			return fmt.Sprintf("%q... (%d bytes)", x[:end], len(x))
		}
		return strconv.Quote(x)
	case []byte:
		return fmt.Sprintf("%d bytes", len(x))
	case protoreflect.List:
		return fmt.Sprintf("%d items", x.Len())
	case protoreflect.Map:
		return fmt.Sprintf("%d items", x.Len())
	case protoreflect.EnumNumber:
		if d := fd.Enum().Values().ByNumber(x); d != nil {
			return string(d.Name())
		}
	case protoreflect.Message:
		if d, ok := x.Interface().(*durationpb.Duration); ok {
			return d.AsDuration().String()
		}
		if value := x.Descriptor().Fields().ByName("value"); value != nil && x.Descriptor().ParentFile().Package() == "google.protobuf" {
			return foundText(value, x.Get(value))
		}
		return "{...}"
	}
	return v.String()
}

// checkNumber refuses what is not a number: it passes rules that compare. Envoy refuses it where it is used.
func checkNumber(m protoreflect.Message, fd protoreflect.FieldDescriptor, at *field.Path, errs *field.List) {
	if k := fd.Kind(); k != protoreflect.DoubleKind && k != protoreflect.FloatKind || fd.IsList() {
		return
	}
	if math.IsNaN(m.Get(fd).Float()) {
		errs.Addf(at, "found NaN, want a number")
	}
}
