package main

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// given is a contest that has been measured.
func given(w workload, list ...*contestant) *contest { return &contest{workload: &w, list: list} }

func TestWorkloadsHoldTogether(t *testing.T) {
	for _, w := range workloads {
		if w.part == "" || w.name == "" || w.per == "" && !w.fresh || len(w.promises) == 0 {
			t.Errorf("%q lacks a part, a name, what is counted, or a promise", w.name)
		}
		if !slices.Contains(w.peers, malla) || !slices.Contains(w.peers, envoy) {
			t.Errorf("%s: %v, want malla-proxy and Envoy among them", w.name, w.peers)
		}
		for _, l := range w.way {
			if slices.Contains(w.peers, nginx) && l.out.Speaks == "h2" {
				t.Errorf("%s: nginx does not speak HTTP/2 to backends", w.name)
			}
		}
		for _, p := range w.promises {
			if better := p.goal <= p.must; better == p.atLeast && p.goal != p.must {
				t.Errorf("%s: %s: the goal %v is easier than the limit %v", w.name, p.what, p.goal, p.must)
			}
			if s := p.of(given(w)); len(s) > 0 {
				t.Errorf("%s: %s: nobody took part and it was measured as %v", w.name, p.what, s)
			}
		}
		if h, ok := w.load.(helper); ok && helpers[h.kind].run == nil {
			t.Errorf("%s: %q is no helper", w.name, h.kind)
		}
	}
}

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	c := given(workload{},
		&contestant{name: malla, got: map[metric]series{cpu: {10, 30}, p99: {3, 5}}},
		&contestant{name: envoy, got: map[metric]series{cpu: {40, 60}, p99: {9, 9}}},
		&contestant{name: direct, got: map[metric]series{p99: {1, 1}}},
		&contestant{name: malla, size: 1, got: map[metric]series{cpu: {11, 33}}})
	for _, test := range []struct {
		p    promise
		want series
	}{
		{costOf(envoy, 1, 1), series{0.25, 0.5}},
		{perCPU(envoy, 1, 1), series{4, 2}},
		{added(p99, 1, 1), series{0.25, 0.5}},
		{growth(2, 1), series{1.1, 1.1}},
		{costOf(nginx, 1, 1), nil}, // it is not there
	} {
		if got := test.p.of(c); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.p.what, got, test.want)
		}
	}
}

func TestNoisyIsWhatTheBackendAloneSays(t *testing.T) {
	for _, test := range []struct {
		p99   series
		noisy bool
	}{
		{series{1, 1.1, 1.29}, false},
		{series{1, 1.1, 1.5}, true},
		{series{1}, false}, // one round tells nothing
	} {
		c := given(workload{}, &contestant{name: direct, got: map[metric]series{p99: test.p99}})
		if got := c.noisy(); got != test.noisy {
			t.Errorf("p99 of %v: noisy is %v, want %v", test.p99, got, test.noisy)
		}
	}
}

func TestMoreRoundsAreMeasuredWhereTheFirstContradictEachOther(t *testing.T) {
	for _, test := range []struct {
		p     promise
		malla series
		open  bool
	}{
		{costOf(envoy, 0.5, 0.4), series{38, 41, 42, 44, 49}, false},                                                                           // all keep it
		{costOf(envoy, 0.5, 0.4), series{38, 41, 42, 44, 53}, true},                                                                            // one does not
		{costOf(envoy, 0.5, 0.4), series{51, 52, 53, 54, 55}, false},                                                                           // none keeps it
		{costOf(envoy, 0.5, 0.4), series{38, 41, 42, 43, 43, 44, 44, 45, 45, 46, 46, 47, 48, 49, 53}, false},                                   // fourteen do
		{perCPU(envoy, 2, 2), series{38, 41, 42, 44, 53}, true},                                                                                // more is better
		{costOf(nginx, 0.5, 0.4), series{38, 53}, false},                                                                                       // it is not there
		{promise{must: 0.5, of: costOf(envoy, 0.5, 0.4).of, between: func(*contest) (float64, float64) { return 0.3, 0.7 }}, series{38}, true}, // knows it better
	} {
		hundred := series(slices.Repeat([]float64{100}, len(test.malla)))
		c := given(workload{promises: []promise{test.p}}, &contestant{name: malla, got: map[metric]series{cpu: test.malla}}, &contestant{name: envoy, got: map[metric]series{cpu: hundred}})
		if got := c.open(); got != test.open {
			t.Errorf("%s <= %v of %v: open is %v, want %v", test.p.what, test.p.must, test.malla, got, test.open)
		}
	}
}

// TestConfigurations fills every configuration that a workload needs.
func TestConfigurations(t *testing.T) {
	for _, w := range workloads {
		for _, name := range []string{"envoy.yaml", "nginx.conf", "haproxy.cfg"} {
			c := config{Dir: "D", Certificates: "C", Workers: 3, IstioMetrics: true, Hosts: 2, Prefixes: 2}
			for i, l := range w.way {
				c.Links = append(c.Links, configLink{Name: l.name, Port: 4000 + i, To: 5000 + i, In: configEnd{l.in, "C"}, Out: configEnd{l.out, "C"}})
			}
			var text strings.Builder
			if err := templates.ExecuteTemplate(&text, name, c); err != nil {
				t.Errorf("%s: %s: %v", w.name, name, err)
			}
			for _, want := range []string{"4000", "5000"} {
				if !strings.Contains(text.String(), want) {
					t.Errorf("%s: %s lacks the port %s:\n%s", w.name, name, want, text.String())
				}
			}
		}
	}
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	if err := writeCertificates(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := clientTLS(dir, "P-256"); err != nil {
		t.Error(err)
	}
	if _, err := clientTLS(dir, "P-255"); err == nil {
		t.Error("an unknown curve is accepted")
	}
}

func TestPercentile(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(i+1))
	}
	for _, test := range []struct {
		of   []float64
		p    int
		want float64
	}{{nil, 99, 0}, {[]float64{7}, 50, 7}, {hundred, 50, 50}, {hundred, 99, 99}} {
		if got := percentile(test.of, test.p); got != test.want {
			t.Errorf("p%d of %d values is %v, want %v", test.p, len(test.of), got, test.want)
		}
	}
}

func TestOwnProcessorTimeAndMemory(t *testing.T) {
	self := []mesh.Process{{PID: os.Getpid()}}
	if d := burnt(self); d <= 0 {
		t.Errorf("this process has spent %v", d)
	}
	if n, err := resident(self); err != nil || n < 1<<20 {
		t.Errorf("this process has %d bytes in RAM, %v", n, err)
	}
}

// What a filter costs is the difference to what is measured without it beside it, by how many of it there are; the share
// of what it costs Envoy is known as well as both are.
func TestCostOfAFilter(t *testing.T) {
	for _, test := range []struct {
		envoyWith          series
		share, least, most float64
		verdict            string
	}{
		{series{24, 24.4, 24.8}, 0.5, 0.4, 0.6, "goal"},
		{series{21, 21.4, 21.8}, 2, 1.6, 2.4, "MISSED"},
		{series{21, 22.4, 25.8}, 1, 0.32, 2.4, "noisy"},
		{series{20, 20.4, 20.8}, 0, 0, math.Inf(1), "noisy"}, // it costs Envoy nothing that can be seen
	} {
		c := given(workload{sizes: []size{{}, {copies: 2}}, promises: []promise{shareOf("f", 1)}},
			&contestant{name: malla, size: 1, got: map[metric]series{cpu: {3.6, 4, 4.6}, without: {2, 2, 2.2}}},
			&contestant{name: envoy, size: 1, got: map[metric]series{cpu: test.envoyWith, without: {20, 20.4, 20.8}}})
		near := func(a, b float64) bool { return a == b || math.Abs(a-b) < 0.01 }
		least, most := c.shareBetween(1)
		if s := c.share(1); len(s) != 1 || !near(s[0], test.share) || !near(least, test.least) || !near(most, test.most) {
			t.Errorf("Envoy with %v: share %v between %v and %v, want %v between %v and %v", test.envoyWith, s, least, most, test.share, test.least, test.most)
		}
		if l := c.line(c.promises[0]); l.verdict() != test.verdict {
			t.Errorf("Envoy with %v: want %s, found %v", test.envoyWith, test.verdict, l.cells())
		}
	}
}
