package router

import (
	"testing"
	"time"
)

// The budget is told in whole percent, of no time at all as none, and what comes too late as more than all.
func TestPercent(t *testing.T) {
	for _, test := range []struct {
		used, of time.Duration
		want     uint64
	}{
		{150 * time.Millisecond, 600 * time.Millisecond, 25},
		{time.Second, 0, 0},
		{300 * time.Millisecond, 200 * time.Millisecond, 150},
		{-1, time.Second, 0},
	} {
		if got := percent(int64(test.used), test.of); got != test.want {
			t.Errorf("%v of %v are %d %%, want %d", test.used, test.of, got, test.want)
		}
	}
}
