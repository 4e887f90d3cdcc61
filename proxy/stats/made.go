package stats

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// The bounds of what scripts make. A name may hold what a client has sent.
const (
	maxMade     = 1000 // statistics of one set
	maxMadeName = 200  // bytes
)

// What is wrong with a name.
var (
	ErrMadeName = errors.New("the name of a statistic has 1 to 200 bytes, and no control characters")
	ErrMadeFull = errors.New("a filter has at most 1000 statistics of its own")
	ErrMadeKind = errors.New("there is a statistic of this name already, of another kind")
)

// Made holds the statistics that scripts make by naming them ("<prefix><name>"). A statistic is there from its first use, for as long as the set.
// What cannot be one of them is counted where nobody looks: a script, which may have a request to refuse behind that, does not end for it.
type Made struct {
	mu    sync.Mutex // of those who add
	known atomic.Pointer[map[string]*madeMetric]
	told  atomic.Bool
}

// A madeMetric is one of a counter, a gauge and a histogram.
type madeMetric struct {
	kind      metricKind
	counter   Counter
	gauge     Gauge
	histogram *Histogram // they are large
}

// Counter returns the counter of a name, and why it is none that is shown.
func (m *Made) Counter(name string) (*Counter, error) {
	v, err := m.find(name, kindCounter)
	return &v.counter, err
}

// Gauge returns the gauge of a name, and why it is none that is shown. It is one of Envoy's, which goes from 0 down to 2^64-1.
func (m *Made) Gauge(name string) (*Gauge, error) {
	v, err := m.find(name, kindGauge)
	return &v.gauge, err
}

// Histogram returns the histogram of a name, and why it is none that is shown.
func (m *Made) Histogram(name string) (*Histogram, error) {
	v, err := m.find(name, kindHistogram)
	return v.histogram, err
}

// First reports whether it is the first time that somebody asks.
func (m *Made) First() bool { return !m.told.Swap(true) }

func (m *Made) find(name string, kind metricKind) (*madeMetric, error) {
	// A dot at the end is no part of a name, as in Envoy: names are joined by dots.
	name = strings.TrimRight(name, ".")
	v := m.all()[name]
	var err error
	if v == nil {
		v, err = m.add(name, kind)
	}
	if err == nil && v.kind != kind {
		err = ErrMadeKind
	}
	if err != nil {
		v = &madeMetric{kind: kind}
		if kind == kindHistogram {
			v.histogram = new(Histogram)
		}
	}
	return v, err
}

func (m *Made) all() map[string]*madeMetric {
	if known := m.known.Load(); known != nil {
		return *known
	}
	return nil
}

func (m *Made) add(name string, kind metricKind) (*madeMetric, error) {
	if name == "" || len(name) > maxMadeName || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' }) {
		return nil, ErrMadeName
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.all()
	if v := old[name]; v != nil {
		return v, nil
	}
	if len(old) >= maxMade {
		return nil, ErrMadeFull
	}
	v := &madeMetric{kind: kind}
	if kind == kindHistogram {
		v.histogram = new(Histogram)
	}
	known := make(map[string]*madeMetric, len(old)+1)
	for k, v := range old {
		known[k] = v
	}
	known[strings.Clone(name)] = v
	m.known.Store(&known)
	return v, nil
}

// each calls f for every statistic, sorted.
func (m *Made) each(f func(name string, v *madeMetric)) {
	all := m.all()
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f(name, all[name])
	}
}

// collect appends what is shown of them.
func (m *Made) collect(numbers []sample, histograms []namedHistogram, prefix string, o *Options) ([]sample, []namedHistogram) {
	m.each(func(name string, v *madeMetric) {
		full := prefix + name
		switch v.kind {
		case kindCounter:
			if n := v.counter.Value(); o.wants(Counters) && o.shows(full, n != 0) {
				numbers = append(numbers, sample{name: full, n: int64(n), hash: true})
			}
		case kindGauge:
			if n := v.gauge.Value(); o.wants(Gauges) && o.shows(full, n != 0) {
				numbers = append(numbers, sample{name: full, n: n, hash: true})
			}
		case kindHistogram:
			if o.wants(Histograms) && o.shows(full, v.histogram.Count() > 0) {
				histograms = append(histograms, namedHistogram{full, v.histogram})
			}
		}
	})
	return numbers, histograms
}

// gather adds their series. Names that Prometheus would take for one are one series: the first of them.
func (m *Made) gather(s *Scope, families map[string]*family, labels string, o *Options) {
	seen := map[string]bool{}
	m.each(func(name string, v *madeMetric) {
		full, family := s.prefix+name, "envoy_"+sanitize(s.family+name)
		if seen[family] {
			return
		}
		seen[family] = true
		switch v.kind {
		case kindCounter:
			if n := v.counter.Value(); o.shows(full, n != 0) {
				add(families, family, "counter", row{labels: labels, n: int64(n), hash: true})
			}
		case kindGauge:
			if n := v.gauge.Value(); o.shows(full, n != 0) {
				add(families, family, "gauge", row{labels: labels, n: n, hash: true})
			}
		case kindHistogram:
			if o.shows(full, v.histogram.Count() > 0) {
				add(families, family, "histogram", row{labels: labels, h: v.histogram})
			}
		}
	})
}

// reset has the counters begin at 0 again.
func (m *Made) reset() {
	for _, v := range m.all() {
		v.counter.reset()
	}
}
