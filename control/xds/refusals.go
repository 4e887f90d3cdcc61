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
type refusals struct {
	list    []*Nack
	changes int // counts up with every change
}

// newest returns the last refusal that stands, nil if none does.
func (r *refusals) newest() *Nack {
	if len(r.list) == 0 {
		return nil
	}
	return r.list[len(r.list)-1]
}

// add notes a refusal, which takes the place of earlier ones of the same resources.
func (r *refusals) add(n *Nack) {
	r.drop(n.Names...)
	if r.changes++; len(r.list) == maxNacks {
		r.list = r.list[1:]
	}
	r.list = append(slices.Clip(r.list), n)
}

// drop forgets what was refused of the names.
func (r *refusals) drop(names ...string) {
	if len(r.list) == 0 {
		return
	}
	var left []*Nack
	for _, n := range r.list {
		over := func(name string) bool { return slices.Contains(names, name) }
		if !slices.ContainsFunc(n.Names, over) {
			left = append(left, n)
			continue
		}
		r.changes++
		less := *n
		less.Names = slices.DeleteFunc(slices.Clone(n.Names), over)
		less.Lacking = slices.DeleteFunc(slices.Clone(n.Lacking), over)
		less.Detail = without(n.Detail, n.Names, over)
		if len(less.Names) > 0 {
			left = append(left, &less)
		}
	}
	r.list = left
}

// clear forgets all of it.
func (r *refusals) clear() {
	if len(r.list) > 0 {
		r.list = nil
		r.changes++
	}
}

// without leaves the reasons of some names out of a text that has a line "name: reason" for each, as our own proxy's. Another text stays.
func without(detail string, names []string, over func(string) bool) string {
	var out strings.Builder
	dropped := false
	for line := range strings.Lines(detail) {
		if i := slices.IndexFunc(names, func(name string) bool { return strings.HasPrefix(line, name+": ") }); i >= 0 {
			dropped = over(names[i])
		}
		if !dropped {
			out.WriteString(line)
		}
	}
	return strings.TrimSuffix(out.String(), "\n")
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
