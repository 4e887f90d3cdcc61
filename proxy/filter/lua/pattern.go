package lua

import "errors"

// Lua's patterns (Reference Manual 5.1, section 5.4.1), with every step counted: one that goes back and forth over
// a long text can otherwise take for ever.

const maxCaptures = 32

// Captures that are not a piece of text.
const (
	captureOpen     = -1
	capturePosition = -2
)

// depth bounds how deep a match is nested.
const maxMatchDepth = 200

var (
	errCaptures = errors.New("too many captures")
	errComplex  = errors.New("pattern too complex")
)

type capture struct{ from, len int }

// A matcher matches one pattern against one text.
type matcher struct {
	src, pat string
	level    int
	captures [maxCaptures]capture
	depth    int
	meter    *meter
	err      error
}

func (m *matcher) fail(err error) int {
	if m.err == nil {
		m.err = err
	}
	return -1
}

// charge counts steps. It reports whether the match may go on.
func (m *matcher) charge(n int) bool {
	if n > 0 {
		if err := m.meter.steps(n); err != nil {
			m.fail(err)
		}
	}
	return m.err == nil
}

// cost is what it takes to look through the class from p to end, in steps.
func cost(p, end int) int { return (end - p) >> 3 }

// match returns the end of the match of the pattern from p on with the text from s on, -1 if there is none.
func (m *matcher) match(s, p int) int {
	if m.depth++; m.depth > maxMatchDepth {
		return m.fail(errComplex)
	}
	defer func() { m.depth-- }()
	for m.err == nil {
		if err := m.meter.steps(1); err != nil {
			return m.fail(err)
		}
		if p == len(m.pat) {
			return s
		}
		switch m.pat[p] {
		case '(':
			if p+1 < len(m.pat) && m.pat[p+1] == ')' {
				return m.startCapture(s, p+2, capturePosition)
			}
			return m.startCapture(s, p+1, captureOpen)
		case ')':
			return m.endCapture(s, p+1)
		case '$':
			if p+1 == len(m.pat) {
				if s == len(m.src) {
					return s
				}
				return -1
			}
		case '%':
			if p+1 == len(m.pat) {
				return m.fail(errors.New("malformed pattern (ends with '%')"))
			}
			switch c := m.pat[p+1]; {
			case c == 'b':
				if s = m.balance(s, p+2); s < 0 {
					return -1
				}
				p += 4
				continue
			case c == 'f':
				p += 2
				if p >= len(m.pat) || m.pat[p] != '[' {
					return m.fail(errors.New("missing '[' after '%f' in pattern"))
				}
				end := m.classEnd(p)
				if end < 0 {
					return -1
				}
				var before, here byte
				if s > 0 {
					before = m.src[s-1]
				}
				if s < len(m.src) {
					here = m.src[s]
				}
				if !m.charge(2*cost(p, end)) || m.set(before, p, end-1) || !m.set(here, p, end-1) {
					return -1
				}
				p = end
				continue
			case c >= '0' && c <= '9':
				i := int(c - '1')
				if i < 0 || i >= m.level || m.captures[i].len == captureOpen {
					return m.fail(errors.New("invalid capture index"))
				}
				text := m.text(i)
				if !m.charge(len(text)>>4) || len(m.src)-s < len(text) || m.src[s:s+len(text)] != text {
					return -1
				}
				s, p = s+len(text), p+2
				continue
			}
		}
		end := m.classEnd(p)
		if end < 0 || !m.charge(2*cost(p, end)) {
			return -1
		}
		fits := s < len(m.src) && m.single(m.src[s], p, end)
		var next byte
		if end < len(m.pat) {
			next = m.pat[end]
		}
		switch next {
		case '?':
			if fits {
				if r := m.match(s+1, end+1); r >= 0 {
					return r
				}
			}
			p = end + 1
		case '*':
			return m.greedy(s, p, end, 0)
		case '+':
			if !fits {
				return -1
			}
			return m.greedy(s, p, end, 1)
		case '-':
			return m.lazy(s, p, end)
		default:
			if !fits {
				return -1
			}
			s, p = s+1, end
		}
	}
	return -1
}

// greedy tries the most repetitions first, and then fewer.
func (m *matcher) greedy(s, p, end, least int) int {
	n, each := 0, 1+cost(p, end)
	for s+n < len(m.src) && m.charge(each) && m.single(m.src[s+n], p, end) {
		n++
	}
	if m.err != nil {
		return -1
	}
	for ; n >= least; n-- {
		if r := m.match(s+n, end+1); r >= 0 || m.err != nil {
			return r
		}
	}
	return -1
}

func (m *matcher) lazy(s, p, end int) int {
	for {
		if r := m.match(s, end+1); r >= 0 || m.err != nil {
			return r
		}
		if s >= len(m.src) || !m.charge(cost(p, end)) || !m.single(m.src[s], p, end) {
			return -1
		}
		s++
	}
}

func (m *matcher) startCapture(s, p, what int) int {
	if m.level >= maxCaptures {
		return m.fail(errCaptures)
	}
	m.captures[m.level] = capture{s, what}
	m.level++
	r := m.match(s, p)
	if r < 0 {
		m.level--
	}
	return r
}

func (m *matcher) endCapture(s, p int) int {
	for i := m.level - 1; i >= 0; i-- {
		if m.captures[i].len != captureOpen {
			continue
		}
		m.captures[i].len = s - m.captures[i].from
		r := m.match(s, p)
		if r < 0 {
			m.captures[i].len = captureOpen
		}
		return r
	}
	return m.fail(errors.New("invalid pattern capture"))
}

// text is the text of a capture that is complete.
func (m *matcher) text(i int) string {
	c := m.captures[i]
	return m.src[c.from : c.from+max(c.len, 0)]
}

func (m *matcher) balance(s, p int) int {
	if p+1 >= len(m.pat) {
		return m.fail(errors.New("unbalanced pattern"))
	}
	if s >= len(m.src) || m.src[s] != m.pat[p] {
		return -1
	}
	open, shut, depth := m.pat[p], m.pat[p+1], 1
	for i := s + 1; i < len(m.src); i++ {
		switch m.src[i] {
		case shut:
			if depth--; depth == 0 {
				if err := m.meter.steps(i - s); err != nil {
					return m.fail(err)
				}
				return i + 1
			}
		case open:
			depth++
		}
	}
	if err := m.meter.steps(len(m.src) - s); err != nil {
		return m.fail(err)
	}
	return -1
}

// classEnd returns where the single character class at p ends.
func (m *matcher) classEnd(p int) int {
	c := m.pat[p]
	p++
	switch c {
	case '%':
		if p >= len(m.pat) {
			return m.fail(errors.New("malformed pattern (ends with '%')"))
		}
		return p + 1
	case '[':
		if p < len(m.pat) && m.pat[p] == '^' {
			p++
		}
		for first := true; first || p < len(m.pat) && m.pat[p] != ']'; first = false { // a "]" that comes first stands for itself
			if p >= len(m.pat) {
				return m.fail(errors.New("malformed pattern (missing ']')"))
			}
			if m.pat[p] == '%' {
				p++
			}
			p++
		}
		if p >= len(m.pat) {
			return m.fail(errors.New("malformed pattern (missing ']')"))
		}
		return p + 1
	}
	return p
}

func (m *matcher) single(c byte, p, end int) bool {
	switch m.pat[p] {
	case '.':
		return true
	case '%':
		return class(c, m.pat[p+1])
	case '[':
		return m.set(c, p, end-1)
	}
	return m.pat[p] == c
}

// set reports whether a byte is in the set that begins at p and whose "]" is at end.
func (m *matcher) set(c byte, p, end int) bool {
	in := true
	if p+1 < end && m.pat[p+1] == '^' {
		in = false
		p++
	}
	for p++; p < end; p++ {
		switch {
		case m.pat[p] == '%' && p+1 < end:
			p++
			if class(c, m.pat[p]) {
				return in
			}
		case p+2 < end && m.pat[p+1] == '-':
			if m.pat[p] <= c && c <= m.pat[p+2] {
				return in
			}
			p += 2
		case m.pat[p] == c:
			return in
		}
	}
	return !in
}

func class(c, of byte) bool {
	lower := of | 0x20
	in := false
	letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	digit := c >= '0' && c <= '9'
	switch lower {
	case 'a':
		in = letter
	case 'c':
		in = c < 0x20 || c == 0x7f
	case 'd':
		in = digit
	case 'g':
		in = c > 0x20 && c < 0x7f
	case 'l':
		in = c >= 'a' && c <= 'z'
	case 'p':
		in = c > 0x20 && c < 0x7f && !letter && !digit
	case 's':
		in = c == ' ' || c >= '\t' && c <= '\r'
	case 'u':
		in = c >= 'A' && c <= 'Z'
	case 'w':
		in = letter || digit
	case 'x':
		in = digit || c|0x20 >= 'a' && c|0x20 <= 'f'
	case 'z':
		in = c == 0
	default:
		return of == c
	}
	return in != (of >= 'A' && of <= 'Z')
}

// find looks for a match from init on.
func (m *matcher) find(init int) (from, to int, ok bool) {
	anchor := len(m.pat) > 0 && m.pat[0] == '^'
	p := 0
	if anchor {
		p = 1
	}
	for s := init; s <= len(m.src); s++ {
		m.level = 0
		if e := m.match(s, p); e >= 0 {
			return s, e, true
		}
		if anchor || m.err != nil {
			break
		}
	}
	return 0, 0, false
}
