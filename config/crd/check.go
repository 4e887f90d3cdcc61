package crd

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/strict"
)

// Check returns what the definition refuses in an object, whose defaults are filled in.
func (d *Definition) Check(object map[string]any) field.List {
	var errs field.List
	at := field.At("spec")
	if object["spec"] == nil {
		errs.Addf(at, "missing")
		return errs
	}
	d.Spec.check(&errs, object["spec"], at)
	return errs
}

func (s *Schema) check(errs *field.List, v any, at *field.Path) {
	before := len(*errs)
	switch v := v.(type) {
	case map[string]any:
		s.checkObject(errs, v, at)
	case []any:
		s.checkList(errs, v, at)
	case string:
		s.checkText(errs, v, at)
	case int64:
		s.checkNumber(errs, float64(v), at)
	case float64:
		s.checkNumber(errs, v, at)
	}
	if len(*errs) > before {
		return // a rule about what is wrong in itself would say it twice
	}
	for _, message := range s.Rules {
		if holds := rules[message]; !holds(v) {
			errs.Addf(at, "%s%s", found(v), message)
		}
	}
}

// found begins the message of a rule about a single value.
func found(v any) string {
	switch v.(type) {
	case map[string]any, []any:
		return ""
	}
	return "found " + strict.Show(v) + ": "
}

func (s *Schema) checkObject(errs *field.List, v map[string]any, at *field.Path) {
	for _, name := range s.Required {
		if v[name] == nil {
			errs.Addf(at.Child(name), "missing")
		}
	}
	if s.MaxProps != nil && len(v) > *s.MaxProps {
		errs.Addf(at, "found %d entries, want at most %d", len(v), *s.MaxProps)
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if p := s.Properties[name]; p != nil {
			p.check(errs, v[name], at.Child(name))
		} else if s.Additional != nil {
			s.Additional.check(errs, v[name], at.Child(name))
		}
	}
}

func (s *Schema) checkList(errs *field.List, v []any, at *field.Path) {
	if len(v) < s.MinItems {
		errs.Addf(at, "found %d elements, want at least %d", len(v), s.MinItems)
	}
	if s.MaxItems != nil && len(v) > *s.MaxItems {
		errs.Addf(at, "found %d elements, want at most %d", len(v), *s.MaxItems)
	}
	seen := map[string]int{}
	for i, e := range v {
		if s.Items != nil {
			s.Items.check(errs, e, at.Index(i))
		}
		key := s.keyOf(e)
		if key == "" {
			continue
		}
		if first, twice := seen[key]; twice {
			errs.Addf(at.Index(i), "found the same %s as in %s", s.what(), at.Index(first))
			continue
		}
		seen[key] = i
	}
}

// keyOf is what tells the elements of a list apart, "" if nothing has to.
func (s *Schema) keyOf(e any) string {
	switch s.ListType {
	case "set":
		return fmt.Sprintf("%T %v", e, e)
	case "map":
		m, _ := e.(map[string]any)
		parts := make([]string, len(s.ListKeys))
		for i, k := range s.ListKeys {
			parts[i] = strict.Show(m[k])
		}
		return strings.Join(parts, " ")
	}
	return ""
}

func (s *Schema) what() string {
	if s.ListType == "map" {
		return strings.Join(s.ListKeys, " and ")
	}
	return "value"
}

func (s *Schema) checkText(errs *field.List, v string, at *field.Path) {
	n := utf8.RuneCountInString(v)
	switch {
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, any(v)):
		errs.Addf(at, "found %q, want one of %s%s", v, strings.Join(s.words(), ", "), field.Suggest(v, s.words()))
	case n < s.MinLength && n == 0:
		errs.Addf(at, "empty; want a text")
	case n < s.MinLength:
		errs.Addf(at, "found %q, want at least %d characters", v, s.MinLength)
	case s.MaxLength != nil && n > *s.MaxLength:
		errs.Addf(at, "found %d characters, want at most %d", n, *s.MaxLength)
	case s.pattern != nil && !s.pattern.MatchString(v):
		errs.Addf(at, "found %q, want what matches %s", v, s.Pattern)
	}
}

// words are the values of an enumeration. Empty text among them stands for none.
func (s *Schema) words() []string {
	var out []string
	for _, v := range s.Enum {
		if v != "" {
			out = append(out, fmt.Sprint(v))
		}
	}
	return out
}

func (s *Schema) checkNumber(errs *field.List, v float64, at *field.Path) {
	low, high := math.Inf(-1), math.Inf(1)
	if s.Minimum != nil {
		low = *s.Minimum
	}
	if s.Maximum != nil {
		high = *s.Maximum
	}
	switch {
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, any(v)):
		errs.Addf(at, "found %v, want one of %s", v, strings.Join(s.words(), ", "))
	case v >= low && v <= high:
	case math.IsInf(high, 1):
		errs.Addf(at, "found %v, want at least %v", v, low)
	default:
		errs.Addf(at, "found %v, want a number from %v to %v", v, low, high)
	}
}
