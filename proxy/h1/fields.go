package h1

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/header"
)

// The fields of a head, and what they say of the body behind it.

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
		if f.p.Lenient {
			return f.lenientAll(b, limit)
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
