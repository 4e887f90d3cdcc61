package drive

import (
	"iter"
	"slices"
)

// crypto/tls computes a handshake in one call and waits for its peer inside. The loop runs that
// call as a coroutine: on its own thread, on a stack that is kept for the next handshake, without
// locks and without a hand-over between threads, each of which costs as much as a tenth of the
// arithmetic. A turn gives one handshake one step, after everything else and when the
// output has been written, so that a crowd of new connections delays requests by no more than that.

// A shaker is a coroutine that runs handshakes, one after the other.
type shaker struct {
	resume func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
	job    *secure // nil: none, and resume goes on with the next
	err    error   // of the last job
}

// spareShakers is how many stacks a loop keeps. One in memory keeps none: nobody ends it, and
// a coroutine that waits would outlive its test.
const spareShakers = 2

func newShaker() *shaker {
	k := &shaker{}
	k.resume, k.stop = iter.Pull(func(yield func(struct{}) bool) {
		k.yield = yield
		for more := true; more; more = yield(struct{}{}) {
			k.err = k.job.tls.Handshake()
			k.job = nil
		}
	})
	return k
}

// wait goes back to the loop until there is something new.
func (k *shaker) wait() { k.yield(struct{}{}) }

// enqueue has the handshake go on, later in this turn or in one of the next.
func (s *secure) enqueue() {
	if s.queued || s.done || s.aside {
		return
	}
	s.queued = true
	s.conn.loop.shaking = append(s.conn.loop.shaking, s)
}

// shake gives the handshake that has waited longest a step.
func (l *Loop) shake() {
	s := l.shaking[0]
	l.shaking = slices.Delete(l.shaking, 0, 1)
	s.queued = false
	k := s.shaker
	if k == nil {
		if s.gone != nil && (s.conn.state.dead || len(s.in) == 0) { // before it began
			s.finish(s.gone)
			return
		}
		k = l.shaker()
		k.job, s.shaker = s, k
	}
	k.resume()
	if k.job != nil {
		return
	}
	s.shaker = nil
	if len(l.shakers) < l.keepShakers {
		l.shakers = append(l.shakers, k)
	} else {
		k.stop()
	}
	s.finish(k.err)
	l.churn()
}

// shaker returns a coroutine without a job.
func (l *Loop) shaker() *shaker {
	if last := len(l.shakers) - 1; last >= 0 {
		k := l.shakers[last]
		l.shakers = l.shakers[:last]
		return k
	}
	return newShaker()
}

// Aside runs f on another goroutine and returns when it has ended, and serves others in between.
// It is for callbacks of c's handshake that may compute for long, and only for these. It
// reports false if the connection has gone in the meantime; f may still be running then.
func (c *Conn) Aside(f func()) bool {
	s, l := c.tls, c.loop
	s.aside = true
	l.asides++
	go func() {
		f()
		l.Post(func() {
			l.asides--
			s.aside = false
			s.enqueue()
		})
	}()
	for s.aside {
		s.shaker.wait()
	}
	return !c.state.dead
}
