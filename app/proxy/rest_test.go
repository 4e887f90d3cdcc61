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
		after(time.Hour, 0, "nothing has happened")
		for range 10 {
			heap += worth
			r.disturb()
			after(lull/2, 0, "there is no rest yet")
		}
		after(3*lull, 1, "rest")
		heap += worth
		r.disturb()
		after(2*lull, 1, "a fiftieth of the time is enough")
		after(time.Second, 2, "later")
		heap += worth / 2
		r.disturb()
		after(time.Hour, 2, "too little to give back")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
