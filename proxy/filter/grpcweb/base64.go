package grpcweb

import "encoding/base64"

// A decoder decodes base64 that comes in pieces. Padding is mandatory, and may stand
// in the middle, where a client has encoded messages one by one.
type decoder struct {
	kept [4]byte
	n    int
}

func (d *decoder) pending() bool { return d.n > 0 }

// decode appends what a piece completes, and reports whether all of it was base64.
func (d *decoder) decode(dst, b []byte) ([]byte, bool) {
	for len(b) > 0 {
		k := copy(d.kept[d.n:], b)
		d.n, b = d.n+k, b[k:]
		if d.n < 4 {
			break
		}
		d.n = 0
		var out [3]byte
		n, err := base64.StdEncoding.Decode(out[:], d.kept[:])
		if err != nil || n == 0 {
			return dst, false
		}
		dst = append(dst, out[:n]...)
	}
	return dst, true
}

// An encoder encodes gRPC's messages, each on its own with padding, as they come: at most two bytes wait.
type encoder struct {
	head int // bytes of the message's head that have come
	left uint32
	kept [3]byte
	n    int
}

func (e *encoder) encode(dst, b []byte) []byte {
	for _, c := range b {
		switch {
		case e.head == 0:
			e.head, e.left = 1, 0
		case e.head < 5:
			e.head++
			e.left = e.left<<8 | uint32(c)
		default:
			e.left--
		}
		e.kept[e.n] = c
		if e.n++; e.n == 3 {
			dst, e.n = base64.StdEncoding.AppendEncode(dst, e.kept[:]), 0
		}
		if e.head == 5 && e.left == 0 {
			dst, e.n, e.head = base64.StdEncoding.AppendEncode(dst, e.kept[:e.n]), 0, 0
		}
	}
	return dst
}

func appendBase64(dst, b []byte) []byte { return base64.StdEncoding.AppendEncode(dst, b) }
