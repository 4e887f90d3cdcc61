package stream

import (
	"encoding/binary"
	"encoding/hex"

	"github.com/mallamesh/malla/proxy/header"
)

// A request's name, and whether it is traced.

// introduce tells the upstream who sends it the request.
func (s *Stream) introduce() {
	c, m := s.Config, &s.Request
	if c.UserAgent == nil {
		return
	}
	m.Set(header.XEnvoyDownstreamServiceCluster, c.UserAgent)
	if len(m.Get(header.UserAgent)) == 0 {
		m.Set(header.UserAgent, c.UserAgent)
	}
	if len(c.Node) > 0 {
		m.Set(header.XEnvoyDownstreamServiceNode, c.Node)
	}
}

// requestID makes an identifier if there is none that counts, and writes the decision
// about tracing into its 15th character, as Envoy's UUID extension does.
func (s *Stream) requestID() {
	c, m := s.Config, &s.Request
	if c.NoRequestID {
		s.Rec.RequestID = m.Get(header.XRequestID)
		return
	}
	edge := c.UseRemoteAddress && !s.internal
	if len(m.Get(header.XRequestID)) == 0 || edge && !c.PreserveRequestID {
		s.newID()
		m.Set(header.XRequestID, s.reqID[:])
	}
	if c.Tracing != nil {
		s.trace(m.Get(header.XRequestID))
	}
	s.Rec.RequestID = m.Get(header.XRequestID)
}

// newID writes a random UUID (RFC 9562, version 4).
func (s *Stream) newID() {
	var u [16]byte
	binary.LittleEndian.PutUint64(u[:8], s.Worker.Random())
	binary.LittleEndian.PutUint64(u[8:], s.Worker.Random())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	d := s.reqID[:]
	hex.Encode(d, u[:4])
	hex.Encode(d[9:], u[4:6])
	hex.Encode(d[14:], u[6:8])
	hex.Encode(d[19:], u[8:10])
	hex.Encode(d[24:], u[10:])
	d[8], d[13], d[18], d[23] = '-', '-', '-', '-'
}

// The characters that say whether a request is traced, and why.
const (
	notTraced     = '4'
	tracedSampled = '9'
	tracedService = 'a'
	tracedClient  = 'b'
)

// traceAt is where an identifier has that character.
const traceAt = 14

// trace decides about tracing unless somebody before us has, and counts.
func (s *Stream) trace(id []byte) {
	why := byte(notTraced)
	if len(id) == 36 {
		if why = id[traceAt]; why == notTraced {
			if why = s.pick(); s.Config.Tracing.Pack {
				id[traceAt] = why
			}
		}
	}
	s.Rec.ForceTraced = why == tracedService
	st := s.Config.Stats
	if st == nil {
		return
	}
	switch why {
	case tracedClient:
		st.TracingClientEnabled.Inc()
	case tracedService:
		st.TracingServiceForced.Inc()
	case tracedSampled:
		st.TracingRandomSampling.Inc()
	default:
		st.TracingNotTraceable.Inc()
	}
}

// pick decides about tracing.
func (s *Stream) pick() byte {
	t := s.Config.Tracing
	chance := float64(s.Worker.Random()>>11) / (1 << 53) * 100
	switch {
	case s.Request.Has(header.XClientTraceID) && chance < t.Client:
		return tracedClient
	case s.Request.Has(header.XEnvoyForceTrace):
		return tracedService
	case chance < min(t.Random, t.Overall):
		return tracedSampled
	}
	return notTraced
}

// Decorate names the operation, for Envoy's decorator headers; the router calls it
// once the route is final.
func (s *Stream) Decorate() {
	t := s.Config.Tracing
	if t == nil || s.Route == nil {
		return
	}
	s.wantedByUs = s.Request.Has(header.XEnvoyDecoratorOperation)
	if t.Egress {
		if s.Route.Decorator != "" {
			s.Request.SetCopy(header.XEnvoyDecoratorOperation, []byte(s.Route.Decorator))
		}
		return
	}
	s.Request.Remove(header.XEnvoyDecoratorOperation)
}

// tellID has a response name its request, if that is wanted.
func (s *Stream) tellID(m *header.Map) {
	if (s.Config.AlwaysSetRequestID || s.Request.Has(header.XEnvoyForceTrace)) && s.Rec.RequestID != nil {
		m.Set(header.XRequestID, s.Rec.RequestID)
	}
}
