package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// print writes the tables for people.
func (b *bench) print(w io.Writer) {
	for _, line := range b.tables() {
		fmt.Fprintln(w, line)
	}
}

// tables are the report's tables in Markdown.
func (b *bench) tables() []string {
	lines := []string{"| what | measured | promise | how |", "| --- | --- | --- | --- |"}
	for _, r := range b.rows {
		mark := ""
		if r.missed {
			mark = " **missed**"
		}
		lines = append(lines, fmt.Sprintf("| %s | %s%s | %s | %s |", r.what, r.got, mark, r.limit, r.note))
	}
	if len(b.hops) == 0 {
		return lines
	}
	lines = append(lines, "", "One HTTP/1.1 hop, one worker each, 64 connections, a body of 44 bytes; the processor time is the proxy's own.", "",
		"| proxy | version | CPU per request | of Envoy's | requests/s | latency 50 % / 99 % | memory |", "| --- | --- | --- | --- | --- | --- | --- |")
	envoy := b.find("Envoy")
	for i := range b.hops {
		h := &b.hops[i]
		ratio := "-"
		if envoy != nil {
			ratio = fmt.Sprintf("%.2f", median(h.micros)/median(envoy.micros))
		}
		lines = append(lines, fmt.Sprintf("| %s | %s | %.1f us | %s | %.0f | %s | %.0f MB |", h.name, h.version, median(h.micros), ratio, median(h.rate), h.latency, h.resident))
	}
	return lines
}

// write makes the page of the handbook.
func (b *bench) write(path string) error {
	var text strings.Builder
	fmt.Fprintf(&text, `# Benchmarks

<!-- Written by go run ./test/bench. Do not edit. -->

What the project promises, and what this run measured. Peers run beside malla in the same minutes and take turns, so
ratios hold where absolute numbers are the machine's.

`)
	for _, l := range b.tables() {
		fmt.Fprintln(&text, l)
	}
	fmt.Fprintf(&text, `
## Machine

%s

## Again

    make bench

needs wrk and nginx (as load and backend) and the real Envoy; HAProxy is measured if it is there. %s installs
them. %s runs a part.
`, machine(), "`make tools`", "`go run ./test/bench -only up,idle,config,hop`")
	return os.WriteFile(path, []byte(text.String()), 0o644)
}

// machine describes where this runs.
func machine() string {
	cpu := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for _, l := range strings.Split(string(text), "\n") {
			if name, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel := ""
	if out, err := exec.Command("uname", "-r").Output(); err == nil {
		kernel = strings.TrimSpace(string(out))
	}
	load := ""
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = strings.Fields(string(text))[0]
	}
	commit := ""
	if out, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("%d processors (%s), Linux %s, %s; commit %s; %s; load average at the end %s.",
		runtime.NumCPU(), cpu, kernel, runtime.Version(), commit, time.Now().UTC().Format("2006-01-02"), load)
}
