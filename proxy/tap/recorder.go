package tap

import (
	"time"

	"github.com/mallamesh/malla/proxy/header"
)

// A Recorder follows one stream. It belongs to the stream's shard, and is used again.
type Recorder struct {
	c     *Config
	match Match
	id    uint64

	body      [2]Message // of request and response, without header fields
	times     bool
	streaming bool // pieces go out as they come
	first     bool // one has gone

	Dropped uint64 // traces that the sink has not taken, until Stop

	// What had come before the stream matched, for a stream that is sent in pieces.
	held []heldPiece
}

// A heldPiece may go out yet; its fields do as they are then.
type heldPiece struct {
	trace  *Trace
	fields *header.Map
}

// Recording reports whether there is a stream.
func (r *Recorder) Recording() bool { return r.c != nil }

// Start begins with a stream. times has it note when headers come.
func (r *Recorder) Start(c *Config, id uint64, times bool) {
	r.c, r.id, r.times = c, id, times
	r.match.Start(c.Predicate)
}

// Stop forgets the stream.
func (r *Recorder) Stop() { *r = Recorder{match: Match{nodes: r.match.nodes[:0]}} }

// RequestHeaders, and the others, show what comes.
func (r *Recorder) RequestHeaders(m *header.Map, now time.Time) {
	r.received(0, now)
	r.match.see(requestHeaders, m)
	r.fields(RequestHeaders, m)
}

// RequestTrailers shows a request's trailers.
func (r *Recorder) RequestTrailers(m *header.Map) {
	r.match.see(requestTrailers, m)
	r.fields(RequestTrailers, m)
}

// ResponseHeaders shows a response's header fields.
func (r *Recorder) ResponseHeaders(m *header.Map, now time.Time) {
	r.received(1, now)
	r.match.see(responseHeaders, m)
	r.fields(ResponseHeaders, m)
}

// ResponseTrailers shows a response's trailers.
func (r *Recorder) ResponseTrailers(m *header.Map) {
	r.match.see(responseTrailers, m)
	r.fields(ResponseTrailers, m)
}

// RequestBody shows a piece of a request's body.
func (r *Recorder) RequestBody(b []byte) {
	r.match.body(requestBody, b)
	r.data(RequestBody, 0, r.c.MaxRx, b)
}

// ResponseBody shows a piece of a response's body.
func (r *Recorder) ResponseBody(b []byte) {
	r.match.body(responseBody, b)
	r.data(ResponseBody, 1, r.c.MaxTx, b)
}

func (r *Recorder) received(i int, now time.Time) {
	if r.times {
		r.body[i].Received = now
	}
}

// fields sends header fields, if they go as a piece.
func (r *Recorder) fields(p Piece, m *header.Map) {
	if !r.c.Streaming || !r.match.Matches() && !r.match.Open() {
		return
	}
	if r.held = append(r.held, heldPiece{&Trace{ID: r.id, Piece: p}, m}); r.match.Matches() {
		r.flush()
	}
}

// flush sends what is held.
func (r *Recorder) flush() {
	for _, h := range r.held {
		switch t := h.trace; t.Piece {
		case RequestHeaders:
			t.Request.Headers = copyFields(h.fields)
		case RequestTrailers:
			t.Request.Trailers = copyFields(h.fields)
		case ResponseHeaders:
			t.Response.Headers = copyFields(h.fields)
		case ResponseTrailers:
			t.Response.Trailers = copyFields(h.fields)
		}
		r.submit(h.trace)
	}
	r.held, r.streaming = nil, true
}

func (r *Recorder) submit(t *Trace) {
	if !r.first {
		r.first, t.Share = true, r.c.Share
	}
	if !r.c.Sink.Submit(t) {
		r.Dropped++
	}
}

// data keeps a piece of a body, or sends it.
func (r *Recorder) data(p Piece, i, limit int, b []byte) {
	if len(b) == 0 || !r.match.Matches() && !r.match.Open() {
		return
	}
	kept := &r.body[i]
	switch {
	case !r.c.Streaming:
		kept.keep(b, limit)
	case r.streaming:
		t := &Trace{ID: r.id, Piece: p}
		t.message(p).keep(b, limit)
		r.submit(t)
	default:
		r.hold(p, b, limit)
	}
}

// hold keeps a piece for a stream that may match yet. All pieces of a body are one then.
func (r *Recorder) hold(p Piece, b []byte, limit int) {
	var t *Trace
	for _, h := range r.held {
		if h.trace.Piece == p {
			t = h.trace
		}
	}
	if t == nil {
		t = &Trace{ID: r.id, Piece: p}
		r.held = append(r.held, heldPiece{trace: t})
	}
	t.message(p).keep(b, limit)
}

func (t *Trace) message(p Piece) *Message {
	if p == ResponseBody {
		return &t.Response
	}
	return &t.Request
}

// keep adds to a body, up to a limit.
func (m *Message) keep(b []byte, limit int) {
	n := min(len(b), limit-len(m.Body))
	if m.Truncated = m.Truncated || n < len(b); m.Body == nil {
		m.Body = make([]byte, 0, n)
	}
	m.Body = append(m.Body, b[:n]...)
}

// End ends the stream and reports whether it matched. finish completes the trace of a stream that goes as a whole.
func (r *Recorder) End(finish func(*Trace)) bool {
	if !r.match.Matches() {
		return false
	}
	if !r.c.Streaming {
		t := &Trace{ID: r.id, Request: r.body[0], Response: r.body[1]}
		finish(t)
		r.submit(t)
	}
	return true
}

// Fill adds the header fields and trailers of a stream to its trace; those that there are not are nil.
func (t *Trace) Fill(request, requestTrailers, response, responseTrailers *header.Map) {
	t.Request.Headers, t.Request.Trailers = copyFields(request), copyFields(requestTrailers)
	t.Response.Headers, t.Response.Trailers = copyFields(response), copyFields(responseTrailers)
}
