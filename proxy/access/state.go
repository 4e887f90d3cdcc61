package access

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/proxy/header"
)

// A State is what filters say about a stream by name: Envoy's filter state, as far as its
// objects are text. It is used again for the next stream and then allocates nothing.
type State struct {
	list    []said
	values  []byte
	sharing bool // something is shared
}

type said struct {
	key    string
	end    int // of the value; it begins where the one before ends
	fixed  bool
	how    Sharing
	hashed bool
	live   Live
}

// A Live object is written as it is when somebody looks.
type Live interface {
	// AppendObject appends the object: as JSON, as text, or one of its fields; and reports whether it has that.
	AppendObject(dst []byte, form Form, field string) ([]byte, bool)
}

// A Form is how an object is written.
type Form uint8

// The forms.
const (
	AsJSON Form = iota
	AsText
	AsField
)

// A Sharing says whether connections to hosts know an object of the stream that they are made for.
type Sharing uint8

// The ways to share.
const (
	Unshared   Sharing = iota
	Once               // with the connection to the host
	Transitive         // and with those that are made for that one
)

// Reset empties the state and keeps its memory.
func (s *State) Reset() { s.list, s.values, s.sharing = s.list[:0], s.values[:0], false }

// Empty reports whether nothing was set.
func (s *State) Empty() bool { return len(s.list) == 0 }

// Inherit puts what another state has into this one, where it cannot be changed: as in Envoy, what is said of a
// connection is not for its requests to say otherwise.
func (s *State) Inherit(from *State) {
	at := len(s.list)
	s.Copy(from)
	for i := at; i < len(s.list); i++ {
		s.list[i].fixed = true
	}
}

// Copy puts what another state has into this one, where it can be changed as before.
func (s *State) Copy(from *State) {
	at, shift := len(s.list), len(s.values)
	s.list, s.values, s.sharing = append(s.list, from.list...), append(s.values, from.values...), s.sharing || from.sharing
	for i := at; i < len(s.list); i++ {
		s.list[i].end += shift
	}
}

func (s *State) find(key string) int {
	for i := len(s.list) - 1; i >= 0; i-- { // the last one that was set
		if s.list[i].key == key {
			return i
		}
	}
	return -1
}

func (s *State) value(i int) []byte {
	from := 0
	if i > 0 {
		from = s.list[i-1].end
	}
	return s.values[from:s.list[i].end:s.list[i].end]
}

// Get returns the value of a key. The bytes are valid until Reset.
func (s *State) Get(key string) ([]byte, bool) {
	if i := s.find(key); i >= 0 && s.list[i].live == nil {
		return s.value(i), true
	}
	return nil, false
}

// Text returns the text of a key's object, also of one that is written as it is now.
func (s *State) Text(key string) ([]byte, bool) {
	i := s.find(key)
	switch {
	case i < 0 || strings.HasSuffix(key, asJSON) || strings.Contains(key, asField): // the last two are ours, of another object
		return nil, false
	case s.list[i].live != nil:
		return s.list[i].live.AppendObject(nil, AsText, "")
	}
	return s.value(i), true
}

// hasFields reports whether a key's object has fields.
func (s *State) hasFields(key string) bool {
	if i := s.find(key); i >= 0 && s.list[i].live != nil {
		return true
	}
	for i := range s.list {
		if rest, ok := strings.CutPrefix(s.list[i].key, key); ok && strings.HasPrefix(rest, asField) {
			return true
		}
	}
	return false
}

// Field returns a field of a key's object.
func (s *State) Field(key, name string) ([]byte, bool) {
	if i := s.find(key); i >= 0 && s.list[i].live != nil {
		return s.list[i].live.AppendObject(nil, AsField, name)
	}
	for i := len(s.list) - 1; i >= 0; i-- { // without joining the key of each request's look
		if rest, ok := strings.CutPrefix(s.list[i].key, key); ok && s.list[i].live == nil {
			if field, ok := strings.CutPrefix(rest, asField); ok && field == name {
				return s.value(i), true
			}
		}
	}
	return nil, false
}

// SetLive gives a key an object that must live until Reset.
func (s *State) SetLive(key string, o Live) { s.set(said{key: key, live: o}, nil) }

// Set gives a key a value, which is copied, unless it has one that was fixed. It reports whether it did.
func (s *State) Set(key string, value []byte, fixed bool) bool {
	return s.set(said{key: key, fixed: fixed}, value)
}

// Share is Set for an object that connections to hosts know too. One that is hashed has connections that know it carry
// no other requests than such as say the same.
func (s *State) Share(key string, value []byte, how Sharing, hashed bool) bool {
	s.sharing = s.sharing || how != Unshared
	return s.set(said{key: key, how: how, hashed: hashed}, value)
}

func (s *State) set(o said, value []byte) bool {
	for i := range s.list {
		if s.list[i].key == o.key && s.list[i].fixed {
			return false
		}
	}
	s.values = append(s.values, value...)
	o.end = len(s.values)
	s.list = append(s.list, o)
	return true
}

// Shared returns what a connection to a host knows of a stream, nil if that is nothing.
func (s *State) Shared() *State {
	if !s.sharing {
		return nil
	}
	out := &State{}
	for i, o := range s.list {
		if o.how == Unshared || s.find(o.key) != i {
			continue
		}
		if o.how == Once {
			o.how = Unshared
		}
		o.fixed = false
		out.sharing = out.sharing || o.how != Unshared
		out.set(o, s.value(i))
	}
	return out
}

// SharedKey is the same for states of which connections to hosts know the same, as far as it is hashed.
func (s *State) SharedKey() string {
	if !s.sharing {
		return ""
	}
	var key []byte
	for i, o := range s.list {
		if o.how != Unshared && o.hashed && s.find(o.key) == i {
			key = append(strconv.AppendQuote(strconv.AppendQuote(key, o.key), string(s.value(i))), ' ')
		}
	}
	return string(key)
}

// SetHeaders gives a key an object that is a message of header fields: formats write it as JSON.
func (s *State) SetHeaders(key string, m *header.Map) {
	type field struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	var all struct {
		Headers []field `json:"headers"`
	}
	for i := range m.Len() {
		f := m.At(i)
		all.Headers = append(all.Headers, field{string(f.Name), string(f.Value)})
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic("access: header fields are no JSON: " + err.Error()) // they are strings
	}
	s.Set(key+asJSON, text, false)
}

// What formats ask of an object, behind its key.
const (
	asText  = ":PLAIN"
	asJSON  = ":TYPED"
	asField = ":FIELD:"
)

// An Object is how formats write a value that is more than a text: as text, as JSON, and each of its fields.
type Object struct {
	text, json string // keys
	fields     []string
}

// NewObject returns an object with a key and the names of its fields.
func NewObject(key string, fields ...string) *Object {
	o := &Object{text: key, json: key + asJSON}
	for _, f := range fields {
		o.fields = append(o.fields, key+asField+f)
	}
	return o
}

// Set gives the object its value.
func (o *Object) Set(s *State, text, json []byte, fields ...[]byte) {
	s.Set(o.text, text, false)
	s.Set(o.json, json, false)
	for i, f := range fields {
		s.Set(o.fields[i], f, false)
	}
}

// filterState compiles FILTER_STATE(key), FILTER_STATE(key:PLAIN) and FILTER_STATE(key:FIELD:name). Without either Envoy
// writes the object as JSON, which for text is a string in quotes.
func filterState(of func(*Record) *State) func(command) (*op, error) {
	return func(c command) (*op, error) {
		key, form := strings.TrimSuffix(c.arg, asJSON), AsJSON
		object, field, ok := strings.Cut(key, asField)
		switch {
		case ok:
			form = AsField
		case strings.HasSuffix(key, asText):
			key, form = strings.TrimSuffix(key, asText), AsText
			object = key
		}
		limit, message, quoted := c.length, key+asJSON, form == AsJSON
		return &op{text: key, write: func(o *op, dst []byte, r *Record) ([]byte, bool) {
			s, from := of(r), len(dst)
			if s == nil {
				return dst, false
			}
			if i := s.find(object); i >= 0 && s.list[i].live != nil {
				var ok bool
				if dst, ok = s.list[i].live.AppendObject(dst, form, field); !ok {
					return dst, false
				}
			} else if v, ok := s.Get(message); ok && quoted {
				dst = append(dst, v...)
			} else if v, ok := s.Get(o.text); ok && quoted {
				dst = strconv.AppendQuote(dst, string(v))
			} else if ok {
				dst = append(dst, v...)
			} else {
				return dst, false
			}
			if limit >= 0 && len(dst)-from > limit {
				dst = dst[:from+limit]
			}
			return dst, true
		}}, nil
	}
}
