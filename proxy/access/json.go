package access

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// An object is a compiled JSON format: keys in order with what to write for them.
type object struct {
	fields []field
	array  bool
	omit   bool // leave out what has no value
}

type field struct {
	key   []byte // quoted, with the colon; empty in arrays
	fixed []byte // a constant, already JSON
	sub   *object
	parts []part // text with operators; one operator alone keeps its type
	blank bool   // inside of text, what is missing is nothing instead of "-"
}

// CompileJSON compiles a JSON format: values are formats (strings), objects
// (map[string]any), lists ([]any), numbers (float64), booleans and nil. Keys are written in
// the order of the alphabet, as Envoy does. A value that is one operator alone is
// written as a number if it is one, and null if it has no value.
func CompileJSON(format map[string]any, o Options) (*Format, error) {
	obj, err := compileObject(format, "", o)
	if err != nil {
		return nil, err
	}
	return &Format{json: obj, blank: o.OmitEmpty}, nil
}

func compileObject(m map[string]any, at string, o Options) (*object, error) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	obj := &object{omit: o.OmitEmpty}
	for _, k := range keys {
		f, err := compileField(m[k], at+"."+k, o)
		if err != nil {
			return nil, err
		}
		f.key = append(appendQuoted(nil, []byte(k)), ':')
		obj.fields = append(obj.fields, f)
	}
	return obj, nil
}

func compileField(v any, at string, o Options) (f field, err error) {
	switch v := v.(type) {
	case string:
		f.blank = o.OmitEmpty
		if f.parts, err = parse(v, o.Expressions); err != nil {
			return f, fmt.Errorf("json_format%s: %w", at, err)
		}
		if len(f.parts) == 0 {
			f.fixed = []byte(`""`)
		}
	case map[string]any:
		f.sub, err = compileObject(v, at, o)
	case []any:
		f.sub = &object{array: true}
		for i, e := range v {
			sub, err := compileField(e, at+"["+strconv.Itoa(i)+"]", o)
			if err != nil {
				return f, err
			}
			f.sub.fields = append(f.sub.fields, sub)
		}
	case float64:
		f.fixed = appendNumber(nil, v)
	case bool:
		f.fixed = strconv.AppendBool(nil, v)
	case nil:
		f.fixed = []byte("null")
	default:
		err = fmt.Errorf("json_format%s: a value of type %T, want a string, object, list, number or boolean", at, v)
	}
	return f, err
}

func (obj *object) append(dst []byte, r *Record) []byte {
	open, end := byte('{'), byte('}')
	if obj.array {
		open, end = '[', ']'
	}
	dst = append(dst, open)
	first := true
	for i := range obj.fields {
		n := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		f := &obj.fields[i]
		dst = append(dst, f.key...)
		var ok bool
		if dst, ok = f.append(dst, r); !ok && obj.omit {
			dst = dst[:n]
			continue
		}
		first = false
	}
	return append(dst, end)
}

// append writes the value and reports whether it is more than null.
func (f *field) append(dst []byte, r *Record) ([]byte, bool) {
	switch {
	case f.fixed != nil:
		return append(dst, f.fixed...), true
	case f.sub != nil:
		return f.sub.append(dst, r), true
	case len(f.parts) == 1 && f.parts[0].op != nil:
		return f.typed(dst, r)
	}
	dst = append(dst, '"')
	n := len(dst)
	for i := range f.parts {
		p := &f.parts[i]
		if p.op == nil {
			dst = append(dst, p.text...)
			continue
		}
		m := len(dst)
		var ok bool
		if dst, ok = p.op.append(dst, r); !ok && !f.blank {
			dst = append(dst[:m], '-')
		}
	}
	return append(escapeFrom(dst, n), '"'), true
}

// typed writes an operator that stands alone.
func (f *field) typed(dst []byte, r *Record) ([]byte, bool) {
	o, n := f.parts[0].op, len(dst)
	if o.typed != nil {
		var ok bool
		if dst, ok = o.typed(o, dst, r); !ok {
			dst = append(dst[:n], "null"...)
		}
		return dst, ok
	}
	if !o.number {
		dst = append(dst, '"')
	}
	m := len(dst)
	dst, ok := o.append(dst, r)
	if !ok || o.number && len(dst) == n {
		return append(dst[:n], "null"...), false
	}
	if o.number {
		return dst, true
	}
	return append(escapeFrom(dst, m), '"'), true
}

func appendQuoted(dst, s []byte) []byte {
	dst = append(dst, '"')
	n := len(dst)
	dst = append(dst, s...)
	return append(escapeFrom(dst, n), '"')
}

// escapeFrom escapes dst[n:] in place as the inside of a JSON string. In a text that is not
// UTF-8 every byte beyond ASCII is written \u00XX, as Envoy does: what we write is always JSON,
// and the bytes can be told.
func escapeFrom(dst []byte, n int) []byte {
	i := n
	for i < len(dst) && dst[i] >= 0x20 && dst[i] < 0x7f && dst[i] != '"' && dst[i] != '\\' {
		i++
	}
	if i == len(dst) {
		return dst
	}
	// What follows is rare: the rest is copied aside, then written again.
	rest := slices.Clone(dst[i:])
	foreign := !utf8.Valid(rest)
	dst = dst[:i]
	for len(rest) > 0 {
		c, size := utf8.DecodeRune(rest)
		if foreign {
			c, size = rune(rest[0]), 1
		}
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', byte(c))
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c < 0x20 || c == 0x7f || foreign && c > 0x7f:
			const hex = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, rest[:size]...)
		}
		rest = rest[size:]
	}
	return dst
}
