package proxy

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/mallamesh/malla/proxy/overload"
)

// A proxy that knows how much memory it may use does something about it before it is used up; one that does not,
// does not.
func TestOwnGuard(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(math.MaxInt64)
	if ownGuard(math.MaxInt64) != nil {
		t.Error("there is something to do about memory without a limit")
	}
	c := ownGuard(1 << 30)
	collectFor(c)
	if got := debug.SetMemoryLimit(-1); got >= 1<<30 {
		t.Errorf("garbage may grow to %d, want less than the limit", got)
	}
	state := func(k overload.Kind, pressure float64) float64 {
		for _, a := range c.Actions {
			if a.Kind == k {
				return a.Triggers[0].State(pressure)
			}
		}
		return -1
	}
	for _, test := range []struct {
		pressure                float64
		accepts, serves, resets bool
	}{{0.89, true, true, false}, {0.9, false, true, false}, {0.95, false, false, false}, {0.96, false, false, true}} {
		if state(overload.StopAccepting, test.pressure) == 0 != test.accepts || state(overload.StopRequests, test.pressure) == 0 != test.serves || state(overload.ResetStreams, test.pressure) > 0 != test.resets {
			t.Errorf("at %v: found %v, %v, %v", test.pressure, state(overload.StopAccepting, test.pressure), state(overload.StopRequests, test.pressure), state(overload.ResetStreams, test.pressure))
		}
	}
	for _, test := range []struct {
		what           string
		env, max, want int64
	}{
		{"a limit that would let garbage alone speak", 500 << 20, 500 << 20, 400<<20 + headroom},
		{"a limit that is lower", 100 << 20, 500 << 20, 100 << 20},
		{"none", math.MaxInt64, 500 << 20, 400<<20 + headroom},
	} {
		debug.SetMemoryLimit(test.env)
		if collectFor(ownGuard(test.max)); debug.SetMemoryLimit(-1) != test.want {
			t.Errorf("%s: found %d, want %d", test.what, debug.SetMemoryLimit(-1), test.want)
		}
	}
}

// Clients may have a part of the descriptors, not all.
func TestOwnConnections(t *testing.T) {
	if c := ownConnections(); c == nil || c.Max < 8 {
		t.Errorf("found %+v, want a bound", c)
	}
}
