package lua

import (
	"time"

	"golang.org/x/sys/unix"
)

// processor is the time that the calling thread has had of a processor. A worker is one thread, and handlers run on it.
func processor() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}
