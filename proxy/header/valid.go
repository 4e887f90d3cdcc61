package header

import "encoding/binary"

// hostByte are the bytes of an authority (RFC 3986: reg-name, IP literal, port). No user information.
var hostByte = set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._~%!$&'()*+,;=:[]")

// nameByte are the bytes of a lower-case field name (RFC 9110, section 5.1).
var nameByte = set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")

// targetByte are the bytes of a path with query. Octets above 0x7f and a fragment
// are left to the connection manager, which answers as Envoy does.
var targetByte = func() (t [256]bool) {
	for c := 0x21; c < 0x100; c++ {
		t[c] = c != 0x7f
	}
	return t
}()

func set(members string) (t [256]bool) {
	for _, c := range []byte(members) {
		t[c] = true
	}
	return t
}

func all(t *[256]bool, b []byte) bool {
	for _, c := range b {
		if !t[c] {
			return false
		}
	}
	return true
}

// ValidName reports whether b is a field name in lower case.
func ValidName(b []byte) bool { return len(b) > 0 && all(&nameByte, b) }

// tokenByte are the bytes of a token in any case.
var tokenByte = set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

// ValidToken reports whether b is a token, as a method is.
func ValidToken(b []byte) bool { return len(b) > 0 && all(&tokenByte, b) }

// ValidAuthority reports whether b has only bytes that an authority without user
// information can have. It may be empty.
func ValidAuthority(b []byte) bool { return all(&hostByte, b) }

// ValidTarget reports whether b has only bytes that a request's path and query may have here.
func ValidTarget(b []byte) bool { return all(&targetByte, b) }

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// ValidValue reports whether b has no control characters except tabs. It looks at eight bytes at a time.
func ValidValue(b []byte) bool {
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		low := (x - ones*0x20) & ^x & highs                        // bytes below 0x20
		del := ((x ^ ones*0x7f) - ones) & ^(x ^ ones*0x7f) & highs // bytes equal to 0x7f
		if low|del != 0 {
			return validSlow(b)
		}
		b = b[8:]
	}
	return validSlow(b)
}

func validSlow(b []byte) bool {
	for _, c := range b {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// ParseLength reads the value of a content-length: digits and nothing else.
func ParseLength(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 18 { // 10^18 - 1 fits
		return 0, false
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
