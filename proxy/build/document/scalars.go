package document

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/mallamesh/malla/base/field"
)

// scalar reads a value of a field that is no message.
func (r *reader) scalar(fd protoreflect.FieldDescriptor, n *yaml.Node, at *field.Path) (protoreflect.Value, bool) {
	k := kindOf(n)
	switch fd.Kind() {
	case protoreflect.StringKind:
		if k == text {
			return protoreflect.ValueOfString(textOf(n)), true
		}
		r.fail(at, n, "found %s, want text%s", r.show(n), quotes(n, k))
		return protoreflect.Value{}, false
	case protoreflect.BytesKind:
		if k == text {
			if b, err := bytesOf(textOf(n)); err == nil {
				return protoreflect.ValueOfBytes(b), true
			}
		}
		r.fail(at, n, "found %s, want bytes in base64", r.show(n))
		return protoreflect.Value{}, false
	case protoreflect.BoolKind:
		if v, ok := boolOf(n, k); ok {
			return protoreflect.ValueOfBool(v), true
		}
		r.fail(at, n, "found %s, want true or false", r.show(n))
		return protoreflect.Value{}, false
	case protoreflect.EnumKind:
		return r.enum(fd.Enum(), n, at)
	}
	if k == number || k == text {
		v, err := numberOf(fd.Kind(), textOf(n))
		if err == nil {
			return v, true
		}
		r.fail(at, n, "found %s, want %v", r.show(n), err)
		return v, false
	}
	r.fail(at, n, "found %s, want a number", r.show(n))
	return protoreflect.Value{}, false
}

// quotes says how what is no text becomes it.
func quotes(n *yaml.Node, k kind) string {
	if n.Style == 0 && (k == yesNo || k == number) {
		return fmt.Sprintf(": put it in quotes, %q", n.Value)
	}
	return ""
}

// boolOf reads a yes or no, which may be a text.
func boolOf(n *yaml.Node, k kind) (value, ok bool) {
	switch k {
	case yesNo:
		return yes(n.Value)
	case text:
		switch strings.ToLower(textOf(n)) {
		case "true", "t", "yes", "y", "1":
			return true, true
		case "false", "f", "no", "n", "0":
			return false, true
		}
	}
	return false, false
}

// bytesOf reads base64 of either alphabet, with its padding or without.
func bytesOf(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") { // which Go passes over
		return nil, base64.CorruptInputError(0)
	}
	s = strings.NewReplacer("-", "+", "_", "/").Replace(s)
	if len(s)%4 == 0 {
		s = strings.TrimSuffix(strings.TrimSuffix(s, "="), "=")
	}
	return base64.RawStdEncoding.DecodeString(s)
}

// numberOf reads a number of the kind of a field. The error says what is wanted.
func numberOf(kind protoreflect.Kind, s string) (v protoreflect.Value, err error) {
	switch kind {
	case protoreflect.DoubleKind:
		f, ok := floatOf(s)
		if !ok {
			return v, errors.New("a number")
		}
		return protoreflect.ValueOfFloat64(f), nil
	case protoreflect.FloatKind:
		f, ok := floatOf(s)
		if !ok || !math.IsInf(f, 0) && math.IsInf(float64(float32(f)), 0) {
			return v, errors.New("a number of 32 bits")
		}
		return protoreflect.ValueOfFloat32(float32(f)), nil
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		i, ok := intOf(s)
		if !ok || i != int64(int32(i)) {
			return v, fmt.Errorf("a whole number from %d to %d", math.MinInt32, math.MaxInt32)
		}
		return protoreflect.ValueOfInt32(int32(i)), nil
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		i, ok := intOf(s)
		if !ok {
			return v, errors.New("a whole number")
		}
		return protoreflect.ValueOfInt64(i), nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		u, ok := uintOf(s)
		if !ok || u > math.MaxUint32 {
			return v, fmt.Errorf("a whole number from 0 to %d", uint32(math.MaxUint32))
		}
		return protoreflect.ValueOfUint32(uint32(u)), nil
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		u, ok := uintOf(s)
		if !ok {
			return v, errors.New("a whole number from 0")
		}
		return protoreflect.ValueOfUint64(u), nil
	}
	panic("document: no number: " + kind.String())
}

// exact is up to where C++ takes a floating number for a whole one: all below are different.
const exact = 1 << 53

// intOf reads a whole number, which may be written with a point or an exponent.
func intOf(s string) (int64, bool) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, true
	}
	f, ok := floatOf(s)
	if !ok || spaced(s) || f != math.Trunc(f) || f < -exact || f > exact {
		return 0, false
	}
	return int64(f), true
}

func uintOf(s string) (uint64, bool) {
	if u, err := strconv.ParseUint(strings.TrimPrefix(s, "+"), 10, 64); err == nil && !strings.HasPrefix(s, "++") {
		return u, true
	}
	f, ok := floatOf(s)
	if !ok || spaced(s) || f != math.Trunc(f) || f < 0 || f > 2*exact {
		return 0, false
	}
	return uint64(f), true
}

const spaces = " \t\n\v\f\r"

func spaced(s string) bool { return strings.ContainsAny(s, spaces) }

// floatOf reads a floating number as abseil does: spaces around it, also of base 16, infinite if it is too large.
func floatOf(s string) (float64, bool) {
	s = strings.Trim(s, spaces)
	sign, digits := "", s
	if s != "" && (s[0] == '+' || s[0] == '-') {
		sign, digits = s[:1], s[1:]
	}
	switch lower := strings.ToLower(digits); {
	case strings.Contains(digits, "_") || strings.HasPrefix(digits, "+") || strings.HasPrefix(digits, "-"):
		return 0, false
	case lower == "nan" || lower == "inf" || lower == "infinity":
	case strings.HasPrefix(lower, "0x") && !strings.Contains(lower, "p"):
		digits += "p0" // Go wants to see it
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	if sign == "-" {
		f = -f
	}
	return f, true
}

// mostNames is how many values of an enumeration a message names.
const mostNames = 24

// enum reads a value of an enumeration: its name in any case, or its number.
func (r *reader) enum(d protoreflect.EnumDescriptor, n *yaml.Node, at *field.Path) (protoreflect.Value, bool) {
	switch k := kindOf(n); k {
	case text:
		s := textOf(n)
		if v := d.Values().ByName(protoreflect.Name(s)); v != nil {
			return protoreflect.ValueOfEnum(v.Number()), true
		}
		for i := range d.Values().Len() {
			if v := d.Values().Get(i); strings.EqualFold(string(v.Name()), s) {
				return protoreflect.ValueOfEnum(v.Number()), true
			}
		}
		if i, err := strconv.ParseInt(strings.Trim(s, spaces), 10, 32); err == nil {
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(i)), true
		}
	case number:
		if i, ok := intOf(textOf(n)); ok && i == int64(int32(i)) {
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(i)), true
		}
	}
	var names []string
	for i := range d.Values().Len() {
		names = append(names, string(d.Values().Get(i).Name()))
	}
	near := field.Suggest(n.Value, names)
	if len(names) > mostNames {
		names = append(names[:mostNames], "...")
	}
	r.fail(at, n, "found %s, want one of %s%s", r.show(n), strings.Join(names, ", "), near)
	return protoreflect.Value{}, false
}

// maxSeconds is what a duration may be long: ten thousand years.
const maxSeconds = 3652500 * 86400

// durationOf reads 1.5s: whole seconds, up to nine digits behind a point, and the letter.
func durationOf(s string) (seconds int64, nanos int32, ok bool) {
	s, unit := strings.CutSuffix(s, "s")
	whole, fraction, point := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if !unit || err != nil || whole[0] == '+' || seconds > maxSeconds || seconds < -maxSeconds || len(fraction) > 9 || point && fraction == "" {
		return 0, 0, false
	}
	if point {
		n, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
		if err != nil {
			return 0, 0, false
		}
		if nanos = int32(n); whole[0] == '-' {
			nanos = -nanos
		}
	}
	return seconds, nanos, true
}

// unitOf is the hint for who writes a duration in another way.
func unitOf(s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return ""
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil {
		return ""
	}
	return fmt.Sprintf("; did you mean %ss?", strconv.FormatFloat(d.Seconds(), 'f', -1, 64))
}

// maxShown is how much of a text a message shows.
const maxShown = 80

// show names what stands at n.
func (r *reader) show(n *yaml.Node) string {
	switch kindOf(n) {
	case null:
		return "nothing"
	case list:
		return "a list"
	case object:
		return "fields"
	case yesNo:
		if v, _ := yes(n.Value); n.Value != strconv.FormatBool(v) {
			return fmt.Sprintf("%s, which YAML takes for %v", n.Value, v)
		}
		return n.Value
	case number:
		return n.Value
	}
	s := n.Value
	if len(s) > maxShown {
		return fmt.Sprintf("%q...", strings.ToValidUTF8(s[:maxShown], ""))
	}
	return strconv.Quote(s)
}
