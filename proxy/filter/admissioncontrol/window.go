package admissioncontrol

import "time"

// A window counts the requests of the last seconds. It belongs to one shard, as in Envoy.
type window struct {
	length   int64 // nanoseconds, of whole seconds
	seconds  []second
	requests int
	good     int
}

// A second is what came in a second that began at a moment of the shard's clock.
type second struct {
	began          int64
	requests, good int
}

// advance forgets what is too old.
func (w *window) advance(now int64) {
	old := 0
	for old < len(w.seconds) && now-w.seconds[old].began >= w.length {
		w.requests -= w.seconds[old].requests
		w.good -= w.seconds[old].good
		old++
	}
	if old > 0 {
		w.seconds = w.seconds[:copy(w.seconds, w.seconds[old:])]
	}
}

// record counts a request.
func (w *window) record(now int64, good bool) {
	w.advance(now)
	if n := len(w.seconds); n == 0 || now-w.seconds[n-1].began >= int64(time.Second) {
		w.seconds = append(w.seconds, second{began: now})
	}
	last := &w.seconds[len(w.seconds)-1]
	last.requests++
	w.requests++
	if good {
		last.good++
		w.good++
	}
}

// perSecond is how many requests came in a second, over the whole window, or since the oldest if that is longer ago.
func (w *window) perSecond(now int64) int {
	if w.requests == 0 {
		return 0
	}
	return w.requests / int(max(w.length, now-w.seconds[0].began)/int64(time.Second))
}
