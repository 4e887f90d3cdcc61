package drive

import "slices"

// crypto/tls computes a handshake in one call and waits for its peer inside. The loop runs that
// call as a [Fiber]: a hand-over between threads would cost as much as a tenth of the
// arithmetic. A turn gives one handshake one step, after everything else and when the
// output has been written, so that a crowd of new connections delays requests by no more than that.

// Run computes the handshake.
func (s *secure) Run(*Fiber) { s.failed = s.tls.Handshake() }

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
	if s.fiber == nil {
		if s.gone != nil && (s.conn.state.dead || len(s.in) == 0) { // before it began
			s.finish(s.gone)
			return
		}
		s.fiber = l.Fiber(s)
	}
	if !s.fiber.Resume() {
		return
	}
	s.fiber = nil
	s.finish(s.failed)
	l.churn()
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
		s.fiber.Wait()
	}
	return !c.state.dead
}
