package route

import (
	"fmt"
	"regexp"
	"strings"
)

// A template is a compiled URI template of Envoy's: segments of text, "*" for one segment or a
// part of one, "**" for any number of them, and {name} or {name=pattern} for what a rewrite may use.
// Behind the last operator text may follow, as in /{path=**}.m3u8, and behind "**" segments of text.
type template struct {
	re     *regexp.Regexp
	prefix string   // text before the first operator
	names  []string // of the variables; the n-th is group n+1
}

// Envoy's limits.
const (
	maxTemplateVariables = 5
	maxTemplateName      = 16
)

// The characters of a segment, as RFC 3986 has them in a path.
const (
	oneSegment  = `[a-zA-Z0-9\-._~%!$&'()+,;:@=*]+`
	anySegments = `[a-zA-Z0-9\-._~%!$&'()+,;:@=*/]*`
)

func newTemplate(text string) (*template, error) {
	if text == "" || text[0] != '/' {
		return nil, fmt.Errorf("path template %q, want one that begins with /", text)
	}
	p := templateParser{rest: text}
	if err := p.parse(); err != nil {
		return nil, fmt.Errorf("path template %q: %w", text, err)
	}
	re, err := compile(`\A` + p.expr.String() + `\z`)
	if err != nil {
		return nil, fmt.Errorf("path template %q: %w", text, err)
	}
	return &template{re: re, prefix: p.prefix, names: p.names}, nil
}

// A templateParser makes an expression of a template.
type templateParser struct {
	rest   string
	expr   strings.Builder
	prefix string
	names  []string
	seen   bool // an operator
	last   bool // "**", behind which nothing but text may stand
}

func (p *templateParser) parse() error {
	for p.rest != "" {
		if p.rest[0] != '/' {
			return fmt.Errorf("found %q, want a segment that begins with /", p.rest)
		}
		p.text("/")
		p.rest = p.rest[1:]
		segment, _, _ := strings.Cut(p.rest, "/")
		if strings.HasPrefix(p.rest, "{") { // a variable's pattern may have slashes
			i := strings.IndexByte(p.rest, '}')
			if i < 0 {
				return fmt.Errorf("%q has no }", p.rest)
			}
			tail, _, _ := strings.Cut(p.rest[i:], "/")
			segment = p.rest[:i] + tail
		}
		if segment == "" && len(p.rest) > 0 {
			return fmt.Errorf("has an empty segment")
		}
		p.rest = p.rest[len(segment):]
		if err := p.segment(segment); err != nil {
			return err
		}
	}
	return nil
}

// segment reads one segment: text, or an operator with text behind it where the template ends.
func (p *templateParser) segment(s string) error {
	tail := s
	switch {
	case strings.HasPrefix(s, "**"), strings.HasPrefix(s, "*"):
		op := s[:1]
		if strings.HasPrefix(s, "**") {
			op = "**"
		}
		if err := p.operator(op); err != nil {
			return err
		}
		tail = s[len(op):]
	case strings.HasPrefix(s, "{"):
		i := strings.IndexByte(s, '}')
		if err := p.variable(s[1:i]); err != nil {
			return err
		}
		tail = s[i+1:]
	}
	if tail != s && tail != "" && p.rest != "" {
		return fmt.Errorf("has text behind the operator in %q, want it at the end of the template only", s)
	}
	if strings.ContainsAny(tail, "*{}") || !literal(tail) {
		return fmt.Errorf("%q is neither text of a path nor an operator", s)
	}
	p.text(tail)
	return nil
}

func (p *templateParser) text(s string) {
	p.expr.WriteString(regexp.QuoteMeta(s))
	if !p.seen {
		p.prefix += s
	}
}

func (p *templateParser) operator(op string) error {
	switch p.seen = true; {
	case p.last:
		return fmt.Errorf("found %s behind **, want text only", op)
	case op == "**":
		p.last = true
		p.expr.WriteString(anySegments)
	default:
		p.expr.WriteString(oneSegment)
	}
	return nil
}

// variable reads name or name=pattern; the pattern is segments of text and operators.
func (p *templateParser) variable(s string) error {
	name, pattern, has := strings.Cut(s, "=")
	if !has {
		pattern = "*"
	}
	if !variableName(name) {
		return fmt.Errorf("variable name %q, want a letter and then at most %d letters, digits and underscores", name, maxTemplateName-1)
	}
	for _, other := range p.names {
		if other == name {
			return fmt.Errorf("variable %s stands in it twice", name)
		}
	}
	if p.names = append(p.names, name); len(p.names) > maxTemplateVariables {
		return fmt.Errorf("has more than %d variables", maxTemplateVariables)
	}
	p.seen = true
	p.expr.WriteByte('(')
	for i, part := range strings.Split(pattern, "/") {
		if i > 0 {
			p.text("/")
		}
		switch {
		case part == "*" || part == "**":
			if err := p.operator(part); err != nil {
				return fmt.Errorf("variable %s: %w", name, err)
			}
		case part == "" || strings.ContainsAny(part, "*{}") || !literal(part):
			return fmt.Errorf("variable %s: pattern %q, want segments of text, * and **", name, pattern)
		default:
			p.text(part)
		}
	}
	p.expr.WriteByte(')')
	return nil
}

func variableName(s string) bool {
	if s == "" || len(s) > maxTemplateName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return true
}

// literal reports whether s may be part of a path.
func literal(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte("-._~%!$&'()+,;:@=", c) < 0 {
			return false
		}
	}
	return true
}

// A templateRewrite makes a path of the variables of a template.
type templateRewrite struct {
	re    *regexp.Regexp
	parts []subpart
}

func (t *template) newRewrite(text string) (*templateRewrite, error) {
	if text == "" || text[0] != '/' || strings.Contains(text, "//") {
		return nil, fmt.Errorf("path template rewrite %q, want one that begins with / and has no empty segment", text)
	}
	r := &templateRewrite{re: t.re}
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "{")
		if strings.ContainsAny(before, "}*") || !literal(strings.ReplaceAll(before, "/", "")) {
			return nil, fmt.Errorf("path template rewrite %q: %q is not text of a path", text, before)
		}
		if before != "" {
			r.parts = append(r.parts, subpart{before, -1})
		}
		if !found {
			break
		}
		name, tail, closed := strings.Cut(after, "}")
		group := -1
		for i, n := range t.names {
			if n == name {
				group = i + 1
			}
		}
		if !closed || group < 0 {
			return nil, fmt.Errorf("path template rewrite %q: {%s} is no variable of the match, want one of %v", text, name, t.names)
		}
		r.parts = append(r.parts, subpart{"", group})
		rest = tail
	}
	return r, nil
}

// replace appends the new path for one that the template has matched.
func (r *templateRewrite) replace(dst, path []byte) []byte {
	m := r.re.FindSubmatchIndex(path)
	if m == nil {
		return append(dst, path...)
	}
	return appendParts(dst, path, r.parts, m)
}
