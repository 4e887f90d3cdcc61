package xds

import (
	"slices"
	"strings"
	"time"
)

// A Nack is a client's refusal of resources of one response. It stands until each of them is taken in another version, or is not wanted any more:
// that the client takes a later response, with others in it, says nothing of these.
type Nack struct {
	Type   string
	Names  []string // what is at fault: those that the reason names, or all of the response if it names none
	Detail string
	At     time.Time
	// Lacking are those of Names that the client has never taken in any version.
	Lacking []string `json:",omitempty"`
}

// maxNacks bounds how many refusals of one type are kept of a client.
const maxNacks = 16

// refusals are those that stand, oldest first. A resource is in one of them at most. Nacks never change: they are shared with who asks.
//
// A client may refuse all of the hundred thousand names that it may ask for, and then give them up one by one: what is dropped is only
// noted, and the list is put right when somebody looks.
type refusals struct {
	list    []*Nack // see standing
	of      map[string]*Nack
	stale   bool // something in list does not stand any more
	changes int  // counts up with every change
}

// standing are the refusals that stand, oldest first.
func (r *refusals) standing() []*Nack {
	if !r.stale {
		return r.list
	}
	r.stale = false
	var left []*Nack // not in place: the list may be with who asked
	for _, n := range r.list {
		over := func(name string) bool { return r.of[name] != n }
		if !slices.ContainsFunc(n.Names, over) {
			left = append(left, n)
			continue
		}
		less := *n
		less.Names = slices.DeleteFunc(slices.Clone(n.Names), over)
		less.Lacking = slices.DeleteFunc(slices.Clone(n.Lacking), over)
		less.Detail = without(n.Detail, n.Names, over)
		if len(less.Names) == 0 {
			continue
		}
		for _, name := range less.Names {
			r.of[name] = &less
		}
		left = append(left, &less)
	}
	r.list = left
	return left
}

// newest returns the last refusal that stands, nil if none does.
func (r *refusals) newest() *Nack {
	if list := r.standing(); len(list) > 0 {
		return list[len(list)-1]
	}
	return nil
}

// add notes a refusal, which takes the place of earlier ones of the same resources.
func (r *refusals) add(n *Nack) {
	r.drop(n.Names...)
	list := r.standing()
	if len(list) == maxNacks {
		for _, name := range list[0].Names {
			delete(r.of, name)
		}
		list = list[1:]
	}
	if r.of == nil {
		r.of = map[string]*Nack{}
	}
	for _, name := range n.Names {
		r.of[name] = n
	}
	r.list = append(slices.Clip(list), n)
	r.changes++
}

// drop forgets what was refused of the names.
func (r *refusals) drop(names ...string) {
	for _, name := range names {
		if r.of[name] != nil {
			delete(r.of, name)
			r.stale = true
			r.changes++
		}
	}
}

// clear forgets all of it.
func (r *refusals) clear() {
	if len(r.list) > 0 {
		*r = refusals{changes: r.changes + 1}
	}
}

// without leaves the reasons of some names out of a text that has a line "name: reason" for each, as our own proxy's. Another text stays.
func without(detail string, names []string, over func(string) bool) string {
	refused := make(map[string]bool, len(names))
	for _, name := range names {
		refused[name] = true
	}
	var out strings.Builder
	dropped := false
	for line := range strings.Lines(detail) {
		if name, ok := About(line, refused); ok {
			dropped = over(name)
		}
		if !dropped {
			out.WriteString(line)
		}
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// About returns the name that a line "name: reason" begins with, if it is one of names.
func About(line string, names map[string]bool) (string, bool) {
	for end := 0; ; end += len(": ") {
		i := strings.Index(line[end:], ": ")
		if i < 0 {
			return "", false
		}
		if end += i; names[line[:end]] {
			return line[:end], true
		}
	}
}

// mentions reports whether a text has a name in it, and not only as a part of another: http.80 is not in "http.8080: no".
func mentions(text, name string) bool {
	for from := 0; name != ""; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		i += from
		before, after := text[:i], text[i+len(name):]
		if !continues(before, len(before)-1) && !continues(after, 0) && !(len(after) > 1 && after[0] == '.' && continues(after, 1)) &&
			!(len(before) > 1 && before[len(before)-1] == '.' && continues(before, len(before)-2)) {
			return true
		}
		from = i + 1
	}
	return false
}

// continues reports whether the letter at i belongs to a name.
func continues(text string, i int) bool {
	if i < 0 || i >= len(text) {
		return false
	}
	c := text[i]
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '|' || c == '/'
}
