package tcp

import (
	"errors"
	"syscall"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/pool"
)

// Bytes on their way from one side to the other.

// A side is the host's end of a session.
type side interface {
	joined() bool  // bytes can pass
	expects() bool // what the host tells of itself has not come yet
	splice()       // lets bytes go by the kernel, where that can be
	Write(b []byte)
	CloseWrite() // the client will send no more
	Full() bool
	Held() int // bytes that have not left
	Paused() bool
	Resume()
	Ended() bool // the host will send no more
	Reset()
	end() // closes it, after what is still to be written
}

// OnData takes bytes of the client.
func (s *session) OnData(_ *drive.Conn, b []byte) int {
	n := len(b)
	if s.conn.Overload().Points[overload.TCPData].Hit(s.w) {
		s.rec.BytesReceived += uint64(n)
		s.fail(access.OverloadManagerTerminated, "overload")
		return n
	}
	if s.waits {
		s.begun()
		return 0
	}
	if s.seen.expected {
		var more bool
		if b, more = s.seen.take(b, s, s.conn.TLS); more {
			return 0
		}
		s.open()
	}
	if s.conn.Heard() {
		s.rec.State.Inherit(s.conn.State)
	}
	if s.up == nil {
		return n
	}
	s.up.Write(b)
	s.OnSpliced(s.conn.Conn, len(b))
	return n
}

// OnSpliced accounts for bytes of the client that are on their way to the host.
func (s *session) OnSpliced(_ *drive.Conn, n int) {
	s.alive()
	s.rec.BytesReceived += uint64(n)
	s.rec.UpstreamBytesSent += uint64(n)
	if s.drained() {
		return
	}
	if s.up.Full() {
		if st := s.config.Stats; st != nil {
			st.DownstreamFlowControlPausedReading.Inc()
		}
		s.conn.Pause()
	}
}

// came accounts for bytes of the host that are on their way to the client. It reports whether the session goes on.
func (s *session) came(n int) bool {
	s.alive()
	s.rec.UpstreamBytesReceived += uint64(n)
	s.rec.BytesSent += uint64(n)
	return !s.drained()
}

// drained ends the session, behind what is on its way, if its listener is drained and that is wanted. It reports whether it has.
func (s *session) drained() bool {
	if !s.config.DrainClose || !s.conn.Draining() {
		return false
	}
	s.closedFor("tcp_proxy_drain_close")
	s.finish()
	return true
}

// flows lets the client's bytes flow again: the host takes more.
func (s *session) flows() {
	if s.over || !s.conn.Paused() {
		return
	}
	if st := s.config.Stats; st != nil {
		st.DownstreamFlowControlResumedReading.Inc()
	}
	s.conn.Resume()
}

// OnEnd passes on that the client will send no more.
func (s *session) OnEnd(*drive.Conn) {
	s.rec.ClientEnd.How = access.EndRemoteClosed
	if s.up == nil {
		s.finish()
		return
	}
	s.up.CloseWrite()
	s.ended()
}

// ended finishes once both directions have ended.
func (s *session) ended() {
	if s.conn.Ended() && s.up != nil && s.up.Ended() {
		s.finish()
	}
}

// OnClose notices that the client has broken off.
func (s *session) OnClose(_ *drive.Conn, err error) {
	if s.over {
		return
	}
	if s.conn.CutShort(&s.rec) {
		s.rec.BytesSent -= min(s.rec.BytesSent, uint64(s.conn.Lost())) // over TLS with the frames of its records
		if s.up != nil {
			s.up.Reset()
		}
		s.finish()
		return
	}
	s.rec.ClientEnd.How, s.rec.ClientEnd.Code = pool.HowEnded(err)
	if errors.Is(err, syscall.ECONNRESET) {
		s.rec.ClientClose = access.CloseRemoteReset
		if s.up != nil {
			s.up.Reset() // as the client did
		}
	}
	s.finish()
}

// OnDrained lets the host's bytes flow again.
func (s *session) OnDrained(*drive.Conn) {
	if s.up != nil && s.up.Paused() {
		s.up.Resume()
	}
}

// Weigh tells what waits in the session.
func (s *session) Weigh(tell func(int, func())) {
	if s.over {
		return
	}
	n := s.conn.Buffered()
	if s.up != nil {
		n += s.up.Held()
	}
	tell(n, func() {
		if s.over {
			return
		}
		s.rec.Flags.Set(access.OverloadManagerTerminated)
		if s.up != nil {
			s.up.Reset()
		}
		s.conn.Abort()
		s.finish()
	})
}
