package conformance

import "time"

// until asks again and again, but no longer than the limit, and reports whether it was done.
func until(limit, every time.Duration, done func() bool) bool {
	tick, end := time.NewTicker(every), time.NewTimer(limit)
	defer tick.Stop()
	defer end.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-end.C:
			return false
		}
	}
	return true
}
