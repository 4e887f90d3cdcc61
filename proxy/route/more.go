package route

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/header"
)

// Conditions that few routes have stand here: cookies, certificates, filter state, metadata.

func (m *match) moreMatches(q *Request) bool {
	if m.presented != nil && *m.presented != q.TLS.Presented || m.validated != nil && *m.validated != q.TLS.Validated {
		return false
	}
	for i := range m.cookies {
		if !m.cookies[i].match(q.Headers) {
			return false
		}
	}
	for i := range m.state {
		if !m.state[i].match(q) {
			return false
		}
	}
	for _, f := range m.meta {
		if q.Metadata == nil || !f.Match(q.Metadata) {
			return false
		}
	}
	return true
}

// A cookieMatcher is a compiled CookieMatch.
type cookieMatcher struct {
	name   string
	m      matcher
	invert bool
}

func (c *cookieMatcher) match(m *header.Map) bool {
	v, ok := Cookie(m, c.name)
	return (ok && c.m.match(v)) != c.invert
}

// Cookie returns the value of the first cookie of a name (RFC 6265, section 4.2.1), without the quotes
// around it.
func Cookie(m *header.Map, name string) ([]byte, bool) {
	if m == nil || !m.Has(header.Cookie) {
		return nil, false
	}
	for _, f := range m.Fields() {
		if f.Token != header.Cookie {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, []byte{';'})
			k, v, ok := bytes.Cut(bytes.TrimSpace(pair), []byte{'='})
			if ok && string(k) == name {
				if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
					v = v[1 : len(v)-1]
				}
				return v, true
			}
		}
	}
	return nil, false
}

// A stateMatcher is a compiled StateMatch.
type stateMatcher struct {
	key string
	m   matcher
}

func (s *stateMatcher) match(q *Request) bool {
	if q.State == nil {
		return false
	}
	v, ok := q.State.Get(s.key)
	return ok && s.m.match(v)
}

// withoutParameters leaves out of each segment of a path what follows a semicolon.
func (r *Request) withoutParameters(path []byte) []byte {
	if bytes.IndexByte(path, ';') < 0 {
		return path
	}
	r.path = r.path[:0]
	in := false
	for _, c := range path {
		in = c == ';' || in && c != '/'
		if !in {
			r.path = append(r.path, c)
		}
	}
	return r.path
}
