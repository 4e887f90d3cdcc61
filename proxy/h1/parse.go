package h1

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/header"
)

// Shared values, so that maps hold no bytes of their own for them.
var (
	schemeHTTP  = []byte("http")
	schemeHTTPS = []byte("https")
	rootPath    = []byte("/")
	trailers    = []byte("trailers")
)

// Request parses a request's head, which HeadEnd has measured. The map's fields
// point into head, whose bytes are changed. The scheme is "http" unless the target
// says otherwise; the caller knows better if the connection is encrypted.
func (p *Parser) Request(head []byte, m *header.Map) (Head, *Error) {
	line, fields, err := p.begin(head, m)
	if err != nil {
		return Head{}, err
	}
	method, target, minor, err := requestLine(line)
	if err != nil {
		return Head{}, err
	}
	// Pseudo fields come first; the authority's value is filled in when it is known.
	m.Add(header.Authority, nil)
	m.Add(header.Path, target)
	m.Add(header.Method, method)
	m.Add(header.Scheme, schemeHTTP)
	f := fieldParser{p: p, m: m, request: true}
	if !p.AnyMethod && !known(method) {
		return Head{}, errMethod
	}
	f.head.Minor, f.head.Connect = minor, string(method) == "CONNECT"
	if err := f.all(fields); err != nil {
		return f.head, err
	}
	m.Join(header.JoinedInRequests)
	if err := f.target(method, target); err != nil {
		m.Remove(header.Authority)
		return f.head, err
	}
	if err := f.framing(); err != nil {
		return f.head, err
	}
	switch {
	case f.head.Connect && f.chunked: // what follows is the tunnel's (RFC 9110, section 9.3.6)
		return f.head, errCoding
	case f.head.Connect && f.length > 0:
		return f.head, errConnectBody
	case f.chunked:
		f.head.Body = Chunked
	case f.length > 0:
		f.head.Body, f.head.Length = Sized, f.length
	}
	return f.head, nil
}

func requestLine(line []byte) (method, target []byte, minor uint8, err *Error) {
	i := bytes.IndexByte(line, ' ')
	j := bytes.LastIndexByte(line, ' ')
	if i <= 0 || j <= i+1 {
		return nil, nil, 0, errLine
	}
	method, target = line[:i], line[i+1:j]
	for _, c := range method {
		if lower[c] == 0 {
			return nil, nil, 0, errLine
		}
	}
	switch v := line[j+1:]; {
	case string(v) == "HTTP/1.1":
		minor = 1
	case len(v) != len("HTTP/1.0") || string(v[:5]) != "HTTP/" || !digit(v[5]) || v[6] != '.' || !digit(v[7]):
		return nil, nil, 0, errVersion
	} // all others are taken for 1.0, as by Envoy
	return method, target, minor, nil
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// known reports whether a method is one of those that Envoy lets pass without allow_custom_methods.
func known(method []byte) bool {
	switch string(method) {
	case "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE",
		"ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "MSEARCH", "NOTIFY",
		"PROPFIND", "PROPPATCH", "PURGE", "QUERY", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE":
		return true
	}
	return false
}

// begin empties the map and cuts a head into its first line, without the line's end, and its fields.
func (p *Parser) begin(head []byte, m *header.Map) (line, fields []byte, err *Error) {
	m.Reset()
	if p.Spelling.Names {
		m.BeginSpelling(p.Spelling.Proper)
	}
	eol := bytes.IndexByte(head, '\n')
	if p.Lenient && eol >= 0 {
		return withoutCR(head[:eol]), head[eol+1:], nil
	}
	if eol < 1 || head[eol-1] != '\r' {
		return nil, nil, errBareCRLF
	}
	return head[:eol-1], head[eol+1:], nil
}

// Response parses a response's head. method is that of the request: the answer
// to HEAD has no body, whatever it says.
func (p *Parser) Response(head []byte, m *header.Map, method []byte) (Head, *Error) {
	line, fields, err := p.begin(head, m)
	if err != nil {
		return Head{}, err
	}
	// RFC 9112, section 4: the reason phrase may be absent, and servers leave out its space.
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' || len(line) > 12 && line[12] != ' ' || !header.ValidValue(line) {
		return Head{}, errLine
	}
	f := fieldParser{p: p, m: m}
	h := &f.head
	h.Minor = line[7] - '0'
	if h.Minor > 1 {
		return *h, errVersion
	}
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return *h, errLine
		}
		h.Status = h.Status*10 + int(c-'0')
	}
	if h.Status < 100 || h.Status > 599 {
		return *h, errLine
	}
	m.Add(header.Status, line[9:12])
	if p.Spelling.Reason && len(line) > 13 {
		m.KeepReason(line[13:])
	}
	if err := f.all(fields); err != nil {
		return *h, err
	}
	m.Join(header.JoinedInResponses)
	if err := f.framing(); err != nil {
		return *h, err
	}
	// RFC 9112, section 6.3.
	switch {
	case h.Status < 200 || h.Status == 204 || h.Status == 304 || string(method) == "HEAD":
		if h.Status == 204 || h.Status < 200 { // RFC 9110, section 8.6, and RFC 9112, section 6.1: they have neither
			if f.length > 0 || f.codings > 0 {
				return *h, errNoBody
			}
			m.Remove(header.ContentLength)
		}
	case f.chunked:
		h.Body = Chunked
	case f.lengths > 0:
		if f.length > 0 {
			h.Body, h.Length = Sized, f.length
		}
	default:
		h.Body, h.KeepAlive = UntilClose, false
	}
	return *h, nil
}
