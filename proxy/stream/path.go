package stream

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/uri"
)

// normalize brings the path into the form that the configuration asks for. It reports
// whether the path can be used.
func (s *Stream) normalize() bool {
	c := s.Config
	if !c.NormalizePath && !c.MergeSlashes && c.EscapedSlashes == KeepUnchanged {
		return true
	}
	full := s.Request.Get(header.Path)
	if len(full) == 0 || full[0] != '/' {
		return true // CONNECT, or "*"
	}
	path, query := full, []byte(nil)
	if i := bytes.IndexByte(full, '?'); i >= 0 {
		path, query = full[:i], full[i:]
	}
	if !suspicious(path) {
		return true
	}
	out, redirect := append([]byte(nil), path...), false
	if c.EscapedSlashes != KeepUnchanged && hasEscapedSlash(out) {
		out, redirect = unescapeSlashes(out), c.EscapedSlashes == UnescapeAndRedirect
		if c.EscapedSlashes == RejectRequest {
			s.Request.SetCopy(header.Path, append(out, query...)) // for the log, as Envoy's
			return false
		}
	}
	if c.NormalizePath {
		if out = canonical(out); out == nil {
			return false
		}
	}
	if c.MergeSlashes {
		out = mergeSlashes(out)
	}
	if redirect {
		s.Request.SetCopy(header.Path, append(out, query...))
		return s.redirectTo(s.Request.Get(header.Path))
	}
	if !bytes.Equal(out, path) {
		s.Request.SetCopy(header.Path, append(out, query...))
	}
	return true
}

// redirectTo answers with the path that the client should have used; the request ends here.
func (s *Stream) redirectTo(path []byte) bool {
	if st := s.Config.Stats; st != nil {
		st.DownstreamRqRedirectedWithNormalizedPath.Inc()
	}
	s.ReplyWith(307, "", "path_normalization_failed", func(m *header.Map) { m.AddCopy(header.Location, path) })
	return true
}

// What canonical does to a byte of a path that is written as itself (asIs, escape) and
// to one that is written as an escape (unescape; all others stay as they are written).
const (
	asIs     = 0
	escape   = 1 << iota // it may not stand in a path
	unescape             // it is the same written either way (RFC 3986, section 2.3)
)

var pathBytes = func() (t [256]uint8) {
	for c := range 256 {
		if c <= 0x20 || c >= 0x7f {
			t[c] = escape
		}
	}
	for _, c := range []byte("\"<>^`{|}") {
		t[c] = escape
	}
	for _, c := range []byte("-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
		t[c] = unescape
	}
	return t
}()

// suspicious reports whether normalizing could change the path at all.
func suspicious(path []byte) bool {
	for i, c := range path {
		switch {
		case c == '%', c == '\\', pathBytes[c]&escape != 0:
			return true
		case c == '/':
			if i+1 < len(path) && (path[i+1] == '.' || path[i+1] == '/') {
				return true
			}
		}
	}
	return false
}

func isEscaped(p []byte, i int, hex string) bool {
	return i+2 < len(p) && p[i] == '%' && p[i+1] == hex[0] && p[i+2]|0x20 == hex[1]
}

func hasEscapedSlash(p []byte) bool {
	for i := range p {
		if isEscaped(p, i, "2f") || isEscaped(p, i, "5c") {
			return true
		}
	}
	return false
}

func unescapeSlashes(p []byte) []byte {
	out := p[:0]
	for i := 0; i < len(p); i++ {
		switch {
		case isEscaped(p, i, "2f"):
			out = append(out, '/')
			i += 2
		case isEscaped(p, i, "5c"):
			out = append(out, '\\')
			i += 2
		default:
			out = append(out, p[i])
		}
	}
	return out
}

// canonical is the one form of all paths that mean the same: what need not be escaped is not,
// what must be is, "." and ".." segments are resolved, backslashes are slashes. It is what
// browsers do, and Envoy by the library of one; policies about paths rest on it. Nil means that
// the path holds a NUL.
func canonical(p []byte) []byte {
	out := make([]byte, 0, len(p)+8)
	for i := 0; i < len(p); {
		// p[i] is a slash of either kind
		j := i + 1
		for j < len(p) && p[j] != '/' && p[j] != '\\' {
			j++
		}
		last := j == len(p)
		switch dots(p[i+1 : j]) {
		case 1:
			if last {
				out = append(out, '/')
			}
		case 2:
			cut := bytes.LastIndexByte(out, '/')
			out = out[:max(cut, 0)]
			if last {
				out = append(out, '/')
			}
		default:
			if out = appendSegment(append(out, '/'), p[i+1:j]); out == nil {
				return nil
			}
		}
		i = j
	}
	if len(out) == 0 {
		out = append(out, '/')
	}
	return out
}

// appendSegment appends one segment in its canonical form, or returns nil.
func appendSegment(out, p []byte) []byte {
	const hex = "0123456789ABCDEF"
	stray := -1 // where a percent sign stands that began no escape
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c == '%' {
			v, ok := uri.Escape(p[i:])
			switch {
			case !ok:
				stray = len(out)
				out = append(out, c)
				continue
			case v == 0:
				return nil
			case pathBytes[v] != unescape:
				out = append(out, p[i:i+3]...)
				i += 2
				continue
			}
			c = v
			i += 2
		} else if pathBytes[c] == escape {
			out = append(out, '%', hex[c>>4], hex[c&15])
			continue
		}
		out = append(out, c)
		// A stray percent sign and what came out of an escape must not make an escape together.
		if n := len(out); stray >= 0 && n == stray+3 {
			if _, ok := uri.Escape(out[stray:]); ok {
				out = append(out[:stray+1], '2', '5', out[n-2], c)
			}
		}
	}
	return out
}

// dots is 1 for ".", 2 for "..", plain or escaped, else 0. Path parameters behind plain dots
// do not hide them: some servers take "/..;x/" for "/../".
func dots(segment []byte) int {
	n, plain := 0, true
	for i := 0; i < len(segment); i++ {
		switch {
		case segment[i] == '.':
		case segment[i] == ';' && n > 0 && plain:
			return n
		case isEscaped(segment, i, "2e"):
			plain = false
			i += 2
		default:
			return 0
		}
		if n++; n > 2 {
			return 0
		}
	}
	return n
}

func mergeSlashes(p []byte) []byte {
	out := p[:0]
	for _, c := range p {
		if c == '/' && len(out) > 0 && out[len(out)-1] == '/' {
			continue
		}
		out = append(out, c)
	}
	return out
}
