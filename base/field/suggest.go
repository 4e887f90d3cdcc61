package field

import (
	"fmt"
	"strings"
)

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
