package cel

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/mallamesh/malla/proxy/metadata"
)

// AppendText appends the value of the expression as Envoy writes it, and reports whether there is one.
func (e *Expression) AppendText(dst []byte, l Lookup) ([]byte, bool) {
	v, ok := e.eval(l)
	if !ok {
		return dst, false
	}
	return appendText(dst, v), true
}

func appendText(dst []byte, v ref.Val) []byte {
	switch v := v.(type) {
	case types.Bool:
		return strconv.AppendBool(dst, bool(v))
	case types.Int:
		return strconv.AppendInt(dst, int64(v), 10)
	case types.Uint:
		return strconv.AppendUint(dst, uint64(v), 10)
	case types.Double:
		return appendDouble(dst, float64(v), 6)
	case types.String:
		return append(dst, v...)
	case types.Bytes:
		return append(dst, v...)
	case types.Null:
		return append(dst, "NULL"...)
	case types.Duration:
		return appendDuration(dst, v.Duration)
	case types.Timestamp:
		return append(v.UTC().AppendFormat(dst, "2006-01-02T15:04:05.999999999"), "+00:00"...)
	case Message:
		return v.appendText(dst)
	case interface{ AppendText([]byte) []byte }: // of package typed
		return v.AppendText(dst)
	case traits.Lister:
		return append(dst, "CelList value"...)
	case traits.Mapper:
		return append(dst, "CelMap value"...)
	}
	return append(dst, "CelType value"...)
}

// appendDouble appends a number with so many digits, as C's %g does.
func appendDouble(dst []byte, f float64, digits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "nan"...)
	case math.IsInf(f, 0):
		return append(dst, strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(f, 'g', -1, 64), "+"))...)
	}
	return fmt.Appendf(dst, "%.*g", digits, f)
}

// appendDuration appends a span as 1h2m3.5s, with units that are not 0; below a second in the largest that fits.
func appendDuration(dst []byte, d time.Duration) []byte {
	if d == 0 {
		return append(dst, '0')
	}
	n := uint64(d)
	if d < 0 {
		dst, n = append(dst, '-'), -n
	}
	unit := func(n, one uint64, name string) {
		dst = strconv.AppendUint(dst, n/one, 10)
		if rest := n % one; rest != 0 {
			digits := len(strconv.FormatUint(one, 10)) - 1
			dst = append(append(dst, '.'), strings.TrimRight(fmt.Sprintf("%0*d", digits, rest), "0")...)
		}
		dst = append(dst, name...)
	}
	switch {
	case n < 1e3:
		unit(n, 1, "ns")
		return dst
	case n < 1e6:
		unit(n, 1e3, "us")
		return dst
	case n < 1e9:
		unit(n, 1e6, "ms")
		return dst
	}
	hours, minutes, seconds := n/3600e9, n/60e9%60, n%60e9
	if hours > 0 {
		unit(hours, 1, "h")
	}
	if minutes > 0 {
		unit(minutes, 1, "m")
	}
	if seconds > 0 {
		unit(seconds, 1e9, "s")
	}
	return dst
}

// appendText appends the message as protobuf's text in one line.
func (m Message) appendText(dst []byte) []byte {
	for i := range m {
		f := &m[i]
		switch v := f.Value.(type) {
		case string:
			if v != "" {
				dst = AppendQuoted(append(append(dst, f.Name...), ": "...), v)
			}
		case Message:
			if v != nil {
				dst = append(v.appendText(append(append(dst, f.Name...), " { "...)), "} "...)
			}
		case metadata.Struct:
			if len(v) > 0 {
				dst = append(appendStruct(append(append(dst, f.Name...), " { "...), v), "} "...)
			}
		case Messages:
			dst = appendMessages(dst, f.Name, v)
		case Spaces:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				dst = AppendQuoted(append(append(dst, f.Name...), " { key: "...), key)
				dst = append(appendStruct(append(dst, "value { "...), v[key]), "} } "...)
			}
		}
	}
	return dst
}

func appendStruct(dst []byte, fields metadata.Struct) []byte {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		dst = append(AppendQuoted(append(dst, "fields { key: "...), key), "value { "...)
		dst = append(appendValue(dst, fields[key]), "} } "...)
	}
	return dst
}

func appendValue(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null_value: NULL_VALUE "...)
	case bool:
		return append(strconv.AppendBool(append(dst, "bool_value: "...), v), ' ')
	case float64:
		return append(AppendNumber(append(dst, "number_value: "...), v), ' ')
	case string:
		return AppendQuoted(append(dst, "string_value: "...), v)
	case []any:
		dst = append(dst, "list_value { "...)
		for _, item := range v {
			dst = append(appendValue(append(dst, "values { "...), item), "} "...)
		}
		return append(dst, "} "...)
	case metadata.Struct:
		return append(appendStruct(append(dst, "struct_value { "...), v), "} "...)
	}
	panic(fmt.Sprintf("cel: a value of metadata is a %T", v))
}

// AppendNumber appends a number with as many digits as it takes.
func AppendNumber(dst []byte, v float64) []byte {
	short := appendDouble(nil, v, 15)
	if f, err := strconv.ParseFloat(string(short), 64); err != nil || f != v {
		short = appendDouble(nil, v, 17)
	}
	return append(dst, short...)
}

// AppendQuoted appends a text in quotes and a space, with what is no printable ASCII escaped as C does.
func AppendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c == '"' || c == '\'' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20 || c >= 0x7f:
			dst = fmt.Appendf(dst, `\%03o`, c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"', ' ')
}

// JSON returns the value of the expression as JSON has it (nil, bool, float64, string, []any or map[string]any), and whether
// there is one that it can have.
func (e *Expression) JSON(l Lookup) (any, bool) {
	v, ok := e.eval(l)
	if !ok {
		return nil, false
	}
	return plain(v)
}

func plain(v ref.Val) (any, bool) {
	switch v := v.(type) {
	case types.Bool:
		return bool(v), true
	case types.Int:
		return float64(v), true
	case types.Uint:
		return float64(v), true
	case types.Double:
		return float64(v), true
	case types.String:
		return string(v), true
	case types.Bytes:
		return base64.StdEncoding.EncodeToString(v), true
	case types.Null:
		return nil, true
	case types.Duration:
		return jsonDuration(v.Duration), true
	case types.Timestamp:
		return v.UTC().Format("2006-01-02T15:04:05") + fraction(v.Nanosecond()) + "Z", true
	case Message:
		return v.plain(), true
	case Object:
		return nil, false // Envoy knows no end of it
	case traits.Lister:
		out := []any{}
		for i := types.Int(0); i < v.Size().(types.Int); i++ {
			item, ok := plain(v.Get(i))
			if !ok {
				return nil, false
			}
			out = append(out, item)
		}
		return out, true
	case traits.Mapper:
		return plainMap(v)
	}
	return nil, false
}

func plainMap(m traits.Mapper) (any, bool) {
	out := metadata.Struct{}
	for i := m.Iterator(); i.HasNext() == types.True; {
		key := i.Next()
		var name string
		switch k := key.(type) {
		case types.String:
			name = string(k)
		case types.Int, types.Uint:
			name = string(appendText(nil, k))
		default:
			return nil, false
		}
		v, ok := plain(m.Get(key))
		if !ok {
			return nil, false
		}
		out[name] = v
	}
	return out, true
}

func (m Message) plain() any {
	out := metadata.Struct{}
	for i := range m {
		f := &m[i]
		if f.empty() {
			continue
		}
		switch v := f.Value.(type) {
		case Message:
			out[f.Name] = v.plain()
		case Spaces:
			all := metadata.Struct{}
			for key, fields := range v {
				all[key] = metadata.Updated(nil, fields) // which is never nil
			}
			out[f.Name] = all
		default:
			out[f.Name] = v
		}
	}
	return out
}

// fraction is the part of a second as protobuf's JSON has it: in 3, 6 or 9 digits, or none.
func fraction(nanoseconds int) string {
	switch {
	case nanoseconds == 0:
		return ""
	case nanoseconds%1e6 == 0:
		return fmt.Sprintf(".%03d", nanoseconds/1e6)
	case nanoseconds%1e3 == 0:
		return fmt.Sprintf(".%06d", nanoseconds/1e3)
	}
	return fmt.Sprintf(".%09d", nanoseconds)
}

func jsonDuration(d time.Duration) string {
	sign, n := "", uint64(d)
	if d < 0 {
		sign, n = "-", -n
	}
	return sign + strconv.FormatUint(n/1e9, 10) + fraction(int(n%1e9)) + "s"
}

// appendMessages appends messages by name as protobuf's text in one line: what they hold stands there as bytes.
func appendMessages(dst []byte, name string, all map[string]*metadata.Message) []byte {
	for _, key := range slices.Sorted(maps.Keys(all)) {
		dst = AppendQuoted(append(append(dst, name...), " { key: "...), key)
		dst = AppendQuoted(append(dst, "value { type_url: "...), all[key].Type)
		if len(all[key].Wire) > 0 {
			dst = AppendQuoted(append(dst, "value: "...), string(all[key].Wire))
		}
		dst = append(dst, "} } "...)
	}
	return dst
}
