package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// terminalSize is how many columns and rows the terminal behind w has, 0 if there is none.
func terminalSize(w io.Writer) (columns, rows int) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0
	}
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return columns, rows
}

// wrapHelp has what flags do broken into lines that fit the terminal, or 80 columns where there is none.
func wrapHelp(root *cobra.Command, out io.Writer) {
	columns, _ := terminalSize(out)
	if columns < 40 {
		columns = 80
	}
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages |", fmt.Sprintf(".FlagUsagesWrapped %d |", columns)))
}

// wrapped breaks the lines of a text that are longer than width between words; each part is indented as its line.
func wrapped(text string, width int) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		part := indent
		for word := range strings.FieldsSeq(line) {
			if part != indent && utf8.RuneCountInString(part)+1+utf8.RuneCountInString(word) > width {
				out, part = append(out, part), indent
			}
			if part != indent {
				part += " "
			}
			part += word
		}
		if utf8.RuneCountInString(line) <= width {
			part = line
		}
		out = append(out, part)
	}
	return strings.Join(out, "\n")
}

// A fitter is the output of `get`: on a terminal it holds tables back until they are
// whole, and shortens what makes them wider than that. Into files and pipes, and with
// `-o wide`, everything goes as it is.
type fitter struct {
	io.Writer
	width int // 0: nothing is held back
	held  bytes.Buffer
}

func (f *fitter) Write(p []byte) (int, error) {
	if f.width == 0 {
		return f.Writer.Write(p)
	}
	return f.held.Write(p)
}

// flush writes what was held back.
func (f *fitter) flush() {
	width := f.width
	f.width = 0
	if width > 0 {
		_, _ = io.WriteString(f.Writer, fit(f.held.String(), width)) // as kubectl, which does not ask either
		f.held.Reset()
	}
}

// fitted lets the command, which prints tables, write to f.
func fitted(f *fitter, get *cobra.Command) *cobra.Command {
	run := get.Run
	get.Run = func(c *cobra.Command, args []string) {
		flag := func(name string) bool { v := c.Flag(name); return v != nil && v.Value.String() == "true" }
		if o := c.Flag("output"); o != nil && o.Value.String() == "" && !flag("watch") && !flag("watch-only") && !flag("no-headers") {
			f.width, _ = terminalSize(f.Writer)
		}
		defer f.flush() // also if the command ends by a panic, as kubectl's do
		run(c, args)
	}
	return get
}

// heading is a column's name; between two there are three blanks or more.
var heading = regexp.MustCompile(`\S+(?: {1,2}\S+)*`)

// fit shortens the cells of tables so that no line is longer than width, as far as that
// goes: names stay whole, since people type them, and no cell gets shorter than its
// heading or than leastCell.
func fit(text string, width int) string {
	var out []string
	for _, block := range strings.Split(text, "\n\n") {
		out = append(out, fitBlock(block, width))
	}
	return strings.Join(out, "\n\n")
}

// leastCell is the fewest characters of a cell that still say something.
const leastCell = 12

func fitBlock(block string, width int) string {
	lines := strings.Split(strings.TrimRight(block, "\n"), "\n")
	over := 0
	for _, l := range lines {
		over = max(over, utf8.RuneCountInString(strings.TrimRight(l, " "))-width)
	}
	places := heading.FindAllStringIndex(lines[0], -1)
	if over <= 0 || len(places) < 2 {
		return block
	}
	rows := make([][]string, len(lines))
	widths := make([]int, len(places))
	for i, l := range lines {
		rows[i] = cells(l, places)
		for j, c := range rows[i] {
			widths[j] = max(widths[j], utf8.RuneCountInString(c))
		}
	}
	total := 3 * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > width; total-- {
		widest := -1
		for j, w := range widths {
			head := rows[0][j]
			if head == "NAME" || head == "NAMESPACE" || w <= max(leastCell, utf8.RuneCountInString(head)) {
				continue
			}
			if widest < 0 || w > widths[widest] {
				widest = j
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	for i, row := range rows {
		var b strings.Builder
		for j, c := range row {
			r := []rune(c)
			if len(r) > widths[j] {
				r = slices.Concat(r[:widths[j]-3], []rune("..."))
			}
			b.WriteString(string(r))
			b.WriteString(strings.Repeat(" ", widths[j]-len(r)+3))
		}
		lines[i] = strings.TrimRight(b.String(), " ")
	}
	return strings.Join(lines, "\n") + block[len(strings.TrimRight(block, "\n")):]
}

// cells cuts a line where the columns' names begin.
func cells(line string, places [][]int) []string {
	r := []rune(line)
	out := make([]string, len(places))
	for j, p := range places {
		from, to := min(p[0], len(r)), len(r)
		if j+1 < len(places) {
			to = min(places[j+1][0], len(r))
		}
		out[j] = strings.TrimSpace(string(r[from:to]))
	}
	return out
}
