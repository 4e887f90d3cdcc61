package schedule

import (
	"fmt"
	"strconv"
	"strings"
)

// Indexes reads a set of a Job's indexes as Kubernetes writes it: numbers and ranges in rising order, such as 0,2-4, all below n.
func Indexes(text string, n int64) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, errA := strconv.Atoi(from)
		b, errB := strconv.Atoi(to)
		switch {
		case errA != nil || errB != nil || a < 0 || isRange && b <= a:
			return nil, fmt.Errorf("found %q, want numbers and ranges such as 0,2-4", text)
		case int64(b) >= n:
			return nil, fmt.Errorf("found the index %d, want indexes below the number of completions, %d", b, n)
		case len(out) > 0 && a <= out[len(out)-1]:
			return nil, fmt.Errorf("found %d behind %d, want rising numbers", a, out[len(out)-1])
		}
		for i := a; i <= b; i++ {
			out = append(out, i)
		}
	}
	return out, nil
}
