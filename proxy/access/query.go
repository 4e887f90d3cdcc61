package access

import (
	"bytes"
	"fmt"

	"github.com/mallamesh/malla/proxy/header"
)

// query is what stands behind the question mark of a request's path, and whether there is one.
func query(r *Record) ([]byte, bool) {
	if r.Request == nil {
		return nil, false
	}
	_, q, ok := bytes.Cut(r.Request.Get(header.Path), []byte("?"))
	return q, ok
}

// queryParam compiles QUERY_PARAM(name): the first value of the name. Both are percent-decoded.
func queryParam(c command) (*op, error) {
	return &op{text: c.arg, length: c.length, write: func(o *op, dst []byte, r *Record) ([]byte, bool) {
		for q, _ := query(r); len(q) > 0; {
			var pair []byte
			pair, q, _ = bytes.Cut(q, []byte("&"))
			name, value, _ := bytes.Cut(pair, []byte("="))
			var room [64]byte
			if string(appendDecoded(room[:0], name, anyByte)) == o.text {
				n := len(dst)
				dst = appendDecoded(dst, value, anyByte)
				return dst[:n+len(o.cut(dst[n:]))], true
			}
		}
		return dst, false
	}}, nil
}

// queryParams compiles QUERY_PARAMS(ORIG) and QUERY_PARAMS(DECODED): all of them, as they are or percent-decoded. Bytes that
// could not be seen, or would break up a line, stay encoded.
func queryParams(c command) (*op, error) {
	switch c.arg {
	case "", "ORIG", "DECODED":
	default:
		return nil, fmt.Errorf("argument %q, want ORIG or DECODED", c.arg)
	}
	return &op{strict: c.arg == "DECODED", length: c.length, write: func(o *op, dst []byte, r *Record) ([]byte, bool) {
		q, ok := query(r)
		n := len(dst)
		if o.strict {
			dst = appendDecoded(dst, q, visible)
		} else {
			dst = append(dst, q...)
		}
		return dst[:n+len(o.cut(dst[n:]))], ok
	}}, nil
}

func anyByte(byte) bool   { return true }
func visible(c byte) bool { return c > ' ' && c < 0x7f }

// appendDecoded undoes the percent-encoding of bytes that may be. What is none stays as it is.
func appendDecoded(dst, text []byte, may func(byte) bool) []byte {
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			high, ok := unhex(text[i+1])
			if low, also := unhex(text[i+2]); ok && also && may(high<<4|low) {
				dst = append(dst, high<<4|low)
				i += 2
				continue
			}
		}
		dst = append(dst, text[i])
	}
	return dst
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
