package proxy

import (
	"context"
	"runtime/metrics"
	"time"

	"github.com/mallamesh/malla/base/resident"
	"github.com/mallamesh/malla/proxy/build"
)

// A proxy makes garbage when it takes in configuration, when connections come and go, and above all when it
// shakes hands, and hardly any otherwise. So the collector is let off lightly while there is much of that, and when it is
// over the memory goes back to the system: a sidecar is at rest most of its life.
type rest struct {
	disturbed chan struct{}
	headroom  []byte
	allocated func() uint64 // bytes of heap so far, garbage included
	trim      func()
}

const (
	// headroom is how much garbage there may be besides what the collector allows in proportion
	// to the heap in use, which in a sidecar is small: it would run a hundred times a second
	// during a thousand handshakes.
	headroom = build.HeapReserve
	lull     = 250 * time.Millisecond // without a disturbance is rest
	worth    = 4 << 20                // bytes allocated that are worth the trouble
	share    = 50                     // at most this part of the time is spent on it
)

func newRest() rest {
	// Nobody touches this, so the system gives no memory for it; the collector counts it as in use.
	return rest{make(chan struct{}, 1), make([]byte, headroom), allocated, resident.Trim}
}

// disturb says that garbage was made. It may be called from anywhere and does not wait.
func (r rest) disturb() {
	select {
	case r.disturbed <- struct{}{}:
	default:
	}
}

// run trims memory whenever there is rest, until ctx ends. The first time it does so whatever was allocated: starting has touched all of the
// program, also where there is nothing to serve, and nobody would disturb a proxy that has no listeners.
func (r rest) run(ctx context.Context) error {
	var before uint64
	pause, started := lull, false
	r.disturb()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.disturbed:
		}
		if !r.settle(ctx, pause) {
			return nil
		}
		pause = lull
		if now := r.allocated(); now-before >= worth || !started {
			started = true
			begin := time.Now()
			r.trim()
			before, pause = now, max(lull, share*time.Since(begin))
		}
	}
}

// settle waits until there was no disturbance for a while; it reports false if ctx ended.
func (r rest) settle(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			select {
			case <-r.disturbed:
				t.Reset(lull)
			default:
				return true
			}
		}
	}
}

func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
