package fault

import (
	"time"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/stream"
)

// A limiter passes a response's body on no faster than it should. Like Envoy's, it fills a bucket 20 times a
// second with a twentieth of the rate, and the bucket holds one second's worth: that much goes at once.
//
// It keeps at most what the connection's limit allows; beyond that the upstream waits.
type limiter struct {
	filter   *injector
	s        *stream.Stream
	timer    drive.Timer
	slice    int // bytes of a token
	tokens   int
	filled   int64 // on the shard's clock
	body     []byte
	end      bool
	trailers bool
	paused   bool
}

const (
	fillEvery  = int64(50 * time.Millisecond)
	maxTokens  = int(int64(time.Second) / fillEvery)
	maxWaiting = 1 << 20
)

func (l *limiter) start(s *stream.Stream, rate uint64) {
	l.s, l.slice = s, max(1, int(rate)*1024/maxTokens)
	l.tokens, l.filled = maxTokens, s.Worker.Loop.Now()
}

// write takes a piece.
func (l *limiter) write(b []byte, end bool) {
	l.body = append(l.body, b...)
	l.end = l.end || end
	if !l.timer.Armed() {
		l.flush()
	}
	if l.s != nil && !l.paused && len(l.body) > l.high() {
		l.paused = true
		l.s.PauseResponse()
	}
}

// high is how much may wait.
func (l *limiter) high() int {
	if n := l.s.Conn.Listener.BufferLimit; n > 0 {
		return n
	}
	return maxWaiting
}

// flush passes on what the tokens allow.
func (l *limiter) flush() {
	if l.s.ClientFull() && len(l.body) > 0 {
		l.s.Schedule(&l.timer, time.Duration(fillEvery))
		return
	}
	now := l.s.Worker.Loop.Now()
	if n := (now - l.filled) / fillEvery; n > 0 {
		l.tokens, l.filled = min(maxTokens, l.tokens+int(n)), l.filled+n*fillEvery
	}
	used := min(l.tokens, (len(l.body)+l.slice-1)/l.slice)
	l.tokens -= used
	n := min(len(l.body), used*l.slice)
	whole := n == len(l.body)
	s, end := l.s, whole && l.end
	piece := l.body[:n]
	if !whole {
		s.Schedule(&l.timer, time.Duration(max(l.filled+fillEvery-now, int64(time.Millisecond))))
	}
	s.InjectResponse(l.filter, piece, end)
	if l.s == nil { // that was the end of the stream
		return
	}
	l.body = append(l.body[:0], l.body[n:]...)
	if l.paused && len(l.body) <= l.high()/2 {
		l.paused = false
		s.ResumeResponse()
	}
	if l.s != nil && whole && l.trailers {
		l.trailers = false
		s.Proceed()
	}
}

// OnTimer passes on more.
func (l *limiter) OnTimer(*drive.Timer) {
	if l.s != nil {
		l.flush()
	}
}

// holdTrailers reports whether trailers have to wait for the body.
func (l *limiter) holdTrailers() bool {
	l.trailers = len(l.body) > 0
	return l.trailers
}

func (l *limiter) stop() {
	if l.s == nil {
		return
	}
	l.s.Worker.Loop.Cancel(&l.timer)
	l.s, l.end, l.trailers, l.paused = nil, false, false, false
	if l.body = l.body[:0]; cap(l.body) > 64<<10 {
		l.body = nil
	}
}
