// Package coding compresses and decompresses bodies, piece by piece: HTTP's content codings gzip, br and zstd.
//
// An [Encoding] makes encoders of one kind, a [Decoding] decoders. What they need of memory is far more
// than a message otherwise does, so a shard has a [Stock] of it: a bounded amount, beyond which there is no
// encoder to be had and bodies go as they are, and a few encoders that are kept for the next body.
//
// The libraries' decoders want to wait for their input; a [Decoder] turns that around with a coroutine, where a body comes
// in more pieces than one. What a body may grow to is bounded by how much of it has come (Envoy's max_inflate_ratio).
//
// Headers are not known here.
package coding

import "io"

// Names of codings, as content-encoding has them.
const (
	Gzip   = "gzip"
	Brotli = "br"
	Zstd   = "zstd"
)

// An Encoder compresses one body after the other.
type Encoder interface {
	io.Writer
	Flush() error // what was written can be read by the other side
	Close() error
	Reset(io.Writer)
}

// An Encoding makes encoders. Its address is what they are kept by.
type Encoding struct {
	Name   string // of the coding
	memory int    // bytes that an encoder takes, roughly
	make   func() Encoder
}

// A Decoding makes decoders.
type Decoding struct {
	Name   string
	Ratio  int                        // how many times as large as what has come a body may be
	memory int                        // that a body takes at most
	least  int                        // and until it says how much it needs
	needs  func(*Decoder, []byte) int // what a body takes, as a piece says; nil: least is all
	make   func() reader
}

// reader is a library's decoder.
type reader interface {
	io.Reader
	Reset(io.Reader) error
}

// A Stock is a shard's memory for bodies that are compressed or decompressed.
type Stock struct {
	left     int
	encoders shelf[*Encoding, Encoder]
	readers  shelf[*Decoding, *lent]
}

const stockSize = 256 << 20

// NewStock returns a stock of which nothing is in use.
func NewStock() *Stock { return &Stock{left: stockSize} }

// StockKey is what a shard keeps its stock by.
type StockKey struct{}

// InUse says that a shard has one stock for as long as it lives: bodies of old configurations hold what new ones have not.
func (StockKey) InUse() bool { return true }

// Reserve sets memory for an encoder aside, and reports whether there was any. It is used up until Return or Release. Many
// bodies wait for their first byte at a time; what is costly about an encoder is for those that have it.
func (k *Stock) Reserve(e *Encoding) bool {
	if k.left < e.memory {
		return false
	}
	k.left -= e.memory
	return true
}

// Release gives memory back for which there is no encoder yet.
func (k *Stock) Release(e *Encoding) { k.left += e.memory }

// Encoder returns an encoder that writes to w, in the memory that was reserved for it.
func (k *Stock) Encoder(e *Encoding, w io.Writer) Encoder {
	out, ok := k.encoders.take(e)
	if !ok {
		out = e.make()
	}
	out.Reset(w)
	return out
}

// Return gives an encoder back, in whatever state it is, and its memory.
func (k *Stock) Return(e *Encoding, used Encoder) {
	k.left += e.memory
	k.encoders.keep(e, used, e.memory)
}
