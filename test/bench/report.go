package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// A line of the report is a promise and what was measured of it.
type line struct {
	what     string
	value    float64
	limit    float64 // the most that is allowed
	unit     string
	spread   string // least to largest value
	how      string
	measured bool
}

func (l line) missed() bool { return l.measured && l.value > l.limit }

func (l line) verdict() string {
	switch {
	case !l.measured:
		return "not measured"
	case l.value > l.limit:
		return "MISSED"
	}
	return "ok"
}

// A report is all that a run has to say.
type report struct {
	lines                 []line
	hops                  [][]string // the table of proxies, with its heading
	notes                 []string   // how the parts measured
	machine               machine
	loadBefore, loadAfter string
}

// add keeps a line and tells it at once.
func (r *report) add(l line) {
	r.lines = append(r.lines, l)
	fmt.Fprintf(os.Stderr, "bench: %s: %s\n", l.what, strings.Join(l.cells()[1:4], ", "))
}

func (r *report) missed() bool {
	for _, l := range r.lines {
		if l.missed() {
			return true
		}
	}
	return false
}

// promises is how many lines a report has when all parts ran.
const promises = 5

// whole reports whether every promise was measured.
func (r *report) whole() bool {
	n := 0
	for _, l := range r.lines {
		if l.measured {
			n++
		}
	}
	return n == promises
}

func (l line) cells() []string {
	value := "-"
	if l.measured {
		value = number(l.value) + l.unit
	}
	return []string{l.what, value, "<= " + number(l.limit) + l.unit, l.verdict(), l.spread, l.how}
}

func (r *report) rows() [][]string {
	rows := [][]string{{"what", "value", "must", "verdict", "spread", "how"}}
	for _, l := range r.lines {
		rows = append(rows, l.cells())
	}
	return rows
}

// load tells how busy the machine was with others' work.
func (r *report) load() string {
	return fmt.Sprintf("Load average (1, 5, 15 minutes) %s before and %s after.", r.loadBefore, r.loadAfter)
}

// print writes the tables for a terminal.
func (r *report) print(w io.Writer) {
	tables := [][][]string{r.rows()}
	if r.hops != nil {
		tables = append(tables, r.hops)
	}
	for _, t := range tables {
		for _, l := range align(t) {
			fmt.Fprintln(w, l)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, r.machine)
	fmt.Fprintln(w, r.load())
}

// text is the page of the handbook.
func (r *report) text() string {
	var t strings.Builder
	t.WriteString(`# Benchmarks

<!-- Written by go run ./test/bench. Do not edit. -->

What the project promises, and what this run measured. "must" is the most that a value may be; a value beyond it makes
` + "`make bench`" + ` fail.

`)
	put := func(rows [][]string) {
		for _, l := range markdown(rows) {
			fmt.Fprintln(&t, l)
		}
		fmt.Fprintln(&t)
	}
	put(r.rows())
	if r.hops != nil {
		t.WriteString("## One hop, beside the peers\n\n")
		put(r.hops)
	}
	t.WriteString("## How it is measured\n\n")
	for _, n := range r.notes {
		fmt.Fprintf(&t, "- %s\n", n)
	}
	fmt.Fprintf(&t, `
## Machine

%s
%s Proxies, load and backend share the processors, and machines are noisy: ratios of one run hold where
absolute numbers do not.

## Again

    make bench
    go run ./test/bench -only hop     # one part of up, push, hop
    go run ./test/bench -short        # tries the bench itself

It needs Linux, wrk and the real Envoy; nginx and HAProxy are measured if they are there, and without nginx a backend in
Go answers. `+"`make tools`"+` installs what is missing. An Envoy elsewhere is named by MALLA_ENVOY.
`, r.machine, r.load())
	return t.String()
}

func (r *report) write(path string) error { return os.WriteFile(path, []byte(r.text()), 0o644) }
