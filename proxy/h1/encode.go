package h1

import (
	"bytes"
	"strconv"

	"github.com/mallamesh/malla/proxy/header"
)

// A Form is what a request's head says beyond its fields.
type Form struct {
	Chunked  bool // the body comes in chunks
	Empty    bool // there is no body, where there could be one
	Absolute bool // the target is in absolute form, for proxies
}

// AppendRequest appends a request's head. What the map says about framing other
// than content-length is not written.
func AppendRequest(dst []byte, m *header.Map, form Form) []byte {
	dst = append(dst, m.Get(header.Method)...)
	dst = append(dst, ' ')
	if form.Absolute && m.Has(header.Path) {
		dst = append(append(dst, m.Get(header.Scheme)...), "://"...)
		dst = append(dst, m.Get(header.Authority)...)
	}
	if path := m.Get(header.Path); path != nil {
		dst = append(dst, path...)
	} else { // CONNECT
		dst = append(dst, m.Get(header.Authority)...)
	}
	dst = append(dst, " HTTP/1.1\r\nhost: "...)
	dst = append(dst, m.Get(header.Authority)...)
	dst = append(dst, '\r', '\n')
	dst = appendFields(dst, m)
	if form.Empty {
		dst = append(dst, "content-length: 0\r\n"...)
	}
	return finishHead(dst, form.Chunked)
}

// Bodiless reports whether requests of a method have no body, so that none has to be denied (as
// RFC 9110, section 8.6, asks of the others).
func Bodiless(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "DELETE", "TRACE", "CONNECT":
		return true
	}
	return false
}

// AppendResponse appends a response's head. The reason phrase is the standard one, as
// Envoy's, unless the map keeps another. empty adds a content-length of 0.
func AppendResponse(dst []byte, m *header.Map, chunked, empty bool) []byte {
	status := m.Get(header.Status)
	dst = append(dst, "HTTP/1.1 "...)
	dst = append(dst, status...)
	dst = append(dst, ' ')
	if own := m.Reason(); len(own) > 0 {
		dst = append(dst, own...)
	} else {
		dst = append(dst, Reason(status)...)
	}
	dst = append(dst, '\r', '\n')
	dst = appendFields(dst, m)
	if empty {
		dst = append(dst, "content-length: 0\r\n"...)
	}
	return finishHead(dst, chunked)
}

func finishHead(dst []byte, chunked bool) []byte {
	if chunked {
		dst = append(dst, "transfer-encoding: chunked\r\n"...)
	}
	return append(dst, '\r', '\n')
}

func appendFields(dst []byte, m *header.Map) []byte {
	fields := m.Fields()
	for i := range fields {
		f := &fields[i]
		if f.Token.Pseudo() {
			continue
		}
		dst = append(dst, f.Name...)
		dst = append(dst, ':', ' ')
		dst = append(dst, f.Value...)
		dst = append(dst, '\r', '\n')
	}
	return dst
}

// ProperCase writes the names of a head's fields with capitals. The first line stays as it is.
func ProperCase(head []byte) {
	for {
		_, fields, ok := bytes.Cut(head, []byte("\r\n"))
		if !ok {
			return
		}
		head = fields
		if i := bytes.IndexByte(fields, ':'); i > 0 {
			header.Proper(fields[:i])
		}
	}
}

// AppendChunk appends data as one chunk. Empty data appends nothing: an empty chunk would end the body.
func AppendChunk(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	dst = strconv.AppendUint(dst, uint64(len(data)), 16)
	dst = append(dst, '\r', '\n')
	dst = append(dst, data...)
	return append(dst, '\r', '\n')
}

// An Output is where bytes are written, as a connection.
type Output interface {
	Room(n int) []byte // output to append n bytes to
	End(b []byte)      // what Room gave, longer
	Write(b []byte)
}

// wholeChunk is the longest chunk that is written in one piece.
const wholeChunk = 16 << 10

// WriteChunk writes data as one chunk; a long one in pieces, so that they fill the output's buffers.
func WriteChunk(o Output, data []byte) {
	switch {
	case len(data) == 0:
	case len(data) <= wholeChunk:
		o.End(AppendChunk(o.Room(len(data)+32), data))
	default:
		head := strconv.AppendUint(o.Room(32), uint64(len(data)), 16)
		o.End(append(head, '\r', '\n'))
		o.Write(data)
		o.End(append(o.Room(2), '\r', '\n'))
	}
}

// FieldBytes is how many bytes of a head are fields: what is between its start line and its empty line.
func FieldBytes(head []byte) int {
	return len(head) - bytes.IndexByte(head, '\n') - 1 - len("\r\n")
}

// ChunkOverhead is how many bytes AppendChunk adds to data of this length.
func ChunkOverhead(n int) int { return hexDigits(uint64(n)) + 4 }

// AppendLastChunk ends a chunked body, with trailers if m has any.
func AppendLastChunk(dst []byte, m *header.Map) []byte {
	dst = append(dst, '0', '\r', '\n')
	if m != nil {
		dst = appendFields(dst, m)
	}
	return append(dst, '\r', '\n')
}

// Continue is the interim response to Expect: 100-continue.
const Continue = "HTTP/1.1 100 Continue\r\n\r\n"

// Reason returns the standard reason phrase of a status, as Envoy writes it.
func Reason(status []byte) string {
	if len(status) != 3 {
		return "Unknown"
	}
	code := int(status[0]-'0')*100 + int(status[1]-'0')*10 + int(status[2]-'0')
	if code < 100 || code >= 600 || reasons[code-100] == "" {
		return "Unknown"
	}
	return reasons[code-100]
}

var reasons = [500]string{
	0: "Continue", 1: "Switching Protocols", // Envoy's enumeration leaves out 102 and 103
	100: "OK", 101: "Created", 102: "Accepted", 103: "Non-Authoritative Information", 104: "No Content", 105: "Reset Content",
	106: "Partial Content", 107: "Multi-Status", 108: "Already Reported", 126: "IM Used",
	200: "Multiple Choices", 201: "Moved Permanently", 202: "Found", 203: "See Other", 204: "Not Modified", 205: "Use Proxy",
	207: "Temporary Redirect", 208: "Permanent Redirect",
	300: "Bad Request", 301: "Unauthorized", 302: "Payment Required", 303: "Forbidden", 304: "Not Found", 305: "Method Not Allowed",
	306: "Not Acceptable", 307: "Proxy Authentication Required", 308: "Request Timeout", 309: "Conflict", 310: "Gone",
	311: "Length Required", 312: "Precondition Failed", 313: "Payload Too Large", 314: "URI Too Long", 315: "Unsupported Media Type",
	316: "Range Not Satisfiable", 317: "Expectation Failed", 321: "Misdirected Request", 322: "Unprocessable Entity", 323: "Locked",
	324: "Failed Dependency", 325: "Too Early", 326: "Upgrade Required", 328: "Precondition Required", 329: "Too Many Requests",
	331: "Request Header Fields Too Large", // and 451
	400: "Internal Server Error", 401: "Not Implemented", 402: "Bad Gateway", 403: "Service Unavailable", 404: "Gateway Timeout",
	405: "HTTP Version Not Supported", 406: "Variant Also Negotiates", 407: "Insufficient Storage", 408: "Loop Detected",
	410: "Not Extended", 411: "Network Authentication Required", 499: "Last Unassigned Server Error Code",
}
