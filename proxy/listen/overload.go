package listen

import (
	"cmp"
	"math/bits"
	"slices"
	"sync/atomic"

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

// A Toll is what streams of all workers hold, and how much of that is to go. Workers share it at the same time: first all of them
// weigh theirs, then it is decided, then they reset. The zero value weighs nothing.
type Toll struct {
	held [64 << 2]atomic.Int64 // bytes of the streams of a size, four sizes to each power of two
	left atomic.Int64          // bytes that are yet to go
}

// size is where streams of so many bytes count, and leastOf the fewest that count there.
func size(bytes int) int {
	n := bits.Len(uint(bytes))
	if n < 3 {
		return bytes
	}
	return n<<2 | bytes>>(n-3)&3
}

func leastOf(size int) int {
	if n := size >> 2; n >= 3 {
		return (4 | size&3) << (n - 3)
	}
	return size
}

// Decide has so much go, and returns how many bytes a stream must hold for that: the largest of all workers go, not those of each.
func (t *Toll) Decide(least int, enough int64) int {
	t.left.Store(enough)
	for i := len(t.held) - 1; i >= 0; i-- {
		if enough -= t.held[i].Load(); enough <= 0 {
			return max(least, leastOf(i))
		}
	}
	return least
}

// Weigh adds what streams hold that hold at least so many bytes.
func (s *Set) Weigh(least int, t *Toll) {
	s.weigh(least, func(bytes int, _ func()) { t.held[size(bytes)].Add(int64(bytes)) })
}

func (s *Set) weigh(least int, tell func(bytes int, reset func())) {
	s.each(func(c *Conn) {
		if h, ok := c.Served.(Heavy); ok {
			h.Weigh(func(bytes int, reset func()) {
				if bytes >= least {
					tell(bytes, reset)
				}
			})
		}
	})
}

// Reset ends streams that hold at least so many bytes, the largest first and until those that have ended, of all workers, held
// enough, and returns how many.
func (s *Set) Reset(least int, t *Toll) int {
	type stream struct {
		bytes int
		reset func()
	}
	var all []stream
	s.weigh(least, func(bytes int, reset func()) { all = append(all, stream{bytes, reset}) })
	slices.SortFunc(all, func(a, b stream) int { return cmp.Compare(b.bytes, a.bytes) })
	n := 0
	for n < min(len(all), maxReset) {
		if held := int64(all[n].bytes); t.left.Add(-held)+held <= 0 {
			break
		}
		all[n].reset()
		n++
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
