package hpack

import (
	"bytes"
	"hash/maphash"

	"github.com/mallamesh/malla/proxy/header"
)

// An Encoder encodes the header blocks of one direction of a connection. The zero
// value has no table; see NewEncoder.
type Encoder struct {
	table  table
	index  *index
	update bool // the next block begins with the table's size
	lowest int  // that the table had since the last block
}

// index finds entries: a hash leads to the number of the insertion that had it
// last. What it points to is compared, so an entry that was overwritten or has gone only
// means that a field is written out.
type index struct {
	full  [256]uint32
	names [64]uint32
}

// NewEncoder returns an encoder with a table of at most size bytes, which is not more than DefaultTable
// until the peer allows it.
func NewEncoder(size int) *Encoder {
	e := &Encoder{}
	e.table.max = DefaultTable
	if size < DefaultTable {
		e.Resize(size)
	}
	return e
}

// Resize changes the size of the table, from the next block on.
func (e *Encoder) Resize(size int) {
	if size == e.table.max {
		return
	}
	if !e.update || size < e.lowest {
		e.lowest = size
	}
	e.update = true
	e.table.resize(size)
}

// Begin begins a block.
func (e *Encoder) Begin(dst []byte) []byte {
	if !e.update {
		return dst
	}
	e.update = false
	if e.lowest < e.table.max { // section 4.2: the peer must learn that the table was emptied
		dst = appendInteger(dst, 0x20, 5, e.lowest)
	}
	return appendInteger(dst, 0x20, 5, e.table.max)
}

// policy says what may be put into a table.
type policy uint8

const (
	indexed policy = iota
	plain          // the value differs from message to message
	never          // a secret
)

var policies = func() (p [256]policy) {
	for _, t := range []header.Token{
		header.Path, header.ContentLength, header.Date, header.ETag, header.GrpcMessage, header.GrpcTimeout, header.LastModified,
		header.Location, header.Referer, header.SetCookie, header.TraceParent, header.TraceState, header.B3, header.XB3ParentSpanID,
		header.XB3SpanID, header.XB3TraceID, header.XClientTraceID, header.XEnvoyOriginalPath, header.XEnvoyUpstreamServiceTime,
		header.XRequestID,
	} {
		p[t] = plain
	}
	p[header.Authorization], p[header.Cookie] = never, never
	return p
}()

var proxyAuthorization = []byte("proxy-authorization")

// Append encodes a field. The name belongs to the token, if there is one.
func (e *Encoder) Append(dst []byte, t header.Token, name, value []byte, sensitive bool) []byte {
	if k := common(t, value); k != 0 && !sensitive {
		return append(dst, k)
	}
	p := policies[t]
	switch {
	case sensitive || t == header.None && bytes.Equal(name, proxyAuthorization):
		p = never
	case p == indexed && len(name)+len(value)+overhead > e.table.max/2:
		p = plain
	}
	nameHash := uint32(t)
	if t == header.None {
		nameHash = uint32(maphash.Bytes(seed, name)) | 1<<31
	}
	if p != indexed {
		return e.unindexed(dst, p, t, name, value, nameHash)
	}
	hash := nameHash*31 + uint32(maphash.Bytes(seed, value))
	if i, ok := e.find(t, name, value, hash); ok {
		return appendInteger(dst, 0x80, 7, i)
	}
	return e.insert(dst, e.nameIndex(t, name, nameHash), t, name, value, hash, nameHash)
}

var seed = maphash.MakeSeed()

// unindexed encodes a field whose value goes into no table. A name that no table
// has is put there once, with its first value, unless that is a secret.
func (e *Encoder) unindexed(dst []byte, p policy, t header.Token, name, value []byte, nameHash uint32) []byte {
	k := e.nameIndex(t, name, nameHash)
	if k == 0 && p != never && len(name)+len(value)+overhead <= e.table.max/8 {
		hash := nameHash*31 + uint32(maphash.Bytes(seed, value))
		return e.insert(dst, 0, t, name, value, hash, nameHash)
	}
	first := byte(0)
	if p == never {
		first = 0x10
	}
	dst = appendInteger(dst, first, 4, k)
	if k == 0 {
		dst = appendString(dst, name)
	}
	return appendString(dst, value)
}

// insert encodes a field with the name of entry k, if that is not 0, and puts it into the table.
func (e *Encoder) insert(dst []byte, k int, t header.Token, name, value []byte, hash, nameHash uint32) []byte {
	dst = appendInteger(dst, 0x40, 6, k)
	if k == 0 {
		dst = appendString(dst, name)
	}
	dst = appendString(dst, value)
	if e.table.insert(entry{token: t, hash: hash, nameHash: nameHash}, name, value) {
		if e.index == nil {
			e.index = new(index)
		}
		e.index.full[hash%256] = e.table.ins
		e.index.names[nameHash%64] = e.table.ins
	}
	return dst
}

// common returns the encoding of the fields that nearly every message has, 0 if this is none.
func common(t header.Token, value []byte) byte {
	switch t {
	case header.Method:
		switch string(value) {
		case "GET":
			return 0x82
		case "POST":
			return 0x83
		}
	case header.Path:
		if string(value) == "/" {
			return 0x84
		}
	case header.Scheme:
		switch string(value) {
		case "http":
			return 0x86
		case "https":
			return 0x87
		}
	case header.Status:
		switch string(value) {
		case "200":
			return 0x88
		case "204":
			return 0x89
		case "304":
			return 0x8b
		case "404":
			return 0x8d
		case "500":
			return 0x8e
		}
	}
	return 0
}

// live returns the entry of an insertion and its place in the index space.
func (e *Encoder) live(insertion uint32) (*entry, int) {
	age := e.table.ins - insertion
	if insertion == 0 || age >= e.table.n {
		return nil, 0
	}
	return e.table.at(age), numStatic + 1 + int(age)
}

func (e *Encoder) find(t header.Token, name, value []byte, hash uint32) (int, bool) {
	if e.index == nil {
		return 0, false
	}
	x, i := e.live(e.index.full[hash%256])
	if x == nil || x.hash != hash || x.token != t || !bytes.Equal(e.table.value(x), value) ||
		t == header.None && !bytes.Equal(e.table.name(x), name) {
		return 0, false
	}
	return i, true
}

// nameIndex returns the index of an entry with this name, 0 if there is none.
func (e *Encoder) nameIndex(t header.Token, name []byte, nameHash uint32) int {
	if t != header.None && staticTokens[t] != 0 {
		return int(staticTokens[t])
	}
	if e.index != nil {
		x, i := e.live(e.index.names[nameHash%64])
		if x != nil && x.nameHash == nameHash && x.token == t && (t != header.None || bytes.Equal(e.table.name(x), name)) {
			return i
		}
	}
	if t == header.None {
		return int(staticNames[string(name)])
	}
	return 0
}

func appendInteger(dst []byte, first byte, bits uint, n int) []byte {
	mask := 1<<bits - 1
	if n < mask {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(mask))
	for n -= mask; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

func appendString(dst, s []byte) []byte {
	return append(appendInteger(dst, 0, 7, len(s)), s...)
}
