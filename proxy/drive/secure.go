package drive

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// secure is TLS on a connection.
//
// The handshake is a coroutine of the loop (see [Fiber]), because crypto/tls wants to wait in
// the middle of it. Afterwards crypto/tls runs inside the turn: the net.Conn beneath it is
// memory, and when that has no bytes it returns a temporary error, after which a Read goes on
// where it stopped, in the middle of a record if need be.
type secure struct {
	conn  *Conn
	tls   *tls.Conn
	state tls.ConnectionState
	ready func(*Conn, error)

	in      []byte // ciphertext for the handshake; afterwards what a turn left over
	src     []byte // ciphertext of this turn, borrowed
	wire    []byte // ciphertext for the socket
	wireOff int

	fiber  *Fiber // while the handshake is on its way
	failed error  // how it ended
	gone   error  // why no more input will come, while there is a handshake
	queued bool   // in loop.shaking

	carriedIn, carriedOut uint64 // see Conn.Carried
	aside                 bool   // the handshake waits for another goroutine
	done                  bool   // the handshake is over
	closed                bool   // close_notify is sent
	more                  bool   // decrypt stopped early: crypto/tls may hold plain text

	reading bool // inside of Read, which may write
	answers int  // bytes that reading has made us write since wire was empty last
}

// maxHandshakeInput bounds what a peer may send ahead of a handshake.
const maxHandshakeInput = 256 << 10

// maxAnswers bounds what a peer may make us write by what it sends, and not take. crypto/tls answers
// every request for a new key at once, and counts on a writer that waits.
const maxAnswers = 64 << 10

// errAnswers ends a connection whose peer asks and takes no answer.
var errAnswers = errors.New("TLS: the peer asks for new keys and takes no answer")

// ErrHandshakeTimeout ends handshakes that take too long.
var ErrHandshakeTimeout = errors.New("TLS handshake timed out")

type again struct{}

func (again) Error() string   { return "drive: no ciphertext now" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

// StartTLS begins a handshake. Input that the handler has not consumed belongs to
// it. ready is called in a turn with the outcome; after an error the alert is still
// sent if the caller closes by Close.
func (c *Conn) StartTLS(server bool, config *tls.Config, timeout time.Duration, ready func(*Conn, error)) {
	s := &secure{conn: c, ready: ready}
	if server {
		s.tls = tls.Server(s, config)
	} else {
		s.tls = tls.Client(s, config)
	}
	c.tls = s
	s.in = append(s.in, c.in...)
	c.drop()
	c.timer.Handler = handshakeTimer{s}
	c.loop.Schedule(&c.timer, timeout)
	s.enqueue()
}

type handshakeTimer struct{ s *secure }

func (t handshakeTimer) OnTimer(*Timer) { t.s.end(ErrHandshakeTimeout) }

// finish goes on when the handshake is over.
func (s *secure) finish(err error) {
	c := s.conn
	if c.state.dead {
		s.release()
		return
	}
	c.loop.Cancel(&c.timer)
	if err == nil {
		s.state = s.tls.ConnectionState()
	}
	s.done, s.more = true, true // crypto/tls may have read ahead
	// The chain has been judged and its names taken down: let it go.
	s.state.PeerCertificates, s.state.VerifiedChains = nil, nil
	c.state.paused = false
	s.ready(c, err)
	if c.state.dead {
		return
	}
	c.touch()
	c.state.again = true
	c.loop.enqueue(c)
}

// feed gives ciphertext to the handshake.
func (s *secure) feed(b []byte) {
	s.in = append(s.in, b...)
	s.enqueue()
}

// end tells the handshake that nothing more will come.
func (s *secure) end(err error) {
	if s.gone == nil {
		s.gone = err
	}
	s.enqueue()
}

func (s *secure) abandon() {
	if s.done {
		s.release()
		return
	}
	s.end(net.ErrClosed)
}

func (s *secure) release() {
	if s.wire != nil {
		s.conn.loop.bufs.put(s.wire)
		s.wire, s.wireOff = nil, 0
	}
}

// Read is the net.Conn beneath crypto/tls.
func (s *secure) Read(b []byte) (int, error) {
	if s.done {
		return s.readNow(b)
	}
	for len(s.in) == 0 && s.gone == nil {
		s.fiber.Wait()
	}
	if len(s.in) == 0 || s.conn.state.dead {
		return 0, s.gone
	}
	n := copy(b, s.in)
	s.in = s.in[:copy(s.in, s.in[n:])]
	return n, nil
}

func (s *secure) readNow(b []byte) (int, error) {
	if len(s.in) > 0 {
		n := copy(b, s.in)
		s.in = s.in[:copy(s.in, s.in[n:])]
		return n, nil
	}
	if len(s.src) > 0 {
		n := copy(b, s.src)
		s.src = s.src[n:]
		return n, nil
	}
	if s.conn.state.eof {
		return 0, io.EOF
	}
	return 0, again{}
}

// Write is the net.Conn beneath crypto/tls. It never waits.
func (s *secure) Write(b []byte) (int, error) {
	if s.wireOff == len(s.wire) {
		s.answers = 0
	}
	if s.reading {
		s.answers += len(b)
	}
	s.wire = append(s.conn.loop.bufs.grow(s.wire, len(b)), b...)
	if !s.done {
		s.conn.touch()
	}
	return len(b), nil
}

func (s *secure) Close() error                     { return nil }
func (s *secure) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(s.conn.local) }
func (s *secure) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(s.conn.remote) }
func (s *secure) SetDeadline(time.Time) error      { return nil }
func (s *secure) SetReadDeadline(time.Time) error  { return nil }
func (s *secure) SetWriteDeadline(time.Time) error { return nil }

// pumpTLS reads the socket once and delivers what it decrypts to; it reports whether there may be more.
func (c *Conn) pumpTLS() bool {
	s, buf := c.tls, c.loop.read
	if !s.done {
		return c.pumpHandshake()
	}
	if len(s.in) > 0 || s.more { // a turn ended early: first what it left
		if !c.decrypt() {
			return false
		}
	}
	n, err := c.sock.read(buf)
	if n == 0 {
		if err == io.EOF {
			c.ended()
			return false
		}
		c.noInput(err)
		return false
	}
	c.BytesIn += uint64(n)
	if c.state.closing != open {
		return true
	}
	s.src = buf[:n]
	more := c.decrypt()
	if s.src != nil {
		s.in = append(s.in, s.src...)
		s.src = nil
	}
	return more && (n == len(buf) || c.state.hup)
}

func (c *Conn) pumpHandshake() bool {
	s, buf := c.tls, c.loop.read
	if len(s.in) > maxHandshakeInput {
		return false // a client that is done already sends its data; finish reads on
	}
	n, err := c.sock.read(buf)
	if n == 0 {
		switch err {
		case errAgain:
		case io.EOF:
			s.end(io.EOF)
			c.state.paused = true // finish decides
		default:
			s.end(err)
			c.state.paused = true
		}
		return false
	}
	c.BytesIn += uint64(n)
	s.feed(buf[:n])
	return n == len(buf) || c.state.hup
}

// decrypt delivers the plain text of the ciphertext at hand; it reports whether reading may go on.
func (c *Conn) decrypt() bool {
	s, buf := c.tls, c.loop.plain
	s.more = true
	for {
		if c.state.paused || c.state.again || c.state.dead || len(c.in) > c.maxTail() {
			return false
		}
		var n int
		var err error
		if len(c.in) > len(buf)-readStep {
			c.in = c.loop.bufs.grow(c.in, readStep)
			if n, err = s.fill(c.in[len(c.in):cap(c.in)]); n > 0 {
				c.meterIn(n, len(c.in)+n)
				c.deliverOwn(c.in[:len(c.in)+n])
			}
		} else {
			kept := copy(buf, c.in)
			if n, err = s.fill(buf[kept:]); n > 0 {
				c.meterIn(n, kept+n)
				c.in = c.in[:0]
				c.deliver(buf[:kept+n])
			}
		}
		if c.state.dead {
			return false
		}
		if s.answers > 0 {
			if c.touch(); s.answers > maxAnswers {
				err = errAnswers
			}
		}
		switch {
		case err == nil || len(c.in) > 0 && (c.state.paused || c.state.again):
			continue // what the handler has left comes before the end, which crypto/tls tells again
		case err == again{}:
			s.more = false
			if len(s.in) == 0 {
				s.in = nil
			}
			return true
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			c.ended()
			return false
		default:
			c.flushTLS() // the alert
			c.fail(err)
			return false
		}
	}
}

// fill reads until b is full or there is no more.
func (s *secure) fill(b []byte) (int, error) {
	s.reading = true
	defer func() { s.reading = false }()
	n := 0
	for n < len(b) {
		m, err := s.tls.Read(b[n:])
		n += m
		if err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				return n, again{}
			}
			return n, err
		}
	}
	return n, nil
}

// flushTLS encrypts and writes; it reports whether the connection still lives.
func (c *Conn) flushTLS() bool {
	s := c.tls
	for {
		if s.done && s.wireOff == len(s.wire) && !s.encrypt() {
			return false
		}
		if s.wireOff == len(s.wire) {
			s.release()
			return true
		}
		n, err := c.sock.write(s.wire[s.wireOff:])
		if err != nil && err != errAgain {
			c.fail(err)
			return false
		}
		c.BytesOut += uint64(n)
		s.wireOff += n
		if n > 0 {
			c.progress()
		}
		if s.wireOff < len(s.wire) {
			c.stuck()
			return true
		}
		s.wire, s.wireOff = s.wire[:0], 0
	}
}

// encryptStep bounds how much ciphertext is made ahead of the socket.
const encryptStep = 128 << 10

// encrypt makes records of pending output; it reports whether the connection still lives.
func (s *secure) encrypt() bool {
	c := s.conn
	s.wire, s.wireOff = s.wire[:0], 0
	if b := c.first(); len(b) > 0 {
		b = b[:min(len(b), encryptStep)]
		if _, err := s.tls.Write(b); err != nil {
			c.fail(err)
			return false
		}
		c.took(len(b))
		c.meterOut(len(b))
	}
	if c.queued() == 0 && !s.closed && (c.state.shut || c.state.closing != open) && s.state.HandshakeComplete {
		s.closed = true
		s.tls.CloseWrite()
	}
	return true
}
