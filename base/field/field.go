// Package field names places inside a resource and the mistakes found there.
//
// A [Path] is a chain of steps that shares its parent; its text is built only
// when somebody reads it, so code may carry paths along for free. An [Error]
// tells the author of a resource what to change. Validation collects errors in
// a [List]: all of them, never only the first.
package field

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// A Path is a place in a resource, for example spec.http[2].route. The nil
// Path is the resource itself. Paths never change; Child and Index make new ones.
type Path struct {
	parent *Path
	name   string // of a field, or the key of a map entry
	index  int    // of a list element, when name is empty
}

// At returns the path of the named fields, outermost first.
func At(names ...string) *Path {
	var p *Path
	for _, n := range names {
		p = p.Child(n)
	}
	return p
}

// Child returns the path of the field called name.
func (p *Path) Child(name string) *Path { return &Path{parent: p, name: name} }

// Index returns the path of the list element i.
func (p *Path) Index(i int) *Path { return &Path{parent: p, index: i} }

// String returns the text people write: spec.http[2].route. A name that holds a
// dot or bracket is put in brackets: metadata.labels["app.kubernetes.io/name"].
func (p *Path) String() string {
	if p == nil {
		return ""
	}
	var b strings.Builder
	p.write(&b)
	return b.String()
}

func (p *Path) write(b *strings.Builder) {
	if p.parent != nil {
		p.parent.write(b)
	}
	switch {
	case p.name == "":
		b.WriteByte('[')
		b.WriteString(strconv.Itoa(p.index))
		b.WriteByte(']')
	case strings.ContainsAny(p.name, ".[]/ "):
		fmt.Fprintf(b, "[%q]", p.name)
	default:
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(p.name)
	}
}

// Names returns the path's steps, outermost first; a list element is "[]".
func (p *Path) Names() []string {
	if p == nil {
		return nil
	}
	if p.name == "" {
		return append(p.parent.Names(), "[]")
	}
	return append(p.parent.Names(), p.name)
}

// An Error tells the author of a resource what to change.
type Error struct {
	In   string // the resource: "VirtualService prod/reviews"
	At   *Path  // the field in it
	Code string // stable, for example MAL0107; may be empty
	Msg  string // what was found and what would be right
	Pos  string // where the resource was written: "reviews.yaml:12"; may be empty
	// Unknown says that the message has no such field: what was written can be read, and is refused.
	Unknown bool
}

// Error returns one line: position, resource, field, message and code.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Pos != "" {
		b.WriteString(e.Pos + ": ")
	}
	if e.In != "" {
		b.WriteString(e.In + ": ")
	}
	if at := e.At.String(); at != "" {
		b.WriteString(at + ": ")
	}
	b.WriteString(e.Msg)
	if e.Code != "" {
		b.WriteString(" (" + e.Code + ")")
	}
	return printable(b.String())
}

// printable spells out what a terminal would take for commands: names and paths are from documents of others, maybe fetched from anywhere.
func printable(text string) string {
	commands := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if !strings.ContainsFunc(text, commands) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if commands(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// A List collects errors. The zero List is empty.
type List []*Error

// Addf adds a mistake at the given place.
func (l *List) Addf(at *Path, format string, args ...any) {
	*l = append(*l, &Error{At: at, Msg: fmt.Sprintf(format, args...)})
}

// In sets the resource of every error that names none, and returns the list.
func (l List) In(resource string) List {
	for _, e := range l {
		if e.In == "" {
			e.In = resource
		}
	}
	return l
}

// Err returns the list as an error, nil if it is empty.
func (l List) Err() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// Error returns one line per error.
func (l List) Error() string {
	lines := make([]string, len(l))
	for i, e := range l {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}
