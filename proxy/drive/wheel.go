package drive

import (
	"math"
	"math/bits"
	"time"
)

// A TimerHandler is told when a timer has run out.
type TimerHandler interface {
	OnTimer(t *Timer)
}

// A Timer belongs to whoever embeds it; setting and stopping it allocates
// nothing. Kind tells several timers of one handler apart.
type Timer struct {
	Handler TimerHandler

	next, prev *Timer
	when       int64 // in ticks
	level      int8
	slot       int8

	Kind int8 // tells several timers of a handler apart
}

// Armed reports whether the timer will run out.
func (t *Timer) Armed() bool { return t.next != nil }

const (
	tick       = int64(time.Millisecond)
	levels     = 7
	slotBits   = 6
	slotsLevel = 1 << slotBits
)

// A wheel keeps timers by the highest base-64 digit in which their tick differs
// from the present one. So everything on a level comes before everything on the
// next, and the next event is the lowest used slot of the lowest used level.
type wheel struct {
	now   int64 // tick
	used  [levels]uint64
	heads [levels][slotsLevel]Timer
}

func (w *wheel) add(t *Timer, when int64) {
	t.when = max(when, w.now+1)
	level := (63 - bits.LeadingZeros64(uint64(t.when^w.now))) / slotBits
	if level >= levels { // beyond 139 years
		level = levels - 1
		t.when = w.now | (1<<(slotBits*levels) - 1)
	}
	slot := int(t.when>>(slotBits*level)) & (slotsLevel - 1)
	t.level, t.slot = int8(level), int8(slot)
	head := &w.heads[level][slot]
	if head.next == nil {
		head.next, head.prev = head, head
	}
	t.prev, t.next = head.prev, head
	head.prev.next, head.prev = t, t
	w.used[level] |= 1 << slot
}

func (w *wheel) remove(t *Timer) {
	if t.next == nil {
		return
	}
	t.prev.next, t.next.prev = t.next, t.prev
	t.next, t.prev = nil, nil
	if head := &w.heads[t.level][t.slot]; head.next == head {
		w.used[t.level] &^= 1 << t.slot
	}
}

// next returns the tick at which advance has something to do.
func (w *wheel) next() (at int64, level, slot int, ok bool) {
	for level := range levels {
		if w.used[level] != 0 {
			slot := bits.TrailingZeros64(w.used[level])
			shift := slotBits * level
			at := w.now>>(shift+slotBits)<<(shift+slotBits) | int64(slot)<<shift
			return at, level, slot, true
		}
	}
	return 0, 0, 0, false
}

// fewTimers is what due looks through.
const fewTimers = 16

// due returns the tick at which a timer runs out, or an earlier one if there are many to look through: what waits for
// it need not wake only to have far timers moved to a nearer level.
func (w *wheel) due() (at int64, ok bool) {
	at, level, slot, ok := w.next()
	if !ok || level == 0 {
		return at, ok
	}
	first, n := int64(math.MaxInt64), 0
	for t, head := w.heads[level][slot].next, &w.heads[level][slot]; t != head; t = t.next {
		if n++; n > fewTimers {
			return at, true
		}
		first = min(first, t.when)
	}
	return first, true
}

// advance moves the wheel to a tick and tells the timers that ran out, in order.
func (w *wheel) advance(to int64) {
	for {
		at, level, slot, ok := w.next()
		if !ok || at > to {
			w.now = max(w.now, to)
			return
		}
		w.now = at
		head := &w.heads[level][slot]
		for head.next != head {
			t := head.next
			w.remove(t)
			if t.when > at {
				w.add(t, t.when)
				continue
			}
			t.Handler.OnTimer(t)
		}
	}
}
