package tcp

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
)

// The end of a session, and what is told of it.

// Why there is no upstream, in Envoy's words, spelling included.
const (
	notConnectable = "tcp_initializion_failure:0"
	noHost         = "tcp_initializion_failure:1"
	overflow       = "tcp_initializion_failure:2"
	noCluster      = "tcp_initializion_failure:3"
)

// fail ends a session that got no upstream.
func (s *session) fail(flag access.Flag, why string) {
	s.rec.Flags.Set(flag)
	s.rec.LocalClose = why
	s.finish()
}

// finish closes both sides, after what is still to be written.
func (s *session) finish() {
	if s.over {
		return
	}
	s.over = true
	s.mustOpen()
	s.w.Loop.Cancel(&s.age)
	s.w.Loop.Cancel(&s.periodic)
	s.w.Loop.Cancel(&s.lines)
	s.w.Loop.Cancel(&s.again.timer)
	if u := s.up; u != nil {
		s.up = nil
		u.end()
	}
	s.measure()
	s.rec.Closed = s.mark()
	s.closing()
	s.conn.Tell(&s.rec)
	s.log(access.TCPConnectionEnd, true)
	s.conn.Release()
	s.conn.Conn.Close()
}

// closing notes how each side has ended: it has closed first, or the proxy has.
func (s *session) closing() {
	r := &s.rec
	if r.ClientEnd.How == "" {
		r.ClientEnd.How = access.EndLocalClosed
	}
	h := &r.HostEnd
	if r.Dial.Connected == 0 || h.Requests > 0 { // there was none, or its codec has told
		return
	}
	if h.How == "" {
		h.How = access.EndLocalClosed
	}
	h.In, h.Out = r.Up.WireIn, r.Up.WireOut
	h.Age, _ = r.Closed.Sub(r.Dial.Begun)
}

// measure counts what the TCP proxy has passed on; its own words (peer exchange, handshakes) are nobody's.
func (s *session) measure() {
	r := &s.rec
	r.Down.WireIn, r.Down.WireOut = r.BytesReceived, r.BytesSent
	if r.Up.HeaderOut == 0 { // a tunnel counts what it sends
		r.Up.WireIn, r.Up.WireOut = r.UpstreamBytesReceived, r.UpstreamBytesSent
	}
}

// log tells metrics of a moment, and access logs if it is one of theirs.
func (s *session) log(t access.Type, write bool) {
	s.rec.Type, s.rec.Ended = t, s.mark()
	for _, l := range s.config.Metrics {
		l.Log(s.w.Index, &s.rec)
	}
	if write {
		s.flushLog()
	}
}

// flushLog writes a line of the access logs.
func (s *session) flushLog() {
	s.config.Record(s.w.Index, &s.rec)
}

func ms(ns int64) uint64 { return uint64(max(0, ns) / int64(time.Millisecond)) }
