package lua

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A handled is a filter without connections, and what its script has logged.
type handled struct {
	*filter
	script *Script
	w      *pool.Worker
	log    []string
}

func handler(t testing.TB, source string) *handled {
	t.Helper()
	s, err := NewScript("test", source)
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // as a worker's loop does, for the meter
	t.Cleanup(runtime.UnlockOSThread)
	h := &handled{script: s, w: pool.NewWorker(0, drive.NewMemory(time.Now()).Loop, nil)}
	h.filter = h.another()
	return h
}

// another is a filter for a stream beside the first.
func (h *handled) another() *filter {
	c := &Config{Default: h.script, KeepRoute: true, Log: func(_ Level, text string) bool { h.log = append(h.log, text); return true }}
	return New("lua", c, &stats.Lua{}).New(h.w).(*filter)
}

// begun has a filter see a request with these fields.
func begun(f *filter, fields ...string) *header.Map {
	m := &header.Map{}
	for i := 0; i < len(fields); i += 2 {
		m.AddNameCopy([]byte(fields[i]), []byte(fields[i+1]))
	}
	f.OnRequest(&stream.Stream{}, m)
	return m
}

// What clients send does not fill the globals for ever, even while a handler is always under way.
func TestGlobalsThatClientsFillAreBounded(t *testing.T) {
	for _, test := range []struct{ what, keep string }{
		{"fields", `seen[h:headers():get("x-id")] = true`},
		{"tables", `local t = {} for i = 1, 500 do t[i] = {} end seen[#seen + 1] = t`},
		{"lists with holes", `local t = {} t[60000] = true seen[#seen + 1] = t for i = 1, 10000 do end`},
		{"coroutines", `for i = 1, 20 do seen[#seen + 1] = coroutine.create(function() end) end`},
		{"texts of coroutines that sleep", `local c = coroutine.wrap(function() local s = h:headers():get("x-id") coroutine.yield() return s end) c() seen[#seen + 1] = c`},
	} {
		h := handler(t, `seen = {} function envoy_on_request(h) if h:headers():get("x-wait") then for c in h:bodyChunks() do end end `+test.keep+` end`)
		waiting := h.another()
		begun(waiting, "x-wait", "1")
		first, bounded := h.script.state(h.w), false
		for i := 0; i < 6000 && !bounded; i++ {
			begun(h.filter, "x-id", strings.Repeat("x", 16000)+strconv.Itoa(i))
			h.filter.OnEnd(nil)
			bounded = h.script.state(h.w) != first
		}
		if !bounded {
			t.Errorf("%s: a script has kept those of 6000 requests", test.what)
		}
		waiting.OnEnd(nil)
		if len(h.log) > 0 {
			t.Errorf("%s: %q", test.what, h.log[0])
		}
	}
}

// Clients cannot have handlers that wait hold as much as they like: the last one fails, and what has ended counts no more.
func TestWaitingHandlersAreBounded(t *testing.T) {
	h := handler(t, `function envoy_on_request(h) local s = ("x"):rep(tonumber(h:headers():get("x-size"))) for c in h:bodyChunks() do end h:headers():add("x-done", #s) end`)
	var all []*filter
	for len(h.log) == 0 && len(all) < 100 {
		all = append(all, h.factory.New(h.w).(*filter))
		begun(all[len(all)-1], "x-size", "6000000")
	}
	if len(h.log) != 1 || !strings.Contains(h.log[0], errHeld.Error()) || len(all) < 8 || len(all) > 12 {
		t.Errorf("%d handlers hold 6 MB each: %q, want %q of the 11th or so", len(all), h.log, errHeld)
	}
	small := h.factory.New(h.w).(*filter)
	if begun(small, "x-size", "1000"); len(h.log) != 1 {
		t.Errorf("one that holds little: %q", h.log)
	}
	for _, f := range append(all, small) {
		f.OnEnd(nil)
	}
	if n := small.recent.waiting; n != 0 {
		t.Errorf("nobody waits, and holds %d bytes", n)
	}
}

// Where there are long texts, the clock is looked at more often: to compare them is one instruction.
func TestLongTextsHaveTheClockLookedAt(t *testing.T) {
	m := newMeter()
	m.fill(maxBytes)
	for _, test := range []struct {
		made, within int
	}{{longText - 1, 256}, {longText, 16}} {
		if err := m.make(test.made); err != nil {
			t.Fatal(err)
		}
		m.err, m.until, m.spent = nil, time.Now().Add(-time.Second), processor()-time.Second
		n := 0
		for m.Done() == nil && n < 1000 {
			n++
		}
		if n >= test.within {
			t.Errorf("with a text of %d bytes the clock is looked at after %d instructions, want %d at most", test.made, n, test.within)
		}
		m.fill(maxBytes)
	}
}

// What a library does in a few instructions ends as soon as a loop does, and a thread that had no processor is not late.
func TestTimeOfTheProcessorIsBounded(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, source := range []string{
		`local t = {} for i = 1, 6e4 do t[i] = 1 end while true do pcall(unpack, t) end`,
		`local s = ("a"):rep(3e4) while true do s:find(("a-"):rep(30) .. "b") end`,
		`while true do local t = {} for i = 1, 6e4 do t[i] = i end end`,
		`while true do newproxy(true) end`,
	} {
		begin := processor()
		_, err := evaluated(t, source)
		if took := processor() - begin; err == nil || took > 4*maxTime {
			t.Errorf("%s: %v after %v of the processor", source, err, took)
		}
	}
	m := newMeter()
	m.fill(maxBytes)
	m.late()
	m.until = time.Now().Add(-time.Hour)
	if m.late() {
		t.Error("a thread that has waited for a processor is late")
	}
}

// A script that logs in a loop is ended, with so many lines.
func TestLinesAreBounded(t *testing.T) {
	h := handler(t, `function envoy_on_request(h) while true do h:logCritical("x") end end`)
	begun(h.filter)
	if n := len(h.log); n != maxLines+1 || !strings.Contains(h.log[n-1], errLines.Error()) {
		t.Errorf("%d lines, the last %q; want %d and why it has ended", n, h.log[n-1], maxLines)
	}
}

// One instruction cannot take all memory.
func TestListsAreBounded(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := evaluated(t, `local t = {} t[67108862] = "x" return t[67108862] .. #t`)
	runtime.ReadMemStats(&after)
	if err != nil || got != "x0" {
		t.Errorf("an element far behind: %q, %v, want x0", got, err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("an element far behind takes %d bytes", n)
	}
}

// A script cannot write a request line of its own.
func TestPseudoFieldsAreOneWord(t *testing.T) {
	for _, test := range []struct {
		name, value string
		ok          bool
	}{
		{":path", "/a?b=%20c", true}, {":path", "/a HTTP/1.1", false}, {":path", "/a\\tb", false}, {":path", "", false},
		{":method", "GET", true}, {":method", "GET /x", false}, {":method", "", false},
		{":authority", "a.example:80", true}, {":authority", "[::1]:80", true}, {":authority", "a b", false}, {":authority", "a/b", false},
		{"host", "a b", false}, {":scheme", "http", true}, {":scheme", "ht tp", false}, {"x-any", "a b", true},
	} {
		h := handler(t, `function envoy_on_request(h) h:headers():replace("`+test.name+`", "`+test.value+`") h:headers():add("x-done", "1") end`)
		m := begun(h.filter)
		if done := m.LookupString("x-done") != nil; done != test.ok {
			t.Errorf("%s: %q is taken: %v, want %v (%q)", test.name, test.value, done, test.ok, h.log)
		}
	}
}

// What a script keeps of a request does not show it the next one.
func TestIteratorsEndWithTheirHandler(t *testing.T) {
	for _, of := range []string{"h:headers()", "h:metadata()", "h:streamInfo():dynamicMetadata()"} {
		h := handler(t, `function envoy_on_request(h) if kept then h:logInfo(tostring(kept())) else kept = pairs(`+of+`) end end`)
		begun(h.filter, "x-secret", "first")
		h.filter.OnEnd(nil)
		begun(h.filter, "x-secret", "second")
		if len(h.log) != 1 || !strings.Contains(h.log[0], errGone.Error()) {
			t.Errorf("an iterator of %s that is kept: %q, want %q", of, h.log, errGone)
		}
	}
}

// usual is a filter of a loop that keeps stacks, as those of a proxy do, and requests for it. The loop does not run.
func usual(t testing.TB) (request func()) {
	h := handler(t, `function envoy_on_request(h) h:headers():add('x-one', h:headers():get(':path')) end`)
	loop, err := drive.New()
	if err != nil {
		t.Skip(err)
	}
	h.w = pool.NewWorker(0, loop, nil)
	f, m, s := h.another(), &header.Map{}, &stream.Stream{}
	return func() {
		m.Reset()
		m.AddNameCopy([]byte(":path"), []byte("/small"))
		f.OnRequest(s, m)
		f.OnEnd(nil)
	}
}

// A handler costs one piece of memory, and what its script makes: here a text, and the interpreter's word for it.
func TestHandlerAllocatesLittle(t *testing.T) {
	request := usual(t)
	if n := testing.AllocsPerRun(1000, request); n > 3 {
		t.Errorf("a handler allocates %v times, want at most 3", n)
	}
}

func BenchmarkHandler(b *testing.B) {
	request := usual(b)
	b.ReportAllocs()
	for b.Loop() {
		request()
	}
}

// A script that keeps the stack of a handler can do nothing with it, be the handler over or not.
func TestStacksOfHandlersAreTheirOwn(t *testing.T) {
	h := handler(t, `function envoy_on_request(h)
		if kept then h:headers():add("x-resumed", tostring((coroutine.resume(kept, "x")))) end
		kept = kept or coroutine.running()
		if h:headers():get("x-wait") then for c in h:bodyChunks() do end end
		h:headers():add("x-done", "1")
	end`)
	waiting := h.another()
	begun(waiting, "x-wait", "1") // its stack is kept, and in use
	for range 3 {
		m := begun(h.filter)
		h.filter.OnEnd(nil)
		if got := string(m.LookupString("x-resumed")); got != "false" || m.LookupString("x-done") == nil {
			t.Errorf("resumed %q, done %q (%q), want false and 1", got, m.LookupString("x-done"), h.log)
		}
	}
	waiting.OnEnd(nil)
	over := handler(t, `function envoy_on_request(h)
		if kept then h:headers():add("x-resumed", tostring((coroutine.resume(kept, "x")))) end
		kept = kept or coroutine.running()
		h:headers():add("x-done", "1")
	end`)
	for i := range 3 {
		m := begun(over.filter)
		over.filter.OnEnd(nil)
		if got := string(m.LookupString("x-resumed")); i > 0 && got != "false" || m.LookupString("x-done") == nil {
			t.Errorf("resumed %q, done %q (%q), want false and 1", got, m.LookupString("x-done"), over.log)
		}
	}
}

// A client whose requests name more statistics than there may be does not end the script behind that: it may have them to refuse.
func TestStatisticsEndNoScript(t *testing.T) {
	h := handler(t, `function envoy_on_request(h)
		for i = 1, 1100 do h:stats():counter("path." .. i):inc() end
		h:stats():gauge("path.1"):set(1)
		h:stats():histogram(("x"):rep(300)):recordValue(1)
		h:stats():counter("a\nb"):inc()
		h:logCritical(tostring(h:stats():counter("path.7"):value()) .. " " .. tostring(h:stats():counter("path.1077"):value()))
	end`)
	begun(h.filter)
	if len(h.log) != 2 || !strings.Contains(h.log[0], "at most 1000") || h.log[1] != "1 0" {
		t.Errorf("the log is %q, want one line about statistics, and that the script has gone on", h.log)
	}
}
