package coding

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// ErrTooLarge is what becomes of a body that grows beyond what its compressed size allows.
var ErrTooLarge = errors.New("decompressed data is too large for the compressed")

// DefaultRatio is Envoy's.
const DefaultRatio = 100

// maxWindow is how far back decoders look (RFC 8878, section 3.1.1.1.2, recommends to take 8 MiB).
const maxWindow = 8 << 20

// ErrNoMemory is what becomes of a body that looks further back than there is memory for.
var ErrNoMemory = errors.New("too much of what is decompressed is held already")

// NewGunzip returns a decoding of gzip.
func NewGunzip(ratio int) *Decoding {
	return &Decoding{Name: Gzip, Ratio: ratio, memory: 128 << 10, least: 128 << 10, make: func() reader { return &gzipReader{in: bufio.NewReader(nil)} }}
}

// NewUnbrotli returns a decoding of br.
func NewUnbrotli() *Decoding {
	return &Decoding{Name: Brotli, Ratio: DefaultRatio, memory: 16 << 20, least: leastMemory, needs: brotliMemory, make: func() reader { return brotli.NewReader(nil) }}
}

// leastMemory is what a body takes that may look far back and has not said how far.
const leastMemory = 64 << 10

// brotliMemory is what a body takes: its first byte says how large its window is (RFC 7932, section 9.1).
func brotliMemory(d *Decoder, piece []byte) int {
	const tables = 256 << 10
	if d.input > 0 || len(piece) == 0 {
		return 0
	}
	first := piece[0]
	bits := 16
	switch short, long := first>>1&7, first>>4&7; {
	case first&1 == 0:
	case short != 0:
		bits = 17 + int(short)
	case long == 0:
		bits = 17
	case long == 1: // is no window
		bits = 24
	default:
		bits = 8 + int(long)
	}
	return 1<<bits + tables
}

// NewUnzstd returns a decoding of zstd, which knows some dictionaries.
func NewUnzstd(dictionaries [][]byte) (*Decoding, error) {
	options := []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow)}
	if len(dictionaries) > 0 {
		options = append(options, zstd.WithDecoderDicts(dictionaries...))
	}
	if _, err := zstd.NewReader(nil, options...); err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &Decoding{Name: Zstd, Ratio: DefaultRatio, memory: windowMemory(maxWindow), least: leastMemory, needs: zstdMemory, make: func() reader {
		r, err := zstd.NewReader(nil, options...)
		if err != nil {
			panic("coding: options that were fine no longer are: " + err.Error())
		}
		return r
	}}, nil
}

// zstdMemory is what a body takes for the frames that begin in a piece.
func zstdMemory(d *Decoder, piece []byte) int {
	if window := d.frames.next(piece); window > 0 {
		return windowMemory(window)
	}
	return 0
}

// windowMemory is what the library takes for a window: room for it and for more behind it, blocks of up to 128 KiB as they come, their
// literals and what they become, and tables.
func windowMemory(window int) int {
	return window + min(window, 1<<20) + 3*min(window, 128<<10) + leastMemory
}

// A gzipReader reads members one after the other. As gzip does, and Envoy, it passes over bytes behind
// the last one that do not begin another.
type gzipReader struct {
	z  gzip.Reader
	in *bufio.Reader
}

func (g *gzipReader) Reset(r io.Reader) error {
	g.in.Reset(r)
	return g.member()
}

func (g *gzipReader) member() error {
	if err := g.z.Reset(g.in); err != nil {
		return err
	}
	g.z.Multistream(false)
	return nil
}

func (g *gzipReader) Read(b []byte) (int, error) {
	n, err := g.z.Read(b)
	if err != io.EOF {
		return n, err
	}
	if _, err := g.in.Peek(1); err != nil || g.member() != nil {
		return n, io.EOF
	}
	return n, nil
}

// lent is a library's decoder with the memory that it writes to. Where it waits it is in the middle of that, while the caller's
// memory of the last piece has long been used for something else.
type lent struct {
	reader
	room   [4 << 10]byte
	memory int // that it has, of the body that took most
}

// A Decoder decompresses one body after the other. It has a library's decoder from a body's first piece to its last.
type Decoder struct {
	stock  *Stock    // nil: the body is over
	of     *Decoding // nil: there is no body
	reader *lent     // nil: it has not begun, or is over
	resume func() (struct{}, bool)
	stop   func() // nil: the body is whole, and nothing waits
	yield  func(struct{}) bool

	in     []byte // has not been read
	ended  bool   // nothing comes after in
	closed bool
	memory int // of the stock that it has
	frames frames
	out    []byte
	limit  int // of out
	input  int // all that has come
	output int // and what it was, before out
	err    error
}

// Begin makes ready for a body, and reports whether there would be memory for the largest window. It has little until it says
// how much it needs: of many bodies that begin, most look back no further than they are long.
func (d *Decoder) Begin(k *Stock, of *Decoding) bool {
	if k.left < of.memory {
		return false
	}
	k.left -= of.least
	*d = Decoder{stock: k, of: of, memory: of.least}
	return true
}

// On reports whether there is a body.
func (d *Decoder) On() bool { return d.of != nil }

// start reads as far as the first piece goes. Only a body of which there is more needs a coroutine.
func (d *Decoder) start() {
	r, ok := d.stock.readers.take(d.of)
	if !ok || !d.take(r.memory) {
		r = &lent{reader: d.of.make()}
	}
	if d.reader = r; d.ended {
		d.err = d.run()
		return
	}
	d.resume, d.stop = iter.Pull(func(yield func(struct{}) bool) {
		d.yield = yield
		d.err = d.run()
	})
	d.resume()
}

// release gives the library's decoder and the memory back, for the next body of this turn: it may be long until the stream ends.
func (d *Decoder) release() {
	if d.stock == nil {
		return
	}
	if d.stop != nil {
		d.stop()
		d.stop = nil
	}
	if d.reader != nil {
		d.reader.memory = d.memory
		d.stock.readers.keep(d.of, d.reader, d.memory)
		d.reader = nil
	}
	d.stock.left += d.memory
	d.stock = nil
}

// errClosed ends a decoder that waits.
var errClosed = errors.New("closed")

// source is the input as the reader sees it: it waits for more.
type source struct{ d *Decoder }

func (s source) Read(b []byte) (int, error) {
	d := s.d
	for len(d.in) == 0 {
		switch {
		case d.closed:
			return 0, errClosed
		case d.ended:
			return 0, io.EOF
		case !d.yield(struct{}{}):
			d.closed = true
		}
	}
	n := copy(b, d.in)
	d.in = d.in[n:]
	return n, nil
}

// run decompresses all of a body.
func (d *Decoder) run() error {
	if err := d.reader.Reset(source{d}); err != nil {
		return notShort(err)
	}
	for {
		n, err := d.reader.Read(d.reader.room[:])
		d.out = append(d.out, d.reader.room[:n]...) // of the piece that is there now
		switch {
		case err != nil && err != io.EOF:
			return err
		case len(d.out) > d.limit:
			return ErrTooLarge
		case err == io.EOF:
			return io.EOF
		}
	}
}

// notShort tells a body that ends before it has begun from one that has ended.
func notShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// smallest is the size of a piece below which its growth is not looked at by itself.
const smallest = 16 << 10

// Write takes a piece and appends to dst what it was. After the last piece nothing may come. An error is final: the
// body is not what it says, or breaks off, or is too large.
func (d *Decoder) Write(dst, b []byte, last bool) ([]byte, error) {
	if d.err == io.EOF { // behind the end
		return dst, nil
	}
	if d.err != nil {
		return dst, d.err
	}
	if len(b) == 0 && !last {
		return dst, nil
	}
	if d.of.needs != nil && !d.take(d.of.needs(d, b)) {
		d.release()
		d.err = ErrNoMemory
		return dst, d.err
	}
	d.input += len(b)
	d.in, d.ended, d.out = b, last, dst
	d.limit = len(dst) + min(d.input*d.of.Ratio-d.output, max(len(b), smallest)*d.of.Ratio)
	if d.reader == nil {
		d.start()
	} else {
		d.resume()
	}
	dst, d.output = d.out, d.output+len(d.out)-len(dst)
	d.in, d.out = nil, nil
	if d.err != nil {
		d.release()
	}
	if d.err == io.EOF {
		return dst, nil
	}
	return dst, d.err
}

// take sees to it that the body has so much of the stock, and reports whether that was possible.
func (d *Decoder) take(memory int) bool {
	more := max(memory-d.memory, 0)
	if more > d.stock.left {
		return false
	}
	d.stock.left -= more
	d.memory += more
	return true
}

// Close ends a body, wherever it is.
func (d *Decoder) Close() {
	d.release()
	*d = Decoder{}
}
