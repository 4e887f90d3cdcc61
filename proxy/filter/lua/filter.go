package lua

import (
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config describes the filter. It must not change.
type Config struct {
	Default   *Script                             // nil: none
	Named     map[string]*Script                  // that routes may name
	KeepRoute bool                                // clear_route_cache: false
	Context   metadata.Struct                     // filter_context
	Log       func(level Level, text string) bool // reports whether anybody wants the line
}

// A Word is what a route says to the filter.
type Word struct {
	Off        bool
	Name       string  // of a script of the filter's; or
	Script     *Script // its own; neither: the filter's
	Context    metadata.Struct
	HasContext bool
}

// A Level is one of a log.
type Level uint8

// The levels.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
	Critical
)

type factory struct {
	name   string
	config *Config
	stats  *stats.Lua
}

// New returns the factory of filters with a name in the chain.
func New(name string, c *Config, st *stats.Lua) stream.Factory { return &factory{name, c, st} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(w *pool.Worker) any {
	return &filter{factory: f, w: w, recent: w.Local(f, func() any { return new(recent) }).(*recent)}
}

// choice is the script of a stream.
type choice struct {
	script  *Script
	clear   bool
	context metadata.Struct
	chosen  bool
}

// A filter handles one stream.
type filter struct {
	*factory
	w         *pool.Worker
	script    choice
	req, resp *run // nil: no handler, or it is over
	recent    *recent
}

// choose picks the script of a stream once.
func (f *filter) choose(s *stream.Stream) {
	if f.script.chosen {
		return
	}
	c := f.config
	f.script = choice{script: c.Default, clear: !c.KeepRoute, context: c.Context, chosen: true}
	w, ok := s.FilterConfig(f.name).(*Word)
	if !ok {
		return
	}
	switch {
	case w.Off:
		f.script.script = nil
	case w.Name != "":
		f.script.script = c.Named[w.Name]
	case w.Script != nil:
		f.script.script = w.Script
	}
	if w.HasContext {
		f.script.context = w.Context
	}
}

// begin starts a handler, nil if the script has none.
func (f *filter) begin(s *stream.Stream, m *header.Map, request, end bool) *run {
	f.choose(s)
	if f.script.script == nil {
		return nil
	}
	st := f.state()
	if st == nil {
		return nil
	}
	fn := st.onRequest
	if !request {
		fn = st.onResponse
	}
	if fn == nil {
		return nil
	}
	f.stats.Executions.Inc()
	r := st.run()
	r.f, r.s, r.headers, r.request, r.ended = f, s, m, request, end
	r.start(fn)
	return r
}

// A recent is the script that a worker's last stream ran, and its state: mostly the next one runs it too.
type recent struct {
	script  *Script
	state   *state
	waiting int // bytes that the worker's handlers which wait may hold, of whatever script
}

// state is this worker's of the script, nil if it cannot be begun.
func (f *filter) state() *state {
	if s, r := f.script.script, f.recent; r.script != s || r.state == nil || r.state.spent() {
		r.script, r.state = s, s.state(f.w)
	}
	return f.recent.state
}

// fail notes an error of a script. The message goes on.
func (f *filter) fail(text string) {
	f.stats.Errors.Inc()
	f.config.Log(Error, text)
}

// OnRequest runs envoy_on_request.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	f.req = nil
	r := f.begin(s, m, true, s.RequestEnds() || s.Upgrade)
	if r == nil {
		return stream.Continue
	}
	if r.over && !r.replaced { // as most are: nothing of it is needed any more
		r.route()
		r.st.done(r)
		return stream.Continue
	}
	f.req = r
	switch {
	case r.advance() == toRespond:
		return stream.Stop
	case r.holds():
		return r.hold()
	}
	r.continued = true
	r.route()
	if r.replaced { // a body where there was none
		return r.appended()
	}
	return stream.Continue
}

// appended gives a message that has headers only a body, which goes on in the next turn.
func (r *run) appended() stream.Verdict {
	s, gen, body := r.s, r.s.Generation(), r.body
	r.replaced = false
	if r.request {
		s.SetHeldRequest(body)
		s.StayRequest(true)
		s.Resume(gen, nil)
		return s.CollectRequest(s.BufferLimit())
	}
	s.SetHeldResponse(body)
	s.StayResponse(true)
	s.Resume(gen, nil)
	return s.CollectResponse(s.BufferLimit(), false)
}

// hold keeps a message whose headers have just come. What comes of its body while the handler waits for something
// else is not collected: the sender waits too.
func (r *run) hold() stream.Verdict {
	s := r.s
	switch {
	case r.waits == forAnswer:
		r.stopped = true
		return stream.Stop
	case r.request:
		s.StayRequest(true)
		return s.CollectRequest(s.BufferLimit())
	}
	s.StayResponse(true)
	return s.CollectResponse(s.BufferLimit(), false)
}

// gather has a message whose headers wait collected from now on.
func (r *run) gather() {
	r.stopped = false
	if r.request {
		r.s.StayRequest(true)
		r.s.GatherRequest(r.s.BufferLimit())
	} else {
		r.s.StayResponse(true)
		r.s.GatherResponse(r.s.BufferLimit())
	}
}

// holds reports whether the message must not go on.
func (r *run) holds() bool {
	return !r.over && (r.waits == forBody || r.waits == forAnswer)
}

// advance does what a handler waits for as far as it can be done at once. It returns what it waits for then.
func (r *run) advance() wait {
	for !r.over {
		switch r.waits {
		case forAnswer:
			if !r.call.begin(r) {
				return forAnswer
			}
			r.enter()
		case toRespond:
			r.answer()
			return toRespond
		default:
			return r.waits
		}
	}
	return nothing
}

// answer answers the stream. The handler has said all.
func (r *run) answer() {
	a := r.response
	r.kill()
	r.waits = toRespond
	r.s.ReplyWith(a.status, a.body, "lua_response", func(m *header.Map) {
		for _, h := range a.headers {
			m.AddNameCopy([]byte(h.name), []byte(h.value))
		}
	})
}

// answered goes on with what another service said.
func (r *run) answered() {
	s := r.s
	if r.over || r.request && s.Responded() && (!r.continued || s.Replied()) { // somebody else has answered it
		return
	}
	switch {
	case r.stopped: // nothing has come this far
	case r.request:
		r.look(s.HeldRequest())
	default:
		r.look(s.HeldResponse())
	}
	r.enter()
	switch r.advance() {
	case toRespond:
		return
	case forBody:
		r.gather()
		return
	}
	if !r.holds() {
		r.release()
	}
}

// look sees what is held of a message that has been held whole.
func (r *run) look(body []byte, trailers *header.Map) {
	if r.request && r.s.RequestEnded() {
		r.ended = true
	}
	if !r.continued && !r.replaced {
		r.body = body
	}
	if trailers != nil {
		r.trailers, r.ended = trailers, true
	}
}

// release lets the message go on.
func (r *run) release() {
	s := r.s
	if r.stopped && r.replaced {
		r.gather()
	}
	first := !r.continued
	r.continued, r.stopped = true, false
	if first {
		r.route()
	}
	if r.request {
		if r.replaced {
			s.SetHeldRequest(r.body)
		}
		s.StayRequest(false)
	} else {
		if r.replaced {
			s.SetHeldResponse(r.body)
		}
		s.StayResponse(false)
	}
	r.replaced = false
	if r.request {
		s.ProceedRequest()
	} else {
		s.ProceedResponse()
	}
}

// whole takes a message that has been collected, and returns its body as it goes on.
func (r *run) whole(body []byte, trailers *header.Map, stay func(bool)) []byte {
	if r == nil || r.over && !r.replaced {
		stay(false)
		return body
	}
	r.body, r.trailers, r.ended = body, trailers, true
	if r.waits != forBody {
		return body // it waits for something else
	}
	r.collected = true
	r.enter()
	if r.advance() == toRespond || r.holds() {
		return r.body
	}
	r.continued = true
	r.route()
	r.replaced = false
	stay(false)
	return r.body
}

// OnRequestWhole goes on with a handler that wanted the body.
func (f *filter) OnRequestWhole(s *stream.Stream, body []byte) []byte {
	_, trailers := s.HeldRequest()
	return f.req.whole(body, trailers, s.StayRequest)
}

// OnResponseWhole goes on with a handler that wanted the body.
func (f *filter) OnResponseWhole(s *stream.Stream, body []byte) []byte {
	_, trailers := s.HeldResponse()
	return f.resp.whole(body, trailers, s.StayResponse)
}

// data shows a handler a piece of a body.
func (r *run) data(b *stream.Buffer, end bool) stream.Verdict {
	if r == nil || r.over {
		return stream.Continue
	}
	r.streamed, r.ended = true, r.ended || end
	switch {
	case r.waits == forChunk && len(b.Bytes) > 0:
		r.piece = b
	case r.waits == forTrailers && end || r.waits == forChunk && end:
	default:
		return stream.Continue
	}
	r.enter()
	r.advance()
	r.piece = nil
	if r.holds() {
		return stream.Stop
	}
	return stream.Continue
}

// last shows a handler the trailers of a message.
func (r *run) last(m *header.Map) stream.Verdict {
	if r == nil || r.over {
		return stream.Continue
	}
	r.ended, r.trailers = true, m
	if r.waits == forChunk {
		r.enter()
		r.advance()
	}
	if r.waits == forTrailers && !r.over {
		r.enter()
		r.advance()
	}
	if r.holds() {
		return stream.Stop
	}
	return stream.Continue
}

// OnRequestData shows envoy_on_request a piece.
func (f *filter) OnRequestData(_ *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	return f.req.data(b, end)
}

// OnResponseData shows envoy_on_response a piece.
func (f *filter) OnResponseData(_ *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	return f.resp.data(b, end)
}

// OnRequestTrailers shows envoy_on_request the trailers.
func (f *filter) OnRequestTrailers(_ *stream.Stream, m *header.Map) stream.Verdict {
	return f.req.last(m)
}

// OnResponseTrailers shows envoy_on_response the trailers.
func (f *filter) OnResponseTrailers(_ *stream.Stream, m *header.Map) stream.Verdict {
	return f.resp.last(m)
}

// OnResponse runs envoy_on_response.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	f.resp = nil
	r := f.begin(s, m, false, s.ResponseEnds())
	if r == nil {
		return stream.Continue
	}
	if r.over && !r.replaced {
		r.st.done(r)
		return stream.Continue
	}
	f.resp = r
	r.advance()
	if r.holds() {
		return r.hold()
	}
	r.continued = true
	if r.replaced {
		return r.appended()
	}
	return stream.Continue
}

// OnEnd ends the handlers that still wait.
func (f *filter) OnEnd(*stream.Stream) {
	for _, r := range []*run{f.req, f.resp} {
		if r != nil {
			r.kill()
		}
	}
	f.req, f.resp, f.script = nil, nil, choice{}
}

var (
	_ stream.DataFilter    = (*filter)(nil)
	_ stream.TrailerFilter = (*filter)(nil)
	_ stream.Collector     = (*filter)(nil)
	_ stream.Ender         = (*filter)(nil)
)

// OnUnasked has nothing to prepare: the response has a script of its own.
func (f *filter) OnUnasked(*stream.Stream) {}
