package gatewayapi

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Ten times the teams take some ten times as long: nobody pays for how many others there are. What counts is the
// processor time of one thread without a collector, which does not see who else is busy on the machine.
func TestGrowthIsLinear(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for _, shared := range []bool{false, true} {
		took := func(n int) func() time.Duration {
			objects, env := fleet(n, shared)
			return func() time.Duration {
				runtime.GC()
				start := threadTime(t)
				out := Compile(objects, env)
				took := threadTime(t) - start
				if len(out.Policies) != n || len(out.Rules) != 10*n {
					t.Fatalf("%d policies and %d rules of %d teams: %+v", len(out.Policies), len(out.Rules), n, out.Status[refOf(objects.HTTPRoutes[0])])
				}
				return took
			}
		}
		few, many := took(20), took(200)
		least, ratio := [2]time.Duration{time.Hour, time.Hour}, 0.0
		for range 20 { // in turns, until caches were warm for both
			least[0], least[1] = min(least[0], few()), min(least[1], many())
			if ratio = float64(least[1]) / float64(least[0]); ratio < 30 {
				break
			}
		}
		if ratio >= 30 { // what is quadratic takes 100 times as long
			t.Errorf("ListenerSets %t: 200 teams take %v, 20 take %v: %.0f times as long", shared, least[1], least[0], ratio)
		}
	}
}

func threadTime(t *testing.T) time.Duration {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at); err != nil {
		t.Fatal(err)
	}
	return time.Duration(at.Nano())
}
