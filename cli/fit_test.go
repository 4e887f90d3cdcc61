package cli

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
)

// aligned is a table as kubectl prints it.
func aligned(rows ...string) string {
	var b bytes.Buffer
	w := printers.GetNewTabWriter(&b)
	for _, r := range rows {
		_, _ = io.WriteString(w, strings.ReplaceAll(r, "|", "\t")+"\n")
	}
	w.Flush()
	return b.String()
}

// A table that is wider than the terminal loses letters of its longest cells; what people type next, names, stays whole.
func TestTablesFitATerminal(t *testing.T) {
	small := aligned("NAME|TYPE|AGE", "service/web|ClusterIP|5m")
	long := aligned("NAME|GATEWAYS|HOSTS|STATUS|AGE",
		"bad|||refused: rules.yaml:7: spec.hosts: none, want at least one host that can be called by clients|",
		`a-name-of-some-length-ä||["web"]|Accepted|5m`) + "\n" + small
	got := fit(long, 80)
	const want = `NAME                      GATEWAYS   HOSTS     STATUS                        AGE
bad                                            refused: rules.yaml:7: s...
a-name-of-some-length-ä              ["web"]   Accepted                      5m
`
	if got != want+"\n"+small {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for line := range strings.Lines(got) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d letters: %q", n, line)
		}
	}
	if fit(long, 200) != long || fit("", 80) != "" || fit("one line\n", 4) != "one line\n" {
		t.Error("what fits, or is no table, is changed")
	}
	name := strings.Repeat("n", 90)
	if got := fit(aligned("NAME|STATUS|AGE", name+"|ok|1s"), 80); !strings.Contains(got, name) {
		t.Errorf("a name is cut: %s", got)
	}
}

func TestHelpIsBrokenIntoLines(t *testing.T) {
	var out bytes.Buffer
	run(within(t), []string{"up", "--help"}, Roles{Up: func(context.Context, UpOptions) error { return nil }},
		genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out}, func(string) string { return "" })
	_, flags, found := strings.Cut(out.String(), "\nFlags:\n")
	if !found || !strings.Contains(flags, "--request-timeout") {
		t.Fatalf("no flags in %s", out.String())
	}
	for line := range strings.Lines(flags) {
		if len(line) > 81 {
			t.Errorf("%d letters: %s", len(line), line)
		}
	}
}

func TestLongTextsAreBrokenBetweenWords(t *testing.T) {
	const want = "a bc def\n\n  gh ij\n  klm\n  nopqrstuvwxyz\nx  y"
	if got := wrapped("a bc def\n\n  gh ij klm nopqrstuvwxyz\nx  y", 8); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
