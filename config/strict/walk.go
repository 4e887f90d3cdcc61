package strict

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/kind"
)

// A Notice says that something is accepted without effect.
type Notice struct {
	At  *field.Path // nil: the whole object
	Why string
	Pos string

	// Code is set for what has an effect, but perhaps not the one that its author wants: it is what programs know the warning by.
	Code string
}

// String returns "spec.template.spec.affinity: has no effect: there is one machine".
func (n Notice) String() string {
	s := "has no effect: " + n.Why
	if n.Code != "" {
		s = n.Why + " (" + n.Code + ")"
	}
	if at := n.At.String(); at != "" {
		s = at + ": " + s
	}
	return s
}

// A Checker gathers what comparisons find. The zero Checker is ready.
type Checker struct {
	Errs    field.List
	Notices []Notice
	bad     map[string]bool // paths that were left out of the copy, or left empty in it
}

// Value compares v with the plan. It returns a copy without what was wrong below
// v, and false if v itself was. The path is where v stands.
func (c *Checker) Value(v any, p *Plan, at *field.Path) (any, bool) {
	return c.value(v, p.schema, p.tree, at)
}

// Bad reports whether what stands at the path was found wrong.
func (c *Checker) Bad(at *field.Path) bool { return c.bad[at.String()] }

// Unknown adds the error for a field that is none of the known ones.
func (c *Checker) Unknown(at *field.Path, name string, known []string) {
	c.fail(at.Child(name), "unknown field%s", suggestField(name, known))
}

func (c *Checker) fail(at *field.Path, format string, args ...any) (any, bool) {
	c.Errs.Addf(at, format, args...)
	c.markBad(at)
	return nil, false
}

func (c *Checker) markBad(at *field.Path) {
	if c.bad == nil {
		c.bad = map[string]bool{}
	}
	c.bad[at.String()] = true
}

// value checks v and returns its copy, and whether it is right so far.
func (c *Checker) value(v any, s *schema, t *tree, at *field.Path) (any, bool) {
	if v == nil {
		return nil, true // as if it were not written
	}
	if t != nil && len(t.rows) > 0 && !empty(v) {
		for _, row := range t.rows {
			if !row.Concerns(fmt.Sprint(v)) {
				continue
			}
			if row.Class == kind.Refused {
				return c.fail(at, "%s%s", found(v, row), row.Why)
			}
			c.Notices = append(c.Notices, Notice{At: at, Why: row.Why})
			t = nil // what is below has no effect either; its form is still checked
			break
		}
	}
	switch s.shape {
	case anything:
		return v, true
	case object:
		return c.object(v, s, t, at)
	case list:
		return c.list(v, s, t, at)
	case mapping:
		return c.mapping(v, s, t, at)
	case boolean:
		if _, ok := v.(bool); !ok {
			return c.fail(at, "found %s, want true or false", Show(v))
		}
	case text:
		if _, ok := v.(string); !ok {
			return c.fail(at, "found %s, want a text%s", Show(v), quoted(v))
		}
	case integer:
		return c.integer(v, s, at)
	case number:
		if _, ok := asNumber(v); !ok {
			return c.fail(at, "found %s, want a number%s", Show(v), unquoted(v))
		}
	case intOrText:
		n, ok := asNumber(v)
		if _, isText := v.(string); !isText && (!ok || n != math.Trunc(n) || math.Abs(n) > 1<<31) {
			return c.fail(at, "found %s, want a whole number or a text", Show(v))
		}
	default:
		return c.formatted(v, s, at)
	}
	return v, true
}

// found says which value of a field is refused, where only some are.
func found(v any, row *kind.Field) string {
	if len(row.Values) == 0 {
		return ""
	}
	return Show(v) + ": "
}

// formatted checks texts that have a form of their own.
func (c *Checker) formatted(v any, s *schema, at *field.Path) (any, bool) {
	str, isText := v.(string)
	if s.shape == quantity {
		if n, ok := asNumber(v); ok {
			str, isText = strconv.FormatFloat(n, 'f', -1, 64), true
		}
		if _, err := resource.ParseQuantity(str); !isText || err != nil {
			return c.fail(at, "found %s, want a quantity such as 500m, 64Mi or 2", Show(v))
		}
		return v, true
	}
	if !isText {
		want := map[shape]string{duration: "a duration such as 5s", timestamp: "a time", base64Text: "a text in base64", enum: "one of " + strings.Join(s.values, ", ")}[s.shape]
		return c.fail(at, "found %s, want %s", Show(v), want)
	}
	switch s.shape {
	case duration:
		if _, err := time.ParseDuration(str); err != nil {
			return c.fail(at, "found %q, want a duration such as 500ms, 5s or 1m30s", str)
		}
	case timestamp:
		if _, err := time.Parse(time.RFC3339, str); err != nil {
			return c.fail(at, "found %q, want a time such as 2006-01-02T15:04:05Z", str)
		}
	case base64Text:
		if _, err := base64.StdEncoding.DecodeString(str); err != nil {
			return c.fail(at, "not base64: %v", err)
		}
	case enum:
		if !slices.Contains(s.values, str) {
			return c.fail(at, "found %q, want one of %s%s", str, strings.Join(s.values, ", "), field.Suggest(str, s.values))
		}
	}
	return v, true
}

func (c *Checker) integer(v any, s *schema, at *field.Path) (any, bool) {
	n, ok := asNumber(v)
	whole, exact := v.(int64)
	rounded := s.max > 1<<53 && !exact // up, to what does not fit any more
	switch {
	case !ok:
		return c.fail(at, "found %s, want a whole number%s", Show(v), unquoted(v))
	case n != math.Trunc(n):
		return c.fail(at, "found %s, want a whole number", Show(v))
	case n < s.min || n > s.max || rounded && n == s.max:
		return c.fail(at, "found %s, want a whole number from %.0f to %.0f", Show(v), s.min, s.max)
	case exact:
		return whole, true
	case n >= 1<<63:
		return v, true // of an unsigned field
	}
	return int64(n), true
}

func (c *Checker) object(v any, s *schema, t *tree, at *field.Path) (any, bool) {
	m, ok := v.(map[string]any)
	if !ok {
		return c.fail(at, "found %s, want an object with fields such as %s", Show(v), strings.Join(first(s.names(), 3), ", "))
	}
	out := make(map[string]any, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		sub, known := s.fields[name]
		if !known {
			c.Unknown(at, name, s.names())
			continue
		}
		if value, ok := c.value(m[name], sub, t.child(name), at.Child(name)); ok {
			out[name] = value
		}
	}
	for _, names := range s.oneofs {
		var set []string
		for _, n := range names {
			if out[n] != nil {
				set = append(set, n)
			}
		}
		if len(set) > 1 {
			slices.Sort(set)
			c.fail(at, "%s exclude each other; keep one", strings.Join(set, " and "))
			for _, n := range set[1:] {
				delete(out, n)
			}
		}
	}
	if len(out) == 0 && len(m) > 0 {
		c.markBad(at) // all that it says was wrong: that it says nothing is no second error
	}
	return out, true
}

func (c *Checker) list(v any, s *schema, t *tree, at *field.Path) (any, bool) {
	l, ok := v.([]any)
	if !ok {
		return c.fail(at, "found %s, want a list", Show(v))
	}
	out := make([]any, 0, len(l))
	for i, e := range l {
		if e == nil {
			c.fail(at.Index(i), "found nothing, want a value")
			continue
		}
		// A bad element keeps its place, so that the paths of the others stay right.
		value, ok := c.value(e, s.elem, t.child("[]"), at.Index(i))
		if !ok {
			value = zero(s.elem)
		}
		out = append(out, value)
	}
	return out, true
}

func (c *Checker) mapping(v any, s *schema, t *tree, at *field.Path) (any, bool) {
	m, ok := v.(map[string]any)
	if !ok {
		return c.fail(at, "found %s, want names with values", Show(v))
	}
	out := make(map[string]any, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if _, err := strconv.ParseUint(name, 10, 32); s.numbers && err != nil {
			c.fail(at.Child(name), "found the name %q, want a number", name)
			continue
		}
		if m[name] == nil {
			if s.elem.shape == object {
				out[name] = map[string]any{} // Istio: a header match without a value asks for presence
				continue
			}
			if s.elem.shape == text {
				out[name] = ""
			}
			continue
		}
		if value, ok := c.value(m[name], s.elem, t.child("{}"), at.Child(name)); ok {
			out[name] = value
		}
	}
	return out, true
}

// zero returns a value that converts to the schema's type.
func zero(s *schema) any {
	switch s.shape {
	case object, mapping:
		return map[string]any{}
	case list:
		return []any{}
	case boolean:
		return false
	case integer, number, intOrText:
		return int64(0)
	case quantity:
		return "0"
	case duration:
		return "0s"
	case timestamp:
		return nil
	case enum:
		return s.values[0]
	default:
		return ""
	}
}

// empty reports whether v says nothing.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case int64:
		return v == 0
	case float64:
		return v == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func asNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	case int:
		return float64(v), true
	}
	return 0, false
}
