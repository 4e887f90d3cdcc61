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
	keys   []string
	ends   []int // of the values
	values []byte
	fixed  []bool
}

// Reset empties the state and keeps its memory.
func (s *State) Reset() {
	s.keys, s.ends, s.values, s.fixed = s.keys[:0], s.ends[:0], s.values[:0], s.fixed[:0]
}

// Empty reports whether nothing was set.
func (s *State) Empty() bool { return len(s.keys) == 0 }

// Inherit puts what another state has into an empty one, where it cannot be changed: as in Envoy, what is said of a
// connection is not for its requests to say otherwise.
func (s *State) Inherit(from *State) {
	s.keys, s.ends, s.values = append(s.keys, from.keys...), append(s.ends, from.ends...), append(s.values, from.values...)
	for range from.keys {
		s.fixed = append(s.fixed, true)
	}
}

// Get returns the value of a key. The bytes are valid until Reset.
func (s *State) Get(key string) ([]byte, bool) {
	for i := len(s.keys) - 1; i >= 0; i-- { // the last one that was set
		if s.keys[i] == key {
			from := 0
			if i > 0 {
				from = s.ends[i-1]
			}
			return s.values[from:s.ends[i]:s.ends[i]], true
		}
	}
	return nil, false
}

// Set gives a key a value, which is copied, unless it has one that was fixed. It reports whether it did.
func (s *State) Set(key string, value []byte, fixed bool) bool {
	for i := range s.keys {
		if s.keys[i] == key && s.fixed[i] {
			return false
		}
	}
	s.values = append(s.values, value...)
	s.keys, s.ends, s.fixed = append(s.keys, key), append(s.ends, len(s.values)), append(s.fixed, fixed)
	return true
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
	asText = ":PLAIN"
	asJSON = ":TYPED"
)

// filterState compiles FILTER_STATE(key) and FILTER_STATE(key:PLAIN). Without PLAIN Envoy
// writes the object as JSON, which for text is a string in quotes.
func filterState(c command) (*op, error) {
	key, quoted := c.arg, true
	if strings.HasSuffix(key, asText) {
		key, quoted = strings.TrimSuffix(key, asText), false
	} else {
		key = strings.TrimSuffix(key, asJSON)
	}
	limit, message := c.length, key+asJSON
	return &op{text: key, write: func(o *op, dst []byte, r *Record) ([]byte, bool) {
		from := len(dst)
		if v, ok := r.State.Get(o.text); ok && quoted {
			dst = strconv.AppendQuote(dst, string(v))
		} else if ok {
			dst = append(dst, v...)
		} else if v, ok = r.State.Get(message); ok && quoted {
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
