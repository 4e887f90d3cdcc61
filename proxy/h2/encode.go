package h2

import "github.com/mallamesh/malla/proxy/header"

var (
	methodCONNECT = []byte("CONNECT")
	schemeHTTP    = []byte("http")
	status200     = []byte("200")
)

// roomFor is a guess at how many bytes a map's block takes.
func roomFor(m *header.Map) int { return m.Size() + 4*m.Len() + 64 }

// encodeRequest encodes a request. One for an upgrade becomes an extended CONNECT.
func (s *Stream) encodeRequest(b []byte, m *header.Map) []byte {
	c := s.c
	method := m.Get(header.Method)
	protocol := m.Get(header.Upgrade)
	s.upgrade = protocol != nil && m.Has(header.Connection)
	s.connect = !s.upgrade && string(method) == "CONNECT"
	if s.upgrade {
		s.protocol = append(s.protocol[:0], protocol...)
		method = methodCONNECT
	}
	b = c.field(b, header.Method, method)
	if !s.connect {
		scheme := m.Get(header.Scheme)
		if len(scheme) == 0 {
			scheme = schemeHTTP
		}
		b = c.field(b, header.Scheme, scheme)
		b = c.field(b, header.Path, m.Get(header.Path))
	}
	if v := m.Get(header.Authority); len(v) > 0 {
		b = c.field(b, header.Authority, v)
	}
	if s.upgrade {
		b = c.field(b, header.Protocol, protocol)
	}
	return c.encodeFields(b, m, s.upgrade)
}

// encodeResponse encodes a response. The 101 to an extended CONNECT is a 200.
func (c *Conn) encodeResponse(b []byte, m *header.Map, upgrade bool) []byte {
	status := m.Get(header.Status)
	upgrade = upgrade && string(status) == "101"
	if upgrade {
		status = status200
	}
	b = c.field(b, header.Status, status)
	return c.encodeFields(b, m, upgrade)
}

func (c *Conn) field(b []byte, t header.Token, value []byte) []byte {
	return c.enc.Append(b, t, t.Name(), value, false)
}

// encodeFields encodes all fields but the pseudo ones and those that HTTP/2 does not have (section 8.2.2).
func (c *Conn) encodeFields(b []byte, m *header.Map, upgrade bool) []byte {
	fields := m.Fields()
	for i := range fields {
		f := &fields[i]
		switch f.Token {
		case header.None:
		case header.Authority, header.Method, header.Path, header.Scheme, header.Status, header.Protocol,
			header.Connection, header.KeepAlive, header.ProxyConnection, header.TransferEncoding, header.Upgrade,
			header.Host, header.HTTP2Settings:
			continue
		case header.TE:
			if string(f.Value) != "trailers" {
				continue
			}
		case header.ContentLength:
			if upgrade {
				continue
			}
		}
		b = c.enc.Append(b, f.Token, f.Name, f.Value, f.Sensitive)
	}
	return b
}
