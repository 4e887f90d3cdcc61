package stream

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
)

// This file has the way of a request: from the client, through the filters, to the terminal. A filter may hold
// it; what comes of it meanwhile waits in reqHeld.

// iterate shows the request to filters from i on, and then to the terminal.
func (s *Stream) iterate(i int, end bool) {
	s.reqEnds = end
	for ; i < len(s.filters); i++ {
		s.at = i + 1
		if s.skipped(i) {
			continue
		}
		if v := s.filters[i].OnRequest(s, &s.Request); v != Continue {
			if !s.over && !s.responded {
				s.reqWait = i
				s.reqHeld.headers = true
				s.reqHeld.collect = v == Collect
			}
			return
		}
		if s.over || s.responded {
			return
		}
	}
	s.started = true
	s.passedEnd = end && !s.Upgrade
	s.terminal.OnRequest(s, &s.Request, s.passedEnd)
}

// onData takes a piece of the request's body.
func (s *Stream) onData(b []byte, end bool) {
	s.Rec.BytesReceived += uint64(len(b))
	if end && len(b) > 0 && s.reqWait >= 0 && s.Rec.Protocol < access.HTTP2 {
		// That a body of HTTP/1.1 is over is known after its last bytes: who finds them too many answers before, as in Envoy.
		s.pass(b, false)
		b = nil
	}
	if end {
		s.requested = true
		s.Rec.RequestEnd = s.mark()
	}
	s.pass(b, end)
	s.checkOver()
}

func (s *Stream) pass(b []byte, end bool) {
	s.inData = true
	s.passData(0, b, end)
	s.inData = false
}

// passData leads a piece through the data filters from i on.
func (s *Stream) passData(i int, b []byte, end bool) {
	if s.over || s.finished || s.replied {
		return
	}
	if s.reqWait >= 0 && i <= s.reqWait && (s.reqHeld.raw() && i >= s.reqHeld.done || !s.anyData) {
		s.holdRequest(b, end)
		return
	}
	if s.anyData {
		for ; i < len(s.filters); i++ {
			if i == s.reqWait || s.reqWait >= 0 && s.reqHeld.raw() && i >= s.reqHeld.done { // those before it have seen the piece
				s.holdRequest(b, end)
				return
			}
			if s.data[i] == nil || s.skipped(i) {
				continue
			}
			s.buffer.Bytes = b
			if v := s.data[i].OnRequestData(s, &s.buffer, end); v != Continue {
				if !s.over && !s.replied && v == Stop { // a host that has begun to answer may want the rest
					s.reqWait = i
					s.holdRequest(s.buffer.Bytes, end)
				}
				return
			}
			if s.over || s.responded && s.replied {
				return
			}
			b = s.buffer.Bytes
		}
		if len(b) == 0 && !end {
			return // a filter keeps it
		}
	}
	s.passedEnd = end
	s.terminal.OnRequestData(b, end)
	if !s.over && !end && s.terminal.Full() {
		s.down.PauseRequest()
	}
}

func (s *Stream) holdRequest(b []byte, end bool) {
	s.reqHeld.end = s.reqHeld.end || end
	if len(b) > s.reqHeld.room() {
		if st := s.Config.Stats; st != nil {
			st.DownstreamRqTooLarge.Inc()
		}
		s.Reply(413, "Payload Too Large", "request_payload_too_large", access.NoFlag)
		return
	}
	s.reqHeld.bytes = append(s.reqHeld.bytes, b...)
	switch {
	case end && s.reqHeld.collect:
		s.requestWhole()
	case !end && !s.reqHeld.collect && len(s.reqHeld.bytes) >= heldMark:
		s.down.PauseRequest()
	}
}

// requestWhole goes on with a request that was collected.
func (s *Stream) requestWhole() {
	s.inData = false // nothing of it is on its way any more
	if c, ok := s.filters[s.reqWait].(Collector); ok {
		s.reqHeld.bytes = c.OnRequestWhole(s, s.reqHeld.bytes)
	}
	if !s.over && !s.responded && !s.reqHeld.stay {
		s.resumeRequest()
	}
}

// onTrailers ends the request's body.
func (s *Stream) onTrailers() {
	s.requested = true
	s.Rec.RequestEnd = s.mark()
	switch {
	case s.over || s.finished || s.replied:
	case s.reqWait >= 0 && s.reqHeld.raw():
		s.reqHeld.end, s.reqHeld.trailers = true, &s.Trailers
	default:
		s.passTrailers(0, &s.Trailers)
	}
	s.checkOver()
}

// passTrailers leads a request's trailers through the filters from i on to the terminal.
func (s *Stream) passTrailers(i int, m *header.Map) {
	for ; i < len(s.filters); i++ {
		if i == s.reqWait { // those before it have seen them
			s.reqHeld.end, s.reqHeld.trailers, s.reqHeld.after = true, m, i
			if s.reqHeld.collect {
				s.requestWhole()
			}
			return
		}
		if s.trailing[i] == nil || s.skipped(i) {
			continue
		}
		if v := s.trailing[i].OnRequestTrailers(s, m); v != Continue {
			if v != Taken && !s.over && !s.replied {
				s.reqWait = i
				s.reqHeld.end, s.reqHeld.trailers, s.reqHeld.after = true, m, i+1
			}
			return
		}
		if s.over || s.responded && s.replied {
			return
		}
	}
	s.passedEnd = true
	s.terminal.OnRequestTrailers(m)
}

// resumeRequest goes on behind the filter that stopped the request.
func (s *Stream) resumeRequest() {
	i := s.reqWait
	s.reqWait = -1
	s.proceedFrom(i)
}

// proceedFrom goes on behind filter i with what is held.
func (s *Stream) proceedFrom(i int) {
	h := s.reqHeld
	s.reqHeld = held{bytes: h.bytes[:0]}
	if h.headers {
		s.iterate(i+1, s.requested && len(h.bytes) == 0 && h.trailers == nil)
	}
	from := i + 1
	if h.headers && !h.collect {
		from = h.done // the others have seen headers only
	}
	if s.over || s.replied || h.headers && s.responded || s.reqWait >= 0 && !s.reqHeld.collect {
		if s.reqWait >= 0 { // stopped again further on: keep what has not passed
			s.reqHeld.bytes, s.reqHeld.end, s.reqHeld.trailers, s.reqHeld.after, s.reqHeld.done = h.bytes, h.end, h.trailers, h.after, from
		}
		s.checkOver()
		return
	}
	if len(h.bytes) > 0 || h.end && !s.passedEnd && h.trailers == nil {
		s.passData(from, append([]byte(nil), h.bytes...), h.end && h.trailers == nil)
	}
	if h.trailers != nil && !s.over {
		s.passTrailers(h.after, h.trailers)
	}
	if !s.over && s.reqWait < 0 && s.reqPaused == 0 && !s.Upgrade && (s.passedEnd || !s.terminal.Full()) {
		s.down.ResumeRequest()
	}
	s.checkOver()
}

// ResumeRequest has the client's bytes come again; the terminal calls it when it is no longer Full.
func (s *Stream) ResumeRequest() {
	if len(s.forUpstream) > 0 {
		if s.tell(&s.forUpstream); s.over || s.started && s.terminal.Full() {
			return
		}
	}
	if !s.over && s.reqWait < 0 && s.reqPaused == 0 {
		s.down.ResumeRequest()
	}
}
