package main

import (
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

const (
	maxHop      = 0.6 // of Envoy's processor time
	connections = 64
)

// hop measures the processor time of one request through one proxy.
func (b *bench) hop() {
	l := line{what: "CPU per HTTP/1.1 request through one hop, of Envoy's", limit: maxHop, spread: "-"}
	defer func() { b.report.add(l) }()
	wrk := find("wrk")
	if wrk == "" {
		b.need("wrk", "the hop")
	}
	list := b.startHops()
	seconds := b.rounds(3, 1)
	for round := range b.rounds(5, 1) {
		b.Logf("hop: round %d of %d", round+1, b.rounds(5, 1))
		for i := range list {
			// Each round begins with another one, so that nobody always follows the same.
			b.load(wrk, list[(i+round)%len(list)], seconds)
		}
	}
	b.report.hops = hopTable(list)
	b.report.notes = append(b.report.notes, fmt.Sprintf("hop: `wrk -t1 -c%d`, %d rounds of %d s in turns after a second of warming up, plain HTTP/1.1, a body of %d bytes, one worker each, access logs off; "+
		"processor time of the proxy's processes from /proc/PID/stat. malla-proxy and Envoy run with the same file; all proxies add x-request-id and x-forwarded-for, and have the same backend. \"direct\" is that backend alone.",
		connections, b.rounds(5, 1), seconds, len(small)))
	malla, envoy := named(list, "malla-proxy"), named(list, "Envoy")
	if envoy == nil {
		b.need("the real Envoy", "its ratio")
	}
	l.value, l.measured = malla.micros.median()/envoy.micros.median(), true
	l.spread = malla.micros.over(envoy.micros).spread()
	l.how = fmt.Sprintf("%s us against %s us, medians of %d", number(malla.micros.median()), number(envoy.micros.median()), len(malla.micros))
}

func named(list []*hop, name string) *hop {
	if i := slices.IndexFunc(list, func(h *hop) bool { return h.name == name }); i >= 0 {
		return list[i]
	}
	return nil
}

// load makes one round of load on one candidate.
func (b *bench) load(wrk string, h *hop, seconds int) {
	run := func(seconds int) load {
		out, err := exec.Command(wrk, "-t1", fmt.Sprintf("-c%d", connections), fmt.Sprintf("-d%ds", seconds), "--latency",
			fmt.Sprintf("http://127.0.0.1:%d/", h.port)).CombinedOutput()
		if err != nil {
			b.Fatalf("wrk: %v\n%s", err, out)
		}
		l, err := parseWrk(string(out))
		if err != nil {
			b.Fatalf("%s: %v", h.name, err)
		}
		return l
	}
	if !b.short || len(h.micros) == 0 {
		run(1)
	}
	tree := below(h.pid, mesh.Processes())
	before := spent(tree)
	begin := time.Now()
	l := run(seconds)
	took := time.Since(begin)
	h.micros = append(h.micros, float64((spent(tree)-before).Microseconds())/float64(l.requests))
	h.rate = append(h.rate, float64(l.requests)/took.Seconds())
	h.p50, h.p99 = append(h.p50, l.p50), append(h.p99, l.p99)
	if pss, err := mesh.PSS(tree); err == nil {
		h.memory = append(h.memory, float64(pss)/1e6)
	}
	b.Logf("  %-12s %6.1f us  %7.0f requests/s", h.name, h.micros[len(h.micros)-1], h.rate[len(h.rate)-1])
}

// hopTable is the table of all candidates.
func hopTable(list []*hop) [][]string {
	rows := [][]string{{"proxy", "version", "CPU us per request", "spread", "of Envoy's", "requests/s", "p50 ms", "p99 ms", "memory MB"}}
	envoy := named(list, "Envoy")
	for _, h := range list {
		ratio := "-"
		if envoy != nil && !h.direct {
			ratio = number(h.micros.median() / envoy.micros.median())
		}
		rows = append(rows, []string{h.name, h.version, number(h.micros.median()), h.micros.spread(), ratio, number(h.rate.median()),
			number(h.p50.median()), number(h.p99.median()), number(h.memory.median())})
	}
	return rows
}
