package lua

import (
	"math"
	"math/bits"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// What the interpreter's libraries do without bound, or with the machine, is replaced here.

// libraries makes the libraries safe.
func (st *state) libraries() {
	l := st.l
	g := l.G.Global
	for _, name := range []string{"dofile", "loadfile", "module", "require", "_printregs"} {
		g.RawSetString(name, lua.LNil)
	}
	set := func(t *lua.LTable, all map[string]lua.LGFunction) {
		for name, f := range all {
			t.RawSetString(name, l.NewFunction(f))
		}
	}
	set(g, map[string]lua.LGFunction{
		"collectgarbage": collect, "print": func(*lua.LState) int { return 0 }, "tostring": tostring, "pairs": pairs,
		"tonumber": st.reading(g.RawGetString("tonumber")), "load": st.load, "loadstring": st.loadString,
	})
	for _, name := range []string{"pcall", "xpcall"} {
		g.RawSetString(name, l.NewFunction(st.try(g.RawGetString(name))))
	}
	text := g.RawGetString("string").(*lua.LTable)
	text.RawSetString("dump", lua.LNil)
	set(text, map[string]lua.LGFunction{
		"rep": st.rep, "find": st.find, "match": st.match, "gmatch": st.gmatch, "gsub": st.gsub, "format": st.format,
		"lower": st.mapped(strings.ToLower), "upper": st.mapped(strings.ToUpper), "reverse": st.mapped(reversed),
	})
	text.RawSetString("gfind", text.RawGetString("gmatch"))
	tables := g.RawGetString("table").(*lua.LTable)
	set(tables, map[string]lua.LGFunction{
		"concat": st.join, "insert": st.shifting(tables.RawGetString("insert")), "remove": st.shifting(tables.RawGetString("remove")),
		"sort": st.sorting(tables.RawGetString("sort")),
	})
	co := g.RawGetString("coroutine").(*lua.LTable)
	set(co, map[string]lua.LGFunction{"create": st.thread(co.RawGetString("create")), "wrap": st.thread(co.RawGetString("wrap"))})
	system := g.RawGetString("os").(*lua.LTable)
	for _, name := range []string{"execute", "exit", "getenv", "remove", "rename", "setenv", "setlocale", "tmpname"} {
		system.RawSetString(name, lua.LNil)
	}
	system.RawSetString("date", l.NewFunction(dated(system.RawGetString("date"))))
	bit := l.NewTable()
	set(bit, bitLibrary)
	g.RawSetString("bit", bit)
}

// raise ends the script if a bound is reached.
func raise(l *lua.LState, err error) {
	if err != nil {
		l.RaiseError("%s", err.Error())
	}
}

// number writes a number as Lua does.
func number(n lua.LNumber) string {
	switch f := float64(n); {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	default:
		return strconv.FormatFloat(f, 'g', 14, 64)
	}
}

// textOf is a string or number as text.
func textOf(v lua.LValue) (string, bool) {
	switch v := v.(type) {
	case lua.LString:
		return string(v), true
	case lua.LNumber:
		return number(v), true
	}
	return "", false
}

// concat stands for "..", of two values or more; it groups to the right.
func (st *state) concat(l *lua.LState) int {
	n := l.GetTop()
	acc := l.Get(n)
	for i := n - 1; i > 0; i-- {
		right, ok := textOf(acc)
		if _, isText := textOf(l.Get(i)); !ok || !isText {
			acc = concatMeta(l, l.Get(i), acc)
			continue
		}
		size, first := len(right), i+1
		for first > 1 {
			t, isText := textOf(l.Get(first - 1))
			if !isText {
				break
			}
			size, first = size+len(t), first-1
		}
		raise(l, st.meter.make(size))
		var b strings.Builder
		b.Grow(size)
		for k := first; k <= i; k++ {
			t, _ := textOf(l.Get(k))
			b.WriteString(t)
		}
		b.WriteString(right)
		acc, i = lua.LString(b.String()), first
	}
	l.Push(acc)
	return 1
}

// concatMeta joins what is no text.
func concatMeta(l *lua.LState, left, right lua.LValue) lua.LValue {
	f := l.GetMetaField(left, "__concat")
	if f == lua.LNil {
		f = l.GetMetaField(right, "__concat")
	}
	if f == lua.LNil {
		bad := left
		if _, isText := textOf(left); isText {
			bad = right
		}
		l.RaiseError("attempt to concatenate a %s value", bad.Type())
	}
	l.Push(f)
	l.Push(left)
	l.Push(right)
	l.Call(2, 1)
	v := l.Get(-1)
	l.Pop(1)
	return v
}

func collect(l *lua.LState) int {
	l.Push(lua.LNumber(0))
	return 1
}

func tostring(l *lua.LState) int {
	v := l.CheckAny(1)
	if n, ok := v.(lua.LNumber); ok {
		v = lua.LString(number(n))
	} else {
		v = l.ToStringMeta(v)
	}
	l.Push(v)
	return 1
}

// pairs knows __pairs, as LuaJIT does with the extensions of 5.2.
func pairs(l *lua.LState) int {
	v := l.CheckAny(1)
	if f := l.GetMetaField(v, "__pairs"); f != lua.LNil {
		l.Push(f)
		l.Push(v)
		l.Call(1, 3)
		return 3
	}
	l.Push(l.GetGlobal("next"))
	l.Push(l.CheckTable(1))
	l.Push(lua.LNil)
	return 3
}

// thread has a coroutine of a script counted with the rest: of its own accord the interpreter would derive a
// context for it, with a goroutine.
func (st *state) thread(made lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		raise(l, st.meter.make(perThread))
		fn := l.CheckFunction(1)
		ctx := l.RemoveContext()
		defer l.SetContext(ctx) // also if the call fails, as it does when there are no more frames
		l.Push(made)
		l.Push(fn)
		l.Call(1, 1)
		co := l.Get(-1)
		if f, ok := co.(*lua.LFunction); ok {
			co = f.Upvalues[0].Value()
		}
		co.(*lua.LState).SetContext(ctx)
		return 1
	}
}

func (st *state) loadString(l *lua.LState) int {
	return st.loaded(l, l.CheckString(1), l.OptString(2, "chunk"))
}

func (st *state) load(l *lua.LState) int {
	if s, ok := l.Get(1).(lua.LString); ok {
		return st.loaded(l, string(s), l.OptString(2, "chunk"))
	}
	fn := l.CheckFunction(1)
	var b strings.Builder
	for b.Len() <= maxLoaded {
		l.Push(fn)
		l.Call(0, 1)
		s, ok := l.Get(-1).(lua.LString)
		l.Pop(1)
		if !ok || s == "" {
			break
		}
		b.WriteString(string(s))
	}
	return st.loaded(l, b.String(), l.OptString(2, "chunk"))
}

func (st *state) loaded(l *lua.LState, source, name string) int {
	if len(source) > maxLoaded {
		l.Push(lua.LNil)
		l.Push(lua.LString("chunk has more than " + strconv.Itoa(maxLoaded) + " bytes"))
		return 2
	}
	raise(l, st.meter.make(64*len(source)))
	proto, err := compile(source, name, maxLoadedLevels)
	if err != nil {
		l.Push(lua.LNil)
		l.Push(lua.LString(err.Error()))
		return 2
	}
	l.Push(l.NewFunctionFromProto(proto))
	l.Push(l.NewFunction(st.concat))
	l.Call(1, 1)
	return 1
}

func (st *state) rep(l *lua.LState) int {
	s, n, between := l.CheckString(1), l.CheckInt(2), l.OptString(3, "") // the last as in LuaJIT
	one := len(s) + len(between)
	if n <= 0 || one == 0 {
		l.Push(lua.LString(""))
		return 1
	}
	n = min(n, maxBytes/one+1) // which is more than may ever be made
	raise(l, st.meter.make(n*one))
	l.Push(lua.LString(strings.Repeat(s+between, n-1) + s))
	return 1
}

func (st *state) mapped(f func(string) string) lua.LGFunction {
	return func(l *lua.LState) int {
		s := l.CheckString(1)
		raise(l, st.meter.make(len(s)))
		l.Push(lua.LString(f(s)))
		return 1
	}
}

func reversed(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

// join is table.concat.
func (st *state) join(l *lua.LState) int {
	t, sep := l.CheckTable(1), l.OptString(2, "")
	from, to := l.OptInt(3, 1), l.OptInt(4, t.Len())
	var b strings.Builder
	for i := from; i <= to; i++ {
		v, ok := textOf(t.RawGetInt(i))
		if !ok {
			l.RaiseError("invalid value (%s) at index %d in table for 'concat'", t.RawGetInt(i).Type(), i)
		}
		raise(l, st.meter.make(len(v)+len(sep)+64))
		b.WriteString(v)
		if i < to {
			b.WriteString(sep)
		}
	}
	l.Push(lua.LString(b.String()))
	return 1
}

// shifting charges what moves all that comes behind.
func (st *state) shifting(f lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		raise(l, st.meter.steps(l.CheckTable(1).Len()>>6))
		return again(l, f)
	}
}

func (st *state) sorting(f lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		n := l.CheckTable(1).Len()
		raise(l, st.meter.steps(n*bits.Len(uint(n))))
		return again(l, f)
	}
}

// reading charges what reads all of a text, and copies it into an error.
func (st *state) reading(f lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		if s, ok := l.Get(1).(lua.LString); ok {
			raise(l, st.meter.make(len(s)))
		}
		return again(l, f)
	}
}

// dated bounds the format of os.date: one word of it becomes many bytes.
func dated(f lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		if n := len(l.OptString(1, "")); n > maxDate {
			l.RaiseError("bad argument #1 to 'date' (a format of %d bytes, want at most %d)", n, maxDate)
		}
		return again(l, f)
	}
}

// try bounds how deep pcalls are nested.
func (st *state) try(f lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		if st.meter.tries >= maxTries {
			raise(l, errTries)
		}
		st.meter.tries++
		defer func() { st.meter.tries-- }()
		return again(l, f)
	}
}

// again calls a function with what this one was called with.
func again(l *lua.LState, f lua.LValue) int {
	n := l.GetTop()
	l.Push(f)
	for i := 1; i <= n; i++ {
		l.Push(l.Get(i))
	}
	l.Call(n, lua.MultRet)
	return l.GetTop() - n
}

// bit32 is a number as LuaJIT's bit library sees it.
func bit32(l *lua.LState, i int) uint32 {
	return uint32(int64(math.Mod(float64(l.CheckNumber(i)), 1<<32)))
}

func pushBits(l *lua.LState, v uint32) int {
	l.Push(lua.LNumber(int32(v)))
	return 1
}

func folded(f func(a, b uint32) uint32) lua.LGFunction {
	return func(l *lua.LState) int {
		v := bit32(l, 1)
		for i := 2; i <= l.GetTop(); i++ {
			v = f(v, bit32(l, i))
		}
		return pushBits(l, v)
	}
}

func shifted(f func(a uint32, n int) uint32) lua.LGFunction {
	return func(l *lua.LState) int { return pushBits(l, f(bit32(l, 1), int(bit32(l, 2)&31))) }
}

// bitLibrary is LuaJIT's bit.
var bitLibrary = map[string]lua.LGFunction{
	"tobit":   func(l *lua.LState) int { return pushBits(l, bit32(l, 1)) },
	"bnot":    func(l *lua.LState) int { return pushBits(l, ^bit32(l, 1)) },
	"bswap":   func(l *lua.LState) int { return pushBits(l, bits.ReverseBytes32(bit32(l, 1))) },
	"band":    folded(func(a, b uint32) uint32 { return a & b }),
	"bor":     folded(func(a, b uint32) uint32 { return a | b }),
	"bxor":    folded(func(a, b uint32) uint32 { return a ^ b }),
	"lshift":  shifted(func(a uint32, n int) uint32 { return a << n }),
	"rshift":  shifted(func(a uint32, n int) uint32 { return a >> n }),
	"arshift": shifted(func(a uint32, n int) uint32 { return uint32(int32(a) >> n) }),
	"rol":     shifted(bits.RotateLeft32),
	"ror":     shifted(func(a uint32, n int) uint32 { return bits.RotateLeft32(a, -n) }),
	"tohex": func(l *lua.LState) int {
		n := l.OptInt(2, 8)
		text := strconv.FormatUint(uint64(bit32(l, 1))|1<<32, 16)[1:]
		if n < 0 {
			n, text = -max(n, -8), strings.ToUpper(text)
		}
		l.Push(lua.LString(text[8-min(n, 8):]))
		return 1
	},
}
