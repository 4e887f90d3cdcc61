package adaptiveconcurrency

import (
	"math"
	"testing"
)

// Every latency is in a bin that holds it, to two digits.
func TestBins(t *testing.T) {
	for _, us := range []int64{0, 1, 9, 10, 99, 100, 101, 109, 110, 999, 1000, 1999, 123456, 9_999_999_999} {
		from, width := span(binOf(us))
		if v := float64(us); v < from || us > 10 && v >= from+width || width > max(1, v/10) {
			t.Errorf("%d is in the bin from %v to %v", us, from, from+width)
		}
	}
	if binOf(math.MaxInt64) != numBins-1 {
		t.Errorf("what is too long is in bin %d, want the last", binOf(math.MaxInt64))
	}
}

func TestQuantile(t *testing.T) {
	var h histogram
	for us := range int64(1000) {
		h.record(us)
	}
	for _, test := range []struct {
		part float64
		want int64
	}{{0.5, 500}, {0.9, 900}, {1, 1000}} {
		if got := h.quantile(test.part); got < test.want-10 || got > test.want+10 {
			t.Errorf("quantile %v is %d, want about %d", test.part, got, test.want)
		}
	}
	if h.clear(); h.count() != 0 || h.quantile(0.5) != 0 {
		t.Errorf("after clear: %d samples", h.count())
	}
}
