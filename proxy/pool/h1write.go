package pool

import (
	"github.com/mallamesh/malla/proxy/h1"
	"github.com/mallamesh/malla/proxy/header"
)

// SendHeaders encodes the request's head.
func (c *h1Conn) SendHeaders(m *header.Map, end bool) {
	c.method = m.Get(header.Method)
	c.upgrade, c.connect = m.Has(header.Upgrade), string(c.method) == "CONNECT"
	c.chunked = !end && !m.Has(header.ContentLength) && !c.upgrade && !c.connect
	room := c.room(512)
	empty := end && !c.upgrade && !m.Has(header.ContentLength) && !h1.Bodiless(c.method)
	b := h1.AppendRequest(room, m, h1.Form{Chunked: c.chunked, Empty: empty, Absolute: c.pool.cluster.AbsoluteURL})
	switch {
	case m.Spelled():
		m.Spell(b[len(room):])
	case c.pool.cluster.ProperCase:
		h1.ProperCase(b[len(room):])
	}
	head := b[len(room):]
	c.wrote(len(head), h1.FieldBytes(head))
	c.conn.End(b)
	c.sentAll = end
}

// wrote counts bytes of a request, some of which are fields.
func (c *h1Conn) wrote(all, fields int) {
	c.meter.WireOut += uint64(all)
	c.meter.HeaderOut += uint64(fields)
	c.meter.PlainOut += uint64(fields)
}

const lastChunk = "0\r\n\r\n"

// SendData encodes a piece of the request's body.
func (c *h1Conn) SendData(b []byte, end bool) {
	if c.handler == nil {
		return // the response is complete: nobody wants the rest
	}
	if c.chunked {
		if h1.WriteChunk(c.conn, b); len(b) > 0 {
			c.wrote(len(b)+h1.ChunkOverhead(len(b)), 0)
		}
		if end {
			c.conn.End(h1.AppendLastChunk(c.conn.Begin(), nil))
			c.wrote(len(lastChunk), 0)
		}
	} else {
		c.conn.Write(b)
		c.wrote(len(b), 0)
	}
	if end {
		c.endRequest()
	}
}

// room is the output with place for n more bytes, so that append need not leave the pooled buffer.
func (c *h1Conn) room(n int) []byte { return c.conn.Room(n) }

// SendTrailers ends the request's body with trailers, which only a chunked one can carry.
func (c *h1Conn) SendTrailers(m *header.Map) {
	if c.handler == nil {
		return
	}
	if c.chunked {
		if !c.pool.cluster.Trailers {
			m = nil
		}
		room := c.conn.Begin()
		b := h1.AppendLastChunk(room, m)
		n := len(b) - len(room)
		c.wrote(n, n-len(lastChunk))
		c.conn.End(b)
	}
	c.endRequest()
}

func (c *h1Conn) endRequest() {
	c.sentAll = true
	if c.tunnel {
		c.conn.CloseWrite()
	}
}

// Full says that the request should pause.
func (c *h1Conn) Full() bool { return c.conn.Full() }

// Held is how many bytes of the request have not left.
func (c *h1Conn) Held() int { return c.conn.Buffered() }
