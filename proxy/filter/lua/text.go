package lua

import (
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// The functions of the string library that match patterns, and format.

func (st *state) matcher(l *lua.LState) *matcher {
	return &matcher{src: l.CheckString(1), pat: l.CheckString(2), meter: st.meter}
}

// capture pushes a capture, or the whole match if the pattern has none.
func (m *matcher) push(l *lua.LState, i, from, to int) {
	switch {
	case i >= m.level:
		l.Push(lua.LString(m.src[from:to]))
	case m.captures[i].len == capturePosition:
		l.Push(lua.LNumber(m.captures[i].from + 1))
	case m.captures[i].len == captureOpen:
		l.RaiseError("unfinished capture")
	default:
		l.Push(lua.LString(m.text(i)))
	}
}

func (m *matcher) pushAll(l *lua.LState, from, to int) int {
	n := max(m.level, 1)
	for i := range n {
		m.push(l, i, from, to)
	}
	return n
}

// begin is the third argument of find and match, from 0.
func begin(l *lua.LState, n int) int {
	i := l.OptInt(3, 1)
	if i < 0 {
		i = max(n+i+1, 1)
	}
	return max(i, 1) - 1
}

func (st *state) find(l *lua.LState) int {
	m := st.matcher(l)
	from := begin(l, len(m.src))
	if from > len(m.src) {
		l.Push(lua.LNil)
		return 1
	}
	if lua.LVAsBool(l.Get(4)) || !strings.ContainsAny(m.pat, "^$*+?.([%-") {
		raise(l, st.meter.steps(len(m.src)>>3))
		i := strings.Index(m.src[from:], m.pat)
		if i < 0 {
			l.Push(lua.LNil)
			return 1
		}
		l.Push(lua.LNumber(from + i + 1))
		l.Push(lua.LNumber(from + i + len(m.pat)))
		return 2
	}
	s, e, ok := m.find(from)
	raise(l, m.err)
	if !ok {
		l.Push(lua.LNil)
		return 1
	}
	l.Push(lua.LNumber(s + 1))
	l.Push(lua.LNumber(e))
	if m.level == 0 {
		return 2
	}
	return 2 + m.pushAll(l, s, e)
}

func (st *state) match(l *lua.LState) int {
	m := st.matcher(l)
	from := begin(l, len(m.src))
	if from > len(m.src) {
		l.Push(lua.LNil)
		return 1
	}
	s, e, ok := m.find(from)
	raise(l, m.err)
	if !ok {
		l.Push(lua.LNil)
		return 1
	}
	return m.pushAll(l, s, e)
}

func (st *state) gmatch(l *lua.LState) int {
	m := st.matcher(l)
	at := 0
	l.Push(l.NewFunction(func(l *lua.LState) int {
		for at <= len(m.src) {
			m.level = 0
			e := m.match(at, 0)
			raise(l, m.err)
			if e < 0 {
				at++
				continue
			}
			s := at
			if at = e; e == s {
				at++
			}
			return m.pushAll(l, s, e)
		}
		l.Push(lua.LNil)
		return 1
	}))
	return 1
}

func (st *state) gsub(l *lua.LState) int {
	m := st.matcher(l)
	by := l.Get(3)
	switch by.Type() {
	case lua.LTString, lua.LTNumber, lua.LTTable, lua.LTFunction:
	default:
		l.ArgError(3, "string/function/table expected")
	}
	limit := l.OptInt(4, len(m.src)+1)
	p, anchored := 0, strings.HasPrefix(m.pat, "^")
	if anchored {
		p = 1
	}
	var b strings.Builder
	at, n := 0, 0
	for n < limit {
		m.level = 0
		e := m.match(at, p)
		raise(l, m.err)
		if e >= 0 {
			n++
			text := m.replacement(l, by, at, e)
			raise(l, st.meter.make(len(text)+16))
			b.WriteString(text)
		}
		switch {
		case e > at:
			at = e
		case at < len(m.src):
			b.WriteByte(m.src[at])
			at++
		default:
			at++
		}
		if anchored || at > len(m.src) {
			break
		}
	}
	if at < len(m.src) {
		b.WriteString(m.src[at:])
	}
	raise(l, st.meter.make(len(m.src)))
	l.Push(lua.LString(b.String()))
	l.Push(lua.LNumber(n))
	return 2
}

// replacement is what takes the place of a match.
func (m *matcher) replacement(l *lua.LState, by lua.LValue, from, to int) string {
	var v lua.LValue
	switch by := by.(type) {
	case *lua.LTable:
		m.push(l, 0, from, to)
		v = l.GetTable(by, l.Get(-1))
		l.Pop(1)
	case *lua.LFunction:
		l.Push(by)
		l.Call(m.pushAll(l, from, to), 1)
		v = l.Get(-1)
		l.Pop(1)
	default:
		text, _ := textOf(by)
		return m.template(l, text, from, to)
	}
	if lua.LVIsFalse(v) {
		return m.src[from:to]
	}
	text, ok := textOf(v)
	if !ok {
		l.RaiseError("invalid replacement value (a %s)", v.Type())
	}
	return text
}

func (m *matcher) template(l *lua.LState, text string, from, to int) string {
	if !strings.Contains(text, "%") {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		i++
		switch {
		case i == len(text):
			l.RaiseError("invalid use of '%%' in replacement string")
		case text[i] == '0':
			b.WriteString(m.src[from:to])
		case text[i] >= '1' && text[i] <= '9':
			c := int(text[i] - '1')
			if c > 0 && c >= m.level {
				l.RaiseError("invalid capture index")
			}
			m.push(l, c, from, to)
			v, _ := textOf(l.Get(-1))
			l.Pop(1)
			b.WriteString(v)
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

// format is string.format.
func (st *state) format(l *lua.LState) int {
	text := l.CheckString(1)
	var b strings.Builder
	arg := 1
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		start := i
		for i++; i < len(text) && strings.IndexByte("-+ #0123456789.", text[i]) >= 0; i++ {
		}
		if i == len(text) || i-start > 12 {
			l.RaiseError("invalid option '%%%s' to 'format'", text[start+1:])
		}
		if text[i] == '%' {
			b.WriteByte('%')
			continue
		}
		arg++
		spec := text[start:i]
		var piece string
		switch c := text[i]; c {
		case 'd', 'i':
			piece = fmt.Sprintf(spec+"d", int64(l.CheckNumber(arg)))
		case 'u':
			piece = fmt.Sprintf(spec+"d", uint64(int64(l.CheckNumber(arg))))
		case 'o', 'x', 'X':
			piece = fmt.Sprintf(spec+string(c), uint64(int64(l.CheckNumber(arg))))
		case 'c':
			piece = string([]byte{byte(l.CheckInt(arg))})
		case 'e', 'E', 'f', 'g', 'G':
			piece = fmt.Sprintf(spec+string(c), float64(l.CheckNumber(arg)))
			if (c == 'g' || c == 'G') && !strings.Contains(spec, ".") {
				piece = fmt.Sprintf(spec+".6"+string(c), float64(l.CheckNumber(arg)))
			}
		case 'q':
			piece = quoted(l.CheckString(arg))
		case 's':
			v := l.CheckAny(arg)
			s, ok := textOf(v)
			if !ok {
				s = lua.LVAsString(l.ToStringMeta(v))
			}
			piece = fmt.Sprintf(spec+"s", s)
		default:
			l.RaiseError("invalid option '%%%c' to 'format'", c)
		}
		raise(l, st.meter.make(len(piece)))
		b.WriteString(piece)
	}
	raise(l, st.meter.make(len(text)))
	l.Push(lua.LString(b.String()))
	return 1
}

// quoted is text as Lua can read it back.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\r':
			b.WriteString(`\r`)
		case 0:
			b.WriteString(`\000`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
