package stream

import (
	"strconv"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
)

var (
	textPlain = []byte("text/plain")
	grpcType  = []byte("application/grpc")
	trueValue = []byte("true")
)

// Reply answers in place of the upstream. details are Envoy's response code details.
// The response passes the response side of all filters; see [Unasked].
// It returns Stop, for filters.
func (s *Stream) Reply(status int, body, details string, flags ...access.Flag) Verdict {
	return s.ReplyWith(status, body, details, nil, flags...)
}

// ReplyWith is Reply with a function that adds fields before the others.
func (s *Stream) ReplyWith(status int, body, details string, edit func(*header.Map), flags ...access.Flag) Verdict {
	if s.responded && !s.sent && !s.over {
		s.instead(status, body, details, edit, flags...)
		return Stop
	}
	for _, f := range flags {
		s.Rec.Flags.Set(f)
	}
	if m := s.takeOver(status, body, details); m != nil {
		s.finalizeReply(m)
		s.reply(m, len(s.filters)-1, status, body, edit)
	}
	return Stop
}

// Redirect answers with a location, which the route's header operations see.
func (s *Stream) Redirect(status int, location []byte) {
	if m := s.takeOver(status, "", "direct_response"); m != nil {
		m.Add(header.Location, location)
		s.finalizeReply(m)
		s.reply(m, len(s.filters)-1, status, "", nil)
	}
}

// reply finishes an answer that takeOver or instead began, and that passes the filters up to i.
func (s *Stream) reply(m *header.Map, i, status int, body string, edit func(*header.Map)) {
	if edit != nil && !s.GRPC {
		edit(m)
	}
	contentType := ""
	if s.Config.LocalReply != nil {
		was := body
		status, body, contentType = s.rewrite(m, status, body)
		if body == was && m.Has(header.ContentType) {
			contentType = "" // which belongs to the body
		}
	}
	if s.GRPC {
		if contentType == "application/json" { // whose format ends its line
			body = strings.TrimSuffix(body, "\n")
		}
		s.grpcReply(m, i, status, body, edit)
		return
	}
	head := string(s.Request.Get(header.Method)) == "HEAD"
	if len(body) > 0 {
		m.AddCopy(header.ContentLength, strconv.AppendInt(s.scratch[:0], int64(len(body)), 10))
		switch {
		case contentType != "":
			m.SetCopy(header.ContentType, []byte(contentType))
		case !m.Has(header.ContentType):
			m.Add(header.ContentType, textPlain)
		}
	}
	s.localMsg = append(s.localMsg[:0], body...)
	empty := len(body) == 0 || head
	s.respond(i, empty)
	switch {
	case empty || s.over || s.finished:
	case i < 0:
		s.passResponse(i, s.localMsg, true)
	default:
		s.Data(s.localMsg, true)
	}
}

// instead answers in place of a response that filters have seen and the client has not, or breaks off one that it has. As in
// Envoy, filters see no second response.
func (s *Stream) instead(status int, body, details string, edit func(*header.Map), flags ...access.Flag) {
	if s.sent {
		s.Abort(access.NoFlag, details)
		return
	}
	if s.started {
		s.started = false
		s.terminal.OnEnd(s)
	}
	for _, f := range flags {
		s.Rec.Flags.Set(f)
	}
	s.replied, s.reqWait, s.respWait, s.respHeld = true, -1, -1, held{bytes: s.respHeld.bytes[:0]}
	s.Rec.CodeDetails, s.Rec.LocalReplyBody = details, body
	s.local.Reset()
	s.Response = &s.local
	s.Response.Add(header.Status, statusText(&s.statusTx, status))
	s.finalizeReply(s.Response)
	s.reply(s.Response, -1, status, body, edit)
}

// ReplyBare answers with fields alone, to which neither the route's header operations nor the mapping of local replies apply:
// what is no error and no answer to the request proper, such as one to a CORS preflight, which Envoy encodes as it is.
func (s *Stream) ReplyBare(status int, details string, edit func(*header.Map)) Verdict {
	if m := s.takeOver(status, "", details); m != nil {
		edit(m)
		s.respond(len(s.filters)-1, true)
	}
	return Stop
}

// takeOver ends what goes on for the request and begins an answer of the proxy's own, or returns nil if there can be none.
func (s *Stream) takeOver(status int, body, details string) *header.Map {
	if s.over {
		return nil
	}
	if s.responded { // too late for words
		s.Abort(access.NoFlag, details)
		return nil
	}
	if s.started {
		s.started = false
		s.terminal.OnEnd(s)
	}
	if status == 400 && !s.Config.KeepAfterBad {
		s.closeAfter() // Envoy takes it that the two sides no longer understand each other
	}
	s.responded, s.replied, s.reqWait = true, true, -1
	s.askRest()
	s.Rec.CodeDetails = details
	s.Rec.LocalReplyBody = body
	m := &s.local
	m.Reset()
	s.Response = m
	if s.inData { // the rest of the request may be on its way, as Envoy sees it
		s.closeAfter()
	}
	m.Add(header.Status, statusText(&s.statusTx, status))
	return m
}

// askRest has the answer pass the filters that have not seen the request, too, as in Envoy: those to which it means something.
func (s *Stream) askRest() {
	if s.at == 0 {
		s.switches()
	}
	for i := s.at; i < len(s.filters); i++ {
		if u, ok := s.filters[i].(Unasked); ok && !s.skipped(i) {
			u.OnUnasked(s)
		} else {
			s.skip |= 1 << i
		}
	}
	s.at = len(s.filters)
}

// grpcReply is a response with trailers only (gRPC over HTTP/2, "Responses").
func (s *Stream) grpcReply(m *header.Map, i, status int, body string, edit func(*header.Map)) {
	m.Set(header.Status, statusText(&s.statusTx, 200))
	m.Set(header.ContentType, grpcType)
	m.AddCopy(header.GrpcStatus, strconv.AppendInt(s.scratch[:0], int64(access.HTTPToGRPC(status)), 10))
	if body != "" {
		m.AddCopy(header.GrpcMessage, AppendPercent(nil, body))
	}
	if edit != nil {
		edit(m)
	}
	s.respond(i, true)
}

// finalizeReply applies the route's header operations before the fields of a body are there,
// and before it has a code, as Envoy does.
func (s *Stream) finalizeReply(m *header.Map) {
	if s.Route != nil {
		s.Rec.Code = 0
		s.finalize(m)
	}
}

// AppendPercent encodes a grpc-message.
func AppendPercent(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c >= 0x20 && c < 0x7f && c != '%' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

// Direct answers as the route says: with its own body and without marks of an error.
func (s *Stream) Direct(status int, body []byte, edit func(*header.Map)) {
	s.ReplyWith(status, string(body), "direct_response", edit)
}

// Overloaded is an edit of ReplyWith: nothing was tried, because a limit was reached.
func Overloaded(m *header.Map) { m.Add(header.XEnvoyOverloaded, trueValue) }

var statusTexts = func() (t [600][]byte) {
	for i := range t {
		t[i] = strconv.AppendInt(nil, int64(1000+i), 10)[1:]
	}
	return t
}()

func statusText(scratch *[3]byte, status int) []byte {
	if status >= 0 && status < len(statusTexts) {
		return statusTexts[status]
	}
	return append(scratch[:0], byte('0'+status/100%10), byte('0'+status/10%10), byte('0'+status%10))
}
