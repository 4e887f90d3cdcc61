// Package header holds the header fields of one message while it passes the
// proxy.
//
// A [Map] keeps fields in the order of their arrival, pseudo headers among them
// (":method", ":path", ":authority", ":scheme", ":status"), so that code above
// the codecs does not know which version of HTTP it serves. HTTP/1.1's "host" is
// ":authority" here, as in Envoy. Names are lower case.
//
// A Map is reused for message after message and allocates nothing once it has
// grown to the size that its connection needs. It is used by one goroutine.
//
// Meaning is not known here: framing belongs to the codecs, policy to filters.
package header

// A Field is one header field. The name is lower case.
type Field struct {
	Name, Value []byte
	Token       Token
	Sensitive   bool // HTTP/2: the sender wants no table to hold it (RFC 7541, section 7.1.3)
}

// A Map is a list of fields with an index by token.
//
// The bytes of names and values are borrowed. A codec's fields point into its
// read buffer and are valid until the shard's turn ends; [Map.Own] copies what
// must live longer. Whoever calls Set or Add answers for the bytes given, which
// must outlive the message; the Copy forms put them into memory of the map, which
// is valid until Reset.
type Map struct {
	fields []Field
	first  [numTokens]uint32 // index + 1 of the first field of a token
	arena  []byte            // bytes of the Copy forms; only ever appended to between resets
	owned  bool
	twice  bool // some token has more than one field, perhaps
	lists  *Set // names of which there is one field at most; nil: none

	spelling spelling
}

// Reset empties the map and keeps its memory.
func (m *Map) Reset() {
	m.fields = m.fields[:0]
	m.first = [numTokens]uint32{}
	m.arena = m.arena[:0]
	m.owned, m.twice, m.lists = false, false, nil
	m.spelling.reset()
}

// Release empties the map and gives its memory back, for messages that were unusually large.
func (m *Map) Release() { *m = Map{} }

// Len is the number of fields, pseudo headers included.
func (m *Map) Len() int { return len(m.fields) }

// At returns the i-th field. The pointer is valid until the map changes.
func (m *Map) At(i int) *Field { return &m.fields[i] }

// Fields returns all fields in order. The slice is valid until the map changes.
func (m *Map) Fields() []Field { return m.fields }

// Has reports whether there is a field of this token.
func (m *Map) Has(t Token) bool { return m.first[t] != 0 }

// Get returns the value of the first field of a token, nil if there is none.
func (m *Map) Get(t Token) []byte {
	if i := m.first[t]; i != 0 {
		return m.fields[i-1].Value
	}
	return nil
}

// StatusCode is the status of a response as a number; 0 if it has none, or one that is not three digits.
func (m *Map) StatusCode() int {
	b := m.Get(Status)
	if len(b) != 3 {
		return 0
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// Lookup returns the value of the first field with this lower-case name, nil if
// there is none. "host" finds ":authority".
func (m *Map) Lookup(name []byte) []byte {
	if i := m.index(name); i >= 0 {
		return m.fields[i].Value
	}
	return nil
}

// LookupString is Lookup for a name that is a string.
func (m *Map) LookupString(name string) []byte {
	for i := range m.fields {
		if string(m.fields[i].Name) == name {
			return m.fields[i].Value
		}
	}
	if name == "host" {
		return m.Get(Authority)
	}
	return nil
}

// Values appends the values of all fields with this lower-case name to dst, in order.
func (m *Map) Values(dst [][]byte, name []byte) [][]byte {
	t := canonical(name)
	if t != None && m.first[t] == 0 {
		return dst
	}
	for i := range m.fields {
		if f := &m.fields[i]; t != None && f.Token == t || t == None && f.Token == None && string(f.Name) == string(name) {
			dst = append(dst, f.Value)
		}
	}
	return dst
}

// Add appends a field, or a value to the one field that there is to be of a list (see [Map.Join]). Value is borrowed.
func (m *Map) Add(t Token, value []byte) {
	if m.first[t] != 0 && m.lists != nil && m.lists[t] {
		m.extend(t, value)
		return
	}
	m.fields = append(m.fields, Field{Name: nameBytes[t], Value: value, Token: t})
	if m.first[t] == 0 {
		m.first[t] = uint32(len(m.fields))
	}
}

// AddName appends a field with a lower-case name. Name and value are borrowed.
func (m *Map) AddName(name, value []byte) {
	if t := canonical(name); t != None {
		m.Add(t, value)
		return
	}
	m.fields = append(m.fields, Field{Name: name, Value: value})
}

// AddParsed is AddName for a codec that knows the token already.
func (m *Map) AddParsed(t Token, name, value []byte) {
	m.fields = append(m.fields, Field{Name: name, Value: value, Token: t})
	switch {
	case t == None:
	case m.first[t] == 0:
		m.first[t] = uint32(len(m.fields))
	default:
		m.twice = true
	}
}

// Set replaces all fields of a token by one, in the place of the first, or appends it. Value is borrowed.
func (m *Map) Set(t Token, value []byte) {
	i := m.first[t]
	if i == 0 {
		m.Add(t, value)
		return
	}
	m.fields[i-1].Value = value
	m.removeFrom(int(i), t, nil)
}

// SetName is Set for a lower-case name. Name and value are borrowed.
func (m *Map) SetName(name, value []byte) {
	if t := canonical(name); t != None {
		m.Set(t, value)
		return
	}
	i := m.index(name)
	if i < 0 {
		m.fields = append(m.fields, Field{Name: name, Value: value})
		return
	}
	m.fields[i].Value = value
	m.removeFrom(i+1, None, name)
}

// SetCopy is Set with a value copied into the map's memory.
func (m *Map) SetCopy(t Token, value []byte) { m.Set(t, m.Copy(value)) }

// AddCopy is Add with a value copied into the map's memory.
func (m *Map) AddCopy(t Token, value []byte) { m.Add(t, m.Copy(value)) }

// AddNameCopy is AddName with name and value copied into the map's memory.
func (m *Map) AddNameCopy(name, value []byte) {
	if t := canonical(name); t != None {
		m.Add(t, m.Copy(value))
		return
	}
	m.AddName(m.Copy(name), m.Copy(value))
}

// SetNameCopy is SetName with name and value copied into the map's memory.
func (m *Map) SetNameCopy(name, value []byte) {
	if t := canonical(name); t != None {
		m.Set(t, m.Copy(value))
		return
	}
	m.SetName(m.Copy(name), m.Copy(value))
}

// Remove removes all fields of a token and reports whether there was one.
func (m *Map) Remove(t Token) bool {
	i := m.first[t]
	if i == 0 || t == None {
		return false
	}
	m.removeFrom(int(i)-1, t, nil)
	return true
}

// RemoveName removes all fields with this lower-case name and reports whether there was one.
func (m *Map) RemoveName(name []byte) bool {
	if t := canonical(name); t != None {
		return m.Remove(t)
	}
	i := m.index(name)
	if i < 0 {
		return false
	}
	m.removeFrom(i, None, name)
	return true
}

// RemovePrefix removes all fields whose name begins with the lower-case prefix.
func (m *Map) RemovePrefix(prefix string) {
	m.keep(0, func(f *Field) bool {
		return len(f.Name) < len(prefix) || string(f.Name[:len(prefix)]) != prefix
	})
}

// Copy puts bytes into the map's memory; they are valid until Reset.
func (m *Map) Copy(b []byte) []byte {
	n := len(m.arena)
	m.arena = append(m.arena, b...)
	return m.arena[n:len(m.arena):len(m.arena)]
}

// Grow returns n fresh bytes of the map's memory; they are valid until Reset.
func (m *Map) Grow(n int) []byte {
	l := len(m.arena)
	for cap(m.arena) < l+n {
		m.arena = append(m.arena[:cap(m.arena)], 0)
	}
	m.arena = m.arena[:l+n]
	return m.arena[l : l+n : l+n]
}

// Own copies every borrowed byte into the map's memory, so that the message may
// outlive the shard's turn. Names that have a token are shared constants.
func (m *Map) Own() {
	if m.owned {
		return
	}
	m.owned = true
	for i := range m.fields {
		f := &m.fields[i]
		if f.Token == None {
			f.Name = m.Copy(f.Name)
		} else {
			f.Name = nameBytes[f.Token]
		}
		f.Value = m.Copy(f.Value)
	}
}

// Owned says that every byte of the fields is in the map's memory already or
// constant, so that Own has nothing to do.
func (m *Map) Owned() { m.owned = true }

// CopyFrom makes m an owned copy of src.
func (m *Map) CopyFrom(src *Map) {
	m.Reset()
	m.fields = append(m.fields, src.fields...)
	m.first, m.lists = src.first, src.lists
	m.Own()
}

// Size is the number of bytes of all names and values, as limits count it.
func (m *Map) Size() int {
	n := 0
	for i := range m.fields {
		n += len(m.fields[i].Name) + len(m.fields[i].Value)
	}
	return n
}

// canonical returns the token of a name, with "host" standing for ":authority".
func canonical(name []byte) Token {
	t := TokenOf(name)
	if t == Host {
		return Authority
	}
	return t
}

func (m *Map) index(name []byte) int {
	if t := canonical(name); t != None {
		return int(m.first[t]) - 1
	}
	for i := range m.fields {
		if f := &m.fields[i]; f.Token == None && string(f.Name) == string(name) {
			return i
		}
	}
	return -1
}

// removeFrom removes the fields of a token, or of a name that has none, at and after index from.
func (m *Map) removeFrom(from int, t Token, name []byte) {
	if t != None {
		m.keep(from, func(f *Field) bool { return f.Token != t })
		return
	}
	m.keep(from, func(f *Field) bool { return f.Token != None || string(f.Name) != string(name) })
}

// keep drops the fields at and after from that want refuses, and mends the index.
func (m *Map) keep(from int, want func(*Field) bool) {
	to := from
	for i := from; i < len(m.fields); i++ {
		if want(&m.fields[i]) {
			if to != i {
				m.fields[to] = m.fields[i]
			}
			to++
		}
	}
	if to == len(m.fields) {
		return
	}
	clear(m.fields[to:]) // let go of the bytes
	m.fields = m.fields[:to]
	for t := range m.first {
		if int(m.first[t]) > from {
			m.first[t] = 0
		}
	}
	for i := from; i < to; i++ {
		if t := m.fields[i].Token; t != None && m.first[t] == 0 {
			m.first[t] = uint32(i + 1)
		}
	}
}

// IsGRPCResponse reports whether a response's headers are those of gRPC; end says that there is nothing else of it.
func IsGRPCResponse(m *Map, end bool) bool {
	if end {
		return m.Has(GrpcStatus)
	}
	return string(m.Get(Status)) == "200" && IsGRPC(m.Get(ContentType))
}

// IsGRPC reports whether a content type is gRPC's ("application/grpc", "application/grpc+proto").
func IsGRPC(contentType []byte) bool {
	const grpc = "application/grpc"
	if len(contentType) < len(grpc) || string(contentType[:len(grpc)]) != grpc {
		return false
	}
	return len(contentType) == len(grpc) || contentType[len(grpc)] == '+'
}

// HasRange reports whether there is a field of a token from a to b (in the order of the constants).
func (m *Map) HasRange(a, b Token) bool {
	for _, i := range m.first[a : b+1] {
		if i != 0 {
			return true
		}
	}
	return false
}
