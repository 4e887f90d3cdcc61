package route

import (
	"bytes"
	"fmt"
	"regexp"
	"regexp/syntax"
	"runtime"
	"strings"
	"sync"
	"weak"

	"github.com/mallamesh/malla/base/regex"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/uri"
)

// A matcher is a compiled StringMatch.
type matcher struct {
	kind       StringKind
	value      string // lower case if fold
	bytes      []byte // the same, for Contains
	fold       bool
	start, end int64
	re         *regexp.Regexp
}

func newMatcher(m StringMatch) (matcher, error) {
	c := matcher{kind: m.Kind, value: m.Value, fold: m.IgnoreCase, start: m.Start, end: m.End}
	if m.Kind == Regex {
		return newRegex(m.Value)
	}
	if m.IgnoreCase {
		c.value = lower(m.Value)
	}
	c.bytes = []byte(c.value)
	return c, nil
}

// newRegex compiles an expression that must match the whole value. Expressions that are
// no more than text, perhaps with ".*" at an end, become what they mean: they are
// frequent, and comparing is ten times cheaper.
func newRegex(expr string) (matcher, error) {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return matcher{}, fmt.Errorf("regular expression %q: %w", expr, err)
	}
	if text, head, tail, ok := plain(tree.Simplify()); ok {
		switch {
		case head && tail:
			return matcher{kind: Contains, value: text, bytes: []byte(text)}, nil
		case head:
			return matcher{kind: Suffix, value: text}, nil
		case tail:
			return matcher{kind: Prefix, value: text}, nil
		}
		return matcher{kind: Exact, value: text}, nil
	}
	re, err := whole(expr)
	if err != nil {
		return matcher{}, fmt.Errorf("regular expression %q: %w", expr, err)
	}
	return matcher{kind: Regex, re: re}, nil
}

// programs are the expressions in use: a program is compiled once, however many routes
// and shards have it. The memory goes when nobody uses it.
var programs sync.Map // string -> weak.Pointer[regexp.Regexp]

// compile returns the program of an expression, which is RE2's syntax and runs in linear time; what it
// may cost is bounded.
func compile(expr string) (*regexp.Regexp, error) {
	if v, ok := programs.Load(expr); ok {
		if re := v.(weak.Pointer[regexp.Regexp]).Value(); re != nil {
			return re, nil
		}
	}
	re, err := regex.Compile(expr)
	if err != nil {
		return nil, err
	}
	w := weak.Make(re)
	programs.Store(expr, w)
	runtime.AddCleanup(re, func(expr string) { programs.CompareAndDelete(expr, w) }, expr)
	return re, nil
}

// whole is compile for an expression that must match a whole value.
func whole(expr string) (*regexp.Regexp, error) { return compile(`\A(?:` + expr + `)\z`) }

// literalPrefix is the text that everything which an expression matches begins with.
func literalPrefix(expr string) string {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return ""
	}
	for tree.Op == syntax.OpConcat || tree.Op == syntax.OpCapture {
		tree = tree.Sub[0]
	}
	if tree.Op != syntax.OpLiteral || tree.Flags&syntax.FoldCase != 0 {
		return ""
	}
	return string(tree.Rune)
}

// plain reports whether an expression is text with an optional ".*" before and after
// it. (That "." stops at a line end does not matter: no value has one.)
func plain(t *syntax.Regexp) (text string, head, tail, ok bool) {
	parts := []*syntax.Regexp{t}
	if t.Op == syntax.OpConcat {
		parts = t.Sub
	}
	if len(parts) > 1 && anything(parts[0]) {
		head, parts = true, parts[1:]
	}
	if n := len(parts); n > 0 && anything(parts[n-1]) {
		tail, parts = true, parts[:n-1]
	}
	switch {
	case len(parts) == 0 || len(parts) == 1 && parts[0].Op == syntax.OpEmptyMatch:
		return "", head, tail, true
	case len(parts) == 1 && parts[0].Op == syntax.OpLiteral && parts[0].Flags&syntax.FoldCase == 0:
		return string(parts[0].Rune), head, tail, true
	}
	return "", false, false, false
}

func anything(t *syntax.Regexp) bool {
	return t.Op == syntax.OpStar && (t.Sub[0].Op == syntax.OpAnyCharNotNL || t.Sub[0].Op == syntax.OpAnyChar)
}

func (m *matcher) match(v []byte) bool {
	switch m.kind {
	case Exact:
		return len(v) == len(m.value) && m.equal(v)
	case Prefix:
		return len(v) >= len(m.value) && m.equal(v[:len(m.value)])
	case Suffix:
		return len(v) >= len(m.value) && m.equal(v[len(v)-len(m.value):])
	case Contains:
		return m.contains(v)
	case Regex:
		return m.re.Match(v)
	case Present:
		return true
	case Range:
		n, ok := parseInt(v)
		return ok && n >= m.start && n < m.end
	}
	return false
}

// equal compares bytes of the length of the value.
func (m *matcher) equal(v []byte) bool {
	if !m.fold {
		return string(v) == m.value
	}
	for i := range v {
		if lowerByte(v[i]) != m.value[i] {
			return false
		}
	}
	return true
}

func (m *matcher) contains(v []byte) bool {
	if !m.fold {
		return bytes.Contains(v, m.bytes)
	}
	for len(v) >= len(m.value) {
		if m.equal(v[:len(m.value)]) {
			return true
		}
		v = v[1:]
	}
	return false
}

// parseInt reads a decimal number, with a sign and white space around it, as absl::SimpleAtoi does.
func parseInt(v []byte) (int64, bool) {
	v = bytes.TrimSpace(v)
	neg := false
	if len(v) > 0 && (v[0] == '-' || v[0] == '+') {
		neg, v = v[0] == '-', v[1:]
	}
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	n := int64(0)
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if neg {
		n = -n
	}
	return n, true
}

func lowerByte(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// lower folds ASCII letters only: what a host or path is compared by.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// A headerMatcher is a compiled HeaderMatch.
type headerMatcher struct {
	name    []byte
	token   header.Token
	m       matcher
	invert  bool
	missing bool // a missing field counts as empty
}

func newHeaderMatcher(h HeaderMatch) (headerMatcher, error) {
	m, err := newMatcher(h.StringMatch)
	if err != nil {
		return headerMatcher{}, fmt.Errorf("header %q: %w", h.Name, err)
	}
	if h.Name == "" {
		return headerMatcher{}, fmt.Errorf("a header matcher has no name")
	}
	return headerMatcher{
		name: []byte(lower(h.Name)), token: header.TokenOfString(h.Name),
		m: m, invert: h.Invert, missing: h.TreatMissingAsEmpty,
	}, nil
}

// match is Envoy's rule: a field that is missing satisfies no comparison, inverted or
// not, unless missing counts as empty; presence alone may be inverted. Of several fields of one name it is
// enough that one compares.
func (h *headerMatcher) match(r *Request) bool {
	v, more, ok := h.value(r)
	if h.m.kind == Present {
		return (ok || h.missing) != h.invert
	}
	if !ok && !h.missing {
		return false
	}
	return (h.m.match(v) || more > 0 && h.others(r, more)) != h.invert
}

// value returns the field's value, and if others of the same name may follow, where.
func (h *headerMatcher) value(r *Request) (v []byte, more int, ok bool) {
	if v, ok := r.pseudo(h.token); ok {
		return v, 0, v != nil
	}
	if r.Headers == nil || h.token != header.None && !r.Headers.Has(h.token) {
		return nil, 0, false
	}
	if h.token != header.None && !apart[h.token] {
		v, ok = r.joined(h.token)
		return v, 0, ok
	}
	fields := r.Headers.Fields()
	for i := range fields {
		if h.is(&fields[i]) {
			return fields[i].Value, i + 1, true
		}
	}
	return nil, 0, false
}

// pseudo returns a pseudo-header, and whether a token is that of one.
func (r *Request) pseudo(t header.Token) ([]byte, bool) {
	switch t {
	case header.Method:
		return r.Method, true
	case header.Scheme:
		return r.Scheme, true
	case header.Authority:
		return r.Authority, true
	case header.Path:
		return r.Path, true
	}
	return nil, false
}

func (h *headerMatcher) is(f *header.Field) bool {
	return f.Token == h.token && (h.token != header.None || string(f.Name) == string(h.name))
}

// others compares the fields of the name from one on.
func (h *headerMatcher) others(r *Request, from int) bool {
	fields := r.Headers.Fields()
	for i := from; i < len(fields); i++ {
		if h.is(&fields[i]) && h.m.match(fields[i].Value) {
			return true
		}
	}
	return false
}

// apart are fields that have a token here and that Envoy does not join when they come several times.
var apart = map[header.Token]bool{
	header.Cookie: true, header.SetCookie: true, header.AcceptLanguage: true, header.Referer: true, header.Baggage: true, header.B3: true,
	header.TraceParent: true, header.TraceState: true, header.XB3Flags: true, header.XB3ParentSpanID: true, header.XB3Sampled: true,
	header.XB3SpanID: true, header.XB3TraceID: true,
}

// joined returns the values of a token, several joined by commas; only then are they copied.
func (r *Request) joined(t header.Token) ([]byte, bool) {
	var first []byte
	n := 0
	fields := r.Headers.Fields()
	for i := range fields {
		f := &fields[i]
		if f.Token != t {
			continue
		}
		switch n++; n {
		case 1:
			first = f.Value
			continue
		case 2:
			r.scratch = append(r.scratch[:0], first...)
		}
		r.scratch = append(append(r.scratch, ','), f.Value...)
	}
	if n > 1 {
		return r.scratch, true
	}
	return first, n == 1
}

// A queryMatcher is a compiled QueryMatch.
type queryMatcher struct {
	name string
	m    matcher
}

// match looks at the first parameter of the name, as it is written: nothing is unescaped.
func (q *queryMatcher) match(query []byte) bool {
	if value, found := uri.Parameter(query, q.name); found {
		return q.m.match(value)
	}
	return q.m.kind == Absent
}
