// Package h1 reads and writes HTTP/1.1 messages. It does no I/O: bytes in, fields
// and body pieces out; fields in, bytes appended to a buffer out.
//
// It is made so that the next server cannot see other message boundaries than we
// do: whatever RFC 9112 leaves open is refused, more strictly than Envoy does. A
// message has one Content-Length of digits or the transfer coding chunked, never both;
// lines end with CRLF and are never folded; a field name is a token and touches its
// colon; values hold no control characters. What is passed on is encoded anew, so
// that nothing of the original framing survives. Responses alone may, if their reader is [Parser.Lenient],
// have lines that end with a bare LF or are folded, as Envoy takes them: old servers write such, and nobody asks them on
// another's behalf.
//
// Field names are lower-cased in the head's own bytes, which the caller gives away.
// "host" becomes ":authority". Fields that are for one hop only (connection and
// what it names, keep-alive, proxy-connection, transfer-encoding, te except
// "trailers") end here; a [Head] says what they said. A request for an upgrade
// keeps its connection and upgrade fields.
//
// Not supported, and refused: transfer codings other than chunked (501), HTTP/0.9
// (400). HTTP/1.0 is parsed, and whatever else calls itself HTTP is taken for it; the caller decides.
package h1

import (
	"bytes"
	"math/bits"

	"github.com/mallamesh/malla/proxy/stats"
)

// Envoy's limits, which apply where configuration does not say otherwise.
const (
	DefaultHeadBytes = 60 << 10
	DefaultFields    = 100
)

// An Error refuses a message. Errors are constants and allocate nothing.
type Error struct {
	Status  int    // what a server answers
	Details string // Envoy's response code details
	Why     string
}

func (e *Error) Error() string { return e.Why }

// Errors of parsing. Details are Envoy's where Envoy refuses the same thing.
var (
	errLine           = &Error{400, "http1.codec_error", "malformed start line"}
	errMethod         = &Error{400, "http1.codec_error", "unknown method"}
	errSecure         = &Error{403, "http1.https_url_on_plaintext_connection", "a target of https on a connection in plain text"}
	errVersion        = &Error{400, "http1.codec_error", "malformed or unsupported HTTP version"}
	errBareCRLF       = &Error{400, "http1.codec_error", "a line does not end with CRLF"}
	errFold           = &Error{400, "http1.codec_error", "folded field line"}
	errName           = &Error{400, "http1.codec_error", "malformed field name"}
	errValue          = &Error{400, "http1.invalid_characters", "control character in a field value"}
	errTarget         = &Error{400, "http1.codec_error", "malformed request target"}
	errScheme         = &Error{400, "http1.invalid_scheme", "an absolute target of neither http nor https"}
	errURL            = &Error{400, "http1.invalid_url", "malformed absolute target, or a CONNECT to something without a port"}
	errHost           = &Error{400, "http1.codec_error", "repeated host"}
	errAuthority      = &Error{400, "http.invalid_authority", "malformed host"}
	errNoHost         = &Error{400, "missing_host_header", "no host"} // see NoHost
	errLength         = &Error{400, "http1.codec_error", "malformed content-length"}
	errLengths        = &Error{400, "http1.codec_error", "several content-lengths"}
	errLengthAndCodes = &Error{400, "http1.content_length_and_chunked_not_allowed", "both content-length and transfer-encoding"}
	errCoding         = &Error{501, "http1.invalid_transfer_encoding", "unsupported transfer coding"}
	errCoding10       = &Error{400, "http1.codec_error", "transfer-encoding in HTTP/1.0"}
	errConnectBody    = &Error{400, "http1.body_disallowed", "a CONNECT with a length"}
	errNoBody         = &Error{400, "http1.codec_error", "a length where there is no body"}
	errTooLarge       = &Error{431, "http1.headers_too_large", "head too large"}
	errTooMany        = &Error{431, "http1.too_many_headers", "too many fields"}
	errChunk          = &Error{400, "http1.codec_error", "malformed chunk"}
	errOptions        = &Error{400, "http1.connection_header_rejected", "the connection field names what it must not, or too much"}
	errTrailer        = &Error{400, "http1.codec_error", "malformed trailer"}
	errUnderscore     = &Error{400, "http1.unexpected_underscore", "underscore in a field name"}
)

// NoHost reports whether a request was refused for want of a host, which Envoy answers without a body.
func (e *Error) NoHost() bool { return e == errNoHost }

// BodyKind says how the end of a body is found.
type BodyKind uint8

const (
	NoBody BodyKind = iota
	Sized
	Chunked
	UntilClose // responses only
)

// A Head is what a message's start and hop-by-hop fields said.
type Head struct {
	Body      BodyKind
	Length    int64 // of a Sized body
	Minor     uint8 // of the version: 1.0 or 1.1
	Status    int   // of a response
	KeepAlive bool  // the sender will keep the connection open
	Upgrade   bool  // connection: upgrade, with an upgrade field, which stays in the map
	Expect    bool  // expect: 100-continue
	Absolute  bool  // the target was in absolute form
	Connect   bool  // the method is CONNECT
	Fields    int   // bytes of the fields: names, colons, values, line ends
	Idle      int32 // seconds after which the sender closes an unused connection (keep-alive: timeout=5); 0: it does not say
}

// A Parser holds the limits of one side of a connection.
type Parser struct {
	MaxBytes  int // of a head; 0: DefaultHeadBytes
	MaxFields int // 0: DefaultFields

	DropUnderscores, RejectUnderscores bool // in names of request fields

	Stats *stats.HTTP1 // nil: none

	NoAbsolute bool // a target in absolute form is taken for a path
	AnyMethod  bool // any token is a method, not only the known ones (allow_custom_methods)
	Plain      bool // a target of https is refused: the connection has no TLS, and nobody has ended any before
	Lenient    bool // of responses: lines may end with a bare LF, and fields may be folded
	Spelling   Spelling
}

// Spelling says what of a head is kept as the sender wrote it.
type Spelling struct {
	Names  bool // names of fields
	Proper bool // names that are added get capitals
	Reason bool // the words beside a status
}

func (p *Parser) maxBytes() int {
	if p.MaxBytes > 0 {
		return p.MaxBytes
	}
	return DefaultHeadBytes
}

func (p *Parser) maxFields() int {
	if p.MaxFields > 0 {
		return p.MaxFields
	}
	return DefaultFields
}

var endOfHead = []byte("\r\n\r\n")

// HeadEnd returns the length of the head at the start of b, its empty line
// included, or 0 if more bytes are needed. seen is how much of b earlier calls have looked
// at. A head that can already be known to be bad is refused at once.
func (p *Parser) HeadEnd(b []byte, seen int) (int, *Error) {
	if p.Lenient {
		return p.lenientEnd(b, seen)
	}
	from := max(0, seen-3)
	i := bytes.Index(b[from:], endOfHead)
	if i >= 0 {
		n := from + i + 4
		if n > p.maxBytes() {
			return 0, errTooLarge
		}
		return n, nil
	}
	if len(b) > p.maxBytes() {
		return 0, errTooLarge
	}
	// A sender that ends lines with a bare LF would wait for an answer for ever.
	for rest := b[seen:]; ; {
		j := bytes.IndexByte(rest, '\n')
		if j < 0 {
			return 0, nil
		}
		if at := len(b) - len(rest) + j; at == 0 || b[at-1] != '\r' {
			return 0, errBareCRLF
		}
		rest = rest[j+1:]
	}
}

// lower maps the bytes of a field name to lower case, and all others to 0.
var lower = func() (t [256]byte) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		t[c] = c
	}
	for c := byte('A'); c <= 'Z'; c++ {
		t[c] = c | 0x20
	}
	return t
}()

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// equalFold compares with a lower-case word.
func equalFold(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != word[i] {
			return false
		}
	}
	return true
}

// hexDigits is the number of hexadecimal digits of n.
func hexDigits(n uint64) int { return max(1, (bits.Len64(n)+3)/4) }
