package scenario

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes turns the text of a section into what goes over the wire. Every line ends
// with CRLF, except for the last one if an empty line has come before it: a body
// has no line end of its own. Within lines, \r \n \t \0 \\ and \xNN stand for single
// bytes, {{repeat N text}} for N times the text, and a backslash at the end of a
// line joins it to the next.
func Bytes(text string) (string, error) {
	text, err := repeat(text)
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	var b strings.Builder
	empty := false
	for i, l := range lines {
		joined := strings.HasSuffix(l, `\`) && !strings.HasSuffix(l, `\\`)
		if joined {
			l = strings.TrimSuffix(l, `\`)
		}
		if err := unescape(&b, l); err != nil {
			return "", err
		}
		last := i == len(lines)-1
		if !joined && (!last || l == "" || !empty) {
			b.WriteString("\r\n")
		}
		empty = empty || l == ""
	}
	return b.String(), nil
}

func unescape(b *strings.Builder, l string) error {
	for {
		before, rest, found := strings.Cut(l, `\`)
		b.WriteString(before)
		if !found {
			return nil
		}
		if rest == "" {
			return fmt.Errorf(`found a single \ in %q, want \\`, l)
		}
		n := 1
		switch rest[0] {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if len(rest) < 3 {
				return fmt.Errorf(`found %q, want \xNN`, rest)
			}
			v, err := strconv.ParseUint(rest[1:3], 16, 8)
			if err != nil {
				return fmt.Errorf(`found \%s, want \xNN`, rest[:3])
			}
			b.WriteByte(byte(v))
			n = 3
		default:
			return fmt.Errorf(`found \%c, want one of \r \n \t \0 \\ \xNN`, rest[0])
		}
		l = rest[n:]
	}
}

// repeat replaces {{repeat N text}}. In the text, \N as on the wire.
func repeat(text string) (string, error) {
	for {
		before, rest, found := strings.Cut(text, "{{repeat ")
		if !found {
			return text, nil
		}
		what, after, found := strings.Cut(rest, "}}")
		count, piece, ok := strings.Cut(what, " ")
		n, err := strconv.Atoi(count)
		if !found || !ok || err != nil || n < 0 || n*len(piece) > 16<<20 {
			return "", fmt.Errorf("found {{repeat %s}}, want a number and a text of no more than 16 MB together", what)
		}
		text = before + strings.Repeat(piece, n) + after
	}
}

// Lines is Bytes for protocols that do not live on lines: line ends stay \n, and the
// last one does not count.
func Lines(text string) (string, error) {
	text, err := repeat(strings.TrimSuffix(text, "\n"))
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = unescape(&b, text)
	return b.String(), err
}
