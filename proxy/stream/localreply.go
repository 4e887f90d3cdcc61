package stream

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
)

// LocalReply says what becomes of answers of our own (local_reply_config).
type LocalReply struct {
	Mappers []ReplyMapper // the first whose filter fits counts
	Body    *BodyFormat   // of those for which no mapper has one; nil: as it is
}

// A ReplyMapper changes the answers that its filter fits.
type ReplyMapper struct {
	Filter  func(*access.Record) bool
	Status  int     // 0: stays
	Body    *string // nil: stays
	Headers *route.Mutations
	Format  *BodyFormat // nil: that of all
}

// A BodyFormat is how a body is written.
type BodyFormat struct {
	Format      *access.Format
	ContentType string
}

// rewrite applies the configuration to an answer that has its headers and not yet its body. It returns what it has
// become, with the content type that goes with the body, empty if the answer has one of its own.
func (s *Stream) rewrite(m *header.Map, status int, body string) (int, string, string) {
	l := s.Config.LocalReply
	s.Rec.Code, s.Rec.Response, s.Rec.LocalReplyBody = uint16(status), m, body
	before := string(m.Get(header.ContentType))
	format := l.Body
	for i := range l.Mappers {
		p := &l.Mappers[i]
		if !p.Filter(&s.Rec) {
			continue
		}
		if p.Body != nil {
			body = *p.Body
			s.Rec.LocalReplyBody = body
		}
		p.Headers.Apply(m, &s.Rec)
		if p.Status != 0 && p.Status != status {
			status = p.Status
			s.Rec.Code = uint16(status)
			m.Set(header.Status, statusText(&s.statusTx, status))
		}
		if p.Format != nil {
			format = p.Format
		}
		break
	}
	contentType := "text/plain"
	text := body
	if format != nil {
		s.Rec.Scratch = format.Format.Append(s.Rec.Scratch[:0], &s.Rec)
		text, contentType = string(s.Rec.Scratch), format.ContentType
	}
	if string(m.Get(header.ContentType)) != before { // a mapper has said what it is
		contentType = ""
	}
	return status, text, contentType
}
