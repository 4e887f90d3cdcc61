package route

import (
	"bytes"
	"encoding/binary"

	"github.com/mallamesh/malla/proxy/header"
)

// A ScopeKey says which fields of a request make the key of its scope. It is built once and never changes.
type ScopeKey struct{ Fragments []ScopeFragment }

// A ScopeFragment is a part of a key: an element of a field's value.
type ScopeFragment struct {
	Header    string // lower case
	Separator []byte // of the value's elements; empty: there is one
	Index     int    // of the element that counts, unless
	Named     bool   // the element of this name counts:
	Name      []byte
	Equals    []byte // what stands between an element's name and its value
}

// Scopes are the route tables of a connection manager by the key of their scope. They never change.
type Scopes struct{ tables map[string]*Table }

// NewScopes returns scopes by keys that [AppendScope] has made. A table that has not come is nil.
func NewScopes(tables map[string]*Table) *Scopes { return &Scopes{tables} }

// Table returns the table of a request's scope, nil if there is none. dst is memory for the key.
func (s *Scopes) Table(k *ScopeKey, m *header.Map, dst []byte) *Table {
	if s == nil {
		return nil
	}
	key, ok := k.Append(dst, m)
	if !ok {
		return nil
	}
	return s.tables[string(key)]
}

// Append appends the key of a request's scope; ok is false if the request does not have all of it.
func (k *ScopeKey) Append(dst []byte, m *header.Map) (key []byte, ok bool) {
	for i := range k.Fragments {
		v, ok := k.Fragments[i].of(m)
		if !ok {
			return dst, false
		}
		dst = AppendScope(dst, v)
	}
	return dst, true
}

// AppendScope appends one fragment of a key.
func AppendScope(dst, fragment []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(fragment))), fragment...)
}

// of is the fragment's value in a request. Of a field that is there more than once the first counts.
func (f *ScopeFragment) of(m *header.Map) (value []byte, ok bool) {
	rest := m.LookupString(f.Header)
	if rest == nil {
		return nil, false
	}
	for i := 0; ; i++ {
		element, more := rest, false
		if len(f.Separator) > 0 {
			element, rest, more = bytes.Cut(rest, f.Separator)
		}
		if f.Named {
			if name, v, _ := bytes.Cut(element, f.Equals); bytes.Equal(name, f.Name) {
				return v, true
			}
		} else if i == f.Index {
			return element, true
		}
		if !more {
			return nil, false
		}
	}
}
