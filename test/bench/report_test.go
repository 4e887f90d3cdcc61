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
		{"the limit itself is allowed", line{value: 5, must: 5, measured: true}, "ok"},
		{"beyond the limit", line{value: 5.01, must: 5, measured: true}, "MISSED"},
		{"what is aimed at", line{value: 4, must: 5, goal: 4, measured: true}, "goal"},
		{"between the goal and the limit", line{value: 4.5, must: 5, goal: 4, measured: true}, "ok"},
		{"more is better: the limit itself", line{value: 1.4, must: 1.4, goal: 1.7, atLeast: true, measured: true}, "ok"},
		{"more is better: less than the limit", line{value: 1.3, must: 1.4, goal: 1.7, atLeast: true, measured: true}, "MISSED"},
		{"more is better: what is aimed at", line{value: 2, must: 1.4, goal: 1.7, atLeast: true, measured: true}, "goal"},
		{"a restless machine allows no verdict", line{value: 9, must: 5, noisy: true, measured: true}, "noisy"},
		{"a peer is missing: neither kept nor broken", line{must: 0.6}, "not measured"},
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
		notes:    []string{"hop: by wrk."},
		versions: map[string]string{"nginx": "1.22.1", "Envoy": "1.40.0"},
		table:    [][]string{{"HTTP/1.1", "Envoy", "40.0"}},
	}
	r.lines = []line{{what: "memory", value: 612, must: 500, goal: 400, unit: " MB", measured: true, spread: "one value", how: "30 processes"}}
	var terminal strings.Builder
	r.print(&terminal)
	for name, text := range map[string]string{"page": r.text(), "terminal": terminal.String()} {
		for _, want := range []string{"memory", "612 MB", "<= 500 MB", "<= 400 MB", "MISSED", "CPU us", "40.0", "Envoy 1.40.0, nginx 1.22.1", "2 cores of Some CPU", "Linux 6.1", "0.10 0.20 0.30 before", "1.10 0.20 0.30 after"} {
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
