package document

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A kind is what stands somewhere.
type kind uint8

const (
	null kind = iota
	yesNo
	number
	text
	list
	object
)

// parseYAML takes YAML apart: its first document, nil if there is none. more is the line of the second, 0 if there is none.
func parseYAML(in []byte) (root *yaml.Node, more int, err error) {
	d := yaml.NewDecoder(bytes.NewReader(in))
	var first, second yaml.Node
	switch err := d.Decode(&first); {
	case errors.Is(err, io.EOF):
		return nil, 0, nil
	case err != nil:
		return nil, 0, err
	case len(first.Content) == 0 || kindOf(first.Content[0]) == null:
		return nil, 0, nil
	}
	if d.Decode(&second) == nil { // what it holds need not even parse
		more = second.Line
	}
	return first.Content[0], more, nil
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// yamlLine takes the line out of what the library says.
func yamlLine(err error) (line int, msg string) {
	parts := yamlError.FindStringSubmatch(err.Error())
	if parts == nil {
		return 0, err.Error()
	}
	line, _ = strconv.Atoi(parts[1])
	return line, "is not YAML: " + parts[2]
}

// kindOf says what stands at n.
func kindOf(n *yaml.Node) kind {
	switch n.Kind {
	case yaml.AliasNode:
		return kindOf(n.Alias)
	case yaml.SequenceNode:
		return list
	case yaml.MappingNode:
		return object
	}
	switch {
	case n.Tag == jsonNumber:
		return number
	case n.Style&^yaml.FlowStyle&^yaml.TaggedStyle != 0 && n.Style&yaml.TaggedStyle == 0:
		return text // in quotes, or a block
	case isNull(n):
		return null
	}
	if _, ok := yes(n.Value); ok {
		return yesNo
	}
	if v, ok := whole(n.Value); ok && v == int64(int32(v)) {
		return number
	}
	return text
}

// isNull: what a tag stands at is something.
func isNull(n *yaml.Node) bool {
	if n.Style&yaml.TaggedStyle != 0 {
		return false
	}
	switch n.Value {
	case "", "~", "null", "Null", "NULL":
		return true
	}
	return false
}

// textOf is what a number or text says. A whole number that is large is text, in decimal.
func textOf(n *yaml.Node) string {
	if n.Tag == jsonNumber || n.Style&^yaml.FlowStyle&^yaml.TaggedStyle != 0 && n.Style&yaml.TaggedStyle == 0 {
		return n.Value
	}
	if v, ok := whole(n.Value); ok {
		return strconv.FormatInt(v, 10)
	}
	return n.Value
}

// yes reads YAML 1.1's words for yes and no, in lower case, capitals, or with one capital.
func yes(s string) (value, ok bool) {
	if len(s) == 0 || len(s) > 5 {
		return false, false
	}
	lower := strings.ToLower(s)
	if s != lower && s != strings.ToUpper(s) && s != strings.ToUpper(s[:1])+lower[1:] {
		return false, false
	}
	switch lower {
	case "y", "yes", "true", "on":
		return true, true
	case "n", "no", "false", "off":
		return false, true
	}
	return false, false
}

// whole reads a whole number as C++ does: 0x is of base 16, and a 0 before other digits says base 8.
func whole(s string) (int64, bool) {
	digits := s
	if s != "" && (s[0] == '-' || s[0] == '+') {
		digits = s[1:]
	}
	digits = strings.TrimRight(digits, " \t\n\v\f\r") // a tag may stand at what is in quotes
	if digits == "" || digits[0] < '0' || digits[0] > '9' {
		return 0, false
	}
	base := 10
	switch {
	case len(digits) > 2 && (digits[1] == 'x' || digits[1] == 'X') && digits[0] == '0':
		base, digits = 16, digits[2:]
	case len(digits) > 1 && digits[0] == '0':
		base, digits = 8, digits[1:]
	}
	if strings.ContainsAny(digits, "+-_") {
		return 0, false
	}
	if s[0] == '-' {
		digits = "-" + digits
	}
	v, err := strconv.ParseInt(digits, base, 64)
	return v, err == nil
}
