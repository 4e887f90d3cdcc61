package h1

import "bytes"

// What a lenient reader of responses takes beside what everybody must write (RFC 9112, sections 2.2 and 5.2): lines that end
// with a bare LF, also behind the data of a chunk but not behind its size, and fields that go on in lines that begin with a blank. It is
// what Envoy takes. A bare CR is refused all the same.

// lenientEnd is HeadEnd: a head ends with the first empty line, however its lines end.
func (p *Parser) lenientEnd(b []byte, seen int) (int, *Error) {
	for at := max(0, seen-2); ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			break
		}
		at += i + 1
		n := 0
		switch rest := b[at:]; {
		case len(rest) > 0 && rest[0] == '\n':
			n = at + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			n = at + 2
		default:
			continue
		}
		if n > p.maxBytes() {
			return 0, errTooLarge
		}
		return n, nil
	}
	if len(b) > p.maxBytes() {
		return 0, errTooLarge
	}
	return 0, nil
}

// lenientAll is all, from a field on of which limit many may follow.
func (f *fieldParser) lenientAll(b []byte, limit int) *Error {
	for count := 0; ; count++ {
		line, rest, ok := unfold(b)
		switch {
		case !ok:
			return errBareCRLF
		case len(line) == 0 && len(rest) == 0:
			return nil
		case count == limit:
			return errTooMany
		}
		if err := f.line(line); err != nil {
			return err
		}
		b = rest
	}
}

// unfold cuts off the first line, together with those that go on with it: their line ends are left out, in b's own bytes, and all
// blanks stay, as in Envoy. It reports whether there was a whole line.
func unfold(b []byte) (line, rest []byte, ok bool) {
	eol := bytes.IndexByte(b, '\n')
	if eol < 0 {
		return nil, nil, false
	}
	line, rest = withoutCR(b[:eol]), b[eol+1:]
	if len(line) == 0 {
		return line, rest, true
	}
	for n := len(line); len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t'); line = b[:n] {
		if eol = bytes.IndexByte(rest, '\n'); eol < 0 {
			return nil, nil, false
		}
		n += copy(b[n:], withoutCR(rest[:eol]))
		rest = rest[eol+1:]
	}
	return line, rest, true
}

func withoutCR(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}
