package listen

import (
	"cmp"
	"slices"

	"github.com/mallamesh/malla/proxy/overload"
)

// Overload says what there is too much of, as far as that concerns the connection.
func (c *Conn) Overload() *overload.State {
	if c.Listener.Unshed {
		return &overload.Nothing
	}
	return c.Worker.Overload
}

// shed reports whether a new connection is one too many.
func (l *listener) shed() bool {
	w := l.set.w
	if l.config.Unshed || !w.Overload.Points[overload.TCPListenerAccept].Hit(w) && !w.Overload.Connections.Hit(w) {
		return false
	}
	if st := l.config.Stats; st != nil {
		st.DownstreamCxOverloadReject.Inc()
	}
	return true
}

// Accepting stops accepting connections, or goes on.
func (s *Set) Accepting(on bool) {
	s.full = !on
	for _, l := range s.byName {
		for _, a := range l.accepts {
			a.Pause(s.full && !l.config.Unshed)
		}
	}
}

// A Rescaler is a connection whose times follow [overload.State.Timeouts].
type Rescaler interface{ Rescale() }

// Rescale has all connections look at their times again.
func (s *Set) Rescale() {
	s.each(func(c *Conn) {
		if r, ok := c.Served.(Rescaler); ok {
			r.Rescale()
		}
	})
}

// A Heavy is a connection whose streams can be reset for what they hold.
type Heavy interface {
	// Weigh tells of each stream how many bytes wait in it, and how to end it.
	Weigh(func(bytes int, reset func()))
}

// maxReset bounds how many streams end at once, as in Envoy: what they hold is given back before more are.
const maxReset = 50

// Reset ends streams that hold at least so many bytes, the largest first and until those that have ended held enough, and
// returns how many.
func (s *Set) Reset(least int, enough int64) int {
	type stream struct {
		bytes int
		reset func()
	}
	var all []stream
	s.each(func(c *Conn) {
		if h, ok := c.Served.(Heavy); ok {
			h.Weigh(func(bytes int, reset func()) {
				if bytes >= least {
					all = append(all, stream{bytes, reset})
				}
			})
		}
	})
	slices.SortFunc(all, func(a, b stream) int { return cmp.Compare(b.bytes, a.bytes) })
	n := 0
	for held := int64(0); n < min(len(all), maxReset) && held < enough; n++ {
		held += int64(all[n].bytes)
		all[n].reset()
	}
	return n
}

// each calls f for every connection that may be shed; f must not close any.
func (s *Set) each(f func(*Conn)) {
	list := func(l *listener) {
		if l.config.Unshed {
			return
		}
		for c := l.conns.next; c != &l.conns; c = c.next {
			f(c)
		}
	}
	for _, l := range s.byName {
		list(l)
	}
	for l := range s.old {
		list(l)
	}
}
