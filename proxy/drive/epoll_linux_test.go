package drive

import (
	"math"
	"testing"
	"time"
)

// A wait is never shorter than asked for by rounding, and one beyond what the system has room for is as long as it can be:
// 50 days were 7 hours, and 30 days had no end.
func TestLongWaits(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]int{
		-1: -1, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, time.Second: 1000,
		24 * day: 24 * 86_400_000, 30 * day: math.MaxInt32, 50 * day: math.MaxInt32, math.MaxInt64: math.MaxInt32,
	} {
		if got := milliseconds(d); got != want {
			t.Errorf("%v is a wait of %d ms, want %d", d, got, want)
		}
	}
}
