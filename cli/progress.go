package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A Progress shows what `up` waits for: one line for each pod. On a terminal the
// lines are drawn anew in place; elsewhere a line is printed when it changes.
// It is for one goroutine.
type Progress struct {
	out      io.Writer
	terminal bool
	start    time.Time
	lines    map[string]string // by name of the pod
	drawn    int               // lines on the screen below which the next draw starts
	size     func() (columns, rows int)
}

// NewProgress returns an empty display.
func NewProgress(out io.Writer, terminal bool, start time.Time) *Progress {
	return &Progress{out: out, terminal: terminal, start: start, lines: map[string]string{}, size: func() (int, int) { return terminalSize(out) }}
}

// Say prints a line above the pods.
func (p *Progress) Say(format string, args ...any) {
	p.wipe()
	fmt.Fprintf(p.out, format+"\n", args...)
	p.draw()
}

// Set shows the state of the pods, name to state.
func (p *Progress) Set(lines map[string]string) {
	if p.terminal {
		p.lines = lines
		p.wipe()
		p.draw()
		return
	}
	for _, name := range sorted(lines) {
		if p.lines[name] != lines[name] {
			fmt.Fprintf(p.out, "%6.1fs  %-52s %s\n", time.Since(p.start).Seconds(), name, lines[name])
		}
	}
	p.lines = lines
}

// Done leaves the last state on the screen.
func (p *Progress) Done() { p.drawn = 0; p.lines = map[string]string{} }

func (p *Progress) wipe() {
	if p.terminal && p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA\x1b[J", p.drawn)
		p.drawn = 0
	}
}

// draw shows the lines. None is longer than the terminal is wide, and there are no more than it is high: the next draw begins
// as many rows above, which only then are as many lines.
func (p *Progress) draw() {
	if !p.terminal {
		return
	}
	columns, rows := p.size()
	names := sorted(p.lines)
	more := 0
	if most := rows - 2; rows > 0 && len(names) > most { // what is ready already makes room
		slices.SortStableFunc(names, func(a, b string) int { return ready(p.lines[a]) - ready(p.lines[b]) })
		most = max(most, 1)
		more, names = len(names)-most, names[:most]
	}
	for _, name := range names {
		p.line(columns, fmt.Sprintf("  %-52s %s", name, p.lines[name]))
	}
	if more > 0 {
		p.line(columns, fmt.Sprintf("  and %d more", more))
	}
}

// line draws one line, cut if the terminal is narrower.
func (p *Progress) line(columns int, text string) {
	if r := []rune(text); columns > 4 && len(r) >= columns {
		text = string(r[:columns-4]) + "..."
	}
	fmt.Fprintln(p.out, text)
	p.drawn++
}

// ready is 1 for the state of a pod that is ready, which needs no watching.
func ready(state string) int {
	if strings.HasPrefix(state, "ready") {
		return 1
	}
	return 0
}

func sorted(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// A Link is a row of the table of URLs.
type Link struct {
	What, URL string
	Host      string // that a request must name to be served; "" if any will do
}

// Curl is the command that asks there.
func (l Link) Curl() string {
	scheme, rest, _ := strings.Cut(l.URL, "://")
	at, path, _ := strings.Cut(rest, "/")
	switch {
	case scheme == "https" && l.Host != "":
		i := strings.LastIndexByte(at, ':')
		return fmt.Sprintf("curl -ik --resolve %s:%s:%s https://%s:%s/%s", l.Host, at[i+1:], at[:i], l.Host, at[i+1:], path)
	case scheme == "tcp":
		return "curl -N telnet://" + rest
	case scheme == "https":
		return "curl -ik " + l.URL
	case l.Host != "":
		return "curl -i -H 'Host: " + l.Host + "' " + l.URL
	}
	return "curl -i " + l.URL
}

// A Summary is what there is to say when everything runs, or all of it that will.
type Summary struct {
	Pods     int      // that are ready
	NotReady []string // a line for each that is not
	Links    []Link
	Next     []string // commands to type
}

// Ready prints what people want to know when everything runs: what does not, where to
// look, and what to type next.
func Ready(out io.Writer, took time.Duration, s Summary) {
	if n := len(s.NotReady); n == 0 && s.Pods == 1 {
		fmt.Fprintf(out, "\n1 pod is ready after %.1f s.\n\n", took.Seconds())
	} else if n == 0 {
		fmt.Fprintf(out, "\n%d pods are ready after %.1f s.\n\n", s.Pods, took.Seconds())
	} else {
		fmt.Fprintf(out, "\n%d of %d pods are ready after %.1f s. Not ready:\n  %s\n\n", s.Pods, s.Pods+n, took.Seconds(), strings.Join(s.NotReady, "\n  "))
	}
	if len(s.Links) > 0 {
		Links(out, s.Links)
		fmt.Fprintln(out)
	}
	if len(s.Next) > 0 {
		fmt.Fprintln(out, "Next:")
		fmt.Fprintln(out, "  "+strings.Join(s.Next, "\n  "))
	}
}

// Links prints a table of what can be reached from this machine.
func Links(out io.Writer, links []Link) {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "WHAT\tURL")
	for _, l := range links {
		fmt.Fprintf(w, "%s\t%s\n", l.What, l.URL)
	}
	w.Flush()
}
