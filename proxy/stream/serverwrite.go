package stream

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/h1"
	"github.com/mallamesh/malla/proxy/header"
)

// What a client of HTTP/1.1 is sent.

// WriteInterim passes on a 1xx response.
func (v *server) WriteInterim(m *header.Map) {
	if !v.http10 {
		v.writeHead(m, false, false)
	}
}

// writeHead sends a response's head, as h1.AppendResponse makes it, and counts it.
func (v *server) writeHead(m *header.Map, chunked, empty bool) {
	room := v.conn.Room(1024)
	b := h1.AppendResponse(room, m, chunked, empty)
	if v.http10 { // Envoy answers in the version of the request
		b[len(room)+len("HTTP/1.")] = '0'
	}
	switch {
	case m.Spelled():
		m.Spell(b[len(room):])
	case v.m.cfg.ProperCase:
		h1.ProperCase(b[len(room):])
	}
	head := b[len(room):]
	v.wrote(len(head), h1.FieldBytes(head))
	v.conn.End(b)
}

// wrote counts bytes of a response, some of which are fields.
func (v *server) wrote(all, fields int) {
	m := &v.s.Rec.Down
	m.WireOut += uint64(all)
	m.HeaderOut += uint64(fields)
	m.PlainOut += uint64(fields)
}

var (
	keepAlive  = []byte("keep-alive")
	closeValue = []byte("close")
)

// WriteHeaders encodes a response's head and decides how its body is framed.
func (v *server) WriteHeaders(m *header.Map, end bool) {
	v.alive()
	v.wroteHead = true
	status := v.s.status
	if status == 101 || v.s.Upgrade && status/100 == 2 && string(v.s.Request.Get(header.Method)) == "CONNECT" {
		v.startTunnel(m)
		return
	}
	// An answer before the end of the request leaves bytes that are no request: the
	// connection cannot be used again. Nor is one that is too old, and has waited for this request (SoftAge).
	v.closing = v.closing || v.inBody || v.draining && !v.last.Armed()
	switch {
	case v.closing || v.draining:
	case v.conn.Draining():
		v.countDrain()
		v.depart()
	case v.lastForOverload():
		v.closing = true
		v.countDrain()
	}
	bodiless := status == 204 || status == 304 || status < 200
	empty := false
	sized := m.Has(header.ContentLength)
	switch {
	case sized || bodiless:
	case end && !v.headOnly:
		empty = true
	case v.http10:
		v.closing = true
	default:
		v.chunked = true
	}
	last := v.closing || v.draining
	switch { // in the map, where the log counts it
	case last:
		m.Add(header.Connection, closeValue)
	case v.http10: // which is not the default there
		m.Add(header.Connection, keepAlive)
	}
	v.writeHead(m, v.chunked, empty)
	v.chunked = v.chunked && !v.headOnly
}

func (v *server) startTunnel(m *header.Map) {
	v.tunnel = true
	v.conn.EndEarly(false) // what has been sent into a tunnel gets there, however slowly
	v.writeHead(m, false, false)
	v.conn.Resume()
}

// WriteData encodes a piece of a response's body.
func (v *server) WriteData(b []byte, end bool) {
	v.alive()
	switch {
	case v.headOnly:
	case v.chunked:
		if h1.WriteChunk(v.conn, b); len(b) > 0 {
			v.wrote(len(b)+h1.ChunkOverhead(len(b)), 0)
		}
		if end {
			v.conn.End(h1.AppendLastChunk(v.conn.Room(16), nil))
			v.wrote(len(lastChunk), 0)
		}
	default:
		v.conn.Write(b)
		v.wrote(len(b), 0)
	}
}

// Measure does nothing: bytes are counted as they go.
func (v *server) Measure(*access.Meter) {}

const lastChunk = "0\r\n\r\n"

// WriteTrailers ends a response's body with trailers, which only a chunked one can carry.
func (v *server) WriteTrailers(m *header.Map) {
	if v.chunked {
		if v.m.cfg.NoTrailers {
			m = nil
		}
		room := v.conn.Room(256)
		b := h1.AppendLastChunk(room, m)
		n := len(b) - len(room)
		v.wrote(n, n-len(lastChunk))
		v.conn.End(b)
	}
}

// Reset breaks off a response: closing the connection is all that HTTP/1.1 has to say so.
func (v *server) Reset() {
	if st := v.m.cfg.Stats; st != nil && !v.closed && !v.s.Rec.Flags.Has(access.OverloadManagerTerminated) {
		st.DownstreamRqTxReset.Inc()
	}
	v.closing, v.inBody = true, true
}

// Full says that the response should pause.
func (v *server) Full() bool { return v.conn.Full() }
