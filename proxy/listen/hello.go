package listen

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Hello is what the first message of a TLS client says in clear.
type Hello struct {
	SNI  string
	ALPN []string
	body []byte // borrowed
}

// Outcomes of looking at first bytes.
var (
	errMore    = errors.New("listen: more bytes needed")
	errNotTLS  = errors.New("listen: not a TLS client hello")
	errTooLong = fmt.Errorf("%w: it is too long", errNotTLS)
)

// maxHello is how long a client hello may be, as Envoy's tls_inspector.
const maxHello = 16 << 10

// parseHello reads the client hello at the start of b. errNotTLS says that this is no TLS, or not one that could
// succeed. errMore asks for more bytes; looking again is of no use before there are enough of them. (Who cuts a hello into
// thousands of records, and sends them one by one, would otherwise keep a worker busy for seconds.)
func parseHello(b []byte) (h Hello, enough int, err error) {
	// The hello may be cut into several records; in practice it is in one or two.
	var message []byte
	missing := 4 // bytes of the message, as far as is known
	rest := b
	for records := 0; ; records++ {
		if len(rest) >= 1 && rest[0] != 22 || len(rest) >= 2 && rest[1] != 3 {
			return Hello{}, 0, errNotTLS
		}
		if len(rest) < 5 {
			return Hello{}, len(b) + 5 - len(rest) + missing, errMore
		}
		n := int(binary.BigEndian.Uint16(rest[3:]))
		if n == 0 || n > 16<<10 {
			return Hello{}, 0, errNotTLS
		}
		body := rest[5:]
		fragment := body[:min(n, len(body))]
		switch records {
		case 0:
			message = fragment // usually all of it, without a copy
		case 1:
			message = append(make([]byte, 0, len(message)+len(body)), message...)
			fallthrough
		default:
			message = append(message, fragment...)
		}
		if len(message) >= 1 && message[0] != 1 {
			return Hello{}, 0, errNotTLS
		}
		missing = 4 - len(message)
		if missing <= 0 {
			size := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
			if size > maxHello {
				return Hello{}, 0, errTooLong
			}
			if missing += size; missing <= 0 {
				h, err = helloFields(message[4 : 4+size])
				return h, 0, err
			}
		}
		if len(body) < n {
			return Hello{}, len(b) + missing, errMore
		}
		rest = body[n:]
	}
}

// A reader takes a structure apart; after the first thing that does not fit, ok is false.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) take(n int) []byte {
	if !r.ok || n > len(r.b) {
		r.ok = false
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) uint(size int) int {
	n := 0
	for _, c := range r.take(size) {
		n = n<<8 | int(c)
	}
	return n
}

// vector takes bytes that are preceded by their number.
func (r *reader) vector(size int) reader {
	n := r.uint(size)
	return reader{r.take(n), r.ok}
}

// helloFields reads the body of a client hello (RFC 8446, section 4.1.2).
func helloFields(b []byte) (Hello, error) {
	r := reader{b, true}
	r.take(2 + 32) // version, random
	r.vector(1)    // session
	r.vector(2)    // cipher suites
	r.vector(1)    // compression
	h := Hello{body: b}
	if r.ok && len(r.b) == 0 {
		return h, nil // no extensions
	}
	extensions := r.vector(2)
	for extensions.ok && len(extensions.b) > 0 {
		kind := extensions.uint(2)
		body := extensions.vector(2)
		switch kind {
		case 0:
			h.SNI = serverName(body)
		case 16:
			h.ALPN = protocols(body)
		}
	}
	if !r.ok || !extensions.ok {
		return Hello{}, errNotTLS
	}
	return h, nil
}

// serverName reads the first host name (RFC 6066, section 3).
func serverName(r reader) string {
	list := r.vector(2)
	for list.ok && len(list.b) > 0 {
		kind := list.uint(1)
		name := list.vector(2)
		if kind == 0 && list.ok && len(name.b) <= 255 {
			return lowerASCII(name.b)
		}
	}
	return ""
}

// protocols reads the list of application protocols (RFC 7301, section 3.1).
func protocols(r reader) []string {
	list := r.vector(2)
	var all []string
	for list.ok && len(list.b) > 0 && len(all) < 64 {
		if p := list.vector(1); list.ok {
			all = append(all, string(p.b))
		}
	}
	return all
}

func lowerASCII(b []byte) string {
	s := make([]byte, len(b))
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		s[i] = c
	}
	return string(s)
}
