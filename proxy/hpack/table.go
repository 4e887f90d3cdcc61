package hpack

import "github.com/mallamesh/malla/proxy/header"

// An entry is a field of a dynamic table. Its bytes are in the table's buffer.
type entry struct {
	off        uint32
	nlen, vlen uint32
	hash       uint32 // the encoder's, of name and value
	nameHash   uint32 // the encoder's
	token      header.Token
	flaw       Flaw // the decoder's
}

func (e *entry) size() int { return int(e.nlen) + int(e.vlen) + overhead }

// A table is the dynamic table of one end (section 2.3.2). Entries lie in buf in
// the order of insertion, so the live ones are one piece, and making room is moving
// that piece to the front. Nothing outside holds on to bytes of buf.
type table struct {
	entries []entry // a ring; its length is a power of two
	ins     uint32  // insertions so far
	n       uint32  // live entries
	size    int
	max     int
	buf     []byte
}

// at returns the i-th entry, the newest being 0.
func (t *table) at(i uint32) *entry { return &t.entries[(t.ins-1-i)&uint32(len(t.entries)-1)] }

func (t *table) name(e *entry) []byte { return t.buf[e.off : e.off+e.nlen] }

func (t *table) value(e *entry) []byte {
	from := e.off + e.nlen
	return t.buf[from : from+e.vlen]
}

// resize sets the size that the table may have.
func (t *table) resize(max int) {
	t.max = max
	t.evict(0)
}

// evict makes room for an entry of a size.
func (t *table) evict(need int) {
	for t.n > 0 && t.size+need > t.max {
		t.size -= t.at(t.n - 1).size()
		t.n--
	}
}

// insert adds an entry, unless it is larger than the table, which is then empty
// (section 4.4). name and value are not in buf.
func (t *table) insert(e entry, name, value []byte) bool {
	e.nlen, e.vlen = uint32(len(name)), uint32(len(value))
	need := e.size()
	t.evict(need)
	if need > t.max {
		return false
	}
	if int(t.n) == len(t.entries) {
		t.growRing()
	}
	t.room(len(name) + len(value))
	e.off = uint32(len(t.buf))
	t.buf = append(append(t.buf, name...), value...)
	t.ins++
	t.n++
	*t.at(0) = e
	t.size += need
	return true
}

func (t *table) growRing() {
	larger := make([]entry, max(16, 2*len(t.entries)))
	for i := range t.n {
		larger[(t.ins-1-i)&uint32(len(larger)-1)] = *t.at(i)
	}
	t.entries = larger
}

// room has buf take n more bytes. The buffer is at most twice the table.
func (t *table) room(n int) {
	if len(t.buf)+n <= cap(t.buf) {
		return
	}
	from := uint32(len(t.buf))
	if t.n > 0 {
		from = t.at(t.n - 1).off
	}
	live := t.buf[from:]
	if to := t.buf; 2*len(live)+n > cap(to) && cap(to) < 2*t.max {
		to = make([]byte, 0, min(2*t.max, max(512, 2*(len(live)+n))))
		t.buf = append(to, live...)
	} else {
		t.buf = append(to[:0], live...)
	}
	for i := range t.n {
		t.at(i).off -= from
	}
}
