package tcp

import (
	"math"
	"testing"
	"time"
)

func TestAgeJitter(t *testing.T) {
	for _, test := range []struct {
		jitter   float64
		random   uint64
		from, to time.Duration
	}{
		{0, math.MaxUint64, 10 * time.Second, 10 * time.Second},
		{0.5, 0, 10 * time.Second, 10 * time.Second},
		{0.5, 1 << 63, 12500 * time.Millisecond, 12500 * time.Millisecond},
		{0.5, math.MaxUint64, 14999 * time.Millisecond, 15 * time.Second}, // never more than half as long again
	} {
		c := Config{MaxAge: 10 * time.Second, AgeJitter: test.jitter}
		if got := c.age(test.random); got < test.from || got > test.to {
			t.Errorf("jitter %v, random %#x: %v, want %v to %v", test.jitter, test.random, got, test.from, test.to)
		}
	}
}
