package ratelimit

import (
	"math"
	"sync/atomic"
	"time"
)

// A Fill says how a bucket is filled.
type Fill struct {
	Max      uint32        // tokens that it holds; it is full at first
	PerFill  uint32        // tokens that come every interval
	Interval time.Duration // ignored if Max is 0
}

// Rate is the number of tokens that come in a second.
func (f Fill) Rate() float64 {
	if f.Interval <= 0 {
		return 0
	}
	return float64(f.PerFill) / f.Interval.Seconds()
}

// A Bucket holds tokens. Any goroutine may take some.
//
// Its state is the moment at which it would have been empty, had it been filled ever since: the
// tokens are the time since then times the rate. So taking tokens moves one number.
type Bucket struct {
	Shadow bool // who finds it empty goes on

	max, rate float64
	origin    time.Time
	empty     atomic.Uint64 // float64: seconds after origin
}

// NewBucket returns a bucket that is full at the moment now.
func NewBucket(f Fill, now time.Time) *Bucket {
	b := &Bucket{max: float64(f.Max), rate: f.Rate(), origin: now}
	if b.rate > 0 {
		b.empty.Store(math.Float64bits(-b.max / b.rate))
	}
	return b
}

// Refill makes b a bucket that gets perSecond tokens a second, holds as many, and has some at the moment now. Nobody may
// use it meanwhile.
func (b *Bucket) Refill(perSecond, tokens float64, now time.Time) {
	b.max, b.rate, b.origin = perSecond, perSecond, now
	b.empty.Store(math.Float64bits(-tokens / perSecond))
}

func (b *Bucket) since(now time.Time) float64 { return now.Sub(b.origin).Seconds() }

// tokens returns what is in the bucket at a moment when it was last empty at another.
func (b *Bucket) tokens(at, empty float64) float64 { return min(b.max, (at-empty)*b.rate) }

// Take takes n tokens and reports whether they were there; otherwise it takes none. A negative n puts some
// back, up to the top.
func (b *Bucket) Take(n float64, now time.Time) bool {
	if b.max == 0 || b.rate == 0 {
		return n <= 0
	}
	at := b.since(now)
	for {
		old := b.empty.Load()
		have := b.tokens(at, math.Float64frombits(old))
		if have < n {
			return false
		}
		left := min(b.max, have-n)
		if b.empty.CompareAndSwap(old, math.Float64bits(at-left/b.rate)) {
			return true
		}
	}
}

// TakeUpTo takes as many whole tokens as there are, but not more than n, and returns how many.
func (b *Bucket) TakeUpTo(n uint64, now time.Time) uint64 {
	if b.max == 0 || b.rate == 0 {
		return 0
	}
	at := b.since(now)
	for {
		old := b.empty.Load()
		have := b.tokens(at, math.Float64frombits(old))
		taken := min(float64(n), math.Floor(have))
		if taken <= 0 {
			return 0
		}
		if b.empty.CompareAndSwap(old, math.Float64bits(at-(have-taken)/b.rate)) {
			return uint64(taken)
		}
	}
}

// Rate is the number of tokens that come in a second.
func (b *Bucket) Rate() float64 { return b.rate }

// Max is how many tokens it holds.
func (b *Bucket) Max() uint64 { return uint64(b.max) }

// Left is the number of whole tokens in the bucket.
func (b *Bucket) Left(now time.Time) uint64 {
	return uint64(max(0, b.tokens(b.since(now), math.Float64frombits(b.empty.Load()))))
}

// NextIn is how long it takes until there is a token, in whole milliseconds.
func (b *Bucket) NextIn(now time.Time) time.Duration {
	have := b.tokens(b.since(now), math.Float64frombits(b.empty.Load()))
	if have >= 1 || b.rate == 0 {
		return 0
	}
	return time.Duration(math.Ceil((1-have)/b.rate*1000)) * time.Millisecond
}
