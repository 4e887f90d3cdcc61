package drive

import (
	"net/netip"
	"syscall"
)

// Connections whose both ends are the loop's.
//
// They are a pair of Unix sockets, and not a buffer with two ends: so what holds for every other connection holds for them, each end is
// read and written in turns of its own, back-pressure and half-closes are the kernel's, bulk moves by splice(2), and TLS works on them,
// without a line for it. What that costs, two system calls for each helping, is what a hop over the loopback costs without TCP.

// Inside connects the loop to itself: h is told of one end as if it had dialled to, accept gets the other one in a later
// turn, so that a listener inside that leads to itself is a loop of turns, which others have a share of, and no recursion. A nil accept
// is an address that nobody listens on.
func (l *Loop) Inside(from, to netip.AddrPort, h Connector, accept func(*Conn)) *Conn {
	c := &Conn{loop: l, h: h, remote: to, local: from, Opened: l.clock, mark: defaultMark, index: -1, sock: deadSocket{}}
	c.state.connecting = true
	failed := func(err error) *Conn {
		l.Post(func() {
			if !c.state.dead {
				c.fail(err)
			}
		})
		return c
	}
	if accept == nil {
		return failed(&ImmediateError{to, syscall.EINVAL})
	}
	here, there, err := l.back.pair()
	if err != nil {
		if short(err) {
			l.shortage.Connects.Add(1)
		}
		return failed(err)
	}
	c.sock = here
	l.adopt(c)
	l.Post(func() {
		other := &Conn{loop: l, h: ignore{}, sock: there, local: to, Opened: l.clock, mark: defaultMark, index: -1}
		l.adopt(other)
		accept(other)
	})
	return c
}
