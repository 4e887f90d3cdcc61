package main

import (
	"regexp"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		why  string
		l    line
		want string
	}{
		{"the limit itself is allowed", line{value: 5, limit: 5, measured: true}, "ok"},
		{"beyond the limit", line{value: 5.01, limit: 5, measured: true}, "MISSED"},
		{"a peer is missing: neither kept nor broken", line{limit: 0.6}, "not measured"},
	} {
		if got := c.l.verdict(); got != c.want {
			t.Errorf("%s: %q, want %q", c.why, got, c.want)
		}
		r := report{lines: []line{{measured: true}, c.l}}
		if r.missed() != (c.want == "MISSED") {
			t.Errorf("%s: missed is %v", c.why, r.missed())
		}
	}
}

func TestReport(t *testing.T) {
	r := report{
		machine:    machine{cpu: "Some CPU", kernel: "6.1", commit: "abc", date: "2026-01-02", cores: 2},
		loadBefore: "0.10 0.20 0.30", loadAfter: "1.10 0.20 0.30",
		notes: []string{"hop: by wrk."},
		hops:  [][]string{{"proxy", "version"}, {"Envoy", "1.40.0"}},
	}
	r.lines = []line{{what: "memory", value: 612, limit: 500, unit: " MB", measured: true, spread: "one value", how: "30 processes"}}
	var terminal strings.Builder
	r.print(&terminal)
	for name, text := range map[string]string{"page": r.text(), "terminal": terminal.String()} {
		for _, want := range []string{"memory", "612 MB", "<= 500 MB", "MISSED", "Envoy", "1.40.0", "2 cores of Some CPU", "Linux 6.1", "0.10 0.20 0.30 before", "1.10 0.20 0.30 after"} {
			if !strings.Contains(text, want) {
				t.Errorf("the %s lacks %q:\n%s", name, want, text)
			}
		}
		if m := regexp.MustCompile(`(?m)(^|[ "'=])/(home|root|tmp|work|usr)\b`).FindString(text); m != "" {
			t.Errorf("the %s names a path of this machine: %q", name, m)
		}
	}
	if want := "- hop: by wrk.\n"; !strings.Contains(r.text(), want) {
		t.Errorf("the page does not say how it was measured:\n%s", r.text())
	}
}
