// Package busy tells what a busy machine has taken from a test.
//
// "In force within a second" is promised of a machine that has the second. A test that holds a program to it shares its
// machine with others, which may take any part of any second: a limit by the clock is then broken by neighbours, and a limit
// that is generous enough for all of them notices nothing. So a promise is held against [Free], the part of a time in which
// everybody who wanted a processor had one. The rest is no excuse beyond itself: what was taken a minute ago does not count,
// and who waits for a timer, not for a processor, is not let off.
//
// What the kernel says of that is exact and counts all processes of the machine ("some" in /proc/pressure/cpu), and what
// the hypervisor gave to other machines (steal in /proc/stat). A pause of everything, which neither sees, is one of this
// process too: its ticks come late.
package busy

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// every is how often is looked. More often the kernel does not count well: it leaves out processors that had less than a
// few milliseconds to do since somebody last asked.
const every = 50 * time.Millisecond

// prompt is how late a tick may be that is not late.
const prompt = 5 * time.Millisecond

// A sample is how long was waited for a processor up to a moment.
type sample struct {
	at   time.Time
	held time.Duration
}

// A recorder remembers what was taken, and when.
type recorder struct {
	waited func() time.Duration // what the system has counted since it was started

	mu      sync.Mutex
	samples []sample      // guarded by mu
	counted time.Duration // guarded by mu: what waited has said last
}

var (
	machine = recorder{waited: waited}
	once    sync.Once
)

// Record begins to look. What was before is not known, and counts as free.
func Record() {
	once.Do(func() {
		machine.look()
		go machine.run(time.NewTicker(every).C)
	})
}

// Free is how much of the time from one moment to another everybody had a processor who wanted one.
func Free(from, to time.Time) time.Duration { return to.Sub(from) - Held(from, to) }

// Held is the rest of that time.
func Held(from, to time.Time) time.Duration {
	Record()
	machine.look()
	return machine.held(from, to)
}

func (r *recorder) run(tick <-chan time.Time) {
	for range tick {
		r.look()
	}
}

// look takes a sample.
func (r *recorder) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, counted := time.Now(), r.waited()
	next := sample{at: now}
	if n := len(r.samples); n > 0 {
		last := r.samples[n-1]
		passed := now.Sub(last.at)
		taken := counted - r.counted
		if late := passed - every; late > prompt {
			taken = max(taken, late) // it is the same time, if it was counted
		}
		next.held = last.held + min(max(taken, 0), passed)
	}
	r.counted = counted
	r.samples = append(r.samples, next)
}

func (r *recorder) held(from, to time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.until(to) - r.until(from)
}

// until is what was taken up to a moment: between two samples, evenly. Callers hold mu.
func (r *recorder) until(t time.Time) time.Duration {
	i, _ := slices.BinarySearchFunc(r.samples, t, func(s sample, t time.Time) int { return s.at.Compare(t) })
	switch {
	case i == 0:
		return 0
	case i == len(r.samples):
		return r.samples[i-1].held
	}
	a, b := r.samples[i-1], r.samples[i]
	return a.held + time.Duration(float64(b.held-a.held)*float64(t.Sub(a.at))/float64(b.at.Sub(a.at)))
}

// waited is how long somebody has waited for a processor since the system was started, and how long all of them were away.
func waited() time.Duration {
	pressure, _ := os.ReadFile("/proc/pressure/cpu") // not every kernel has it
	stat, _ := os.ReadFile("/proc/stat")
	return some(string(pressure)) + steal(string(stat))/time.Duration(runtime.NumCPU())
}

// some is the total of /proc/pressure/cpu.
func some(pressure string) time.Duration {
	line, _, _ := strings.Cut(pressure, "\n")
	_, total, _ := strings.Cut(line, "total=")
	var n int64
	_, _ = fmt.Sscan(total, &n)
	return time.Duration(n) * time.Microsecond
}

// steal is what /proc/stat says that other machines had of all processors, in the kernel's ticks of 10 ms.
func steal(stat string) time.Duration {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0
	}
	var n int64
	_, _ = fmt.Sscan(f[8], &n)
	return time.Duration(n) * 10 * time.Millisecond
}
