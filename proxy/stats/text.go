package stats

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
)

// A sample is one number, or a text, under its full name.
type sample struct {
	name string
	n    int64
	text *Text // nil: a number
	hash bool  // which is n without a sign
}

// Options choose what /stats shows.
type Options struct {
	Filter   Filter  // nil: everything
	Invert   bool    // only what Filter does not match
	UsedOnly bool    // leave out what was never touched
	Only     Kinds   // 0: everything
	Buckets  Buckets // what is shown of histograms, in text and JSON
}

// A Filter says which names are shown, a regular expression or what bounds one.
type Filter interface {
	MatchString(string) bool
	Match([]byte) bool
}

// failed is why what the filter has said cannot be shown, nil if it can.
func (o *Options) failed() error {
	if f, ok := o.Filter.(interface{ Err() error }); ok {
		return f.Err()
	}
	return nil
}

// Buckets say what is shown of a histogram: Envoy's histogram_buckets.
type Buckets uint8

const (
	Summary    Buckets = iota // quantiles
	Cumulative                // how many values each bound is not below
	Disjoint                  // how many values each bucket has
)

// Kinds are kinds of statistics.
type Kinds uint8

// The kinds.
const (
	Counters Kinds = 1 << iota
	Gauges
	Histograms
	Texts
)

func (o *Options) wants(k Kinds) bool { return o.Only == 0 || o.Only&k != 0 }

func (o *Options) shows(name string, used bool) bool {
	return (used || !o.UsedOnly) && (o.Filter == nil || o.Filter.MatchString(name) != o.Invert)
}

// showsBytes is shows for a name that is not a string yet: most are left out, and would be garbage.
func (o *Options) showsBytes(name []byte, used bool) bool {
	return (used || !o.UsedOnly) && (o.Filter == nil || o.Filter.Match(name) != o.Invert)
}

// append writes the number, or the text in quotes.
func (s *sample) append(b []byte) []byte {
	if s.text != nil {
		return strconv.AppendQuote(b, s.text.Value())
	}
	return appendNumber(b, s.n, s.hash)
}

func appendNumber(b []byte, n int64, hash bool) []byte {
	if hash {
		return strconv.AppendUint(b, uint64(n), 10)
	}
	return strconv.AppendInt(b, n, 10)
}

// WriteText writes the form of Envoy's /stats: "name: value", sorted; texts before the rest and histograms after it. Like its siblings it writes
// nothing if the filter has an error.
func (r *Registry) WriteText(w io.Writer, o Options) error {
	numbers, histograms := r.collect(o)
	if err := o.failed(); err != nil {
		return err
	}
	var b []byte
	for _, s := range numbers {
		b = append(append(b, s.name...), ": "...)
		b = append(s.append(b), '\n')
	}
	for _, h := range histograms {
		b = append(append(b, h.name...), ": "...)
		if h.h.Count() == 0 {
			b = append(b, "No recorded values\n"...)
			continue
		}
		sep := ""
		for name, v := range h.shown(o.Buckets) {
			b = fmt.Appendf(b, "%s%s(nan,%v)", sep, name, v)
			sep = " "
		}
		b = append(b, '\n')
	}
	_, err := w.Write(b)
	return err
}

// WriteJSON writes Envoy's /stats?format=json.
func (r *Registry) WriteJSON(w io.Writer, o Options) error {
	numbers, histograms := r.collect(o)
	if err := o.failed(); err != nil {
		return err
	}
	b := []byte(`{"stats":[`)
	for i, s := range numbers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendQuote(append(b, `{"name":`...), s.name), `,"value":`...)
		b = append(s.append(b), '}')
	}
	if len(histograms) > 0 {
		if len(numbers) > 0 {
			b = append(b, ',')
		}
		b = appendJSONHistograms(b, histograms, o.Buckets)
	}
	_, err := w.Write(append(b, "]}"...))
	return err
}

// appendJSONHistograms has the shape that Envoy gives to what is shown. There are no intervals: each value is one since the start.
func appendJSONHistograms(b []byte, list []namedHistogram, what Buckets) []byte {
	values, end := `"values":[`, "]}"
	b = append(b, `{"histograms":`...)
	if what != Summary {
		b, values = append(b, '['), `"buckets":[`
	} else {
		b = append(b, `{"supported_quantiles":[`...)
		for i, q := range quantiles {
			if i > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendFloat(b, q, 'f', -1, 64)
		}
		b, end = append(b, `],"computed_quantiles":[`...), "]}}"
	}
	for i, h := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(strconv.AppendQuote(append(b, `{"name":`...), h.name), ','), values...)
		sep := ""
		for name, v := range h.shown(what) {
			b = append(append(b, sep...), '{')
			if what != Summary {
				b = append(append(append(b, `"upper_bound":`...), name[1:]...), ',')
			}
			b = append(b, `"interval":null,"cumulative":`...)
			if what == Summary && h.h.Count() == 0 {
				b = append(b, "null}"...)
			} else {
				b = append(strconv.AppendFloat(b, v, 'f', -1, 64), '}')
			}
			sep = ","
		}
		b = append(b, "]}"...)
	}
	return append(b, end...)
}

// shown are the values of a histogram with the names that the text form has for them: P50, a quantile in percent, or B100, a bound.
func (h namedHistogram) shown(what Buckets) iter.Seq2[string, float64] {
	return func(yield func(string, float64) bool) {
		if what == Summary {
			for _, q := range quantiles {
				if !yield(fmt.Sprintf("P%v", q), round(h.h.Quantile(q/100))) {
					return
				}
			}
			return
		}
		n := uint64(0)
		for i, bound := range bounds {
			if what == Disjoint {
				n = 0
			}
			n += h.h.counts[i].Load()
			if !yield(fmt.Sprintf("B%.6g", bound), float64(n)) {
				return
			}
		}
	}
}

// quantiles are those that Envoy prints, in percent.
var quantiles = [...]float64{0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100}

func round(v float64) float64 { return float64(int64(v*1000+0.5)) / 1000 }

type namedHistogram struct {
	name string
	h    *Histogram
}

// kinds are what Envoy calls our metrics.
var kinds = map[metricKind]Kinds{
	kindCounter: Counters, kindCodes: Counters, kindClassCodes: Counters, kindNamed: Counters,
	kindMade:  Counters | Gauges | Histograms,
	kindGauge: Gauges, kindHash: Gauges, kindHistogram: Histograms, kindText: Texts,
}

// collect reads everything, sorted by name.
func (r *Registry) collect(o Options) (numbers []sample, histograms []namedHistogram) {
	var name []byte
	var texts []sample
	for _, s := range r.scopes() {
		name = append(name[:0], s.prefix...)
		for i := range s.fields {
			m := &s.fields[i]
			if s.hidden(m) {
				continue
			}
			if !o.wants(kinds[m.kind]) {
				continue
			}
			name = append(name[:len(s.prefix)], m.name...)
			switch v := s.set.FieldByIndex(m.index).Addr().Interface().(type) {
			case *Counter:
				if n := int64(v.Value()); (n != 0 || !m.late) && o.showsBytes(name, n != 0) {
					numbers = append(numbers, sample{name: string(name), n: n})
				}
			case *Gauge:
				if n := v.Value(); (n != 0 || !m.late) && o.showsBytes(name, n != 0) {
					numbers = append(numbers, sample{name: string(name), n: n})
				}
			case *Hash:
				if n := v.Value(); o.showsBytes(name, n != 0) {
					numbers = append(numbers, sample{name: string(name), n: int64(n), hash: true})
				}
			case *Text:
				if o.showsBytes(name, v.Value() != "") {
					texts = append(texts, sample{name: string(name), text: v})
				}
			case *Histogram:
				if n := v.Count(); (n > 0 || !m.late) && o.showsBytes(name, n > 0) {
					histograms = append(histograms, namedHistogram{string(name), v})
				}
			case *ClassCodes:
				numbers = v.collect(numbers, string(name), &o, true)
			case *Codes:
				numbers = v.ClassCodes.collect(numbers, string(name), &o, false)
				v.each(func(code int, n uint64) {
					if full := string(name) + "_" + strconv.Itoa(code); o.shows(full, true) {
						numbers = append(numbers, sample{name: full, n: int64(n)})
					}
				})
			case *Made:
				numbers, histograms = v.collect(numbers, histograms, string(name), &o)
			case *Named:
				v.each(func(key string, n uint64) {
					if full := string(name) + "." + key; o.shows(full, true) {
						numbers = append(numbers, sample{name: full, n: int64(n)})
					}
				})
			}
		}
	}
	slices.SortFunc(numbers, func(a, b sample) int { return compareNames(a.name, b.name) })
	slices.SortFunc(histograms, func(a, b namedHistogram) int { return compareNames(a.name, b.name) })
	slices.SortFunc(texts, func(a, b sample) int { return compareNames(a.name, b.name) })
	return append(texts, numbers...), histograms // texts come first, as in Envoy
}

func compareNames(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// collect appends the classes. A connection manager shows all five, a cluster those that it has seen.
func (c *ClassCodes) collect(list []sample, name string, o *Options, zeros bool) []sample {
	for i := range c.class {
		n := c.class[i].Value()
		full := name + "_" + strconv.Itoa(i+1) + "xx"
		if (n > 0 || zeros) && o.shows(full, n > 0) {
			list = append(list, sample{name: full, n: int64(n)})
		}
	}
	return list
}

func (c *Codes) each(f func(code int, n uint64)) {
	if t := c.codes.Load(); t != nil {
		for i, code := range t.codes {
			f(int(code), t.counters[i].Value())
		}
	}
}
