// Package metadata is Envoy's metadata: values below names, each filter's or user's in a
// namespace of its own.
//
// Configuration gives routes, clusters and hosts theirs (a [Set], which never changes);
// filters give a request its own while it goes on ([Dynamic]). A request that
// no filter says anything about pays nothing.
//
// A value is what JSON knows: nil, bool, float64, string, []any or map[string]any.
// Values are shared and must not be changed in place; who wants another
// value puts a changed copy there ([Updated]).
package metadata

import "slices"

// LB is the namespace of what balancing looks at.
const LB = "envoy.lb"

// A Struct holds values by name.
type Struct = map[string]any

// A Kind says what metadata belongs to.
type Kind uint8

// The kinds of metadata that are configured.
const (
	Route Kind = iota
	VirtualHost
	Host     // that the request goes to
	Locality // that it is in
	Listener
	Chain // of the listener's filters
	Kinds = iota
)

// A Set is the metadata of something that is configured. It never changes; nil is empty.
type Set struct {
	spaces   map[string]Struct
	messages map[string]*Message
}

// NewSet makes a set of what is in each namespace. Messages stand beside the rest.
func NewSet(spaces map[string]Struct, messages map[string]*Message) *Set {
	return &Set{spaces, messages}
}

// Messages returns every namespace's message. It must not be written.
func (s *Set) Messages() map[string]*Message {
	if s == nil {
		return nil
	}
	return s.messages
}

// All returns every namespace. It must not be written.
func (s *Set) All() map[string]Struct {
	if s == nil {
		return nil
	}
	return s.spaces
}

// Space returns what is in a namespace, and whether there is such a namespace.
func (s *Set) Space(name string) (Struct, bool) {
	if s == nil {
		return nil, false
	}
	v, ok := s.spaces[name]
	return v, ok
}

// Dynamic is the metadata of a request or connection. The zero value is empty.
type Dynamic struct{ spaces []space }

type space struct {
	name   string
	fields Struct
	owned  bool // fields is ours alone, and may grow

	message *Message // in place of fields; a namespace of the same name that has fields is another one
}

func (s *space) is(name string) bool { return s.name == name && s.message == nil }

// Reset empties the metadata.
func (d *Dynamic) Reset() {
	clear(d.spaces)
	d.spaces = d.spaces[:0]
}

// Space returns what is in a namespace, and whether there is such a namespace. The result must not be changed.
func (d *Dynamic) Space(name string) (Struct, bool) {
	for i := range d.spaces {
		if d.spaces[i].is(name) {
			return d.spaces[i].fields, true
		}
	}
	return nil, false
}

// Spaces returns the names of all namespaces, in the order in which they came.
func (d *Dynamic) Spaces() []string {
	out := make([]string, 0, len(d.spaces))
	for i := range d.spaces {
		if d.spaces[i].message == nil {
			out = append(out, d.spaces[i].name)
		}
	}
	return out
}

// All returns what is in all namespaces now.
func (d *Dynamic) All() map[string]Struct {
	out := make(map[string]Struct, len(d.spaces))
	for i := range d.spaces {
		if d.spaces[i].message == nil {
			out[d.spaces[i].name] = d.spaces[i].fields
		}
	}
	return out
}

// Set gives one name of a namespace a value.
func (d *Dynamic) Set(namespace, name string, v any) {
	s := d.own(namespace, 1)
	s.fields[name] = v
}

// Inherit takes over what others have. Neither notices what is set in the other from then on.
func (d *Dynamic) Inherit(from *Dynamic) {
	for i := range from.spaces {
		if m := from.spaces[i].message; m != nil {
			d.PutMessage(from.spaces[i].name, m)
			continue
		}
		from.spaces[i].owned = false
		d.Merge(from.spaces[i].name, from.spaces[i].fields)
	}
}

// Merge gives names of a namespace values, in place of those that they have.
func (d *Dynamic) Merge(namespace string, values Struct) {
	i := slices.IndexFunc(d.spaces, func(s space) bool { return s.is(namespace) })
	if i < 0 {
		d.spaces = append(d.spaces, space{name: namespace, fields: values})
		return
	}
	s := d.own(namespace, len(values))
	for k, v := range values {
		s.fields[k] = v
	}
}

// Put has a namespace hold just these values.
func (d *Dynamic) Put(namespace string, values Struct) {
	for i := range d.spaces {
		if d.spaces[i].is(namespace) {
			d.spaces[i] = space{name: namespace, fields: values}
			return
		}
	}
	d.spaces = append(d.spaces, space{name: namespace, fields: values})
}

// own returns a namespace whose fields may be written.
func (d *Dynamic) own(namespace string, room int) *space {
	for i := range d.spaces {
		s := &d.spaces[i]
		if !s.is(namespace) {
			continue
		}
		if !s.owned {
			fields := make(Struct, len(s.fields)+room)
			for k, v := range s.fields {
				fields[k] = v
			}
			s.fields, s.owned = fields, true
		}
		return s
	}
	d.spaces = append(d.spaces, space{name: namespace, fields: make(Struct, room), owned: true})
	return &d.spaces[len(d.spaces)-1]
}

// Lookup returns the value at the end of a path of names below fields, and whether there is one. An empty path
// is fields themselves.
func Lookup(fields Struct, path []string) (any, bool) {
	if fields == nil {
		return nil, false
	}
	if len(path) == 0 {
		return fields, true
	}
	v, ok := fields[path[0]]
	for _, name := range path[1:] {
		m, isStruct := v.(Struct)
		if !ok || !isStruct {
			return nil, false
		}
		v, ok = m[name]
	}
	return v, ok
}

// Updated returns old with what is in with: structs are updated in turn, lists grow, everything else is
// replaced, as is what was of another kind. Neither argument changes.
func Updated(old, with Struct) Struct {
	out := make(Struct, len(old)+len(with))
	for k, v := range old {
		out[k] = v
	}
	for k, v := range with {
		switch v := v.(type) {
		case Struct:
			if was, ok := out[k].(Struct); ok {
				out[k] = Updated(was, v)
				continue
			}
		case []any:
			if was, ok := out[k].([]any); ok {
				out[k] = slices.Concat(was, v)
				continue
			}
		}
		out[k] = v
	}
	return out
}

// A Key is a place in metadata: a namespace, and a path of names in it.
type Key struct {
	Namespace string
	Path      []string
}

// Find returns what is there.
func (k *Key) Find(d *Dynamic) (any, bool) {
	fields, ok := d.Space(k.Namespace)
	if !ok {
		return nil, false
	}
	return Lookup(fields, k.Path)
}
