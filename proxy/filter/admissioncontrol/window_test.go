package admissioncontrol

import (
	"math"
	"testing"
	"time"
)

const sec = int64(time.Second)

// What is as old as the window is forgotten, a second at a time.
func TestWindow(t *testing.T) {
	w := window{length: 3 * sec}
	w.record(0, true)
	w.record(sec/2, false)
	w.record(2*sec, false)
	for _, step := range []struct {
		now            int64
		requests, good int
		perSecond      int
	}{
		{2 * sec, 3, 1, 1}, // over all of the window, however young it is
		{3*sec - 1, 3, 1, 1},
		{3 * sec, 1, 0, 0}, // the first second has gone as one
		{5 * sec, 0, 0, 0},
	} {
		w.advance(step.now)
		if w.requests != step.requests || w.good != step.good || w.perSecond(step.now) != step.perSecond {
			t.Errorf("after %v: %d requests, %d good, %d a second, want %+v", time.Duration(step.now), w.requests, w.good, w.perSecond(step.now), step)
		}
	}
}

// A second's requests are counted in one place, however many come: a window has as many places as seconds.
func TestWindowIsBounded(t *testing.T) {
	w := window{length: 5 * sec}
	for i := range int64(10_000) {
		w.record(i*sec/100, i%2 == 0)
	}
	if len(w.seconds) > 5 || cap(w.seconds) > 8 {
		t.Errorf("keeps %d seconds in %d places, want at most 5", len(w.seconds), cap(w.seconds))
	}
	if n := w.perSecond(100 * sec); n != 100 {
		t.Errorf("%d requests a second, want 100", n)
	}
}

func TestShare(t *testing.T) {
	for _, test := range []struct {
		name           string
		c              Config
		requests, good int
		want           float64
	}{
		{"all is well", Config{Aggression: 1, Normal: 0.95, Most: 0.8}, 100, 100, 0},
		{"as many fail as is normal", Config{Aggression: 1, Normal: 0.5, Most: 0.8}, 100, 50, 0},
		{"half fail", Config{Aggression: 1, Normal: 1, Most: 0.8}, 99, 49, 0.5},
		{"all fail: never more than the most", Config{Aggression: 1, Normal: 0.95, Most: 0.8}, 100, 0, 0.8},
		{"aggression makes the share larger", Config{Aggression: 2, Normal: 1, Most: 0.8}, 99, 74, 0.5},
		{"nothing has come", Config{Aggression: 1, Normal: 0.95, Most: 0.8}, 0, 0, 0},
	} {
		if got := test.c.share(&window{requests: test.requests, good: test.good}); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
