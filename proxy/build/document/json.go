package document

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// jsonNumber is the tag of a number as JSON writes it, which in JSON is one whatever its size.
const jsonNumber = "!number"

// parseJSON takes JSON apart. As in Envoy, text may be in single quotes and hold line breaks, a key may be a bare word, and
// a comma may stand behind the last element. An error comes with its line.
func parseJSON(in []byte) (root *yaml.Node, line int, err error) {
	p := &jsonParser{in: in, line: 1}
	root, err = p.value(0)
	if p.space(); err == nil && p.at < len(in) {
		err = p.unexpected("the end")
	}
	if err != nil {
		return nil, p.line, fmt.Errorf("is not JSON: %w", err)
	}
	return root, 0, nil
}

type jsonParser struct {
	in   []byte
	at   int
	line int
}

// space goes on to what is no white space, and returns it; 0 at the end.
func (p *jsonParser) space() byte {
	for ; p.at < len(p.in); p.at++ {
		switch c := p.in[p.at]; c {
		case '\n':
			p.line++
		case ' ', '\t', '\r':
		default:
			return c
		}
	}
	return 0
}

func (p *jsonParser) unexpected(want string) error {
	if p.at >= len(p.in) {
		return fmt.Errorf("found the end, want %s", want)
	}
	c, _ := utf8.DecodeRune(p.in[p.at:])
	return fmt.Errorf("found %q, want %s", c, want)
}

func (p *jsonParser) value(depth int) (*yaml.Node, error) {
	c := p.space()
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: p.line}
	if depth > maxDepth+1 {
		return nil, fmt.Errorf("is nested more than %d deep", maxDepth)
	}
	var err error
	switch {
	case c == '{':
		n.Kind = yaml.MappingNode
		return n, p.list('}', func() error { return p.entry(n, depth) })
	case c == '[':
		n.Kind = yaml.SequenceNode
		return n, p.list(']', func() error {
			v, err := p.value(depth + 1)
			n.Content = append(n.Content, v)
			return err
		})
	case c == '"' || c == '\'':
		n.Style = yaml.DoubleQuotedStyle
		n.Value, err = p.text()
		return n, err
	case c == '-' || c >= '0' && c <= '9':
		n.Tag = jsonNumber
		n.Value, err = p.number()
		return n, err
	}
	for _, word := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(p.in[p.at:], []byte(word)) {
			p.at += len(word)
			n.Value = word
			return n, nil
		}
	}
	return nil, p.unexpected("a value")
}

// list reads elements up to the closing bracket.
func (p *jsonParser) list(end byte, element func() error) error {
	p.at++
	for comma := true; p.space() != end; {
		if !comma {
			return p.unexpected(fmt.Sprintf("%q or %q", ',', end))
		}
		if err := element(); err != nil {
			return err
		}
		if comma = p.space() == ','; comma {
			p.at++
		}
	}
	p.at++
	return nil
}

func (p *jsonParser) entry(n *yaml.Node, depth int) (err error) {
	c := p.space()
	k := &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.DoubleQuotedStyle, Line: p.line}
	if c == '"' || c == '\'' {
		k.Value, err = p.text()
	} else {
		k.Value, err = p.word()
	}
	if err != nil {
		return err
	}
	if p.space() != ':' {
		return p.unexpected("':'")
	}
	p.at++
	v, err := p.value(depth + 1)
	n.Content = append(n.Content, k, v)
	return err
}

// word is a key without quotes.
func (p *jsonParser) word() (string, error) {
	begin := p.at
	for ; p.at < len(p.in); p.at++ {
		c := p.in[p.at]
		letter := c == '_' || c == '$' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (p.at == begin || c < '0' || c > '9') {
			break
		}
	}
	if p.at == begin {
		return "", p.unexpected("a key")
	}
	switch word := string(p.in[begin:p.at]); word {
	case "null", "true", "false":
		return "", fmt.Errorf("found %s, want a key", word)
	default:
		return word, nil
	}
}

// number reads what JSON's grammar has for one.
func (p *jsonParser) number() (string, error) {
	begin := p.at
	digits := func() (n int) {
		for ; p.at < len(p.in) && p.in[p.at] >= '0' && p.in[p.at] <= '9'; p.at++ {
			n++
		}
		return n
	}
	is := func(set string) bool {
		if p.at < len(p.in) && bytes.IndexByte([]byte(set), p.in[p.at]) >= 0 {
			p.at++
			return true
		}
		return false
	}
	is("-")
	if !is("0") && digits() == 0 {
		return "", p.unexpected("a digit")
	}
	if is(".") && digits() == 0 {
		return "", p.unexpected("a digit")
	}
	if is("eE") {
		is("+-")
		if digits() == 0 {
			return "", p.unexpected("a digit")
		}
	}
	if c := p.space(); c != 0 && c != ',' && c != ']' && c != '}' {
		return "", p.unexpected("the end of a number")
	}
	text := string(bytes.TrimRight(p.in[begin:p.at], " \t\r\n"))
	if v, err := strconv.ParseFloat(text, 64); err != nil || math.IsInf(v, 0) {
		return "", fmt.Errorf("found %s, which is too large", text)
	}
	return text, nil
}

// text reads what is in quotes.
func (p *jsonParser) text() (string, error) {
	quote := p.in[p.at]
	p.at++
	begin := p.at
	var out []byte
	for p.at < len(p.in) {
		switch c := p.in[p.at]; {
		case c == quote:
			out = append(out, p.in[begin:p.at]...)
			p.at++
			if !utf8.Valid(out) {
				return "", errors.New("found text that is not UTF-8")
			}
			return string(out), nil
		case c == '\\':
			out = append(out, p.in[begin:p.at]...)
			p.at++
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
			begin = p.at
			continue
		case c == '\n':
			p.line++
		}
		p.at++
	}
	return "", p.unexpected("the end of a text")
}

var escapes = map[byte]rune{'"': '"', '\'': '\'', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads what follows a backslash.
func (p *jsonParser) escape() (rune, error) {
	if p.at >= len(p.in) {
		return 0, p.unexpected("the rest of an escape")
	}
	c := p.in[p.at]
	if r, ok := escapes[c]; ok {
		p.at++
		return r, nil
	}
	if c != 'u' && c != 'U' {
		return 0, p.unexpected("one of \"'\\/bfnrtu behind a backslash")
	}
	r, err := p.unit()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if p.at+1 < len(p.in) && p.in[p.at] == '\\' && p.in[p.at+1] == 'u' {
		p.at++
		low, err := p.unit()
		if both := utf16.DecodeRune(r, low); err == nil && both != utf8.RuneError {
			return both, nil
		}
	}
	return 0, fmt.Errorf(`found half a character, \u%04x`, r)
}

// unit reads four digits of base 16 behind a letter.
func (p *jsonParser) unit() (rune, error) {
	if p.at++; p.at+4 > len(p.in) {
		return 0, errors.New(`found the end, want four digits behind \u`)
	}
	v, err := strconv.ParseUint(string(p.in[p.at:p.at+4]), 16, 16)
	if err != nil {
		return 0, fmt.Errorf(`found %q behind \u, want four digits of base 16`, p.in[p.at:p.at+4])
	}
	p.at += 4
	return rune(v), nil
}
