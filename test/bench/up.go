package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// Promises for two cores.
const (
	maxUp     = 5.0   // seconds
	maxMemory = 500.0 // MB
	maxIdle   = 3.0   // % of one core
)

const (
	pages = 200 // asked for before memory is looked at, so that every process has worked
	rest  = 5 * time.Second
	span  = 10 * time.Second
)

// up measures the start of bookinfo, and then what the last mesh of them costs
// while nobody uses it.
func (b *bench) up() {
	var times series
	var m *mesh.Mesh
	for n := b.rounds(3, 1); len(times) < n; {
		b.clean() // the mesh of the round before
		var took time.Duration
		m, took = b.firstPage()
		times = append(times, took.Seconds())
		b.Logf("up samples/bookinfo: first page after %.2f s", took.Seconds())
	}
	b.report.add(line{
		what: "up samples/bookinfo to the first 200", value: times.median(), must: maxUp, unit: " s", measured: true,
		spread: times.spread(), how: fmt.Sprintf("median of %d", len(times)),
	})
	b.report.notes = append(b.report.notes, "up: from the start of the built binary (`malla up --detach samples/bookinfo`) to the first 200 of "+
		"`GET /productpage`, asked again as soon as one request has failed or been refused.")
	b.idle(m)
}

// firstPage starts bookinfo and waits for its page.
func (b *bench) firstPage() (*mesh.Mesh, time.Duration) {
	m := mesh.New(b, mesh.Options{Name: "bench"})
	b.starting.Lock()
	started := make(chan struct{})
	begin := time.Now()
	go func() {
		defer close(started)
		defer b.starting.Unlock()
		m.Up = m.RunIn(time.Minute, "", "up", "--detach", "--publish", fmt.Sprintf("%d:80", m.Port(80)), mesh.Samples(b, "bookinfo"))
	}()
	c := mesh.Client(2 * time.Second)
	defer c.CloseIdleConnections()
	_, err := mesh.Wait(time.Minute, func() error { return page(c, m) })
	took := time.Since(begin)
	<-started
	if m.Up.Code != 0 {
		b.Fatalf("malla up: %s\n%s", m.Up, m.Log())
	}
	if err != nil {
		b.Fatalf("the first page: %v", err)
	}
	return m, took
}

func page(c *http.Client, m *mesh.Mesh) error {
	a, err := mesh.Get(c, m.URL("/productpage"))
	if err != nil {
		return err
	}
	return mesh.OK(a)
}

// idle measures memory and processor time of a mesh that nobody uses.
func (b *bench) idle(m *mesh.Mesh) {
	c := mesh.Client(5 * time.Second)
	for range pages {
		if err := page(c, m); err != nil {
			b.Fatalf("/productpage: %v", err)
		}
	}
	c.CloseIdleConnections()
	rest, span := rest, span
	if b.short {
		rest, span = time.Second, 3*time.Second
	}
	b.Logf("at rest for %v", rest)
	mesh.Pause(rest)
	tree := m.Tree()
	memory, err := mesh.PSS(tree)
	if err != nil {
		b.Fatalf("memory: %v", err)
	}
	b.report.add(line{
		what: "memory of all its processes (PSS)", value: float64(memory) / 1e6, must: maxMemory, unit: " MB", measured: true,
		spread: "one value", how: fmt.Sprintf("%d processes, after %d pages", len(tree), pages),
	})
	b.report.notes = append(b.report.notes, "memory: the sum of Pss in /proc/PID/smaps_rollup, "+inMegabytes(tree)+".")

	before, groups := spent(tree), byRole(tree)
	each := map[string]time.Duration{}
	for role, ps := range groups {
		each[role] = spent(ps)
	}
	begin := time.Now()
	mesh.Pause(span)
	took := time.Since(begin)
	tree = m.Tree()
	used := spent(tree) - before
	b.report.add(line{
		what: "idle processor time of all of them, of one core", value: 100 * used.Seconds() / took.Seconds(), must: maxIdle, unit: " %", measured: true,
		spread: "one value", how: fmt.Sprintf("over %v after %v of rest", span, rest),
	})
	var parts []string
	for _, r := range roles {
		if ps := byRole(tree)[r.name]; len(ps) > 0 {
			parts = append(parts, fmt.Sprintf("%s %d ms", r.name, (spent(ps)-each[r.name]).Milliseconds()))
		}
	}
	b.report.notes = append(b.report.notes, fmt.Sprintf("idle: from /proc/PID/stat in ticks of 10 ms, children that ended included; in %v: %s.", span, strings.Join(parts, ", ")))
}

// inMegabytes tells who holds the memory.
func inMegabytes(tree []mesh.Process) string {
	groups := byRole(tree)
	var parts []string
	for _, r := range roles {
		ps := groups[r.name]
		if len(ps) == 0 {
			continue
		}
		if bytes, err := mesh.PSS(ps); err == nil {
			parts = append(parts, fmt.Sprintf("%s %.0f MB (%d)", r.name, float64(bytes)/1e6, len(ps)))
		}
	}
	return strings.Join(parts, ", ")
}
