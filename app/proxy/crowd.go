package proxy

import (
	"net"
	"net/http"
	"sync"
)

// A crowd bounds the connections of one of the proxy's own ports. It does not have the next one wait, which would be that of a
// probe as often as not: the one that has been without a request for longest is closed for it, or if all have one, the one
// that has had it for longest.
type crowd struct {
	max int

	mu    sync.Mutex // guards all below
	turn  uint64
	conns map[net.Conn]seat
}

type seat struct {
	busy  bool
	since uint64
}

// sooner reports whether a is closed rather than b.
func (a seat) sooner(b seat) bool {
	if a.busy != b.busy {
		return b.busy
	}
	return a.since < b.since
}

func newCrowd(n int) *crowd { return &crowd{max: n, conns: map[net.Conn]seat{}} }

// see is for [http.Server.ConnState].
func (c *crowd) see(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s == http.StateClosed || s == http.StateHijacked {
		delete(c.conns, conn)
		return
	}
	if _, ok := c.conns[conn]; !ok && s != http.StateNew {
		return // it has been closed, and does not know yet
	}
	if s == http.StateNew && len(c.conns) >= c.max {
		first := conn
		for other, p := range c.conns {
			if first == conn || p.sooner(c.conns[first]) {
				first = other
			}
		}
		delete(c.conns, first)
		_ = first.Close() // its server hears of it
	}
	c.turn++
	c.conns[conn] = seat{s == http.StateActive, c.turn}
}

// ownCrowd is how many connections each of the proxy's own ports may have: of few descriptors, all ports together an eighth.
func ownCrowd() int {
	n, ok := descriptors()
	if !ok {
		return maxCrowd
	}
	return int(max(4, min(n/32, maxCrowd)))
}

const maxCrowd = 128
