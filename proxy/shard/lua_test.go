package shard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/lua"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// scripted is a bench whose requests a script handles.
func scripted(t testing.TB, source string) (*bench, *stats.Lua, *[]string) {
	s, err := lua.NewScript("test", source)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	set := new(stats.Lua)
	b := newBench(t, []route.RouteConfig{to("app")}, static("app"), static("service"))
	b.endpoints("app", app1)
	b.endpoints("service", app2)
	b.config.Filters = []stream.Factory{lua.New("lua", &lua.Config{Default: s, Log: func(_ lua.Level, text string) bool { said = append(said, text); return true }}, set), router.New(router.Config{})}
	return b, set, &said
}

const asks = `
function envoy_on_request(h)
  local m, body = h:httpCall("service", {[":method"] = "GET", [":path"] = "/ask", [":authority"] = "s"}, nil, 1000)
  h:headers():add("x-said", m[":status"] .. " " .. body)
  done = (done or 0) + 1
  h:headers():add("x-done", done)
end`

// A client that leaves while a script waits takes its handler with it; the script's globals are as they were,
// and the next request is served.
func TestClientLeavesWhileScriptWaits(t *testing.T) {
	for _, test := range []struct{ what, script, first string }{
		{"for an answer", asks, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"for a body", `function envoy_on_request(h) local b = h:body() h:headers():add("x-said", "200 ok") done = (done or 0) + 1 h:headers():add("x-done", done) end`, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"},
		{"and catches errors", `function envoy_on_request(h)
			while not pcall(function() h:body() end) do end
			h:headers():add("x-said", "200 ok") done = (done or 0) + 1 h:headers():add("x-done", done) end`, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"},
	} {
		b, set, said := scripted(t, test.script)
		silent := true
		answer := b.answer
		b.answer = func(b *bench, p *drive.Pipe, request string) {
			if silent && strings.HasPrefix(request, "GET /ask") {
				return
			}
			answer(b, p, request)
		}
		p := b.dial()
		p.WriteString(test.first)
		b.Step()
		p.Reset()
		b.Step()
		silent = false
		if got := b.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("%s: the next client got %q", test.what, got)
		}
		last := b.requests[len(b.requests)-1]
		if !strings.Contains(last, "x-said: 200 ok\r\n") || !strings.Contains(last, "x-done: 1\r\n") || !strings.HasSuffix(last, "\r\n\r\nhi") {
			t.Errorf("%s: the application got %q", test.what, last)
		}
		if n := set.Errors.Value(); n != 0 {
			t.Errorf("%s: %d errors: %q", test.what, n, *said)
		}
	}
}

// Handlers of one worker wait at the same time, each for its own.
func TestScriptsWaitTogether(t *testing.T) {
	b, set, said := scripted(t, `
function envoy_on_request(h)
  local who = h:headers():get("x-who")
  local body = h:body()
  local ok, m, answer = pcall(function() return h:httpCall("service", {[":method"] = "GET", [":path"] = "/" .. who, [":authority"] = "s"}, nil, 1000) end)
  h:headers():add("x-is", who .. body:getBytes(0, body:length()) .. m["x-path"])
end`)
	b.answer = func(b *bench, p *drive.Pipe, request string) {
		path, _, _ := strings.Cut(strings.TrimPrefix(request, "GET "), " ")
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-path: " + path + "\r\n\r\nok")
	}
	const n = 20
	for i := range n {
		p := b.dial()
		p.WriteString(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nX-Who: %d\r\nContent-Length: 4\r\n\r\n%02d", i, i))
		b.Step()
		defer func() {
			p.WriteString("!!")
			b.Step()
			want := fmt.Sprintf("x-is: %d%02d!!/%d\r\n", i, i, i)
			if last := b.requests[len(b.requests)-1]; !strings.Contains(last, want) || !strings.HasPrefix(p.Take(), "HTTP/1.1 200") {
				t.Errorf("the application got %q, want %q; %d errors: %q", last, want, set.Errors.Value(), *said)
			}
		}()
	}
}

// A script that runs too long ends, and its request goes on.
func TestScriptWithoutEnd(t *testing.T) {
	b, set, said := scripted(t, `function envoy_on_request(h) h:headers():add("x-before", "1") while true do end end`)
	begin := time.Now()
	if got := b.do("GET / HTTP/1.1\r\nHost: a\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("answer %q", got)
	}
	if set.Errors.Value() != 1 || len(*said) != 1 || !strings.Contains((*said)[0], "too long") {
		t.Errorf("%d errors: %q", set.Errors.Value(), *said)
	}
	if last := b.requests[0]; !strings.Contains(last, "x-before: 1\r\n") {
		t.Errorf("the application got %q", last)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
