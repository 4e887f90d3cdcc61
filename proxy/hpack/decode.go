package hpack

import (
	"errors"

	"github.com/mallamesh/malla/proxy/header"
)

// Errors of a block. They end the connection: the two ends no longer have the same table.
var (
	ErrTruncated = errors.New("hpack: block ends in the middle of a field")
	ErrIndex     = errors.New("hpack: index without an entry")
	ErrInteger   = errors.New("hpack: integer too large")
	ErrHuffman   = errors.New("hpack: malformed Huffman code")
	ErrUpdate    = errors.New("hpack: table size update that is misplaced, missing or too large")
)

// A Flaw is what is wrong with a message whose block was decoded nevertheless.
type Flaw uint8

// The flaws, which can be combined.
const (
	BadName  Flaw = 1 << iota // not a lower-case token, nor a pseudo field that we know
	BadValue                  // control characters
	TooLarge                  // more bytes or fields than the limits allow; the map holds the first
)

// A Decoder decodes the header blocks of one direction of a connection. The zero
// value has no limits and no table; see NewDecoder.
type Decoder struct {
	// MaxBytes and MaxFields limit one message; bytes are those of names and values. What
	// is beyond them is decoded and dropped.
	MaxBytes, MaxFields int

	table   table
	allowed int  // the largest size that the peer may choose
	owed    bool // the peer must say that it uses a smaller table (section 4.2)
	tmp     []byte

	m     *header.Map
	bytes int
	count int
	flaw  Flaw
}

// NewDecoder returns a decoder with a table of DefaultTable bytes.
func NewDecoder(maxBytes, maxFields int) *Decoder {
	d := &Decoder{MaxBytes: maxBytes, MaxFields: maxFields, allowed: DefaultTable}
	d.table.max = DefaultTable
	return d
}

// Allow sets the size that the peer's table may have, once the peer has acknowledged it.
func (d *Decoder) Allow(n int) {
	d.allowed = n
	d.owed = n < d.table.max
}

// Decode appends the fields of a block to m, whose memory then holds all their bytes. An error ends
// the connection, a flaw the message.
func (d *Decoder) Decode(block []byte, m *header.Map) (Flaw, error) {
	d.m, d.bytes, d.count, d.flaw = m, 0, 0, 0
	first := true
	for i := 0; i < len(block); {
		c := block[i]
		if c&0xe0 == 0x20 {
			n, next, err := integer(block, i, 5)
			if err != nil {
				return d.flaw, err
			}
			if !first || n > d.allowed {
				return d.flaw, ErrUpdate
			}
			d.table.resize(n)
			d.owed = false
			i = next
			continue
		}
		if d.owed {
			return d.flaw, ErrUpdate
		}
		first = false
		var err error
		if c >= 0x80 {
			i, err = d.indexed(block, i)
		} else {
			i, err = d.literal(block, i)
		}
		if err != nil {
			return d.flaw, err
		}
	}
	m.Owned()
	d.m = nil
	if cap(d.tmp) > maxTmp {
		d.tmp = nil
	}
	return d.flaw, nil
}

const maxTmp = 16 << 10 // bytes that a decoder keeps for the next block

// fits counts a field against the limits.
func (d *Decoder) fits(n int) bool {
	d.bytes += n
	d.count++
	if d.bytes > d.MaxBytes || d.count > d.MaxFields {
		d.flaw |= TooLarge
		return false
	}
	return true
}

// indexed takes a field that is in a table (section 6.1).
func (d *Decoder) indexed(b []byte, i int) (int, error) {
	k, i, err := integer(b, i, 7)
	if err != nil {
		return i, err
	}
	if k == 0 {
		return i, ErrIndex
	}
	if k <= numStatic {
		f := &static[k]
		if d.fits(len(f.Name) + len(f.Value)) {
			d.m.AddParsed(f.Token, f.Name, f.Value)
		}
		return i, nil
	}
	e, err := d.entry(k)
	if err != nil {
		return i, err
	}
	d.flaw |= e.flaw
	if d.fits(int(e.nlen + e.vlen)) {
		d.m.AddParsed(e.token, d.keepName(e), d.m.Copy(d.table.value(e)))
	}
	return i, nil
}

func (d *Decoder) entry(k int) (*entry, error) {
	if k -= numStatic + 1; k >= int(d.table.n) {
		return nil, ErrIndex
	}
	return d.table.at(uint32(k)), nil
}

// keepName returns the name of an entry in memory that outlives the table's.
func (d *Decoder) keepName(e *entry) []byte {
	if e.token != header.None {
		return e.token.Name()
	}
	return d.m.Copy(d.table.name(e))
}

// literal takes a field that is written out, but perhaps for its name (section 6.2).
func (d *Decoder) literal(b []byte, i int) (int, error) {
	c := b[i]
	bits, insert := uint(4), false
	if c >= 0x40 {
		bits, insert = 6, true
	}
	k, i, err := integer(b, i, bits)
	if err != nil {
		return i, err
	}
	var t header.Token
	var name []byte
	var flaw Flaw
	d.tmp = d.tmp[:0]
	switch {
	case k == 0:
		if name, i, err = d.str(b, i); err != nil {
			return i, err
		}
		if t = header.TokenOf(name); t != header.None {
			name = t.Name()
		} else if !header.ValidName(name) {
			flaw = BadName
		}
	case k <= numStatic:
		t, name = static[k].Token, static[k].Name
	default:
		e, err := d.entry(k)
		if err != nil {
			return i, err
		}
		t, flaw = e.token, e.flaw&BadName
		if name = t.Name(); t == header.None { // inserting may move the table's bytes
			d.tmp = append(d.tmp, d.table.name(e)...)
			name = d.tmp
		}
	}
	value, i, err := d.str(b, i)
	if err != nil {
		return i, err
	}
	if !header.ValidValue(value) {
		flaw |= BadValue
	}
	d.flaw |= flaw
	if insert {
		d.table.insert(entry{token: t, flaw: flaw}, name, value)
	}
	if d.fits(len(name) + len(value)) {
		if t == header.None {
			name = d.m.Copy(name)
		}
		d.m.AddParsed(t, name, d.m.Copy(value))
		d.m.At(d.m.Len() - 1).Sensitive = c&0xf0 == 0x10
	}
	return i, nil
}

// str reads a string (section 5.2). It is in the block, or decoded in tmp.
func (d *Decoder) str(b []byte, i int) ([]byte, int, error) {
	if i >= len(b) {
		return nil, i, ErrTruncated
	}
	coded := b[i] >= 0x80
	n, i, err := integer(b, i, 7)
	if err != nil {
		return nil, i, err
	}
	if n > len(b)-i {
		return nil, i, ErrTruncated
	}
	s := b[i : i+n]
	i += n
	if !coded {
		return s, i, nil
	}
	// The name, if it is in tmp, must stay where it is: a larger tmp leaves it in the old one.
	from, need := len(d.tmp), maxDecoded(n)
	if cap(d.tmp)-from < need {
		d.tmp = make([]byte, 0, max(256, 2*need))
		from = 0
	}
	to := d.tmp[from : from+need]
	if n = huffman(to, s); n < 0 {
		return nil, i, ErrHuffman
	}
	d.tmp = d.tmp[:from+n]
	return to[:n:n], i, nil
}

// integer reads an integer whose first byte has a prefix of some bits (section 5.1). No
// integer that means anything here needs more than four bytes behind the prefix.
func integer(b []byte, i int, bits uint) (n, next int, err error) {
	mask := 1<<bits - 1
	n = int(b[i]) & mask
	i++
	if n < mask {
		return n, i, nil
	}
	for shift := uint(0); shift < 28; shift += 7 {
		if i >= len(b) {
			return 0, i, ErrTruncated
		}
		c := b[i]
		i++
		n += int(c&0x7f) << shift
		if c < 0x80 {
			return n, i, nil
		}
	}
	return 0, i, ErrInteger
}
