package stream

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/header"
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
	out := append([]byte(nil), path...)
	if c.EscapedSlashes != KeepUnchanged && hasEscapedSlash(out) {
		if c.EscapedSlashes == RejectRequest {
			return false
		}
		out = unescapeSlashes(out)
		if c.EscapedSlashes == UnescapeAndRedirect {
			return s.redirectTo(append(out, query...))
		}
	}
	if c.NormalizePath {
		if out = removeDots(out); out == nil {
			return false
		}
	}
	if c.MergeSlashes {
		out = mergeSlashes(out)
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

// suspicious reports whether normalizing could change the path at all.
func suspicious(path []byte) bool {
	for i, c := range path {
		switch c {
		case '%', '\\':
			return true
		case '/':
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

// removeDots resolves "." and ".." segments, escaped dots included, and turns
// backslashes into slashes, as browsers do and as Envoy's normalization does. Nil
// means that the path leaves its root or has a broken escape.
func removeDots(p []byte) []byte {
	out := make([]byte, 0, len(p))
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
			out = append(append(out, '/'), p[i+1:j]...)
		}
		i = j
	}
	if len(out) == 0 {
		out = append(out, '/')
	}
	return out
}

// dots is 1 for ".", 2 for "..", in plain or escaped, else 0.
func dots(segment []byte) int {
	n := 0
	for i := 0; i < len(segment); i++ {
		switch {
		case segment[i] == '.':
		case isEscaped(segment, i, "2e"):
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
