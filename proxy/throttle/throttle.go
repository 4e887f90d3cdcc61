// Package throttle passes bodies on no faster than tokens come, a token for a byte.
//
// A [Way] is one direction of one stream. A filter gives it the pieces and the trailers that it takes; what a
// bucket (package ratelimit) has no tokens for waits, and is tried again after an interval, as in Envoy. Several
// ways may have one bucket; who asks first then gets what is there.
//
// At most what the connection's limit allows waits here; beyond it the sender waits. A receiver that takes nothing
// gets nothing, and costs neither tokens nor tries: what waits goes on when it takes more.
package throttle

import (
	"time"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/stream"
)

// An Owner is the filter that a way belongs to.
type Owner interface {
	stream.Filter
	// Passing tells that n bytes go on now, and that left stay.
	Passing(w *Way, n, left int)
	// Ending tells that the end of the message goes on now, with trailers if they are not nil, and returns the
	// trailers that it ends with.
	Ending(w *Way, trailers *header.Map) *header.Map
}

// A Way is one direction of a stream whose body is slowed down. It is used again for other streams.
type Way struct {
	owner    Owner
	response bool

	s        *stream.Stream // nil: nothing is slowed down
	bucket   *ratelimit.Bucket
	every    time.Duration // between two tries
	timer    drive.Timer
	body     []byte
	trailers *header.Map
	end      bool
	paused   bool
	passing  bool
	waiting  bool // for the receiver
}

// maxWaiting is what waits of a connection without a limit.
const maxWaiting = 1 << 20

// Init makes w a way of a filter: that of responses, or of requests. A way must not be copied.
func (w *Way) Init(owner Owner, response bool) {
	w.owner, w.response = owner, response
	w.timer.Handler = w
}

// Start has a stream's body wait for the tokens of a bucket.
func (w *Way) Start(s *stream.Stream, bucket *ratelimit.Bucket, every time.Duration) {
	w.s, w.bucket, w.every = s, bucket, every
}

// On reports whether the way has been started and not stopped.
func (w *Way) On() bool { return w.s != nil }

// Held is how many bytes wait.
func (w *Way) Held() int { return len(w.body) }

// Data takes a piece of a body.
func (w *Way) Data(b []byte, end bool) stream.Verdict {
	w.body = append(w.body, b...)
	w.end = w.end || end
	if !w.timer.Armed() && !w.passing && !w.waiting {
		w.pass()
	}
	if w.s != nil && !w.paused && len(w.body) > w.high() {
		w.pause(true)
	}
	return stream.Taken
}

// Trailers takes trailers, if they have to wait for the body. Otherwise they go on, as Ending makes them.
func (w *Way) Trailers(m *header.Map) stream.Verdict {
	if len(w.body) > 0 {
		w.trailers = m
		return stream.Taken
	}
	w.owner.Ending(w, m)
	return stream.Continue
}

// Stop forgets the stream.
func (w *Way) Stop() {
	if w.s == nil {
		return
	}
	w.s.Worker.Loop.Cancel(&w.timer)
	if w.paused {
		w.pause(false)
	}
	w.s, w.bucket, w.trailers, w.end, w.waiting = nil, nil, nil, false, false
	if w.body = w.body[:0]; cap(w.body) > 64<<10 {
		w.body = nil
	}
}

// OnTimer passes on more.
func (w *Way) OnTimer(*drive.Timer) {
	if w.s != nil {
		w.pass()
	}
}

// OnRoom passes on more: the receiver takes it.
func (w *Way) OnRoom() {
	if w.waiting {
		w.waiting = false
		w.pass()
	}
}

// high is how much may wait.
func (w *Way) high() int {
	if n := w.s.Conn.Listener.BufferLimit; n > 0 {
		return n
	}
	return maxWaiting
}

func (w *Way) full() bool {
	if w.response {
		return w.s.ClientFull(w)
	}
	return w.s.UpstreamFull(w)
}

// pass passes on what the tokens allow.
func (w *Way) pass() {
	if len(w.body) > 0 && w.full() {
		w.waiting = true
		return
	}
	n := int(w.bucket.TakeUpTo(uint64(len(w.body)), w.s.Worker.Loop.Time()))
	left := len(w.body) - n
	if left > 0 {
		w.s.Schedule(&w.timer, w.every)
	}
	w.owner.Passing(w, n, left)
	w.passing = true
	w.write(w.body[:n], left == 0)
	w.passing = false
	if w.s == nil { // that was the end of the stream
		return
	}
	w.body = append(w.body[:0], w.body[n:]...)
	if len(w.body) > 0 && !w.timer.Armed() { // it has come meanwhile
		w.s.Schedule(&w.timer, time.Millisecond)
	}
	if w.paused && len(w.body) <= w.high()/2 {
		w.pause(false)
	}
}

// write sends bytes on, and the end if it has come and nothing else waits.
func (w *Way) write(b []byte, all bool) {
	m, ends := w.trailers, all && (w.end || w.trailers != nil)
	if ends {
		m = w.owner.Ending(w, m)
		w.trailers = nil
	}
	s := w.s
	if w.response {
		if s.InjectResponse(w.owner, b, ends && m == nil); ends && m != nil && w.s != nil {
			s.EndResponse(w.owner, m)
		}
		return
	}
	if s.InjectRequest(w.owner, b, ends && m == nil); ends && m != nil && w.s != nil {
		s.EndRequest(w.owner, m)
	}
}

func (w *Way) pause(on bool) {
	w.paused = on
	switch {
	case w.response && on:
		w.s.PauseResponse()
	case w.response:
		w.s.ResumeResponse()
	case on:
		w.s.PauseRequest()
	default:
		w.s.UnpauseRequest()
	}
}
