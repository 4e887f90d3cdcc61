package cluster

import (
	"sync"
	"sync/atomic"
	"time"
)

// An IdleLimit is how long a host leaves connections open that nobody uses, as far as it has said so
// (keep-alive: timeout=5) or shown it. Whoever keeps such a connection longer may find it closed just
// when a request is on its way. All shards share it.
type IdleLimit struct {
	said  atomic.Int64 // nanoseconds; 0: nothing
	shown atomic.Int64
	until atomic.Int64 // when shown is forgotten, in nanoseconds of the loop's time

	mu     sync.Mutex // guards what follows
	guess  time.Duration
	last   int64 // when it was seen last
	events int
}

const (
	idleSure    = 500 * time.Millisecond // a younger end must be seen twice before it is a habit: reuse is worth more then
	idleApart   = 500 * time.Millisecond // what comes closer together is one event: a host that ends closes all at once
	idleLeast   = 100 * time.Millisecond // nobody closes so early by a timer
	idleBelieve = 10 * time.Minute       // then it is looked at anew
)

// Said notes what the host says of itself.
func (l *IdleLimit) Said(d time.Duration) {
	if l.said.Load() != int64(d) {
		l.said.Store(int64(d))
	}
}

// Seen notes that the host has closed a connection that nobody had used for age.
func (l *IdleLimit) Seen(age time.Duration, now time.Time) {
	if age < idleLeast {
		return
	}
	at := now.UnixNano()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch d := age - l.guess; {
	case d.Abs() > max(l.guess/10, idleLeast/2):
		l.guess, l.events, l.last = age, 1, at
	case at-l.last >= int64(idleApart):
		l.events++
		l.last = at
		fallthrough
	default:
		l.guess = min(l.guess, age)
	}
	if l.events > 1 || l.guess >= idleSure {
		l.shown.Store(int64(l.guess))
		l.until.Store(at + int64(idleBelieve))
	}
}

// Keep is how long a connection may be kept unused, of at most d (0: without end): less than the host's limit,
// by what a request may need to get there. now is called only if something is known.
func (l *IdleLimit) Keep(d time.Duration, now func() time.Time) time.Duration {
	limit := time.Duration(l.said.Load())
	if limit == 0 {
		limit = time.Duration(l.shown.Load())
		if limit == 0 || now().UnixNano() > l.until.Load() {
			return d
		}
	}
	limit = max(limit-max(limit/8, idleLeast), time.Millisecond)
	if d == 0 {
		return limit
	}
	return min(d, limit)
}
