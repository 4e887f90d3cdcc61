//go:build linux

package envoy_test

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

var tellSpent = flag.Bool("spent", false, "tell at the end what the processor's time went into, and which scenarios took longest")

// A ledger is what the suite has spent. On a busy machine what counts is the processor's time; the rest is waiting,
// which scenarios do together.
type ledger struct {
	mu        sync.Mutex
	programs  map[string]*programSpent // guarded by mu, by the program's file and what it was started for
	scenarios []scenarioSpent          // guarded by mu
	phases    []string                 // guarded by mu: one after another
}

type programSpent struct {
	starts       int
	user, system time.Duration
}

// A scenarioSpent says how long a scenario's client took, and then the wait for logs and upstreams, and for statistics.
type scenarioSpent struct {
	name                string
	client, logs, stats time.Duration
	asked               int // questions for statistics
}

func (s scenarioSpent) all() time.Duration { return s.client + s.logs + s.stats }

var spent = ledger{programs: map[string]*programSpent{}}

// process notes a process that has ended.
func (l *ledger) process(path, what string, p *os.ProcessState) {
	if p == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := filepath.Base(path) + " " + what
	if l.programs[key] == nil {
		l.programs[key] = new(programSpent)
	}
	l.programs[key].starts++
	l.programs[key].user += p.UserTime()
	l.programs[key].system += p.SystemTime()
}

func (l *ledger) scenario(s scenarioSpent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.scenarios = append(l.scenarios, s)
}

// since notes a phase that is over.
func (l *ledger) since(began time.Time, phase string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phases = append(l.phases, fmt.Sprintf("%s: %.1f s", phase, time.Since(began).Seconds()))
}

// tell writes all of it.
func (l *ledger) tell(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, phase := range l.phases {
		fmt.Fprintln(w, phase)
	}
	for _, key := range slices.Sorted(maps.Keys(l.programs)) {
		p := l.programs[key]
		fmt.Fprintf(w, "%s: %d processes, %.1f s of the processor, %.1f s of them in the kernel\n", key, p.starts, (p.user + p.system).Seconds(), p.system.Seconds())
	}
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err == nil {
		user, system := time.Duration(self.Utime.Nano()), time.Duration(self.Stime.Nano())
		fmt.Fprintf(w, "the suite itself: %.1f s of the processor, %.1f s of them in the kernel\n", (user + system).Seconds(), system.Seconds())
	}
	var sum scenarioSpent
	for _, s := range l.scenarios {
		sum.client, sum.logs, sum.stats, sum.asked = sum.client+s.client, sum.logs+s.logs, sum.stats+s.stats, sum.asked+s.asked
	}
	fmt.Fprintf(w, "%d scenarios, one after another: clients %.0f s, logs %.0f s, statistics %.0f s in %d questions\n", len(l.scenarios), sum.client.Seconds(), sum.logs.Seconds(), sum.stats.Seconds(), sum.asked)
	slices.SortFunc(l.scenarios, func(a, b scenarioSpent) int { return cmp.Compare(b.all(), a.all()) })
	for _, s := range l.scenarios[:min(len(l.scenarios), slowest)] {
		fmt.Fprintf(w, "%5.2f s %s: client %.2f, logs %.2f, statistics %.2f\n", s.all().Seconds(), s.name, s.client.Seconds(), s.logs.Seconds(), s.stats.Seconds())
	}
}

// slowest is how many scenarios are told of.
const slowest = 60
