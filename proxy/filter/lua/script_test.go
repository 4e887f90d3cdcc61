package lua

import (
	"runtime"
	"strings"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// evaluated runs a piece of Lua in a fresh state, and returns what it returns.
func evaluated(t testing.TB, source string) (string, error) {
	t.Helper()
	s, err := NewScript("test", "function run() "+source+"\nend")
	if err != nil {
		t.Fatal(err)
	}
	st, err := newState(s)
	if err != nil {
		t.Fatal(err)
	}
	return st.evaluate()
}

func (st *state) evaluate() (string, error) {
	th, _ := st.l.NewThread()
	th.SetContext(st.meter)
	st.meter.fill(maxBytes)
	th.Push(st.l.GetGlobal("run"))
	if err := th.PCall(0, 1, nil); err != nil {
		return "", err
	}
	text, _ := textOf(th.Get(-1))
	return text, nil
}

// A script that would go on for ever, or take all memory, ends with an error, whatever it tries.
func TestBounds(t *testing.T) {
	for _, test := range []struct{ what, source, want string }{
		{"an endless loop", `while true do end`, "too long"},
		{"one that catches errors", `while true do pcall(function() while true do end end) end`, "too long"},
		{"one in a coroutine", `local co = coroutine.create(function() while true do end end) while true do coroutine.resume(co) end`, "too long"},
		{"one in a wrapped coroutine", `coroutine.wrap(function() while true do end end)()`, "too long"},
		{"one in a comparison", `local t = {} for i = 1, 100 do t[i] = i end table.sort(t, function(a, b) while true do end end)`, "too long"},
		{"endless recursion", `local function f() return 1 + f() end return f()`, "overflow"},
		{"endless tail calls", `local function f() return f() end return f()`, "too long"},
		{"recursion through pcall", `local function f() pcall(f) f() end f()`, ""},
		{"recursion through a metamethod", `local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x`, ""},
		{"one after a coroutine for which there was no room", `local function f() coroutine.create(function() end) return 1 + f() end xpcall(function() pcall(f) while true do end end, function() for i = 1, 1e6 do end end)`, "too long"},
		{"text that doubles", `local s = "x" while true do s = s .. s end`, "too"}, // much text, or long on a busy machine
		{"text that is repeated", `return ("x"):rep(1e9)`, "too"},                  // much text, or long on a busy machine
		{"text that is repeated often", `local s = ("x"):rep(1e6) local t = {} for i = 1, 1e6 do t[i] = s:upper() end`, "too"},
		{"text that is joined", `local s = ("x"):rep(1e6) local t = {} for i = 1, 1000 do t[i] = s end return table.concat(t)`, "too"}, // much text, or long on a busy machine
		{"text that is replaced", `return (("x"):rep(1e4):gsub(".", ("y"):rep(1e5)))`, "too"},                                          // much text, or long on a busy machine
		{"text that is formatted", `local s = ("x"):rep(1e6) return string.format(("%s"):rep(100), s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s)`, "too"}, // much text, or long on a busy machine
		{"a pattern that goes back and forth", `return ("a"):rep(1e4):find(".-.-.-.-b")`, "too long"},
		{"a pattern of sets", `return ("a"):rep(3e4):find("[a-z]*[a-z]*[a-z]*[a-z]*b")`, "too long"},
		{"a pattern with a long class", `return ("a"):rep(1e6):find("[" .. ("b"):rep(1e6) .. "a]*")`, "too long"},
		{"a pattern with a long class that is tried everywhere", `return ("a"):rep(1e6):find("[" .. ("b"):rep(1e6) .. "]")`, "too long"},
		{"a pattern with a long class, lazily", `return ("a"):rep(1e6):find("[" .. ("b"):rep(1e6) .. "a]-c")`, "too long"},
		{"a pattern with a long frontier", `return ("a"):rep(1e6):find("%f[" .. ("b"):rep(1e6) .. "]")`, "too long"},
		{"a pattern that repeats what it has found", `return ("a"):rep(1e6):find("(.-)%1x")`, "too long"},
		{"a long number", `local s = ("1"):rep(1e6) for i = 1, 70 do tonumber(s) end`, "too"},
		{"a long date", `return os.date(("%c"):rep(1000))`, "a format of 2000 bytes, want at most 1024"},
		{"values without number", `return select("#", unpack({}, 1, 1e8))`, "overflow"},
		{"a chunk of brackets", `return loadstring(("("):rep(6e4))`, ""},
		{"a chunk of tables", `return loadstring("return " .. ("{"):rep(3e4) .. ("}"):rep(3e4))`, ""},
		{"a longer chunk", `local f, err = loadstring((" "):rep(1e6)) return err`, ""},
	} {
		begin := time.Now()
		_, err := evaluated(t, test.source)
		if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want an error with %q", test.what, message(orNone(err)), test.want)
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s took %v", test.what, took)
		}
	}
}

func orNone(err error) error {
	if err == nil {
		return &lua.ApiError{Object: lua.LString("no error")}
	}
	return err
}

// What a script has of the machine is the time.
func TestNothingOfTheMachine(t *testing.T) {
	got, err := evaluated(t, `
		local out = {}
		for _, name in ipairs({"io", "debug", "package", "require", "module", "dofile", "loadfile", "ffi", "jit", "channel", "_printregs"}) do
			if _G[name] ~= nil then out[#out + 1] = name end
		end
		for _, name in ipairs({"execute", "exit", "getenv", "remove", "rename", "setenv", "setlocale", "tmpname"}) do
			if os[name] ~= nil then out[#out + 1] = "os." .. name end
		end
		if string.dump ~= nil then out[#out + 1] = "string.dump" end
		return table.concat(out, " ")`)
	if err != nil || got != "" {
		t.Errorf("a script has %q, %v", got, err)
	}
}

func TestLanguage(t *testing.T) {
	for _, test := range []struct{ source, want string }{
		{`return "a" .. 1 .. 2.5 .. "b" .. 1e15 .. -0.1`, "a12.5b1e+15-0.1"},
		{`local t = setmetatable({}, {__concat = function(a, b) return (type(a)) .. (type(b)) end}) return "x" .. "y" .. t`, "xstringtable"},
		{`local function two() return "a", "b" end return two() .. two()`, "aa"},
		{`local function f(...) return ... .. "!" end return f("a", "b")`, "a!"},
		{`return select("#", ("x"):find("x"))`, "2"},
		{`return table.concat({("  trim  "):match("^%s*(.-)%s*$")}, "|")`, "trim"},
		{`return (("hello"):gsub("l+", string.upper))`, "heLLo"},
		{`return (("a,b,,c"):gsub(",", ";", 2))`, "a;b;,c"},
		{`return (("abc"):gsub("^a", "x"))`, "xbc"},
		{`return (("/v1/api/x"):gsub("^/api", ""))`, "/v1/api/x"},
		{`return table.concat({("aaa"):gsub("^a", "b")}, " ")`, "baa 1"},
		{`return (("abc"):gsub("^", "x"))`, "xabc"},
		{`return (("$name is $age"):gsub("%$(%w+)", {name = "ann", age = 7}))`, "ann is 7"},
		{`return table.concat({("k=v; q=w"):match("(%w+)=(%w+); (%w+)=(%w+)")}, ",")`, "k,v,q,w"},
		{`return ("x"):rep(3) .. ("ab"):reverse() .. ("Ab"):lower() .. #("é")`, "xxxbaab2"},
		{`return ("x"):rep(3, ", ") .. ("y"):rep(1, ",") .. ("z"):rep(0, ",") .. (""):rep(3, ";")`, "x, x, xy;;"},
		{`return (pcall(string.find, "a", "[a")) and "found" or "refused"`, "refused"},
		{`return select(2, pcall(string.rep)) ~= nil and "refused"`, "refused"},
		{`local s = "" for w in ("one two"):gmatch("%a+") do s = s .. w .. "." end return s`, "one.two."},
		{`return ("a.b"):find(".", 1, true) .. ("a.b"):find("b", -1)`, "23"},
		{`return loadstring("local a, b = ... return a .. b")("x", "y")`, "xy"},
		{`local ok, err = loadstring("x = = 1") return tostring(ok)`, "nil"},
		{`local t = {} for k, v in pairs({a = 1}) do t[#t + 1] = k .. v end return t[1]`, "a1"},
		{`return string.format("%q|%5.2f|%-4d|%s|%x", 'a"b', 1.005, 7, true, 255)`, `"a\"b"| 1.00|7   |true|ff`},
		{`return bit.bor(1, 2, 4) .. bit.arshift(-8, 1) .. bit.tohex(255, 4) .. bit.bswap(1)`, "7-400ff16777216"},
		{`return bit.tohex(255, -4) .. bit.tohex(255, -2^63) .. tonumber("0x1f") .. os.date("!%Y", 0)`, "00FF000000FF311970"},
	} {
		if got, err := evaluated(t, test.source); err != nil || got != test.want {
			t.Errorf("%s: %q, %v, want %q", test.source, got, err, test.want)
		}
	}
}

// A script that keeps more and more in its globals loses them.
func TestGlobalsAreBounded(t *testing.T) {
	s, err := NewScript("test", `kept = {} function run() for i = 1, 100 do kept[#kept + 1] = ("x"):rep(1e4) .. #kept end return #kept end`)
	if err != nil {
		t.Fatal(err)
	}
	first := s.state(nil)
	for range 200 {
		st := s.state(nil)
		if st != first {
			if got, err := st.evaluate(); err != nil || got != "100" {
				t.Errorf("the new state begins with %s, %v", got, err)
			}
			return
		}
		if _, err := st.evaluate(); err != nil {
			t.Fatal(err)
		}
	}
	t.Error("a script has kept 200 MB")
}

func TestMistakesOfScripts(t *testing.T) {
	for _, source := range []string{"x = = 1", "error('at once')", "while true do end", "local s = 'x' while true do s = s .. s end", strings.Repeat("(", 1<<16), strings.Repeat(" ", maxSource+1)} {
		if _, err := NewScript("test", source); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.30q: %v, want an error of one line", source, err)
		}
	}
}

// A script that is all depth is refused before the compiler, which would take minutes for it. Width is no depth.
func TestDepthOfScripts(t *testing.T) {
	const n = 20_000
	for source, deep := range map[string]bool{
		"x = " + strings.Repeat("a..", n) + "a":                             true,
		"x = " + strings.Repeat("a^", n) + "a":                              true,
		strings.Repeat("do ", n) + strings.Repeat("end ", n):                true,
		"if a then " + strings.Repeat("elseif a then ", n) + "end":          true,
		"if a then " + strings.Repeat("elseif a then ", 500) + "end":        false,
		strings.Repeat("if a then a = 'x'..'y' end ", n):                    false,
		"a = 1 x = a" + strings.Repeat("+a", 3900):                          false, // its terms lie in each other, too
		"a = 1 x = a" + strings.Repeat(" and a", 3900):                      false,
		"a = 1 x = a" + strings.Repeat("+a", n):                             true,
		strings.Repeat("do ", 150) + "a = 1 " + strings.Repeat("end ", 150): false,
	} {
		began := time.Now()
		_, err := NewScript("test", source)
		if deep != (err != nil && strings.Contains(err.Error(), "too many syntax levels")) || !deep && err != nil {
			t.Errorf("%.30q: %v", source, err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%.30q took %v", source, took)
		}
	}
}

// Nothing is made of the library until there is a script.
func TestIdleMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s, err := NewScript("test", "function envoy_on_request(h) end")
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := int64(after.HeapAlloc) - int64(before.HeapAlloc); n > 256<<10 {
		t.Errorf("a script without a state takes %d bytes, want at most 256 KiB", n)
	}
	runtime.KeepAlive(s)
}

// FuzzScript looks for scripts that end the proxy, or do not end.
func FuzzScript(f *testing.F) {
	for _, s := range []string{"return 1", "local t = {} t.x.y = 1", "for i = 1, 10 do print(i) end", "goto x ::x::", "return ('a'):gsub('(a)', '%1%2')", "return #{...} .. ''"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		s, err := NewScript("fuzz", source)
		if err != nil {
			return
		}
		if st := s.state(nil); st != nil {
			st.evaluate()
		}
	})
}

// FuzzPattern looks for patterns that do not end, and for bytes that end us.
func FuzzPattern(f *testing.F) {
	f.Add("hello", "h(.)l*[^x-z]%f[%w]%b()$")
	f.Add("", "[]]")
	f.Add("aaa", "((a*)*)%1-")
	f.Fuzz(func(t *testing.T, src, pat string) {
		m := &matcher{src: src, pat: pat, meter: newMeter()}
		m.meter.fill(maxBytes)
		from, to, ok := m.find(0)
		if ok && (from > to || to > len(src)) {
			t.Errorf("%q matches %q from %d to %d", pat, src, from, to)
		}
	})
}
