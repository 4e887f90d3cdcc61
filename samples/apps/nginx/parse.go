package nginx

import (
	"fmt"
	"strings"
)

// A directive is one statement of a configuration: a name, words, and for some
// a block of further statements.
type directive struct {
	name  string
	args  []string
	block []directive // nil: it ends with a semicolon
	at    place
}

type place struct {
	file string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

func (p place) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: "+format, append([]any{p}, args...)...)
}

// maxDepth bounds nested blocks; http, server, location are three.
const maxDepth = 8

// parse reads a configuration file's text.
func parse(file, text string) ([]directive, error) {
	l := &lexer{text: text, at: place{file, 1}}
	list, _, err := l.block(0)
	return list, err
}

type lexer struct {
	text string
	at   place
}

// block reads statements until "}", or at depth 0 until the end of the text.
func (l *lexer) block(depth int) (list []directive, end bool, err error) {
	if depth > maxDepth {
		return nil, false, l.at.errorf("blocks are nested deeper than %d", maxDepth)
	}
	list = []directive{}
	for {
		word, kind, at, err := l.next()
		switch {
		case err != nil:
			return nil, false, err
		case kind == atEnd && depth == 0:
			return list, true, nil
		case kind == atEnd:
			return nil, false, at.errorf("the text ends inside a block, want \"}\"")
		case kind == closing && depth > 0:
			return list, false, nil
		case kind != isWord:
			return nil, false, at.errorf("found %q, want a directive", word)
		}
		d := directive{name: word, at: at}
		if err := l.rest(&d, depth); err != nil {
			return nil, false, err
		}
		list = append(list, d)
	}
}

// rest reads a directive's words and its block.
func (l *lexer) rest(d *directive, depth int) error {
	for {
		word, kind, at, err := l.next()
		if err != nil {
			return err
		}
		switch kind {
		case isWord:
			d.args = append(d.args, word)
		case semicolon:
			return nil
		case opening:
			d.block, _, err = l.block(depth + 1)
			return err
		default:
			return at.errorf("directive %q is not ended by \";\"", d.name)
		}
	}
}

type kind int

const (
	isWord kind = iota
	semicolon
	opening
	closing
	atEnd
)

// next returns the next word or mark and where it stands.
func (l *lexer) next() (string, kind, place, error) {
	l.space()
	at := l.at
	if l.text == "" {
		return "", atEnd, at, nil
	}
	switch c := l.text[0]; c {
	case ';', '{', '}':
		l.text = l.text[1:]
		return string(c), map[byte]kind{';': semicolon, '{': opening, '}': closing}[c], at, nil
	case '"', '\'':
		word, err := l.quoted(c)
		return word, isWord, at, err
	}
	word := l.bare()
	return word, isWord, at, nil
}

// space skips blanks and comments.
func (l *lexer) space() {
	for l.text != "" {
		switch l.text[0] {
		case '\n':
			l.at.line++
		case ' ', '\t', '\r':
		case '#':
			if i := strings.IndexByte(l.text, '\n'); i >= 0 {
				l.text = l.text[i:]
			} else {
				l.text = ""
			}
			continue
		default:
			return
		}
		l.text = l.text[1:]
	}
}

// bare reads a word without quotes. "${" in it opens no block.
func (l *lexer) bare() string {
	i := 0
	for i < len(l.text) && !strings.ContainsRune(" \t\r\n;{}", rune(l.text[i])) {
		switch {
		case l.text[i] == '\\' && i+1 < len(l.text):
			i++
		case strings.HasPrefix(l.text[i:], "${"):
			if end := strings.IndexByte(l.text[i:], '}'); end > 0 {
				i += end
			} else {
				i++
			}
		}
		i++
	}
	word := l.text[:i]
	l.at.line += strings.Count(word, "\n")
	l.text = l.text[i:]
	return word
}

// quoted reads a word in quotes; a backslash takes the next quote's meaning
// away, and \n, \r, \t are what they are everywhere.
func (l *lexer) quoted(quote byte) (string, error) {
	start := l.at
	var b strings.Builder
	for i := 1; i < len(l.text); i++ {
		switch c := l.text[i]; {
		case c == quote:
			l.text = l.text[i+1:]
			return b.String(), nil
		case c == '\\' && i+1 < len(l.text):
			i++
			switch e := l.text[i]; e {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case '"', '\'', '\\':
				b.WriteByte(e)
			default:
				b.WriteByte('\\')
				b.WriteByte(e)
			}
		default:
			if c == '\n' {
				l.at.line++
			}
			b.WriteByte(c)
		}
	}
	return "", start.errorf("a word in quotes is not ended")
}
