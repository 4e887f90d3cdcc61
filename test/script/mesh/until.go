package mesh

import (
	"fmt"
	"os"
	"time"
)

// Until calls check until it returns nil, and ends the test if that does not
// happen within limit. It returns how long it took.
func Until(t T, limit time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	took, err := Wait(limit, check)
	if err != nil {
		t.Fatalf("%s: not within %v: %v", what, limit, err)
	}
	return took
}

// Wait is Until for those who go on after a failure.
func Wait(limit time.Duration, check func() error) (took time.Duration, err error) {
	return wait(limit, 50*time.Millisecond, check)
}

// Seldom is Wait for what costs much to ask.
func Seldom(limit time.Duration, check func() error) (took time.Duration, err error) {
	return wait(limit, 400*time.Millisecond, check)
}

func wait(limit, most time.Duration, check func() error) (took time.Duration, err error) {
	start := time.Now()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, most) {
		err := check()
		took := time.Since(start)
		if err == nil {
			return took, nil
		}
		if took > limit {
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

// Within is how long may be taken for what is promised within d of a machine that has time. Where processes have waited
// for a processor during most of the last ten seconds (the kernel's pressure stall information), others may be what takes
// long: five times as much.
func Within(d time.Duration) time.Duration {
	var waited float64
	text, err := os.ReadFile("/proc/pressure/cpu")
	if err != nil {
		return d
	}
	if _, err := fmt.Sscanf(string(text), "some avg10=%f", &waited); err == nil && waited > 50 {
		return 5 * d
	}
	return d
}

// Pause lets time pass in which the machine does something measurable.
func Pause(d time.Duration) { time.Sleep(d) }
