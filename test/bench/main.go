// Command bench prints what malla costs on this machine, beside its peers in the
// same run, and writes docs/benchmarks.md.
//
//	make bench                          everything
//	go run ./test/bench -only hop       one part
//	go run ./test/bench -quick -o ''    short, and writes nothing
//
// What the project promises is a limit in the table; a number beyond it ends the
// program with exit code 1. Machines are noisy: candidates take turns, medians are
// told, and ratios within one run are what to keep.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

func main() {
	if what := os.Getenv(envProbe); what != "" {
		probe(what)
		return
	}
	b := &bench{}
	only := flag.String("only", "up,idle,config,hop", "parts to run, comma separated")
	flag.BoolVar(&b.quick, "quick", false, "few and short rounds: for trying the bench itself")
	out := flag.String("o", "docs/benchmarks.md", "write the report to this file; empty: do not")
	flag.Parse()
	os.Exit(b.main(strings.Split(*only, ","), *out))
}

// A row of the report. A limit of 0 is no promise.
type row struct {
	what, got, limit string
	missed           bool
	note             string
}

// A bench collects rows, and cleans up after itself.
type bench struct {
	quick    bool
	rows     []row
	hops     []hop
	failed   bool
	cleanups []func()
}

// stopped is how Fatalf leaves the parts.
type stopped struct{}

// Helper and the following implement mesh.T.
func (b *bench) Helper()                      {}
func (b *bench) Cleanup(f func())             { b.cleanups = append(b.cleanups, f) }
func (b *bench) Logf(format string, a ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", a...) }
func (b *bench) Errorf(format string, a ...any) {
	b.failed = true
	b.Logf(format, a...)
}

// Fatalf ends the bench.
func (b *bench) Fatalf(format string, a ...any) {
	b.Errorf(format, a...)
	panic(stopped{})
}

func (b *bench) clean() {
	for _, f := range slices.Backward(b.cleanups) {
		f()
	}
	b.cleanups = nil
}

func (b *bench) main(parts []string, out string) (code int) {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		b.clean()
		os.Exit(130)
	}()
	for _, part := range parts {
		f, ok := map[string]func(*bench){"up": (*bench).up, "idle": (*bench).idle, "config": (*bench).config, "hop": (*bench).hop}[part]
		if !ok {
			b.Errorf("-only %s: want up, idle, config or hop", part)
			continue
		}
		b.part(f)
	}
	b.print(os.Stdout)
	if out != "" && !b.failed {
		if err := b.write(filepath.Join(mesh.Root(b), out)); err != nil {
			b.Errorf("%v", err)
		}
	}
	for _, r := range b.rows {
		if r.missed {
			b.Errorf("%s: %s, want %s", r.what, r.got, r.limit)
		}
	}
	if b.failed {
		return 1
	}
	return 0
}

// part runs one part; what it started ends with it.
func (b *bench) part(f func(*bench)) {
	defer b.clean()
	defer func() {
		if r := recover(); r != nil && r != any(stopped{}) {
			panic(r)
		}
	}()
	f(b)
}

// promise adds a row with an upper limit.
func (b *bench) promise(what string, got, limit float64, unit, note string) {
	r := row{what: what, got: number(got) + unit, note: note, missed: got > limit, limit: "at most " + number(limit) + unit}
	b.rows = append(b.rows, r)
	fmt.Fprintf(os.Stderr, "%-56s %12s   %s\n", r.what, r.got, r.limit)
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// median of numbers.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
