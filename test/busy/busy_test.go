package busy

import (
	"testing"
	"testing/synctest"
	"time"
)

// What was taken in a time counts in that time and in no other, however it was taken.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counted time.Duration
		tick := make(chan time.Time)
		r := &recorder{waited: func() time.Duration { return counted }}
		go r.run(tick)
		defer close(tick)
		began := time.Now()
		// pass lets a time go by in which somebody waited for so long, by ticks that come in time.
		pass := func(d, waits time.Duration) {
			for i := time.Duration(0); i < d; i += every {
				time.Sleep(every)
				counted += waits * every / d
				tick <- time.Now()
				synctest.Wait()
			}
		}
		r.look()
		pass(time.Second, 0)
		pass(time.Second, 600*time.Millisecond)
		time.Sleep(300 * time.Millisecond) // everything stands still, and nobody counts it
		tick <- time.Now()
		synctest.Wait()
		pass(time.Second, 0)
		time.Sleep(every + 100*time.Millisecond) // late, and counted as what somebody waited
		counted += 100 * time.Millisecond
		tick <- time.Now()
		synctest.Wait()
		counted += time.Hour // by another clock
		pass(every, 0)

		at := func(s float64) time.Time { return began.Add(time.Duration(s * float64(time.Second))) }
		for _, test := range []struct {
			what     string
			from, to float64
			want     time.Duration
		}{
			{"before anybody waited", 0, 1, 0},
			{"while somebody did", 1, 2, 600 * time.Millisecond},
			{"half of it", 1, 1.5, 300 * time.Millisecond},
			{"a part of a tick", 1.5, 1.525, 15 * time.Millisecond},
			{"a pause, but for the tick that was due", 2, 2.3, 250 * time.Millisecond},
			{"after it", 2.3, 3.3, 0},
			{"no more than what was counted, if that was the reason", 3.3, 3.45, 100 * time.Millisecond},
			{"no more than there was", 3.45, 3.5, 50 * time.Millisecond},
			{"what nobody has seen", -10, 0, 0},
			{"all", -10, 100, time.Second},
		} {
			if got := r.held(at(test.from), at(test.to)); got.Round(time.Microsecond) != test.want {
				t.Errorf("%s: %v of %v s to %v s, want %v", test.what, got, test.from, test.to, test.want)
			}
		}
	})
}

func TestWhatTheKernelSays(t *testing.T) {
	if got := some("some avg10=62.26 avg60=18.40 avg300=18.67 total=7759406246\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=12\n"); got != 7759406246*time.Microsecond {
		t.Errorf("somebody has waited for %v", got)
	}
	if got := steal("cpu  1454705 26936 454305 362214 3034 0 53697 2478 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n"); got != 24780*time.Millisecond {
		t.Errorf("other machines had %v", got)
	}
	if some("") != 0 || steal("") != 0 {
		t.Error("a kernel that says nothing says something")
	}
}

// Who waits for a timer was free, and is not let off.
func TestFree(t *testing.T) {
	Record()
	from := time.Now()
	if Free(from, from) != 0 || Held(from.Add(-time.Hour), from.Add(-time.Minute)) != 0 {
		t.Error("no time is some, or what nobody has seen was taken")
	}
	if held := Held(from, time.Now()); held < 0 || held > time.Since(from) {
		t.Errorf("%v of %v were taken", held, time.Since(from))
	}
}
