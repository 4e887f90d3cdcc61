package drive

import "errors"

// ErrCut is the end of a connection that [Conn.CutAfter] has set.
var ErrCut = errors.New("cut after so many bytes")

// A cutSocket breaks when so many bytes have passed it, both directions together.
type cutSocket struct {
	socket
	conn *Conn
	left int
	over bool
	lost int // bytes of our side's that the cut has kept back
}

// CutAfter has the connection reset when n more bytes have passed it, as the peer and our side of it see it; what has
// passed before gets through. It is for tests of those who use connections.
func (c *Conn) CutAfter(n int) {
	s := &cutSocket{socket: c.bare(), conn: c, left: n}
	c.sock = s
	if n <= 0 {
		s.cut()
	}
}

// bare is the socket itself.
func (c *Conn) bare() socket {
	if s, ok := c.sock.(*cutSocket); ok {
		return s.socket
	}
	return c.sock
}

// cut ends the connection in the next turn: what has come in this one is still handed on.
func (s *cutSocket) cut() {
	s.over = true
	s.conn.loop.Post(func() {
		s.lost = s.conn.Buffered()
		s.conn.fail(ErrCut)
	})
}

// Cut reports whether the connection has been cut.
func (c *Conn) Cut() bool {
	s, ok := c.sock.(*cutSocket)
	return ok && s.over
}

// Lost returns how many bytes of our side's a cut has kept back, as they are on the wire; without a cut, none.
func (c *Conn) Lost() int {
	if s, ok := c.sock.(*cutSocket); ok {
		return s.lost
	}
	return 0
}

func (s *cutSocket) pass(b []byte, f func([]byte) (int, error)) (int, error) {
	if s.over {
		return 0, errAgain
	}
	n, err := f(b[:min(len(b), s.left)])
	if s.left -= max(n, 0); s.left == 0 {
		s.cut()
	}
	return n, err
}

func (s *cutSocket) read(b []byte) (int, error)  { return s.pass(b, s.socket.read) }
func (s *cutSocket) write(b []byte) (int, error) { return s.pass(b, s.socket.write) }
func (s *cutSocket) close(reset bool)            { s.socket.close(reset || s.over) }
