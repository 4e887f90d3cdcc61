package proxy

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsTrimmedAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var heap uint64
		trims := 0
		r := newRest()
		r.allocated = func() uint64 { return heap }
		r.trim = func() { trims++; time.Sleep(20 * time.Millisecond) }
		done := make(chan error)
		go func() { done <- r.run(ctx) }()
		after := func(d time.Duration, want int, why string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if trims != want {
				t.Errorf("%s: %d trims, want %d", why, trims, want)
			}
		}
		after(lull/2, 0, "it has only just started")
		after(time.Second, 1, "what starting needed")
		after(time.Hour, 1, "nothing has happened")
		for range 10 {
			heap += worth
			r.disturb()
			after(lull/2, 1, "there is no rest yet")
		}
		after(3*lull, 2, "rest")
		heap += worth
		r.disturb()
		after(2*lull, 2, "a fiftieth of the time is enough")
		after(time.Second, 3, "later")
		heap += worth / 2
		r.disturb()
		after(time.Hour, 3, "too little to give back")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
