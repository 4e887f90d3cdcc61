package mesh

import (
	"fmt"
	"time"

	"github.com/mallamesh/malla/test/busy"
)

// patient is how much longer a limit may be by the clock than by the time that the machine had for everybody.
const patient = 5

// Until calls check until it returns nil, and ends the test if that does not
// happen within limit, of the time that the machine had for everybody ([busy.Free]).
// It returns how long it took by the clock.
func Until(t T, limit time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	took, held, err := until(limit, check)
	if err != nil {
		t.Fatalf("%s: not within %v (%v, of which others had %v): %v", what, limit, took, held, err)
	}
	return took
}

// Within is Until for what is promised: it returns an error if check was not nil within limit, and goes on.
func Within(limit time.Duration, check func() error) error {
	took, held, err := until(limit, check)
	switch {
	case err != nil:
		return fmt.Errorf("not within %v (%v, of which others had %v): %w", limit, took, held, err)
	case took-held > limit:
		return fmt.Errorf("after %v, of which others had %v, want %v", took, held, limit)
	}
	return nil
}

func until(limit time.Duration, check func() error) (took, held time.Duration, err error) {
	busy.Record()
	start := time.Now()
	took, err = wait(50*time.Millisecond, check, func(took time.Duration) bool {
		return took > limit && (took > patient*limit || took-busy.Held(start, start.Add(took)) > limit)
	})
	return took, busy.Held(start, start.Add(took)), err
}

// Wait is Until by the clock, for those who go on after a failure.
func Wait(limit time.Duration, check func() error) (took time.Duration, err error) {
	return wait(50*time.Millisecond, check, func(took time.Duration) bool { return took > limit })
}

// Seldom is Wait for what costs much to ask.
func Seldom(limit time.Duration, check func() error) (took time.Duration, err error) {
	return wait(400*time.Millisecond, check, func(took time.Duration) bool { return took > limit })
}

// wait calls check, more and more seldom, until it returns nil or it is over.
func wait(most time.Duration, check func() error, over func(took time.Duration) bool) (took time.Duration, err error) {
	start := time.Now()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, most) {
		err := check()
		took := time.Since(start)
		if err == nil || over(took) {
			return took, err
		}
		time.Sleep(wait)
	}
}

// Hold calls check until d has passed and returns its first error: for what must
// stay as it is.
func Hold(d time.Duration, check func() error) error {
	for start := time.Now(); time.Since(start) < d; time.Sleep(20 * time.Millisecond) {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// Pause lets time pass in which the machine does something measurable.
func Pause(d time.Duration) { time.Sleep(d) }

// Grace lets time pass until the machine has had d for everybody: for what happens at once, as soon as it has a processor.
func Grace(d time.Duration) {
	busy.Record()
	for start := time.Now(); busy.Free(start, time.Now()) < d; {
		time.Sleep(d)
	}
}
