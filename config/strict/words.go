package strict

import (
	"fmt"
	"strings"
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
	if s := Suggest(name, known); s != "" {
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

// Suggest names the known word that is nearest to what was found, if one is near.
func Suggest(found string, known []string) string {
	best, distance := "", len(found)/3+2
	for _, k := range known {
		if strings.EqualFold(k, found) || strings.EqualFold(k, strings.ReplaceAll(found, "_", "")) {
			best = k
			break
		}
		if d := edits(strings.ToLower(found), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// edits returns how many letters must be changed, added or dropped to get from a to b.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return len(a) + len(b)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

func first(list []string, n int) []string { return list[:min(n, len(list))] }
