package compressor

import (
	"bytes"
	"strconv"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
)

// defaultTypes are Envoy's.
var defaultTypes = []string{
	"text/html", "text/plain", "text/css", "application/javascript", "application/x-javascript", "text/javascript", "text/x-javascript",
	"text/ecmascript", "text/js", "text/jscript", "text/x-js", "application/ecmascript", "application/x-json", "application/xml",
	"application/json", "image/svg+xml", "text/xml", "application/xhtml+xml", "application/grpc-web", "application/grpc-web+proto",
}

// Types is a set of media types.
type Types struct {
	names    [][]byte // in any case
	matchers []*route.Matcher
}

// has reports whether a message is of one of the types, or says not what it is.
func (t *Types) has(m *header.Map) bool {
	kind := m.Get(header.ContentType)
	if kind == nil {
		return true
	}
	kind, _, _ = bytes.Cut(kind, []byte{';'})
	kind = bytes.TrimSpace(kind)
	for _, x := range t.matchers {
		if x.Match(kind) {
			return true
		}
	}
	for _, n := range t.names {
		if bytes.EqualFold(n, kind) {
			return true
		}
	}
	return false
}

// long reports whether a message is worth it as far as its length is known.
func (d *Direction) long(m *header.Map) bool {
	v := m.Get(header.ContentLength)
	if v == nil {
		return true
	}
	if n, err := strconv.ParseUint(string(v), 10, 64); err == nil && n >= d.Minimum {
		return true
	}
	d.Counters.ContentLengthTooSmall.Inc()
	return false
}

// noTransform reports whether the server forbids it (RFC 9111, section 5.2.2.6).
func noTransform(m *header.Map) bool {
	return header.ListHas(m.Get(header.CacheControl), noTransformWord)
}

var noTransformWord = []byte("no-transform")

// etagForbids reports whether a response has a tag and may then not be touched.
func (d *ResponseDirection) etagForbids(m *header.Map) bool {
	return d.NotWithETag && !d.WeakenETag && m.Has(header.ETag)
}

func (f *filter) etagAllowed(m *header.Map) bool {
	if f.config.Response.etagForbids(m) {
		f.config.Headers.NotCompressedETag.Inc()
		return false
	}
	return true
}

// sanitizeETag makes a strong tag weak, or takes it away: it was of other bytes.
func (d *ResponseDirection) sanitizeETag(m *header.Map) {
	v := m.Get(header.ETag)
	if len(v) == 0 || len(v) > 1 && (v[0] == 'w' || v[0] == 'W') && v[1] == '/' {
		return
	}
	if d.WeakenETag {
		m.SetCopy(header.ETag, append([]byte("W/"), v...))
		return
	}
	m.Remove(header.ETag)
}

var acceptEncoding = []byte("Accept-Encoding")

// varies reports whether a vary says so already: as in Envoy, in this case only.
func varies(list []byte) bool {
	for len(list) > 0 {
		var item []byte
		if item, list, _ = bytes.Cut(list, []byte{','}); bytes.Equal(bytes.TrimSpace(item), acceptEncoding) {
			return true
		}
	}
	return false
}

// vary says that the response depends on what the client accepts.
func vary(m *header.Map) {
	v := m.Get(header.Vary)
	switch {
	case v == nil:
		m.Add(header.Vary, acceptEncoding)
	case !varies(v):
		m.SetCopy(header.Vary, append(append(append([]byte(nil), v...), ", "...), acceptEncoding...))
	}
}
