package stream

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
)

// This file has the way of a response: from the terminal, backwards through the filters that have seen the
// request, to the client. A filter may hold it; what comes of it meanwhile waits in respHeld.

// Interim passes on a 1xx response other than 101.
func (s *Stream) Interim(m *header.Map) {
	if !s.over && !s.responded && s.Config.passInterim() {
		s.tellID(m)
		s.m.countAnswer(m.StatusCode())
		s.down.WriteInterim(m)
		if s.down.Full() { // an upstream may send as many as it likes
			s.terminal.PauseResponse()
		}
	}
}

// Respond brings a response from the terminal.
func (s *Stream) Respond(m *header.Map, end bool) {
	if s.over || s.responded {
		return
	}
	s.responded, s.Response = true, m
	s.finalizeResponse(m)
	s.respond(len(s.filters)-1, end)
}

// respond shows a response to the filters that have seen the request, backwards, and writes it.
func (s *Stream) respond(i int, end bool) {
	s.respEnds = end
	for i = min(i, s.at-1); i >= 0; i-- {
		if s.skipped(i) {
			continue
		}
		if v := s.filters[i].OnResponse(s, s.Response); v != Continue {
			if !s.over {
				s.respWait = i
				s.respHeld.headers = true
				s.respHeld.end = s.respHeld.end || end
				if s.respHeld.collect = v == Collect; v == Stop && s.started {
					s.terminal.PauseResponse()
				}
			}
			return
		}
		if s.over {
			return
		}
	}
	s.finishHeaders(end)
}

// finishHeaders writes the response's headers.
func (s *Stream) finishHeaders(end bool) {
	if !s.Response.Has(header.Status) {
		s.replaceStripped()
		return
	}
	s.responseHeaders(s.Response)
	s.sent = true
	if st := s.Config.Stats; st != nil && !s.requested {
		st.DownstreamRqResponseBeforeRqComplete.Inc()
	}
	s.Rec.DownstreamSend = s.mark()
	if end {
		s.finished = true
		s.Rec.DownstreamSent = s.Rec.DownstreamSend
	}
	s.down.WriteHeaders(s.Response, end)
	if s.Config.LogTunnel && s.Upgrade && (s.status == 101 || s.status/100 == 2) && !s.over {
		s.logMoment(access.DownstreamTunnelEstablished)
	}
	s.checkOver()
}

// replaceStripped answers in place of a response that filters have taken the status from.
func (s *Stream) replaceStripped() {
	s.instead(502, "missing required header: :status", "filter_removed_required_response_headers{missing_required_header:_:status}", nil)
}

// Data brings a piece of the response's body.
func (s *Stream) Data(b []byte, end bool) {
	if s.over || s.finished {
		return
	}
	if s.respWait >= 0 && s.respHeld.raw() && s.respHeld.done == 0 {
		s.holdResponse(b, end)
		return
	}
	s.passResponse(len(s.filters)-1, b, end)
}

func (s *Stream) holdResponse(b []byte, end bool) {
	s.respHeld.end = s.respHeld.end || end
	if room := s.respHeld.room(); len(b) > room {
		if !s.respHeld.cut {
			if st := s.Config.Stats; st != nil {
				st.RsTooLarge.Inc()
			}
			s.instead(500, "Internal Server Error", "response_payload_too_large", nil)
			return
		}
		b = b[:max(0, room)]
	}
	s.respHeld.bytes = append(s.respHeld.bytes, b...)
	if end && s.respHeld.collect {
		s.responseWhole()
	}
}

// responseWhole goes on with a response that was collected.
func (s *Stream) responseWhole() {
	if c, ok := s.filters[s.respWait].(Collector); ok {
		s.respHeld.bytes = c.OnResponseWhole(s, s.respHeld.bytes)
	}
	if !s.over && !s.respHeld.stay {
		s.resumeResponse()
	}
}

func (s *Stream) passResponse(i int, b []byte, end bool) {
	if s.respWait >= 0 && !s.anyData {
		s.holdResponse(b, end)
		return
	}
	if s.anyData {
		for i = min(i, s.at-1); i >= 0; i-- {
			if i == s.respWait || s.respWait >= 0 && s.respHeld.raw() && i < len(s.filters)-s.respHeld.done { // those before it have seen the piece
				s.holdResponse(b, end)
				return
			}
			if s.data[i] == nil || s.skipped(i) {
				continue
			}
			s.buffer.Bytes = b
			if v := s.data[i].OnResponseData(s, &s.buffer, end); v != Continue {
				if !s.over && v == Stop {
					s.respWait = i
					s.holdResponse(s.buffer.Bytes, end)
					if s.started && !end {
						s.terminal.PauseResponse()
					}
				}
				return
			}
			if s.over {
				return
			}
			b = s.buffer.Bytes
		}
		if len(b) == 0 && !end {
			return
		}
	}
	s.Rec.BytesSent += uint64(len(b))
	if end {
		s.finished = true
		s.Rec.DownstreamSent = s.mark()
	}
	s.down.WriteData(b, end)
	if !end && s.started && s.down.Full() {
		s.terminal.PauseResponse()
	}
	s.checkOver()
}

// ResponseTrailers ends the response's body.
func (s *Stream) ResponseTrailers(m *header.Map) {
	if s.over || s.finished {
		return
	}
	if s.respWait >= 0 && s.respHeld.raw() {
		s.respHeld.end, s.respHeld.trailers = true, m
		return
	}
	s.passResponseTrailers(len(s.filters)-1, m)
}

func (s *Stream) passResponseTrailers(i int, m *header.Map) {
	if s.anyTrailing || s.respWait >= 0 {
		for i = min(i, s.at-1); i >= 0; i-- {
			if i == s.respWait { // those before it have seen them
				s.respHeld.end, s.respHeld.trailers = true, m
				if s.respHeld.collect {
					s.responseWhole()
				}
				return
			}
			if s.trailing[i] == nil || s.skipped(i) {
				continue
			}
			if v := s.trailing[i].OnResponseTrailers(s, m); v == Stop || v == Taken {
				if v == Stop && !s.over {
					s.respWait = i
					s.respHeld.end, s.respHeld.trailers = true, m
				}
				return
			}
			if s.over {
				return
			}
		}
	}
	s.finished = true
	s.Rec.DownstreamSent = s.mark()
	if m.Len() == 0 { // a filter has put them into the body
		s.down.WriteData(nil, true)
	} else {
		s.Rec.Trailers = m
		s.down.WriteTrailers(m)
	}
	s.checkOver()
}

// resumeResponse goes on behind the filter that stopped the response.
func (s *Stream) resumeResponse() {
	i, h := s.respWait, s.respHeld
	s.respWait = -1
	s.respHeld = held{bytes: h.bytes[:0]}
	bytes := append([]byte(nil), h.bytes...)
	if h.headers {
		s.respHeld.end, s.respHeld.trailers = h.end, h.trailers
		s.respHeld.bytes = append(s.respHeld.bytes, bytes...)
		s.respond(i-1, h.end && len(bytes) == 0 && h.trailers == nil)
		if !h.collect {
			i = len(s.filters) - h.done // the others have seen headers only
		}
		if s.over || s.finished {
			return
		}
		if s.respWait >= 0 && !s.respHeld.collect {
			s.respHeld.done = len(s.filters) - i
			return
		}
		if s.respHeld.bytes = s.respHeld.bytes[:0]; s.respWait < 0 {
			s.respHeld = held{bytes: s.respHeld.bytes}
		} else if s.respHeld.end, s.respHeld.trailers = h.end && len(bytes) == 0 && h.trailers == nil, nil; s.respHeld.end {
			return // it has headers only
		}
	}
	if len(bytes) > 0 || h.end && h.trailers == nil {
		s.passResponse(i-1, bytes, h.end && h.trailers == nil)
	}
	if h.trailers != nil && !s.over {
		s.passResponseTrailers(i-1, h.trailers)
	}
	if !s.over && !s.finished && s.respWait < 0 && s.started && s.respPaused == 0 && !s.down.Full() {
		s.terminal.ResumeResponse()
	}
}

// onDrained lets the response flow again.
func (s *Stream) onDrained() {
	if len(s.forClient) > 0 {
		if s.tell(&s.forClient); s.over || s.down.Full() {
			return
		}
	}
	if !s.over && s.started && s.respWait < 0 && s.respPaused == 0 {
		s.terminal.ResumeResponse()
	}
}
