package access

import (
	"bytes"
	"fmt"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/uri"
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
		q, _ := query(r)
		if value, found := uri.Decoded(q, o.text); found {
			n := len(dst)
			dst = uri.AppendDecoded(dst, value)
			return dst[:n+len(o.cut(dst[n:]))], true
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
			dst = uri.AppendDecodedOnly(dst, q, visible)
		} else {
			dst = append(dst, q...)
		}
		return dst[:n+len(o.cut(dst[n:]))], ok
	}}, nil
}

func visible(c byte) bool { return c > ' ' && c < 0x7f }
