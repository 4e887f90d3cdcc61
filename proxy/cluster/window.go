package cluster

import (
	"sync/atomic"
	"time"
)

// slots is into how many parts a window divides its time: what leaves it does so a sixteenth of it late at most.
const slots = 16

// A window counts what has happened in its last slots steps of time. All shards share it. What two of them
// count in the moment in which a part begins anew may be lost, which a limit can bear.
type window struct {
	step  time.Duration
	parts [slots]struct{ at, n atomic.Int64 }
}

func (w *window) add(now time.Time) {
	at := now.UnixNano() / int64(w.step)
	p := &w.parts[at%slots]
	if old := p.at.Load(); old != at && p.at.CompareAndSwap(old, at) {
		p.n.Store(0)
	}
	p.n.Add(1)
}

func (w *window) sum(now time.Time) (n int64) {
	at := now.UnixNano() / int64(w.step)
	for i := range w.parts {
		if p := &w.parts[i]; p.at.Load() > at-slots {
			n += p.n.Load()
		}
	}
	return n
}
