package mesh

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// critical are the values of the chi-squared distribution that chance exceeds
// with p = 1e-7, by degrees of freedom. Of 1000 answers, weights of 80 and 20 are
// then told from those of 73 and 27; who wants more asks more often.
var critical = []float64{0, 28.374, 32.236, 35.406, 38.240}

// Fits returns an error unless counts agree with weights (same keys), which chance
// alone keeps them from once in some million times. A key that has no weight must
// not be in counts at all.
func Fits(counts map[string]int, weights map[string]float64) error {
	total, sum := 0, 0.0
	for key, n := range counts {
		if weights[key] == 0 {
			return fmt.Errorf("%d of %q, want none: %v", n, key, counts)
		}
		total += n
	}
	if total == 0 {
		return fmt.Errorf("nothing was counted")
	}
	kinds := 0
	for _, w := range weights {
		if sum += w; w > 0 {
			kinds++
		}
	}
	chi := 0.0
	for key, w := range weights {
		if w == 0 {
			continue
		}
		want := float64(total) * w / sum
		chi += math.Pow(float64(counts[key])-want, 2) / want
	}
	if chi > critical[kinds-1] {
		return fmt.Errorf("%v does not fit %v: chi-squared %.1f, want below %.1f", counts, weights, chi, critical[kinds-1])
	}
	return nil
}

// Near returns an error unless got is within delta of want.
func Near(what string, got, want, delta int) error {
	if got < want-delta || got > want+delta {
		return fmt.Errorf("%s: %d, want %d +- %d", what, got, want, delta)
	}
	return nil
}

// Median of some times.
func Median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}
