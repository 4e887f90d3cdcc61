package adaptiveconcurrency

import (
	"sync"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/stats"
)

const ms = int64(time.Millisecond)

func config() *Config {
	return &Config{Percentile: 0.5, Update: 100 * time.Millisecond, MinLimit: 2, MaxLimit: 50, Every: time.Second, Requests: 3, MinConcurrency: 2}
}

// A load makes a controller requests that take a time, one after another.
type load struct {
	*controller
	now int64
}

func (l *load) requests(n int, took int64) {
	for range n {
		l.advance(l.now)
		if !l.enter() {
			panic("a request alone is over the limit")
		}
		began := l.now
		l.now += took
		l.done(began, l.now, 0)
	}
}

// tick lets time pass until the limit is calculated.
func (l *load) tick() {
	l.now += int64(l.Update)
	l.advance(l.now)
}

func newLoad(c *Config) (*load, *stats.Gradient) {
	st := new(stats.Gradient)
	return &load{newController(c, st), 1}, st
}

// While the lowest latency is measured, the limit is small; then it grows while latencies are low, up to its maximum,
// shrinks when they are not, and stays as it is without requests.
func TestLimitFollowsLatencies(t *testing.T) {
	l, st := newLoad(config())
	if st.Measuring.Value() != 1 || l.limit.Load() != 2 {
		t.Fatalf("begins with limit %d, want a measurement with 2", l.limit.Load())
	}
	l.requests(3, 10*ms)
	if st.Measuring.Value() != 0 || st.MinRTT.Value() != 10 {
		t.Fatalf("after 3 requests: measuring %d, lowest %d ms, want 0, 10", st.Measuring.Value(), st.MinRTT.Value())
	}
	for _, step := range []struct {
		took, want, gradient int64
	}{
		{1 * ms, 6, 2000}, // 2*2, and its root
		{1 * ms, 15, 2000},
		{10 * ms, 18, 1000}, // the root of the limit is room to grow
		{100 * ms, 12, 500},
		{0, 12, 500}, // nothing has come
	} {
		if step.took > 0 {
			l.requests(1, step.took)
		}
		l.tick()
		if got := l.limit.Load(); got != step.want || st.Gradient.Value() != step.gradient {
			t.Errorf("after a request of %v: limit %d, gradient %d, want %d, %d", time.Duration(step.took), got, st.Gradient.Value(), step.want, step.gradient)
		}
	}
}

// Latencies may be higher than the lowest one by the buffer.
func TestBuffer(t *testing.T) {
	c := config()
	c.Every, c.Fixed, c.Buffer = 0, 10*time.Millisecond, 0.5
	l, st := newLoad(c)
	l.requests(1, 14*ms)
	l.tick()
	if st.Gradient.Value() < 1000 {
		t.Errorf("gradient %d at 14 ms of 10 and a half as much more, want at least 1000", st.Gradient.Value())
	}
}

// What counts of an interval's latencies is the one that so many of them are below.
func TestPercentile(t *testing.T) {
	for percentile, want := range map[float64]int64{0.5: 2000, 1: 500} {
		c := config()
		c.Every, c.Fixed, c.Percentile = 0, 10*time.Millisecond, percentile
		l, st := newLoad(c)
		l.requests(9, ms)
		l.requests(1, 30*ms)
		l.tick()
		if got := st.Gradient.Value(); got != want {
			t.Errorf("gradient %d by the percentile %v of nine requests of 1 ms and one of 30, want %d", got, percentile, want)
		}
	}
}

// The lowest latency is measured anew after its interval, and with the jitter later.
func TestMeasurementsComeAgain(t *testing.T) {
	c := config()
	c.Jitter = 0.5
	l, st := newLoad(c)
	l.requests(2, ms)
	began := l.now
	l.now += ms
	l.advance(began)
	l.enter()
	l.done(began, l.now, 200*uint64(ms))
	for _, step := range []struct {
		at   time.Duration
		want int64
	}{{time.Second, 0}, {1201 * time.Millisecond, 1}} {
		if l.advance(l.now + int64(step.at)); st.Measuring.Value() != step.want {
			t.Errorf("after %v: measuring %d, want %d", step.at, st.Measuring.Value(), step.want)
		}
	}
}

// A limit that has long been the smallest may be so because the lowest latency is from a better day.
func TestLowestLatencyIsForgotten(t *testing.T) {
	l, st := newLoad(config())
	l.requests(3, ms)
	for i := range forgetAfter {
		if st.Measuring.Value() != 0 {
			t.Fatalf("measures again after %d times", i)
		}
		l.requests(1, 50*ms)
		l.tick()
	}
	l.advance(l.now + 1)
	if st.Measuring.Value() != 1 {
		t.Errorf("the limit was %d for %d times, and the lowest latency is not measured anew", l.limit.Load(), forgetAfter)
	}
}

// What is over the limit is refused, however many shards ask at once, and each that leaves makes room.
func TestLimitIsShared(t *testing.T) {
	l, st := newLoad(config())
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for i := range 1000 {
				at := int64(i+1) * ms
				l.advance(at)
				if l.enter() {
					if n := l.outstanding.Load(); n > 50+8 { // others are just being refused
						t.Errorf("%d requests at once, want at most 50", n)
					}
					l.done(at, at+ms, 0)
				}
			}
		})
	}
	g.Wait()
	if l.outstanding.Load() != 0 {
		t.Errorf("%d requests are left, want none", l.outstanding.Load())
	}
	for range 60 {
		l.enter()
	}
	if n := l.outstanding.Load(); n != l.limit.Load() || st.Blocked.Value() == 0 {
		t.Errorf("%d requests at once with a limit of %d, %d refused", n, l.limit.Load(), st.Blocked.Value())
	}
}
