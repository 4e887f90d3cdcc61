package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// A line of the report is a promise and what was measured of it.
type line struct {
	what     string
	value    float64
	must     float64 // the most that is allowed, or the least
	goal     float64 // what is aimed at; 0: nothing beyond must
	atLeast  bool    // more is better
	unit     string
	spread   string // least to largest value
	how      string
	measured bool
	noisy    bool // the machine did not allow a verdict
}

// keeps reports whether the value is as good as limit.
func (l line) keeps(limit float64) bool {
	if l.atLeast {
		return l.value >= limit
	}
	return l.value <= limit
}

// at is the line with another value.
func (l line) at(value float64) line { l.value = value; return l }

func (l line) missed() bool { return l.verdict() == "MISSED" }

func (l line) verdict() string {
	switch {
	case !l.measured:
		return "not measured"
	case l.noisy:
		return "noisy"
	case !l.keeps(l.must):
		return "MISSED"
	case l.goal != 0 && l.keeps(l.goal):
		return "goal"
	}
	return "ok"
}

// A report is all that a run has to say.
type report struct {
	lines                 []line
	table                 [][]string        // all contestants, without its heading
	versions              map[string]string // of contestants
	notes                 []string          // how the parts measured
	machine               machine
	loadBefore, loadAfter string
	took                  time.Duration
}

// add keeps a line and tells it at once.
func (r *report) add(l line) {
	r.lines = append(r.lines, l)
	fmt.Fprintf(os.Stderr, "bench: %s: %s\n", l.what, strings.Join(l.cells()[1:6], ", "))
}

func (r *report) missed() bool { return slices.ContainsFunc(r.lines, line.missed) }

// whole reports whether every promise was measured.
func (r *report) whole() bool {
	n := 0
	for _, l := range r.lines {
		if l.measured {
			n++
		}
	}
	return n == promises()
}

// line is what was measured of a promise.
func (c *contest) line(p promise) line {
	s := p.of(c)
	l := line{what: c.name + ": " + p.what, value: s.median(), must: p.must, goal: p.goal, atLeast: p.atLeast, unit: p.unit,
		spread: s.spread(), how: fmt.Sprintf("median of %d", len(s)), measured: len(s) > 0}
	if !l.measured {
		l.spread, l.how = "-", ""
	}
	l.noisy = p.noisy != nil && p.noisy(c)
	if p.between != nil && l.measured {
		least, most := p.between(c)
		l.spread, l.how = number(least)+" to "+number(most), fmt.Sprintf("%d rounds", len(c.of(malla, 0, cpu)))
		l.noisy = (l.noisy || p.noisy == nil) && l.at(least).keeps(p.must) != l.at(most).keeps(p.must)
	}
	return l
}

// contest adds what a workload promises and what everybody gave.
func (r *report) contest(c *contest) {
	for _, p := range c.promises {
		r.add(c.line(p))
	}
	for _, x := range c.list {
		r.table = append(r.table, x.row(c))
	}
	note := c.name + ": " + c.load.String() + ", " + c.passage()
	if c.per != "" {
		note += "; counted by the " + c.per
	}
	if c.paired || c.mirrored {
		note += "; the proxies have a processor of their own if there is one to spare"
	}
	if c.mirrored {
		note += "; both are clusters of one process, asked in turns"
	}
	if c.paired {
		note += "; a proxy has all its listeners in one process, and each turn of one with a filter stands beside a turn with the same requests to the one without"
	}
	if n := c.mostCopies(); n > 1 {
		note += fmt.Sprintf("; what costs little stands there %d times, and one costs that part of what all do", n)
	}
	r.notes = append(r.notes, note+".")
}

// mostCopies is how often filters stand in a row.
func (w *workload) mostCopies() (n int) {
	for _, s := range w.sizes {
		n = max(n, s.copies)
	}
	return n
}

// tableHeading is that of the rows of contestants.
var tableHeading = []string{"work", "proxy", "CPU us", "spread", "of Envoy's", "a second", "p50 ms", "p99 ms", "memory"}

func (x *contestant) row(c *contest) []string {
	or := func(s series) string {
		if len(s) == 0 {
			return "-"
		}
		return number(s.median())
	}
	name, memory := c.name, "-"
	if size := c.sizeName(x.size); size != "" {
		name += ", " + size
	}
	if len(x.got[idle]) > 0 {
		memory = fmt.Sprintf("%s MB idle, %s KB per connection, %s KB per TLS connection", or(x.got[idle]), or(x.got[perPlain]), or(x.got[perTLS]))
	}
	spent, of := x.got[cpu], "-"
	if x.name != direct {
		of = or(spent.over(c.of(envoy, x.size, cpu)))
	}
	spread := "-"
	if len(spent) > 0 {
		spread = spent.spread()
	}
	return []string{name, x.name, or(spent), spread, of, or(x.got[rate]), or(x.got[p50]), or(x.got[p99]), memory}
}

// passage tells what is spoken on the way, "h1 -> proxy -> h2".
func (w *workload) passage() string {
	say := func(e end) string {
		s := map[string]string{"h1": "HTTP/1.1", "h2": "HTTP/2", "tcp": "TCP"}[e.Speaks]
		if e.TLS {
			s += " in mTLS"
		}
		return s
	}
	first, last := w.way[0], w.way[len(w.way)-1]
	s := say(first.in) + " in, "
	if first.next != "" {
		s += say(first.out) + " between, "
	}
	return s + say(last.out) + " out"
}

func (l line) cells() []string {
	limit := func(v float64) string {
		sign := "<= "
		if l.atLeast {
			sign = ">= "
		}
		if v == 0 {
			return "-"
		}
		return sign + number(v) + l.unit
	}
	value := "-"
	if l.measured {
		value = number(l.value) + l.unit
	}
	return []string{l.what, value, limit(l.must), limit(l.goal), l.verdict(), l.spread, l.how}
}

func (r *report) rows() [][]string {
	rows := [][]string{{"what", "value", "must", "goal", "verdict", "spread", "how"}}
	for _, l := range r.lines {
		rows = append(rows, l.cells())
	}
	return rows
}

// contestants are the rows of all, with their heading.
func (r *report) contestants() [][]string { return append([][]string{tableHeading}, r.table...) }

// programs tells the versions.
func (r *report) programs() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(r.versions)) {
		parts = append(parts, name+" "+r.versions[name])
	}
	return strings.Join(parts, ", ") + "."
}

// load tells how busy the machine was with others' work.
func (r *report) load() string {
	return fmt.Sprintf("Load average (1, 5, 15 minutes) %s before and %s after %v.", r.loadBefore, r.loadAfter, r.took.Round(time.Second))
}

// print writes the tables for a terminal.
func (r *report) print(w io.Writer) {
	tables := [][][]string{r.rows()}
	if len(r.table) > 0 {
		tables = append(tables, r.contestants())
	}
	for _, t := range tables {
		for _, l := range align(t) {
			fmt.Fprintln(w, l)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, r.machine)
	fmt.Fprintln(w, r.programs())
	fmt.Fprintln(w, r.load())
}

// besidePeers explains the table of contestants.
const besidePeers = `Medians of all rounds, one worker each, except where the work says otherwise. "CPU us" is the processor time of the proxy's
processes for one piece of work: a request, a round trip, a handshake, a megabyte. Client, proxy and backend are processes
of their own; "direct" is the backend without a proxy. malla-proxy and Envoy run with the same file, in which requests are
drawn for tracing (1 %) and there is no access log; malla-proxy counts Istio's metrics besides, which an Envoy from its
own project does not have. All HTTP proxies add x-request-id and x-forwarded-for.`

// text is the page of the handbook.
func (r *report) text() string {
	var t strings.Builder
	t.WriteString(`# Benchmarks

<!-- Written by go run ./test/bench. Do not edit. -->

What the project promises, and what this run measured. "must" is the worst that a value may be; a value beyond it makes
` + "`make bench`" + ` fail. "goal" is what the project aims at. Ratios are taken round by round; the value is their median, and the
spread goes from the least to the most. Where "how" tells only rounds, the spread is where the median lies with 95 of 100. Rounds
that leave open on which side of "must" a value lies are followed by more. "noisy" means that the machine was too restless for a
verdict all the same.

`)
	put := func(rows [][]string) {
		for _, l := range markdown(rows) {
			fmt.Fprintln(&t, l)
		}
		fmt.Fprintln(&t)
	}
	put(r.rows())
	if len(r.table) > 0 {
		t.WriteString("## Beside the peers\n\n" + besidePeers + "\n\n")
		put(r.contestants())
	}
	t.WriteString("## How it is measured\n\n")
	for _, n := range r.notes {
		fmt.Fprintf(&t, "- %s\n", n)
	}
	fmt.Fprintf(&t, `
## Machine

%s
%s
%s Proxies, load and backend share the processors, and machines are noisy: ratios of one run hold where
absolute numbers do not.

## Again

    make bench
    go run ./test/bench -only h1,h2   # some parts of `+strings.Join(partNames(), ", ")+`
    go run ./test/bench -only filters -match "TCP|decompressors"   # some works of a part
    go run ./test/bench -short        # tries the bench itself

It needs Linux, wrk, h2load, nghttpd and the real Envoy; nginx and HAProxy are measured if they are there, and without
nginx a backend in Go answers HTTP/1.1. `+"`make tools`"+` installs what is missing. An Envoy elsewhere is named by MALLA_ENVOY.
`, r.machine, r.programs(), r.load())
	return t.String()
}

func (r *report) write(path string) error { return os.WriteFile(path, []byte(r.text()), 0o644) }
