package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// A metric is something that is measured of a contestant, once a round.
type metric string

const (
	cpu      metric = "CPU"     // microseconds per piece of work
	without  metric = "without" // the same of the same requests, just before or after, without what a size has; see pairs
	rate     metric = "rate"
	p50      metric = "p50" // milliseconds
	p99      metric = "p99"
	idle     metric = "idle"     // MB
	perPlain metric = "perPlain" // KB
	perTLS   metric = "perTLS"
)

func (m metric) String() string { return string(m) }

// direct is the backend without a proxy.
const direct = "direct"

// A contestant does a workload in turns with the others.
type contestant struct {
	name, version string
	size          int  // of workload.sizes
	bare          bool // asks the first listener, whatever the size says
	ports         map[string]int
	start         func() *server
	server        *server
	dir           string // certificates
	got           map[metric]series
	profile       string // a file that is there after endProfile; see profile.go
	endProfile    func()
}

// A contest is a workload and all who do it.
type contest struct {
	*workload
	list   []*contestant
	behind *server // the backend
}

// get is a contestant by name and size, or nil.
func (c *contest) get(name string, size int) *contestant {
	if i := slices.IndexFunc(c.list, func(x *contestant) bool { return x.name == name && x.size == size }); i >= 0 {
		return c.list[i]
	}
	return nil
}

// of is what was measured of a contestant; nothing, if it was not there.
func (c *contest) of(name string, size int, m metric) series {
	if x := c.get(name, size); x != nil {
		return x.got[m]
	}
	return nil
}

// growth is how much dearer the second size is than the first, by round.
func (c *contest) growth(name string) series { return c.of(name, 1, cpu).over(c.of(name, 0, cpu)) }

// noisy reports that the machine did not stand still enough for latencies: those
// of the backend alone differ by more than 30 %.
func (c *contest) noisy() bool {
	d := c.of(direct, 0, p99)
	return len(d) > 1 && slices.Max(d)-slices.Min(d) > 0.3*d.median()
}

// work measures one workload and reports what it promises.
func (b *bench) work(w *workload) {
	c := &contest{workload: w}
	if b.profile == "" {
		defer func() { b.report.contest(c) }()
	}
	for _, tool := range []string{w.load.needs(), w.backend.needs()} {
		if tool != "" && find(tool) == "" {
			b.need(tool, w.name)
		}
	}
	begin := time.Now()
	defer func() { b.Logf("%s: took %v", w.name, time.Since(begin).Round(time.Second/10)) }()
	b.gather(c)
	b.Logf("%s: %d at it", w.name, len(c.list))
	if w.mirrored {
		b.mirror(c)
		return
	}
	if w.paired {
		b.pairs(c)
		return
	}
	defer b.endProfiles(c)
	rounds := b.rounds(cmp.Or(w.rounds, 5), 1)
	if b.profile != "" {
		rounds *= 3 // 100 samples a second are few
	}
	for round := 0; round < rounds; round++ {
		for i := range c.list {
			// Each round begins with another one, so that nobody always follows the same.
			x := c.list[(i+round)%len(c.list)]
			if x.server == nil {
				x.server = x.start()
			}
			x.warm(b, w, round)
			s := w.load.run(b, w, x, b.seconds(w))
			for m, v := range s {
				x.got[m] = append(x.got[m], v)
			}
			b.Logf("  %d/%d %-12s %-12s %s", round+1, rounds, x.name, w.sizeName(x.size), s)
			if w.fresh {
				x.server.stop()
				x.server = nil
			}
		}
		rounds = b.more(c, round, rounds)
	}
}

// more is how many rounds there are after all, once one is done: what they leave open at the last one is given two more, up to three
// times as many as at first.
func (b *bench) more(c *contest, round, rounds int) int {
	if first := cmp.Or(c.rounds, 5); round == rounds-1 && !b.short && rounds < 3*first && c.open() {
		return rounds + 2
	}
	return rounds
}

// open reports that the rounds so far leave open on which side of its limit a promised value lies.
func (c *contest) open() bool {
	return slices.ContainsFunc(c.promises, func(p promise) bool {
		s := p.of(c)
		if len(s) == 0 {
			return false
		}
		least, most := s.between()
		if p.between != nil {
			least, most = p.between(c)
		}
		l := line{must: p.must, atLeast: p.atLeast}
		return l.at(least).keeps(p.must) != l.at(most).keeps(p.must)
	})
}

func (w *workload) sizeName(i int) string {
	if len(w.sizes) == 0 {
		return ""
	}
	return w.sizes[i].name
}

// seconds is how long a round of w takes.
func (b *bench) seconds(w *workload) float64 {
	if b.short {
		return min(w.round, 0.4)
	}
	return w.round
}

// warm lets a contestant fill its pools before its first round.
func (x *contestant) warm(b *bench, w *workload, round int) {
	if round == 0 && !w.fresh && !b.short {
		w.load.run(b, w, x, 0.5)
	}
}

// gather prepares the backend and all contestants.
func (b *bench) gather(c *contest) {
	dir := b.temp()
	if err := os.Chmod(dir, 0o755); err != nil { // nginx' worker may be somebody else
		b.Fatalf("%v", err)
	}
	b.certificates(dir)
	behind, port := b.startBackend(c.backend, dir)
	c.behind = behind
	sizes := c.sizes
	if len(sizes) == 0 {
		sizes = []size{{}}
	}
	for _, p := range b.proxies() {
		if !b.able(p, c.workload) || b.profile != "" && p.name != malla {
			continue
		}
		for i := range sizes {
			c.list = append(c.list, b.contestant(p, c.workload, i, sizes[i], dir, port))
		}
	}
	first, last := c.way[0], c.way[len(c.way)-1]
	if first.in == last.out && len(sizes) == 1 && !c.fresh && b.profile == "" {
		c.list = append(c.list, &contestant{name: direct, ports: map[string]int{first.name: port}, server: behind, dir: dir, got: map[metric]series{}})
	}
}

func (b *bench) contestant(p proxy, w *workload, i int, s size, certificates string, backend int) *contestant {
	dir := filepath.Join(certificates, fmt.Sprintf("%s-%d", p.name, i))
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatalf("%v", err)
	}
	x := &contestant{name: p.name, version: versionOf(p.program), size: i, dir: certificates, ports: map[string]int{}, got: map[metric]series{}}
	if p.name == malla {
		x.version = b.report.machine.commit
	}
	b.report.versions[x.name] = x.version
	x.start = func() *server {
		cfg := b.configure(w.way, backend, dir, certificates)
		if b.profile != "" {
			cfg.Profile, cfg.Admin = filepath.Join(dir, "cpu.pprof"), mesh.FreePort(b)
		}
		cfg.Hosts, cfg.Prefixes, cfg.Regexes, cfg.Workers, cfg.IstioMetrics = s.hosts, s.prefixes, s.regexes, max(s.workers, 1), p.name == malla
		var ports []int
		for _, l := range cfg.Links {
			x.ports[l.Name] = l.Port
			ports = append(ports, l.Port)
		}
		s := b.start(ports, exec.Command(p.program, p.args(b.fill(p.config, cfg), cfg.Workers)...))
		if b.profile != "" {
			x.profile = cfg.Profile
			x.endProfile = b.beginProfile(cfg.Admin)
		}
		return s
	}
	return x
}

// A sample is what one round gave.
type sample map[metric]float64

func (s sample) String() string {
	var parts []string
	for _, m := range []struct {
		metric
		unit string
	}{{cpu, "us"}, {rate, "/s"}, {p50, "ms p50"}, {p99, "ms p99"}, {idle, "MB idle"}, {perPlain, "KB per connection"}, {perTLS, "KB per TLS connection"}} {
		if v, ok := s[m.metric]; ok {
			parts = append(parts, number(v)+" "+m.unit)
		}
	}
	return strings.Join(parts, "  ")
}

// spending runs f and returns the processor time that the contestant spent on
// each of the pieces of work that f counts.
func (x *contestant) spending(f func() (pieces float64, also sample)) sample {
	tree := x.server.tree()
	before, begin := burnt(tree), time.Now()
	pieces, s := f()
	took, used := time.Since(begin), burnt(tree)-before
	if s == nil {
		s = sample{}
	}
	s[cpu], s[rate] = float64(used)/1e3/pieces, pieces/took.Seconds()
	return s
}
