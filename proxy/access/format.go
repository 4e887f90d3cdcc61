package access

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/mallamesh/malla/base/logformat"
	"github.com/mallamesh/malla/proxy/cel"
)

// A Format turns records into text. It is made once, by [Compile], [CompileHeader],
// [CompileJSON] or [Named], and used by any number of shards.
type Format struct {
	parts []part
	json  *object // JSON formats have no parts
	blank bool    // nothing is written for what is missing, in place of "-"
	line  bool    // see [Format.Line]
	ends  int     // of lines, in its own text
}

// A part is text as it stands, or an operator.
type part struct {
	text []byte
	op   *op
}

// Named returns a format that has a name: "istio", "istio-1.8" or "envoy".
func Named(name string) (*Format, bool) {
	text, ok := logformat.Text(name)
	if !ok {
		return nil, false
	}
	f, err := Compile(text)
	if err != nil {
		panic("access: format " + name + ": " + err.Error()) // a test compiles them all
	}
	return f, true
}

// Compile compiles a text format. What a record does not have is written "-".
func Compile(text string) (*Format, error) {
	return CompileText(text, Options{})
}

// Options are how a format is to be written.
type Options struct {
	OmitEmpty   bool        // what is missing is left out; a key of JSON, too
	Expressions cel.Options // what %CEL% may do
}

// CompileText compiles a text format.
func CompileText(text string, o Options) (*Format, error) {
	parts, err := parse(text, o.Expressions)
	if err != nil {
		return nil, err
	}
	return &Format{parts: parts, blank: o.OmitEmpty}, nil
}

// CompileHeader compiles the value of a header operation, or a body: what a record does not have
// is left out.
func CompileHeader(text string) (*Format, error) {
	return CompileText(text, Options{OmitEmpty: true})
}

// Constant reports whether a format is the same text for every record, and that text.
func (f *Format) Constant() (string, bool) {
	switch {
	case f.json != nil:
		return "", false
	case len(f.parts) == 0:
		return "", true
	case len(f.parts) == 1 && f.parts[0].op == nil:
		return string(f.parts[0].text), true
	}
	return "", false
}

// Append appends one record to dst. Text formats bring their own line end, as
// Envoy's do; JSON lines end with one.
func (f *Format) Append(dst []byte, r *Record) []byte {
	if f.json != nil {
		return append(f.json.append(dst, r), '\n')
	}
	begin := len(dst)
	dst = f.appendText(dst, r, false)
	if f.line && bytes.Count(dst[begin:], lineEnd) > f.ends {
		dst = f.appendText(dst[:begin], r, true)
	}
	return dst
}

func (f *Format) appendText(dst []byte, r *Record, whole bool) []byte {
	for i := range f.parts {
		p := &f.parts[i]
		if p.op == nil {
			dst = append(dst, p.text...)
			continue
		}
		n := len(dst)
		var ok bool
		if dst, ok = p.op.append(dst, r); !ok && !f.blank {
			dst = append(dst[:n], '-')
		}
		if whole {
			dst = append(dst[:n], lineBreaks.Replace(string(dst[n:]))...)
		}
	}
	return dst
}

// Line returns the format as that of a log. A line break in a value (%QUERY_PARAM(q)% is decoded, and a certificate holds what its
// owner likes) is written as \n, so that nobody writes a line of his own. JSON needs no help.
func (f *Format) Line() *Format {
	out := *f
	out.line, out.ends = true, 0
	for _, p := range f.parts {
		out.ends += bytes.Count(p.text, lineEnd)
	}
	return &out
}

var (
	lineEnd    = []byte{'\n'}
	lineBreaks = strings.NewReplacer("\n", `\n`, "\r", `\r`)
)

// parse splits a format at its operators: %NAME%, %NAME(argument)%, %NAME(argument):length%;
// %% is a percent sign.
func parse(text string, o cel.Options) ([]part, error) {
	var parts []part
	var plain []byte
	flush := func() {
		if len(plain) > 0 {
			parts = append(parts, part{text: plain})
			plain = nil
		}
	}
	for i := 0; i < len(text); {
		if text[i] != '%' {
			plain = append(plain, text[i])
			i++
			continue
		}
		if strings.HasPrefix(text[i:], "%%") {
			plain = append(plain, '%')
			i += 2
			continue
		}
		c, n, err := parseCommand(text[i:])
		if err != nil {
			return nil, fmt.Errorf("position %d of the format: %w", i, err)
		}
		c.expressions = o
		compiled, err := c.compile()
		if err != nil {
			return nil, fmt.Errorf("position %d of the format: %w", i, err)
		}
		flush()
		parts = append(parts, part{op: compiled})
		i += n
	}
	flush()
	return parts, nil
}

// A command is an operator as it is written.
type command struct {
	name   string
	arg    string
	hasArg bool
	length int // -1: none

	expressions cel.Options
}

// parseCommand reads the operator at the start of s, and says how long it is. The argument ends at the
// first ")" that "%", or a length and "%", follows, so that it may hold both.
func parseCommand(s string) (command, int, error) {
	c := command{length: -1}
	i := 1
	for i < len(s) && (s[i] >= 'A' && s[i] <= 'Z' || s[i] >= '0' && s[i] <= '9' || s[i] == '_') {
		i++
	}
	if c.name = s[1:i]; c.name == "" {
		return c, 0, fmt.Errorf("%q begins no command operator, want %%NAME%% or %%%% for a percent sign", clip(s))
	}
	if i < len(s) && s[i] == '(' {
		c.hasArg = true
		for j := i + 1; ; j++ {
			if j >= len(s) {
				return c, 0, fmt.Errorf("%q has no end, want %%%s(...)%%", clip(s), c.name)
			}
			if s[j] != ')' {
				continue
			}
			if end, ok := commandEnd(s, j+1, &c); ok {
				c.arg = s[i+1 : j]
				return c, end, nil
			}
		}
	}
	if end, ok := commandEnd(s, i, &c); ok {
		return c, end, nil
	}
	return c, 0, fmt.Errorf("%q has no end, want %%%s%%", clip(s), c.name)
}

// commandEnd reads what closes an operator, "%" or ":length%", at i.
func commandEnd(s string, i int, c *command) (int, bool) {
	c.length = -1
	if i < len(s) && s[i] == ':' {
		n, j := 0, i+1
		for j < len(s) && s[j] >= '0' && s[j] <= '9' && n < 1<<20 {
			n = n*10 + int(s[j]-'0')
			j++
		}
		if j == i+1 {
			return 0, false
		}
		c.length, i = n, j
	}
	if i < len(s) && s[i] == '%' {
		return i + 1, true
	}
	return 0, false
}

func clip(s string) string {
	if len(s) > 30 {
		return s[:30] + "..."
	}
	return s
}
