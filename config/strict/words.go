package strict

import (
	"fmt"
	"strings"

	"github.com/mallamesh/malla/base/field"
)

// Show names a value in a message.
func Show(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		if len(v) > 60 {
			v = v[:60] + "..."
		}
		return fmt.Sprintf("%q", v)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		return fmt.Sprint(v)
	}
}

// quoted is the hint for a number or boolean in place of a text.
func quoted(v any) string {
	switch v.(type) {
	case []any, map[string]any:
		return ""
	case bool: // YAML 1.1 has many words for them
		words := "no, n and off"
		if v == true {
			words = "yes, y and on"
		}
		return fmt.Sprintf("; without quotes %s are %v too: put in quotes what stands there", words, v)
	case float64: // 1.20 was read as 1.2: the author knows better what was written
		return "; put it in quotes, as it was written"
	}
	return fmt.Sprintf("; put it in quotes: \"%v\"", v)
}

// unquoted is the hint for a text in place of a number.
func unquoted(v any) string {
	if s, ok := v.(string); ok && s != "" && strings.Trim(s, "0123456789.") == "" {
		return "; leave the quotes out"
	}
	return ""
}

// suggestField continues "unknown field" with the nearest one, or with those there are.
func suggestField(name string, known []string) string {
	if s := field.Suggest(name, known); s != "" {
		return s
	}
	if len(known) == 0 {
		return ""
	}
	if len(known) > 12 {
		return ""
	}
	return "; known here: " + strings.Join(known, ", ")
}

func first(list []string, n int) []string { return list[:min(n, len(list))] }
