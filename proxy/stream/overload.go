package stream

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/h2"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/overload"
)

// detailsOverload is why a request was refused, or ended, in Envoy's words.
const detailsOverload = "overload"

// overloaded refuses a request for which there is no room. That is done before anything is looked up for it.
func (s *Stream) overloaded() bool {
	over := s.link.over
	if !over.Points[overload.DecodeHeaders].Hit(s.Worker) && !over.Requests.Hit(s.Worker) {
		return false
	}
	s.link.countOverload()
	s.ReplyOverloaded(s.Config.MarkOverload)
	return true
}

// retryAfter is when a client that was refused may come back, in seconds. Pressure is looked at once a second, and what
// has to go first takes about as long.
var retryAfter = []byte("1")

// ReplyOverloaded refuses a request for want of something. mark has it say so in a field of its own.
func (s *Stream) ReplyOverloaded(mark bool) {
	s.ReplyWith(503, "envoy overloaded", detailsOverload, func(m *header.Map) {
		if mark {
			m.Add(header.XEnvoyLocalOverloaded, trueValue)
		}
		m.Add(header.RetryAfter, retryAfter)
	})
}

// OverloadedHere is [Overloaded] where the limit is the proxy's own, and will not be reached for ever.
func OverloadedHere(m *header.Map) {
	Overloaded(m)
	m.Add(header.RetryAfter, retryAfter)
}

// Overload says what there is too much of, as far as that concerns the stream.
func (s *Stream) Overload() *overload.State { return s.link.over }

func (l *link) countOverload() {
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamRqOverloadClose.Inc()
	}
}

// lastForOverload reports whether the connection is to end with the response that is written now.
func (l *link) lastForOverload() bool {
	if !l.over.KeepAlive.Hit(l.m.w) {
		return false
	}
	if st := l.m.cfg.Stats; st != nil {
		st.DownstreamCxOverloadDisableKeepalive.Inc()
	}
	return true
}

// abortDispatch reads no more of a client's bytes: there is no room for what may be in them.
func (v *server) abortDispatch() {
	if v.closed {
		return
	}
	v.countOverload()
	s := v.s
	if s == nil {
		s = v.newStream()
	}
	v.closing, v.inBody = true, true
	s.Rec.Flags.Set(access.DownstreamProtocolError)
	if s.responded { // too late for words
		v.finish()
		s.Abort(access.DownstreamProtocolError, detailsOverload)
		v.abort()
		return
	}
	s.Reply(500, "Internal Server Error", detailsOverload)
}

// Weigh tells what the request in flight holds.
func (v *server) Weigh(tell func(int, func())) {
	s := v.s
	if v.closed || s == nil {
		return
	}
	gen := s.gen
	tell(v.conn.Buffered()+s.held(), func() {
		if v.closed || v.s != s || s.gen != gen {
			return
		}
		v.closing, v.inBody = true, true
		if !s.responded {
			s.Rec.Flags.Set(access.OverloadManagerTerminated)
			s.ReplyOverloaded(s.Config.MarkOverload)
			return
		}
		v.finish()
		s.Abort(access.OverloadManagerTerminated, detailsOverload)
		v.abort()
	})
}

// drop ends a connection with all that waits for its client.
func (v *server2) drop() {
	if v.closed {
		return
	}
	v.abortAll(detailsOverload)
	if !v.closed {
		v.close()
	}
	v.conn.Abort()
}

// abortAll ends all streams.
func (v *server2) abortAll(details string) {
	for v.live.next != &v.live {
		v.live.next.s.Abort(access.OverloadManagerTerminated, details)
	}
}

// Rescale has the connection's times follow the pressure.
func (v *server2) Rescale() {
	if !v.closed {
		v.rescale()
		v.lookAgain(v.m.w.Loop.Now())
	}
}

// shedDispatch announces the end of the connection, or ends it, instead of reading on. It reports whether
// there is nothing left to read.
func (v *server2) shedDispatch() bool {
	if v.closed || v.shed {
		return v.closed
	}
	if v.over.Points[overload.HTTP2GoAwayAndClose].Hit(v.m.w) {
		v.shed = true
		v.http.GoAway(h2.NoError)
		v.abortAll(detailsOverload)
		if !v.closed {
			v.close()
		}
		return true
	}
	if v.over.Points[overload.HTTP2GoAway].Hit(v.m.w) {
		v.shed = true
		v.http.Leave()
	}
	return false
}

// Weigh tells what each stream holds. What is in the connection's own buffer belongs to no stream any more, and goes
// only with the connection.
func (v *server2) Weigh(tell func(int, func())) {
	if !v.closed {
		tell(v.conn.Buffered(), v.drop)
	}
	for x := v.live.next; x != &v.live && !v.closed; x = x.next {
		if x.s == nil || x.hs == nil {
			continue
		}
		s, gen := x.s, x.s.gen
		tell(x.hs.Held()+s.held(), func() {
			if x.s == s && s.gen == gen && !s.over {
				s.Abort(access.OverloadManagerTerminated, detailsOverload)
			}
		})
	}
}
