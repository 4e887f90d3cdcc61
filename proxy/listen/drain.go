package listen

import (
	"time"

	"github.com/mallamesh/malla/proxy/drive"
)

// A Pace is how connections are led to their end.
type Pace struct {
	Time    time.Duration // what they have for it
	Gradual bool          // more and more of them are told as the time goes by; otherwise each with its next response
}

// A drain is a time in which connections are to end. The zero value is none.
type drain struct {
	began bool
	pace  Pace
	until int64 // by the loop's clock
}

// start begins a drain, unless one is under way.
func (d *drain) start(now int64, pace Pace) {
	if !d.began {
		*d = drain{began: true, pace: pace, until: now + int64(pace.Time)}
	}
}

// due reports whether a response that is written now is to be the last of its connection. A gradual drain is reckoned as Envoy 1.40
// is seen to do: in seconds, and over the first half of its time. Of ten none is in the first, every fifth response in the second,
// and all are from the sixth on.
func (d *drain) due(now int64, random func() uint64) bool {
	if !d.began {
		return false
	}
	half := (int64(d.pace.Time/time.Second) + 1) / 2
	if !d.pace.Gradual || now >= d.until || half == 0 {
		return true
	}
	gone := (now - d.until + int64(d.pace.Time)) / int64(time.Second)
	return gone > int64(random()%uint64(half))
}

// Draining reports whether a response that is written now should end the connection, because its listener
// was replaced, because the proxy is about to end, or because it was told to fail its health checks.
func (c *Conn) Draining() bool {
	if c.Worker.Failing.Load() && !c.Listener.ModifyOnly {
		return true
	}
	listener, all := &c.ln.drained, &c.set.drains[c.Listener.Class()]
	if !listener.began && !all.began {
		return false
	}
	now := c.Worker.Loop.Now()
	return listener.due(now, c.Worker.Random) || all.due(now, c.Worker.Random)
}

// Class is 0 for inbound listeners, which can be drained before all others, and 1 for these.
func (c *Config) Class() int {
	if c.Direction == Inbound {
		return 0
	}
	return 1
}

// Drain has connections of inbound listeners, or all, told that they should end. New ones are still accepted, because
// somebody may not know yet that we are leaving, and are told as well.
func (s *Set) Drain(inboundOnly bool, pace Pace) {
	now := s.w.Loop.Now()
	s.drains[0].start(now, pace)
	if !inboundOnly {
		s.drains[1].start(now, pace)
	}
	if pace.Gradual {
		return
	}
	for _, l := range s.byName {
		if !inboundOnly || l.config.Class() == 0 {
			l.tell()
		}
	}
}

// drain stops accepting and lets connections end.
func (l *listener) drain(pace Pace) {
	for _, a := range l.accepts {
		a.Close()
	}
	l.accepts = nil
	l.drained.start(l.set.w.Loop.Now(), pace)
	if l.open == 0 {
		return
	}
	l.set.old[l] = struct{}{}
	if !pace.Gradual {
		l.tell()
	}
	l.set.w.Loop.Schedule(&l.timer, pace.Time)
}

// tell has every connection announce its end.
func (l *listener) tell() {
	for c := l.conns.next; c != &l.conns; {
		next := c.next
		if c.Served != nil {
			c.Served.Drain()
		}
		c = next
	}
}

// OnTimer ends what has not ended by itself.
func (l *listener) OnTimer(*drive.Timer) {
	for c := l.conns.next; c != &l.conns; {
		next := c.next
		if c.Served != nil {
			c.Served.Kill()
		} else {
			c.close()
		}
		c = next
	}
}
