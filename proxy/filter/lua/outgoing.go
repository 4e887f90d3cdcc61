package lua

import (
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/call"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"

	lua "github.com/yuin/gopher-lua"
)

// An outgoing is a request of a script to another service.
type outgoing struct {
	call     call.Call
	to       *cluster.Cluster
	timeout  time.Duration
	starting bool
	here     bool // it has been answered
}

// maxUnheard bounds the requests of a state for whose answers nobody waits.
const maxUnheard = 1000

// httpCall asks a cluster. The handler waits for the answer unless it says otherwise.
func httpCall(l *lua.LState, r *run, _ any) int {
	name, fields := l.CheckString(2), l.CheckTable(3)
	var body []byte // nil: none
	if l.Get(4) != lua.LNil {
		body = append([]byte{}, l.CheckString(4)...)
	}
	o := callOptions(l)
	to := r.f.w.Source.Cluster(name)
	if to == nil {
		l.RaiseError("http call cluster invalid. Must be configured")
	}
	out := &outgoing{to: to, timeout: o.timeout}
	m := &out.call.Request
	for _, h := range fieldsOf(l, r, fields) {
		m.AddNameCopy([]byte(h.name), []byte(h.value))
	}
	if !m.Has(header.Path) || !m.Has(header.Method) || !m.Has(header.Authority) {
		l.RaiseError("http call headers must include ':path', ':method', and ':authority'")
	}
	out.complete(body, o.noXFF)
	if o.asynchronous {
		if r.st.unheard >= maxUnheard {
			l.RaiseError("%d http calls are under way whose answers nobody waits for", maxUnheard)
		}
		r.st.unheard++
		st := r.st
		out.call.Done = func(*call.Call) { st.unheard-- }
		out.call.Start(r.f.w, to, out.timeout)
		return 0
	}
	r.call = out
	r.wait(l, forAnswer)
	r.call = nil
	return out.results(l, r, o.duplicates)
}

// complete adds what every request of the proxy's own has.
func (o *outgoing) complete(body []byte, noXFF bool) {
	m := &o.call.Request
	o.call.Body = body
	if !m.Has(header.Scheme) {
		m.Add(header.Scheme, []byte("http"))
	}
	if body != nil {
		m.SetCopy(header.ContentLength, strconv.AppendInt(nil, int64(len(body)), 10))
	}
	if o.timeout > 0 {
		m.SetCopy(header.XEnvoyExpectedRqTimeoutMs, strconv.AppendInt(nil, o.timeout.Milliseconds(), 10))
	}
	m.Set(header.XEnvoyInternal, []byte("true"))
	if !noXFF {
		m.SetCopy(header.XForwardedFor, pool.LocalIP().AppendTo(nil))
	}
}

type options struct {
	timeout                         time.Duration
	asynchronous, duplicates, noXFF bool
}

// callOptions reads what follows the body: a time and a truth value, or a table.
func callOptions(l *lua.LState) (o options) {
	t, ok := l.Get(5).(*lua.LTable)
	if !ok {
		ms := l.CheckInt(5)
		if ms < 0 {
			l.RaiseError("http call timeout must be >= 0")
		}
		if v := l.Get(6); v != lua.LNil && v.Type() != lua.LTBool {
			l.RaiseError("http call asynchronous flag must be 'true', 'false', or empty")
		}
		return options{timeout: time.Duration(ms) * time.Millisecond, asynchronous: lua.LVAsBool(l.Get(6))}
	}
	t.ForEach(func(key, v lua.LValue) {
		switch lua.LVAsString(key) {
		case "timeout_ms":
			n, ok := v.(lua.LNumber)
			if !ok || n < 0 {
				l.RaiseError("http call timeout must be >= 0")
			}
			o.timeout = time.Duration(n) * time.Millisecond
		case "asynchronous":
			o.asynchronous = lua.LVAsBool(v)
		case "return_duplicate_headers":
			o.duplicates = lua.LVAsBool(v)
		case "send_xff":
			o.noXFF = !lua.LVAsBool(v)
		case "trace_sampled": // requests are not traced
		default:
			l.RaiseError("%q is no option of http calls", lua.LVAsString(key))
		}
	})
	return o
}

// begin starts the request of a handler that waits for its answer, and reports whether that is here at once.
func (o *outgoing) begin(r *run) bool {
	o.call.Done = func(*call.Call) {
		if o.here = true; !o.starting {
			r.answered()
		}
	}
	o.starting = true
	o.call.Start(r.f.w, o.to, o.timeout)
	o.starting = false
	return o.here
}

func (o *outgoing) cancel() { o.call.Cancel() }

// failures are what a script sees where there is no answer.
var failures = map[call.Failure][2]string{
	call.Broken:    {"503", "upstream connect error or disconnect/reset before headers"},
	call.NoHost:    {"503", "no healthy upstream"},
	call.TimedOut:  {"504", "upstream request timeout"},
	call.Oversized: {"503", "upstream failure"},
}

// results pushes the answer: a table of its fields, and its body.
func (o *outgoing) results(l *lua.LState, r *run, duplicates bool) int {
	t := l.NewTable()
	if !o.call.OK {
		f := failures[o.call.Why]
		t.RawSetString(":status", lua.LString(f[0]))
		t.RawSetString("content-length", lua.LString(strconv.Itoa(len(f[1]))))
		t.RawSetString("content-type", lua.LString("text/plain"))
		l.Push(t)
		return 1 + pushText(l, f[1])
	}
	for _, f := range o.call.Headers.Fields() {
		name, v := string(given(l, string(f.Name))), given(l, string(f.Value))
		old := t.RawGetString(name)
		list, isList := old.(*lua.LTable)
		switch {
		case !duplicates || old == lua.LNil:
			t.RawSetString(name, v)
		case isList:
			list.Append(v)
		default:
			list = l.NewTable()
			list.Append(old)
			list.Append(v)
			t.RawSetString(name, list)
		}
	}
	raise(l, r.st.meter.make(len(o.call.Answer)))
	l.Push(t)
	if len(o.call.Answer) == 0 {
		l.Push(lua.LNil)
		return 2
	}
	return 1 + push(l, lua.LString(o.call.Answer))
}
