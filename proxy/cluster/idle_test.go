package cluster

import (
	"testing"
	"time"
)

// A host's habit is what it does twice at the same age, at different times; what it says goes before.
func TestIdleLimit(t *testing.T) {
	start := time.Unix(1e9, 0)
	type seen struct{ at, age time.Duration }
	for _, c := range []struct {
		name string
		said time.Duration
		seen []seen
		at   time.Duration
		want time.Duration
	}{
		{"nothing is known", 0, nil, 0, time.Hour},
		{"what it does is believed", 0, []seen{{0, 5 * time.Second}}, 0, 4375 * time.Millisecond},
		{"the least of what is alike counts", 0, []seen{{0, 5 * time.Second}, {10 * time.Second, 4900 * time.Millisecond}}, 11 * time.Second, 4287500 * time.Microsecond},
		{"else the last", 0, []seen{{0, 5 * time.Second}, {10 * time.Second, 9 * time.Second}}, 21 * time.Second, 7875 * time.Millisecond},
		{"once and early is chance", 0, []seen{{0, 400 * time.Millisecond}}, 0, time.Hour},
		{"twice is a habit", 0, []seen{{0, 400 * time.Millisecond}, {10 * time.Second, 400 * time.Millisecond}}, 11 * time.Second, 300 * time.Millisecond},
		{"many at once are one event", 0, []seen{{0, 400 * time.Millisecond}, {time.Millisecond, 400 * time.Millisecond}, {2 * time.Millisecond, 400 * time.Millisecond}}, time.Second, time.Hour},
		{"an end right after the response is none", 0, []seen{{0, time.Millisecond}, {10 * time.Second, time.Millisecond}}, 11 * time.Second, time.Hour},
		{"a habit is looked at anew", 0, []seen{{0, time.Second}, {10 * time.Second, time.Second}}, time.Hour, time.Hour},
		{"what it says counts", time.Second, []seen{{0, 5 * time.Second}, {10 * time.Second, 5 * time.Second}}, 11 * time.Second, 875 * time.Millisecond},
		{"and never keeps nothing at all", 50 * time.Millisecond, nil, 0, time.Millisecond},
	} {
		var l IdleLimit
		l.Said(c.said)
		for _, s := range c.seen {
			l.Seen(s.age, start.Add(s.at))
		}
		if got := l.Keep(time.Hour, func() time.Time { return start.Add(c.at) }); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
