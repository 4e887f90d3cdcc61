package ratelimit

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)

func TestBucket(t *testing.T) {
	b := NewBucket(Fill{Max: 3, PerFill: 1, Interval: time.Second}, start)
	for i, step := range []struct {
		at   time.Duration
		take float64
		want bool
		left uint64
	}{
		{0, 1, true, 2}, // it is full at first
		{0, 2, true, 0},
		{0, 1, false, 0},                      // who finds too little takes nothing
		{500 * time.Millisecond, 1, false, 0}, // it is filled continuously
		{1500 * time.Millisecond, 1, true, 0},
		{time.Hour, 1, true, 2},   // no more than it holds
		{time.Hour, -1, true, 3},  // tokens may be put back
		{time.Hour, -9, true, 3},  // up to the top
		{time.Hour, 0, true, 3},   // nothing costs nothing
		{time.Hour, 4, false, 3},  // more than it holds is never there
		{-time.Hour, 3, false, 0}, // a clock that goes back gives nothing
	} {
		now := start.Add(step.at)
		if got := b.Take(step.take, now); got != step.want || b.Left(now) != step.left {
			t.Errorf("step %d: took %v: %v, left %d, want %v, %d", i, step.take, got, b.Left(now), step.want, step.left)
		}
	}
	b = NewBucket(Fill{Max: 1, PerFill: 2, Interval: time.Second}, start)
	b.Take(1, start)
	if got := b.NextIn(start); got != 500*time.Millisecond {
		t.Errorf("the next token comes in %v, want 500ms", got)
	}
	if never := NewBucket(Fill{}, start); never.Take(1, start.Add(time.Hour)) {
		t.Error("a bucket that holds nothing gave a token")
	}
}

// Shards take from one bucket at once: together they get what it holds, and not one more.
func TestBucketIsShared(t *testing.T) {
	b := NewBucket(Fill{Max: 1000, PerFill: 1, Interval: time.Hour}, start)
	var got atomic.Int64
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 1000 {
				if b.Take(1, start) {
					got.Add(1)
				}
			}
		})
	}
	wait.Wait()
	if got.Load() != 1000 {
		t.Errorf("%d tokens were taken, want 1000", got.Load())
	}
}

// Descriptors whose parts only look the same together are not the same.
func TestKeysAreApart(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range [][]Entry{
		{{"a", []byte("b")}}, {{"ab", nil}}, {{"", []byte("ab")}}, {{"a", nil}, {"b", nil}}, {{"a", []byte("\x01b\x00")}}, {{"a", nil}, {"b", []byte{0}}},
	} {
		key := string(AppendKey(nil, d))
		if seen[key] {
			t.Errorf("%q has another's key", d)
		}
		seen[key] = true
	}
}

// A taker of bytes gets what is there, in whole tokens, and the rest of it stays.
func TestTakeUpTo(t *testing.T) {
	var b Bucket
	start := time.Now()
	b.Refill(1000, 50, start)
	for _, step := range []struct {
		at         time.Duration
		want, have uint64
	}{
		{0, 30, 30},
		{0, 30, 20}, // no more than there is
		{0, 30, 0},
		{1500 * time.Microsecond, 10, 1}, // half a token stays
		{2 * time.Millisecond, 10, 1},
		{5 * time.Second, 5000, 1000}, // no more than a second's worth
	} {
		if got := b.TakeUpTo(step.want, start.Add(step.at)); got != step.have {
			t.Errorf("after %v: took %d of %d, want %d", step.at, got, step.want, step.have)
		}
	}
}
