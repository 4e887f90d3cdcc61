package listen

import "bytes"

// What http_inspector calls the protocols that it finds; chains match them as ALPN.
const (
	http10 = "http/1.0"
	http11 = "http/1.1"
	h2c    = "h2c"
)

var h2Preface = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

// maxRequestLine is how far http_inspector looks for the end of the first line.
const maxRequestLine = 64 << 10

// httpProtocol says which version of HTTP the first bytes begin, "" if they are
// not HTTP. It reports whether more bytes are needed to tell.
func httpProtocol(b []byte) (protocol string, more bool) {
	if n := min(len(b), len(h2Preface)); bytes.Equal(b[:n], h2Preface[:n]) {
		if n == len(h2Preface) {
			return h2c, false
		}
		return "", true
	}
	line := b
	end := bytes.IndexByte(b, '\n')
	if end >= 0 {
		line = bytes.TrimSuffix(b[:end], []byte{'\r'})
	}
	i := 0
	for i < len(line) && (line[i] >= 'A' && line[i] <= 'Z' || line[i] == '-' || line[i] >= 'a' && line[i] <= 'z') {
		i++
	}
	if i == len(line) && end < 0 && i <= 32 {
		return "", true
	}
	if i == 0 || i == len(line) || line[i] != ' ' {
		return "", false
	}
	if end < 0 {
		return "", len(b) < maxRequestLine
	}
	switch {
	case bytes.HasSuffix(line, []byte(" HTTP/1.1")):
		return http11, false
	case bytes.HasSuffix(line, []byte(" HTTP/1.0")):
		return http10, false
	}
	return "", false
}
