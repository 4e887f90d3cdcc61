package header

import "bytes"

// A spelling is how a sender wrote the names of a message's fields, for receivers that
// care (Envoy's header formatter preserve_case).
type spelling struct {
	on     bool
	proper bool     // names that the sender did not write get capitals
	names  []byte   // as they were written, one after the other
	ends   []uint16 // where each of them ends
	reason []byte   // the words beside a status; empty: the standard ones
}

func (s *spelling) reset() {
	s.on, s.proper = false, false
	s.names, s.ends, s.reason = s.names[:0], s.ends[:0], s.reason[:0]
}

// BeginSpelling has the map keep names as they are written. With proper, [Map.Spell] writes other
// names with capitals.
func (m *Map) BeginSpelling(proper bool) { m.spelling.on, m.spelling.proper = true, proper }

// Spelled reports whether there is something for [Map.Spell] to do.
func (m *Map) Spelled() bool { return m.spelling.on }

// maxSpelled bounds the bytes of names that are kept: a longer head is spelled as far as that.
const maxSpelled = 1<<16 - 1

// KeepSpelling notes how a name is written. The first that differs in case only is the one that counts.
func (m *Map) KeepSpelling(name []byte) {
	s := &m.spelling
	if len(s.names)+len(name) > maxSpelled {
		return
	}
	s.names = append(s.names, name...)
	s.ends = append(s.ends, uint16(len(s.names)))
}

// KeepReason notes the words beside a status.
func (m *Map) KeepReason(reason []byte) { m.spelling.reason = append(m.spelling.reason[:0], reason...) }

// Reason returns the words beside a status, nothing if the standard ones are meant.
func (m *Map) Reason() []byte { return m.spelling.reason }

// Spell writes the names in the head of a message as the sender wrote them. The first line stays as it is.
func (m *Map) Spell(head []byte) {
	write := m.spelling.write
	if len(m.spelling.ends) > maxScanned {
		write = m.spelling.index().write
	}
	for {
		_, fields, ok := bytes.Cut(head, []byte("\r\n"))
		if !ok {
			return
		}
		head = fields
		if i := bytes.IndexByte(fields, ':'); i > 0 {
			if !write(fields[:i]) && m.spelling.proper {
				Proper(fields[:i])
			}
		}
	}
}

// maxScanned is how many names are looked through for each that is written. Of more an index is made.
const maxScanned = 128

// An index has the names as they were written by what they are in lower case.
type index map[string][]byte

func (s *spelling) index() index {
	all := make(index, len(s.ends))
	lower := string(bytes.ToLower(s.names))
	from := 0
	for _, end := range s.ends {
		if name := lower[from:end]; all[name] == nil {
			all[name] = s.names[from:end]
		}
		from = int(end)
	}
	return all
}

func (x index) write(name []byte) bool {
	written, ok := x[string(name)]
	copy(name, written)
	return ok
}

// write puts the sender's spelling in the place of a lower-case name.
func (s *spelling) write(name []byte) bool {
	from := 0
	for _, end := range s.ends {
		written := s.names[from:end]
		from = int(end)
		if len(written) == len(name) && equalFold(written, name) {
			copy(name, written)
			return true
		}
	}
	return false
}

// equalFold compares with a lower-case name of the same length.
func equalFold(written, name []byte) bool {
	for i, c := range written {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// Proper writes a name with capitals, as Envoy's formatter proper_case_words does: the first letter, and
// each after a byte that is neither letter nor digit.
func Proper(name []byte) {
	capital := true
	for i, b := range name {
		lower := 'a' <= b && b <= 'z'
		if lower && capital {
			name[i] = b - 'a' + 'A'
		}
		capital = !lower && (b < '0' || b > '9') && (b < 'A' || b > 'Z')
	}
}
