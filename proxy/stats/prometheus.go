package stats

import (
	"io"
	"slices"
	"strconv"
	"strings"
)

// A family is all series of one name in the Prometheus form.
type family struct {
	kind string // counter, gauge, histogram
	rows []row
}

type row struct {
	labels string // name="value",... without braces
	n      int64
	hash   bool // n has no sign
	h      *Histogram
}

// A Flush takes what was appended so far, if that is much, and returns the buffer to go on with: there may be
// many series, and what they are called is up to others. Nil takes nothing.
type Flush func([]byte) []byte

func (f Flush) take(b []byte) []byte {
	if f == nil {
		return b
	}
	return f(b)
}

// flushAt is how much text is collected before it is written.
const flushAt = 64 << 10

// WritePrometheus writes the text exposition format: names with "envoy_" in front, what
// varies as labels. Then come what the extra writers append, such as Istio's metrics.
func (r *Registry) WritePrometheus(w io.Writer, o Options, extra ...func([]byte, Flush) []byte) error {
	families := map[string]*family{}
	for _, s := range r.scopes() {
		s.gather(families, &o)
	}
	if err := o.failed(); err != nil {
		return err
	}
	names := make([]string, 0, len(families))
	for name := range families {
		names = append(names, name)
	}
	slices.Sort(names)
	var b []byte
	var err error
	flush := Flush(func(b []byte) []byte {
		if len(b) < flushAt && err == nil {
			return b
		}
		if err == nil {
			_, err = w.Write(b)
		}
		return b[:0]
	})
	for _, name := range names {
		b = families[name].append(b, name, flush)
	}
	for _, f := range extra {
		b = f(b, flush)
	}
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

func (f *family) append(b []byte, name string, flush Flush) []byte {
	b = append(append(append(append(append(b, "# TYPE "...), name...), ' '), f.kind...), '\n')
	for _, r := range f.rows {
		b = flush.take(b)
		if r.h != nil {
			b = appendHistogram(b, name, r.labels, r.h)
			continue
		}
		b = appendRow(b, name, "", r.labels, "")
		b = append(appendNumber(b, r.n, r.hash), '\n')
	}
	return b
}

// appendRow appends name and labels of one line, and the space after them.
func appendRow(b []byte, name, suffix, labels, more string) []byte {
	b = append(append(b, name...), suffix...)
	b = append(append(b, '{'), labels...)
	if more != "" {
		if labels != "" {
			b = append(b, ',')
		}
		b = append(b, more...)
	}
	return append(b, '}', ' ')
}

// bucketLabels are the "le" labels of the buckets.
var bucketLabels = func() (l [numBuckets]string) {
	for i, v := range bounds {
		l[i] = `le="` + strconv.FormatFloat(v, 'f', -1, 64) + `"`
	}
	l[numBuckets-1] = `le="+Inf"`
	return l
}()

func appendHistogram(b []byte, name, labels string, h *Histogram) []byte {
	sum, total := h.Sum(), uint64(0)
	for i := range h.counts {
		total += h.counts[i].Load()
		b = appendRow(b, name, "_bucket", labels, bucketLabels[i])
		b = append(strconv.AppendUint(b, total, 10), '\n')
	}
	b = append(strconv.AppendUint(appendRow(b, name, "_sum", labels, ""), sum, 10), '\n')
	return append(strconv.AppendUint(appendRow(b, name, "_count", labels, ""), total, 10), '\n')
}

const (
	tagCipher = "envoy.ssl_cipher"
	tagSuite  = "cipher_suite"
)

// gather adds the series of one set.
func (s *Scope) gather(families map[string]*family, o *Options) {
	labels := s.labels()
	for i := range s.fields {
		m := &s.fields[i]
		if s.hidden(m) {
			continue
		}
		full, name := s.prefix+m.name, "envoy_"+sanitize(s.family+m.name)
		switch v := s.set.FieldByIndex(m.index).Addr().Interface().(type) {
		case *Counter:
			if n := v.Value(); (n != 0 || !m.late) && o.shows(full, n != 0) {
				add(families, name, "counter", row{labels: labels, n: int64(n)})
			}
		case *Gauge:
			if n := v.Value(); (n != 0 || !m.late) && o.shows(full, n != 0) {
				add(families, name, "gauge", row{labels: labels, n: n})
			}
		case *Hash:
			if n := v.Value(); o.shows(full, n != 0) {
				add(families, name, "gauge", row{labels: labels, n: int64(n), hash: true})
			}
		case *Histogram:
			if n := v.Count(); (n > 0 || !m.late) && o.shows(full, n > 0) {
				add(families, name, "histogram", row{labels: labels, h: v})
			}
		case *ClassCodes:
			s.gatherClasses(families, v, full, name, labels, o, true)
		case *Codes:
			s.gatherClasses(families, &v.ClassCodes, full, name, labels, o, false)
			v.each(func(code int, n uint64) {
				if text := strconv.Itoa(code); o.shows(full+"_"+text, true) {
					add(families, name, "counter", row{labels: join(s.label(TagResponseCode, text), labels), n: int64(n)})
				}
			})
		case *Made:
			v.gather(s, families, labels, o)
		case *Named:
			v.each(func(key string, n uint64) {
				if o.shows(full+"."+key, true) {
					tag := m.tag
					if tag == tagCipher && strings.HasPrefix(s.prefix, "cluster.") {
						tag = tagSuite // so Envoy calls it there
					}
					add(families, name, "counter", row{labels: join(s.label(tag, key), labels), n: int64(n)})
				}
			})
		}
	}
}

func (s *Scope) gatherClasses(families map[string]*family, c *ClassCodes, full, name, labels string, o *Options, zeros bool) {
	for i := range c.class {
		n, digit := c.class[i].Value(), strconv.Itoa(i+1)
		if (n > 0 || zeros) && o.shows(full+"_"+digit+"xx", n > 0) {
			add(families, name+"_xx", "counter", row{labels: join(s.label(TagCodeClass, digit), labels), n: int64(n)})
		}
	}
}

func add(families map[string]*family, name, kind string, r row) {
	f := families[name]
	if f == nil {
		f = &family{kind: kind}
		families[name] = f
	}
	f.rows = append(f.rows, r)
}

func (s *Scope) labels() string {
	list := make([]string, len(s.tags))
	for i, t := range s.tags {
		list[i] = s.label(t.Name, t.Value)
	}
	return strings.Join(list, ",")
}

func (s *Scope) label(tag, value string) string {
	name, ok := s.registry.label[tag]
	if !ok {
		name = sanitize(tag)
	}
	return string(appendLabel(nil, name, value))
}

func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + "," + b
}

// appendLabel appends name="value" with the value escaped.
func appendLabel(b []byte, name, value string) []byte {
	b = append(append(b, name...), '=', '"')
	for i := 0; i < len(value); i++ {
		switch c := value[i]; c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// sanitize makes a name of Prometheus: anything but letters, digits, "_" and ":" becomes "_".
func sanitize(name string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == ':' {
			return c
		}
		return '_'
	}, name)
}
