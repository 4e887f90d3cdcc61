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

// A fieldParser collects what the fields of one head say about framing.
type fieldParser struct {
	p       *Parser
	head    Head
	m       *header.Map
	request bool

	lengths, codings, hosts int
	length                  int64
	chunked, badCoding      bool
	host                    []byte
	connection              bool // there was a connection field
	closing, keep           bool // options of it
	upgradeOption           bool
	nominated               bool                 // it names further fields
	values                  [maxNominated][]byte // of connection fields
	n                       int
	more                    bool // there are more of them than values holds
}

// all parses field lines up to and including the empty one.
func (f *fieldParser) all(b []byte) *Error {
	limit := f.p.maxFields()
	for count := 0; ; count++ {
		if len(b) == 2 && b[0] == '\r' && b[1] == '\n' {
			return nil
		}
		eol := bytes.IndexByte(b, '\n')
		if eol < 1 || b[eol-1] != '\r' {
			return errBareCRLF
		}
		if count == limit {
			return errTooMany
		}
		if err := f.line(b[:eol-1]); err != nil {
			return err
		}
		b = b[eol+1:]
	}
}

func (f *fieldParser) line(line []byte) *Error {
	if f.p.Spelling.Names {
		if i := bytes.IndexByte(line, ':'); i > 0 {
			f.m.KeepSpelling(line[:i])
		}
	}
	i := 0
	for i < len(line) {
		c := lower[line[i]]
		if c == 0 {
			break
		}
		line[i] = c
		i++
	}
	if i == 0 {
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			return errFold
		}
		return errName
	}
	if i == len(line) || line[i] != ':' {
		return errName
	}
	name, value := line[:i], trim(line[i+1:])
	f.head.Fields += len(name) + len(value) + len(":\r\n")
	if !header.ValidValue(value) {
		return errValue
	}
	return f.field(header.TokenOf(name), name, value)
}

// field takes down one field, or its meaning if it is for this hop only.
func (f *fieldParser) field(t header.Token, name, value []byte) *Error {
	switch t {
	case header.None:
		if f.request && (f.p.DropUnderscores || f.p.RejectUnderscores) && bytes.IndexByte(name, '_') >= 0 {
			st := f.p.Stats
			if f.p.RejectUnderscores {
				if st != nil {
					st.RequestsRejectedWithUnderscoresInHeaders.Inc()
				}
				return errUnderscore
			}
			if st != nil {
				st.DroppedHeadersWithUnderscores.Inc()
			}
			return nil
		}
	case header.Host:
		if f.request {
			f.hosts++
			f.host = value
			return nil
		}
	case header.ContentLength:
		n, ok := header.ParseLength(value)
		if !ok {
			return errLength
		}
		f.lengths++
		f.length = n
	case header.TransferEncoding:
		f.codings++
		f.chunked = equalFold(value, "chunked")
		f.badCoding = f.badCoding || !f.chunked
		return nil
	case header.Connection:
		f.options(value) // stays in the map if it announces an upgrade, see upgrade
	case header.KeepAlive:
		f.head.Idle = keepAliveTimeout(value)
		return nil
	case header.ProxyConnection: // of no standard, and older clients mean it
		f.closing = f.closing || f.head.Minor == 1 && hasToken(value, "close")
		return nil
	case header.TE:
		if !hasToken(value, "trailers") {
			return nil
		}
		value = trailers
	case header.Expect:
		f.head.Expect = equalFold(value, "100-continue")
	}
	f.m.AddParsed(t, name, value)
	return nil
}

// keepAliveTimeout reads "timeout=5, max=100" (RFC 2068, section 19.7.1.1, and what servers make of it); 0: it does
// not say, or makes no sense.
func keepAliveTimeout(list []byte) int32 {
	for len(list) > 0 {
		var t []byte
		t, list = nextToken(list)
		const name = "timeout="
		if len(t) <= len(name) || !equalFold(t[:len(name)], name) {
			continue
		}
		n := int32(0)
		for _, c := range t[len(name):] {
			if c < '0' || c > '9' || n > 1e6 {
				return 0
			}
			n = n*10 + int32(c-'0')
		}
		return n
	}
	return 0
}

// options reads a connection field.
func (f *fieldParser) options(value []byte) {
	f.connection = true
	if f.n < len(f.values) {
		f.values[f.n] = value
		f.n++
	} else {
		f.more = true
	}
	for rest := value; len(rest) > 0; {
		var option []byte
		option, rest = nextToken(rest)
		switch {
		case len(option) == 0:
		case equalFold(option, "close"):
			f.closing = true
		case equalFold(option, "keep-alive"):
			f.keep = true
		case equalFold(option, "upgrade"):
			f.upgradeOption = true
		default:
			f.nominated = true
		}
	}
}

// nextToken splits a comma-separated list.
func nextToken(list []byte) (token, rest []byte) {
	if i := bytes.IndexByte(list, ','); i >= 0 {
		return trim(list[:i]), list[i+1:]
	}
	return trim(list), nil
}

func hasToken(list []byte, word string) bool {
	for len(list) > 0 {
		var token []byte
		token, list = nextToken(list)
		if equalFold(token, word) {
			return true
		}
	}
	return false
}

// framing judges what the fields say together.
func (f *fieldParser) framing() *Error {
	switch {
	case f.codings > 0 && f.lengths > 0:
		return errLengthAndCodes
	case f.lengths > 1:
		return errLengths
	case f.codings > 1 || f.badCoding:
		return errCoding
	case f.codings > 0 && f.head.Minor == 0:
		return errCoding10
	}
	f.head.KeepAlive = !f.closing && (f.head.Minor == 1 || f.keep)
	if f.more {
		return errOptions
	}
	f.upgrade()
	if f.nominated {
		return f.dropNominated()
	}
	return nil
}

// upgrade keeps the connection and upgrade fields only where the connection field announces it.
// A wish to go on in HTTP/2 in plain text is ignored, as RFC 9113 and Envoy do.
func (f *fieldParser) upgrade() {
	if !f.connection && !f.m.Has(header.Upgrade) {
		return
	}
	value := f.m.Get(header.Upgrade)
	if value == nil || !f.upgradeOption || hasToken(value, "h2c") {
		f.m.Remove(header.Upgrade)
		f.m.Remove(header.HTTP2Settings)
		f.m.Remove(header.Connection)
		return
	}
	f.m.Set(header.Connection, f.m.Get(header.Connection))
	f.head.Upgrade = true
}

// maxNominated is how many options of the connection field are looked at; Envoy's limit.
const maxNominated = 10

// dropNominated removes the fields that the connection field names (RFC 9110,
// section 7.6.1). Who names fields that trusted hops write would undo what they said, and is
// refused, as by Envoy; so is who names very many. What is no name names nothing.
func (f *fieldParser) dropNominated() *Error {
	count := 0
	for _, value := range f.values[:f.n] {
	options:
		for len(value) > 0 {
			var option []byte
			option, value = nextToken(value)
			if len(option) == 0 {
				continue
			}
			if count++; count > maxNominated || option[0] == ':' {
				return errOptions
			}
			for i, c := range option {
				if option[i] = lower[c]; option[i] == 0 {
					continue options // the bytes before are lower-cased: that harms nobody
				}
			}
			switch t := header.TokenOf(option); t {
			case header.XForwardedFor, header.XForwardedHost, header.XForwardedPort, header.XForwardedProto:
				return errOptions
			case header.Host:
				if f.request { // it would take away the host
					f.m.Remove(header.Authority)
					return errNoHost
				}
			case header.ContentLength, header.Upgrade, header.TE:
			default:
				if !protected(option) {
					f.m.RemoveName(option)
				}
			}
		}
	}
	return nil
}

// protected names are ours, not the client's to take away.
func protected(name []byte) bool {
	return bytes.HasPrefix(name, []byte("x-forwarded-")) || bytes.HasPrefix(name, []byte("x-envoy-")) || bytes.HasPrefix(name, []byte("x-request-id"))
}

// target sorts out the four forms of a request target and the host.
func (f *fieldParser) target(method, target []byte) *Error {
	if f.hosts > 1 {
		return errHost
	}
	if f.hosts == 0 && f.head.Minor == 1 {
		return errNoHost
	}
	authority := f.host
	switch {
	case f.head.Connect:
		authority = target
		f.m.Remove(header.Path)
		f.m.Remove(header.Scheme)
	case target[0] == '/':
		if !header.ValidTarget(target) || !ascii(target) {
			return errTarget
		}
	case len(target) == 1 && target[0] == '*':
		if string(method) != "OPTIONS" {
			return errURL
		}
	case f.p.NoAbsolute:
		if !header.ValidTarget(target) || !ascii(target) {
			return errTarget
		}
	default:
		var err *Error
		if authority, err = f.absolute(target); err != nil {
			return err
		}
	}
	if f.head.Connect && bytes.IndexByte(authority, ':') < 0 {
		return errURL
	}
	if !header.ValidAuthority(authority) || !header.ValidAuthority(f.host) {
		return errAuthority
	}
	if f.head.Minor == 1 && len(authority) == 0 {
		return errNoHost
	}
	f.m.Set(header.Authority, authority)
	return nil
}

// ascii reports whether a target holds no octets above 0x7f, which Envoy refuses in HTTP/1.1.
func ascii(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// absolute takes an absolute-form target apart. Its host replaces the host field (RFC 9112, section 3.2.2).
func (f *fieldParser) absolute(target []byte) ([]byte, *Error) {
	i := bytes.Index(target, []byte("://"))
	if i < 0 {
		return nil, errTarget
	}
	switch scheme := target[:i]; {
	case equalFold(scheme, "http"):
	case equalFold(scheme, "https"):
		if f.p.Plain {
			return nil, errSecure
		}
		f.m.Set(header.Scheme, schemeHTTPS)
	default:
		return nil, errScheme
	}
	f.head.Absolute = true
	rest := target[i+3:]
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	if !header.ValidTarget(rest[:end]) {
		return nil, errTarget
	}
	if !validHostPort(rest[:end]) {
		return nil, errURL
	}
	path := rest[end:]
	switch {
	case len(path) == 0:
		path = rootPath
	case path[0] == '?':
		f.m.SetCopy(header.Path, append([]byte{'/'}, path...))
		path = f.m.Get(header.Path)
	}
	if !header.ValidTarget(path) || !ascii(path) {
		return nil, errTarget
	}
	f.m.Set(header.Path, path)
	return rest[:end], nil
}

// validHostPort reports whether an authority is a name or address, and a port if there is a colon: with fewer letters
// than one in a Host field may have, as in Envoy.
func validHostPort(b []byte) bool {
	i := 0
	if len(b) > 0 && b[0] == '[' {
		if i = bytes.IndexByte(b, ']') + 1; i < 4 {
			return false
		}
		for _, c := range b[1 : i-1] {
			if l := lower[c]; !digit(c) && (l < 'a' || l > 'f') && c != ':' && c != '.' {
				return false
			}
		}
	} else {
		for i < len(b) && b[i] != ':' {
			if c := lower[b[i]]; !digit(c) && (c < 'a' || c > 'z') && c != '.' && c != '-' {
				return false
			}
			i++
		}
	}
	if i == 0 || i < len(b) && b[i] != ':' {
		return false
	}
	if i == len(b) {
		return true
	}
	port := 0
	for _, c := range b[i+1:] {
		if port = port*10 + int(c-'0'); !digit(c) || port > 65535 {
			return false
		}
	}
	return i+1 < len(b)
}
