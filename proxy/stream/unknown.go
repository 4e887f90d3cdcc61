package stream

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/overload"
)

// A Codec says which versions of HTTP clients may speak (codec_type).
type Codec uint8

const (
	// Auto goes by ALPN, and without it by the first bytes.
	Auto Codec = iota
	HTTP1
	HTTP2
)

// magic is how the preface of HTTP/2 begins (RFC 9113, section 3.4), as far as Envoy
// looks at it: no request of HTTP/1 begins like that.
var magic = []byte("PRI * HTTP/2")

// unknown waits for the first bytes of a connection. Until they come it is of no version of HTTP, for Envoy too, and
// nothing is said when it ends.
type unknown struct {
	link
	begun bool  // some bytes have come, too few to tell
	codec Codec // Auto: the bytes tell
}

// serve begins with a connection.
func (m *manager) serve(conn *listen.Conn) {
	if m.cfg.Stats != nil {
		conn.SetMeter(&m.meter)
	}
	u := &unknown{link: link{m: m, conn: conn, over: conn.Overload()}, codec: m.cfg.Codec}
	if u.codec == Auto && conn.TLS != nil && conn.TLS.ALPN != "" {
		if u.codec = HTTP1; conn.TLS.ALPN == "h2" {
			u.codec = HTTP2
		}
	}
	u.timer.Handler = u
	u.open()
	conn.Served = u
	conn.SetHandler(u)
	u.idleFromNow()
}

// known is the connection's account, for who goes on with it.
func (u *unknown) known() link {
	u.m.w.Loop.Cancel(&u.timer)
	u.conn.SetDeadline(0)
	return u.link
}

func (u *unknown) serveAs(codec Codec) {
	if codec == HTTP2 {
		serveHTTP2(u.known())
		return
	}
	serveHTTP1(u.known())
}

// OnData decides, and leaves the bytes to whoever it is.
func (u *unknown) OnData(_ *drive.Conn, b []byte) int {
	u.begun = true
	if u.over.Points[overload.CreateCodec].Hit(u.m.w) {
		u.shed()
		return len(b)
	}
	switch n := min(len(b), len(magic)); {
	case u.codec != Auto:
		u.serveAs(u.codec)
	case !bytes.Equal(b[:n], magic[:n]):
		u.serveAs(HTTP1)
	case n == len(magic):
		u.serveAs(HTTP2)
	}
	return 0
}

// server is who judges a beginning that has no end.
func (u *unknown) server() *server {
	v := serveHTTP1(u.known())
	v.seenHead = 1
	v.startHead()
	return v
}

// OnEnd counts a connection that has said too little.
func (u *unknown) OnEnd(c *drive.Conn) { u.gone(c, nil) }

// OnClose counts one that has broken.
func (u *unknown) OnClose(c *drive.Conn, err error) { u.gone(c, err) }

func (u *unknown) gone(c *drive.Conn, err error) {
	if u.begun {
		u.server().OnClose(c, err)
		return
	}
	u.goneWith(0)
	u.finish()
	u.conn.Close()
}

// OnDeadline ends one that has said nothing for too long.
func (u *unknown) OnDeadline(c *drive.Conn) {
	if u.begun {
		u.server().OnDeadline(c)
		return
	}
	u.idle()
	u.end()
}

// OnTimer ends one that has lived as long as it may.
func (u *unknown) OnTimer(*drive.Timer) {
	u.aged()
	u.end()
}

func (u *unknown) end() {
	u.finish()
	u.leave()
}

// shed ends a connection whose first bytes have come, before anything is made for it.
func (u *unknown) shed() {
	u.countOverload()
	u.end()
}

// OnDrained does nothing: nothing was written.
func (u *unknown) OnDrained(*drive.Conn) {}

// Drain does nothing: what comes first is still answered.
func (u *unknown) Drain() {}

// Kill ends the connection.
func (u *unknown) Kill() {
	if u.begun {
		u.server().Kill()
		return
	}
	u.end()
}
