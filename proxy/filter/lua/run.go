package lua

import (
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/stream"

	lua "github.com/yuin/gopher-lua"
)

// A wait is what a handler waits for.
type wait uint8

const (
	nothing     wait = iota // it runs, or has ended
	forBody                 // the whole of it
	forChunk                // of a body
	forTrailers             //
	forAnswer               // of another service
	toRespond               // it has said all; the stream is to be answered
)

// A run is a handler that runs for one direction of one stream, on a stack of its own. Its memory is that of the state's next
// handler when it has ended, as most do, without having waited: a script may keep its objects for as long as it likes, but
// they know which handler they are of.
type run struct {
	st      *state
	number  uint64 // of handlers that have had this memory
	f       *filter
	s       *stream.Stream
	headers *header.Map
	request bool // it is envoy_on_request

	fn     *lua.LFunction
	fiber  *drive.Fiber
	inside *lua.LState // the interpreter's thread when the handler began to wait

	waits     wait
	over      bool // it has ended
	failed    string
	bytes     int  // that it may yet make
	tries     int  // pcalls that it is inside of
	lines     int  // that it has logged
	stopped   bool // the headers wait, and with them what comes of the body, which no filter has seen
	continued bool // the headers have gone on
	dirty     bool // the route is to be picked once more
	ended     bool // all of the message has come
	streamed  bool // pieces of the body have gone by
	collected bool // body is all of it
	replaced  bool // by the handler
	body      []byte
	piece     *stream.Buffer // the piece that the handler looks at
	trailers  *header.Map
	call      *outgoing
	response  *respond
	keys      map[string]any // public keys by their bytes

	own     *own
	objects []lone // of other kinds
	fields  headerMap
}

// own are the objects that next to every handler has. They are the script's for ever.
type own struct{ handle, fields held }

// A lone is an object of a kind of which a handler has one.
type lone struct {
	kind kind
	data *lua.LUserData
}

// A respond is an answer in place of the upstream's.
type respond struct {
	status  int
	headers []field
	body    string
}

type field struct{ name, value string }

// start runs a handler until it waits or ends.
func (r *run) start(fn *lua.LFunction) {
	r.fn, r.bytes, r.own = fn, maxBytes, new(own)
	r.own.handle.hold(r, handleKind, r)
	r.fiber = r.f.w.Loop.Fiber(r)
	r.enter()
}

// Run is the handler, from its first instruction to its last.
func (r *run) Run(*drive.Fiber) {
	th := r.st.stack()
	r.st.l.G.CurrentThread = th
	th.Push(r.fn)
	th.Push(&r.own.handle.data)
	if err := th.PCall(1, 0, nil); err == nil {
		r.st.free(th)
	} else if r.waits != toRespond {
		r.failed = message(err)
	}
}

// maxThreads is how many stacks wait for handlers.
const maxThreads = 16

// stack returns a stack for a handler: to make one costs more than most handlers do.
func (st *state) stack() *lua.LState {
	if n := len(st.threads); n > 0 {
		th := st.threads[n-1]
		st.threads = st.threads[:n-1]
		return th
	}
	th, _ := st.l.NewThread()
	th.SetContext(st.meter)
	return th
}

// free keeps the stack of a handler that has ended without an error.
func (st *state) free(th *lua.LState) {
	if len(st.threads) < maxThreads {
		th.SetTop(0)
		st.threads = append(st.threads, th)
	}
	if cap(st.value) > 64<<10 {
		st.value = nil
	}
}

// run returns the memory of a handler.
func (st *state) run() *run {
	if n := len(st.runs); n > 0 {
		r := st.runs[n-1]
		st.runs = st.runs[:n-1]
		return r
	}
	return &run{st: st}
}

// done gives back the memory of a handler that has ended, and that nobody but its script knows any more.
func (st *state) done(r *run) {
	clear(r.objects)
	*r = run{st: st, number: r.number + 1, objects: r.objects[:0]}
	if len(st.runs) < maxThreads {
		st.runs = append(st.runs, r)
	}
}

// enter lets the handler go on.
func (r *run) enter() {
	m := r.st.meter
	before := *m // of the handler that this one interrupts, if any
	current := r.st.l.G.CurrentThread
	m.fill(r.bytes)
	m.tries = r.tries
	if r.waits != toRespond {
		r.waits = nothing
	}
	over := r.fiber.Resume()
	m.ran()
	r.bytes, r.tries = m.bytes, m.tries
	m.restore(before)
	r.st.l.G.CurrentThread = current
	if over {
		r.finish()
	}
}

// is reports whether this is still the handler of a number, and not over.
func (r *run) is(number uint64) bool { return r.number == number && !r.over }

func (r *run) finish() {
	if r.over {
		return
	}
	r.over = true
	if r.failed != "" {
		r.f.fail(r.failed)
	}
}

// wait has the loop go on until what the handler waits for is there.
func (r *run) wait(l *lua.LState, w wait) {
	if r.over {
		raise(l, errGone)
	}
	held := r.st.meter.holds()
	if held <= smallWait || w == toRespond {
		held = 0
	}
	all := &r.f.recent.waiting
	if held > 0 && *all+held > maxWaiting {
		raise(l, errHeld)
	}
	r.waits, r.inside = w, r.st.l.G.CurrentThread
	*all += held
	r.fiber.Wait()
	*all -= held
	if r.over { // nobody waits for it any more
		r.st.meter.err = errGone
		raise(l, errGone)
	}
	r.st.l.G.CurrentThread = r.inside
}

// kill ends a handler whose stream has gone.
func (r *run) kill() {
	if r.call != nil {
		r.call.cancel()
	}
	if r.over {
		return
	}
	r.over = true
	m := r.st.meter
	before := *m
	current := r.st.l.G.CurrentThread
	m.err = errGone
	r.fiber.Resume() // which ends it: all that it does fails
	m.restore(before)
	r.st.l.G.CurrentThread = current
}

// modify is called before header fields change. They may, until they have gone on.
func (r *run) modify(l *lua.LState, m *header.Map) {
	if m == r.headers && r.continued {
		l.RaiseError("header map can no longer be modified")
	}
	if m == r.headers && r.request {
		r.dirty = true
	}
}

// route has the route picked once more if the handler has changed what it depends on.
func (r *run) route() {
	if r.dirty && r.f.script.clear {
		r.s.Reroute()
	}
	r.dirty = false
}
