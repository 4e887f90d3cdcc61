package crd

import (
	"fmt"
	"slices"
	"strings"
)

// The forms that rules have, and how they read values.

func at(v any, name string) any {
	m, _ := v.(map[string]any)
	return m[name]
}

func there(v any, name string) bool { return at(v, name) != nil }

// has is for fields whose empty value is as none.
func has(v any, name string) bool {
	switch x := at(v, name).(type) {
	case nil:
		return false
	case string:
		return x != ""
	case []any:
		return len(x) > 0
	case map[string]any:
		return len(x) > 0
	}
	return true
}

func str(v any) string {
	s, _ := v.(string)
	return s
}

func text(v any, name string) string { return str(at(v, name)) }

func number(v any, name string) int64 {
	n, _ := at(v, name).(int64)
	return n
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func in(s string, all ...string) bool { return slices.Contains(all, s) }

func holds(any) bool { return true }

// needs: if the discriminator has the value, the field is there.
func needs(discriminator, value, field string) rule {
	return func(v any) bool { return text(v, discriminator) != value || there(v, field) }
}

// only: the field is there only if the discriminator has the value.
func only(discriminator, value, field string) rule {
	return func(v any) bool { return !there(v, field) || text(v, discriminator) == value }
}

// each: it holds for every element of a list.
func each(of func(any) bool) rule {
	return func(v any) bool { return !slices.ContainsFunc(list(v), func(e any) bool { return !of(e) }) }
}

// keys: it holds for every name of a map.
func keys(of func(string) bool) rule {
	return func(v any) bool {
		m, _ := v.(map[string]any)
		for k := range m {
			if !of(k) {
				return false
			}
		}
		return true
	}
}

func shortPrefix(key string) bool {
	prefix, _, _ := strings.Cut(key, "/")
	return len(prefix) < 253
}

// tuple is the values of some fields; none is as empty and as 0.
func tuple(v any, names ...string) string {
	parts := make([]string, len(names))
	for i, n := range names {
		if x := at(v, n); x != nil && x != int64(0) {
			parts[i] = fmt.Sprint(x)
		}
	}
	return strings.Join(parts, "\x00")
}

// distinct: no two elements of a list are equal in all of the fields.
func distinct(names ...string) rule {
	return func(v any) bool {
		seen := map[string]bool{}
		for _, e := range list(v) {
			k := tuple(e, names...)
			if seen[k] {
				return false
			}
			seen[k] = true
		}
		return true
	}
}

func distinctNamed(v any) bool {
	return distinct("name")(slices.DeleteFunc(slices.Clone(list(v)), func(e any) bool { return !there(e, "name") }))
}

func distinctAddresses(kind string) rule {
	return func(v any) bool {
		return distinct("value")(slices.DeleteFunc(slices.Clone(list(v)), func(e any) bool { return text(e, "type") != kind || !there(e, "value") }))
	}
}

var (
	sameTarget = []string{"group", "kind", "name"}
	sameParent = []string{"group", "kind", "namespace", "name"}
)

// allOrNone: of references to the same object either all have the field or none.
func allOrNone(same []string, field string) rule {
	return func(v any) bool {
		with := map[string]bool{}
		for _, e := range list(v) {
			k := tuple(e, same...)
			given := tuple(e, field) != ""
			if before, ok := with[k]; ok && before != given {
				return false
			}
			with[k] = given
		}
		return true
	}
}

func count(v any, kind string) int {
	n := 0
	for _, f := range list(v) {
		if text(f, "type") == kind {
			n++
		}
	}
	return n
}

// once: a list of filters has at most one of the type.
func once(kind string) rule { return func(v any) bool { return count(v, kind) <= 1 } }

func starAlone(v any) bool { return len(list(v)) < 2 || !slices.Contains(list(v), any("*")) }

// path: it holds for the value of a match by an exact path or a prefix.
func path(of func(string) bool) rule {
	return func(v any) bool { return !in(text(v, "type"), "Exact", "PathPrefix") || of(text(v, "value")) }
}

func without(s string) func(string) bool {
	return func(v string) bool { return !strings.Contains(v, s) }
}

// prefixMatch: a rule whose filter, or whose backend's, replaces the prefix that
// matched, has exactly one match, and it is one of a prefix.
func prefixMatch(backends bool, filter string) rule {
	replaces := func(v any) bool { // exactly one does
		n := 0
		for _, f := range list(at(v, "filters")) {
			if p := at(at(f, filter), "path"); text(p, "type") == "ReplacePrefixMatch" && there(p, "replacePrefixMatch") {
				n++
			}
		}
		return n == 1
	}
	return func(v any) bool {
		if backends {
			n := 0
			for _, b := range list(at(v, "backendRefs")) {
				if replaces(b) {
					n++
				}
			}
			if n != 1 {
				return true
			}
		} else if !replaces(v) {
			return true
		}
		matches := list(at(v, "matches"))
		return len(matches) == 1 && text(at(matches[0], "path"), "type") == "PathPrefix"
	}
}
