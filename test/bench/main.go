// Command bench measures what malla costs on this machine, on real processes, and
// beside its peers in the same run; it prints one table and writes
// docs/benchmarks.md.
//
//	make bench                          everything, under 25 minutes
//	go run ./test/bench -only h1,h2     some parts; -help lists them, and -match for some of their works
//	go run ./test/bench -short          about a minute: tries the bench itself
//	make profile                        for the compiler: cmd/malla-proxy/default.pgo
//
// What the proxies do is one table, workloads in workload.go: the way through
// them, who can do it, what makes load, what is counted, and what is promised.
//
// What the project promises is a limit in the table; a number beyond it ends the
// program with exit code 1. Machines are noisy: candidates take turns, medians
// are told with their spread, and ratios within one run are what to keep.
//
// Everything runs on free ports of the loopback with configurations and state in
// temporary directories, and ends with the program, whatever ends it.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

func main() {
	if addr := os.Getenv(envProbe); addr != "" {
		probe(addr)
		return
	}
	if spec := os.Getenv(envHelper); spec != "" {
		os.Exit(beHelper(spec))
	}
	only := flag.String("only", strings.Join(partNames(), ","), "measure these `parts`, separated by commas")
	match := flag.String("match", "", "of parts with several, only works whose name matches this `pattern`")
	short := flag.Bool("short", false, "few and short rounds, to try the bench itself; docs/benchmarks.md stays as it is")
	profile := flag.String("profile", "", "measure nothing: malla-proxy alone works, and this `file` is what it tells the compiler of itself")
	flag.Parse()
	names := strings.Split(*only, ",")
	for _, n := range names {
		if !slices.Contains(partNames(), n) {
			fmt.Fprintf(os.Stderr, "bench: -only: found %q, want some of %s\n", n, strings.Join(partNames(), ","))
			os.Exit(2)
		}
	}
	matching, err := regexp.Compile(*match)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: -match: %v\n", err)
		os.Exit(2)
	}
	b := &bench{short: *short, match: matching, profile: *profile}
	os.Exit(b.main(names))
}

// ownParts measure whole meshes, and what happens inside of a proxy; after them come the parts of workloads.
var ownParts = []struct {
	name     string
	run      func(*bench)
	promises int
}{
	{"up", (*bench).up, 3},
	{"push", (*bench).push, 1},
	{"eject", (*bench).eject, 1},
}

// partNames in the order in which they run.
func partNames() (names []string) {
	for _, p := range ownParts {
		names = append(names, p.name)
	}
	for i := range workloads {
		if n := workloads[i].part; !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// promises is how many lines a report has when all parts ran.
func promises() (n int) {
	for _, p := range ownParts {
		n += p.promises
	}
	for i := range workloads {
		n += len(workloads[i].promises)
	}
	return n
}

// A bench collects the report and cleans up after itself. It is the [mesh.T] of
// the meshes that it starts.
type bench struct {
	short  bool
	match  *regexp.Regexp
	report report
	failed bool
	home   string // a directory that lives as long as the run
	built  string // malla-proxy

	profile  string   // see profile.go; empty: none is wanted
	profiles []string // that it is to be made of

	starting sync.Mutex // held while a mesh starts
	mu       sync.Mutex
	cleanups []func()
}

func (b *bench) main(names []string) int {
	b.onSignal()
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		b.Errorf("%v", err)
		return 1
	}
	b.home = dir
	defer os.RemoveAll(dir)
	b.report.machine = thisMachine()
	b.report.loadBefore = loadAverage()
	begin := time.Now()
	b.report.versions = map[string]string{}
	for _, p := range ownParts {
		if slices.Contains(names, p.name) {
			b.part(p.run)
		}
	}
	for i := range workloads {
		if w := &workloads[i]; slices.Contains(names, w.part) && b.match.MatchString(w.name) {
			b.part(func(b *bench) { b.work(w) })
		}
	}
	if b.profile != "" {
		return b.writeProfile()
	}
	b.report.loadAfter, b.report.took = loadAverage(), time.Since(begin)
	fmt.Println()
	b.report.print(os.Stdout)
	switch {
	case b.failed || b.short || !b.report.whole():
		b.Logf("docs/benchmarks.md stays as it is: it is written by whole runs")
	default:
		if err := b.report.write(mesh.Root(b) + "/docs/benchmarks.md"); err != nil {
			b.Errorf("%v", err)
		}
	}
	if b.failed || b.report.missed() {
		return 1
	}
	return 0
}

// onSignal cleans up when somebody ends the run early.
func (b *bench) onSignal() {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		b.Logf("interrupted; ending what runs")
		b.starting.Lock() // a mesh that is half there cannot be stopped by its name
		b.clean()
		os.RemoveAll(b.home)
		os.Exit(130)
	}()
}

// part runs one part; what it started ends with it.
func (b *bench) part(f func(*bench)) {
	defer b.clean()
	defer func() {
		if r := recover(); r != nil && r != any(left{}) {
			b.clean()
			panic(r)
		}
	}()
	f(b)
}

// rounds is how often something is measured, and how often in a short run.
func (b *bench) rounds(n, short int) int {
	if b.short {
		return short
	}
	return n
}

// left is how a part is left early.
type left struct{}

// Helper, Cleanup, Logf, Errorf and Fatalf implement mesh.T.
func (b *bench) Helper() {}

// Cleanup registers what clean calls, last first.
func (b *bench) Cleanup(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cleanups = append(b.cleanups, f)
}

// clean calls what Cleanup has registered, each function once.
func (b *bench) clean() {
	for {
		b.mu.Lock()
		n := len(b.cleanups)
		if n == 0 {
			b.mu.Unlock()
			return
		}
		f := b.cleanups[n-1]
		b.cleanups = b.cleanups[:n-1]
		b.mu.Unlock()
		f()
	}
}

// Logf tells how far the run is.
func (b *bench) Logf(format string, a ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", a...) }

// Errorf marks the run as failed.
func (b *bench) Errorf(format string, a ...any) {
	b.failed = true
	b.Logf(format, a...)
}

// Fatalf marks the run as failed and leaves the part.
func (b *bench) Fatalf(format string, a ...any) {
	b.Errorf(format, a...)
	panic(left{})
}

// need leaves the part because a program is missing, which is an error where
// everything has to be measured.
func (b *bench) need(what, forWhat string) {
	if os.Getenv("CI") == "true" {
		b.Fatalf("%s is missing; make tools installs it", what)
	}
	b.Logf("%s is missing, so %s is not measured; make tools installs it", what, forWhat)
	panic(left{})
}

// temp makes a directory that goes away with the part.
func (b *bench) temp() string {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		b.Fatalf("%v", err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
