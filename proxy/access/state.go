package access

import "strconv"

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

// filterState compiles FILTER_STATE(key) and FILTER_STATE(key:PLAIN). Without PLAIN Envoy writes the
// object as JSON, which for text is a string in quotes.
func filterState(c command) (*op, error) {
	key, plain := c.arg, false
	for _, suffix := range []string{":PLAIN", ":TYPED"} {
		if n := len(key) - len(suffix); n > 0 && key[n:] == suffix {
			key, plain = key[:n], suffix == ":PLAIN"
			break
		}
	}
	limit := c.length
	return &op{text: key, write: func(o *op, dst []byte, r *Record) ([]byte, bool) {
		v, ok := r.State.Get(o.text)
		if !ok {
			return dst, false
		}
		from := len(dst)
		if plain {
			dst = append(dst, v...)
		} else {
			dst = strconv.AppendQuote(dst, string(v))
		}
		if limit >= 0 && len(dst)-from > limit {
			dst = dst[:from+limit]
		}
		return dst, true
	}}, nil
}
