package coding

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// NewGzip returns an encoding of a level from 1 to 9, [HuffmanOnly] or [DefaultLevel]. With windowBits from 9 to 14 no
// distance is larger than such a window, and the level is the library's own.
func NewGzip(level, windowBits int) *Encoding {
	var flags byte // what zlib says there
	switch level {
	case 9:
		flags = 2
	case 1, HuffmanOnly:
		flags = 4
	}
	return &Encoding{Name: Gzip, memory: 1 << 20, make: func() Encoder {
		var w *flate.Writer
		var err error
		if windowBits > 0 && windowBits < 15 {
			w, err = flate.NewWriterWindow(io.Discard, 1<<windowBits)
		} else {
			w, err = flate.NewWriter(io.Discard, level)
		}
		if err != nil {
			panic("coding: a level or window of gzip that is none: " + err.Error())
		}
		return &gzipWriter{deflate: w, flags: flags, whole: level != HuffmanOnly && (windowBits == 0 || 1<<windowBits >= small)}
	}}
}

// Levels of gzip besides 1 to 9.
const (
	HuffmanOnly  = flate.HuffmanOnly
	DefaultLevel = flate.DefaultCompression
)

// A gzipWriter frames deflate as gzip does (RFC 1952).
type gzipWriter struct {
	deflate *flate.Writer
	flags   byte // how hard it tries: 2 most, 4 least
	whole   bool // bodies that are small and whole are compressed as such
	w       io.Writer
	began   bool
	passed  bool // the first piece is written
	running bool // deflate is at work
	sum     uint32
	size    uint32
	frame   [10]byte
	held    int // bytes in room
	room    [small]byte
}

// small is how long a body, or its first piece, may be that is compressed in one go. What works well on long ones stores those,
// or describes codes for them that are longer than they.
const small = 1 << 10

func (g *gzipWriter) Reset(w io.Writer) {
	g.w, g.began, g.passed, g.running, g.sum, g.size, g.held = w, false, false, false, 0, 0, 0
}

// pass writes what was held, so that it can be read.
func (g *gzipWriter) pass(last bool) error {
	held := g.room[:g.held]
	g.held = 0
	return flate.StatelessDeflate(g.w, held, last, nil)
}

// run has deflate take the rest of a body.
func (g *gzipWriter) run() error {
	if g.running {
		return nil
	}
	g.running = true
	g.deflate.Reset(g.w)
	held := g.room[:g.held]
	g.held = 0
	_, err := g.deflate.Write(held)
	return err
}

func (g *gzipWriter) begin() error {
	if g.began {
		return nil
	}
	g.began = true
	g.frame = [10]byte{0x1f, 0x8b, 8, 8: g.flags, 9: 3}
	_, err := g.w.Write(g.frame[:])
	return err
}

func (g *gzipWriter) Write(b []byte) (int, error) {
	if err := g.begin(); err != nil {
		return 0, err
	}
	if len(b) == 0 {
		return 0, nil
	}
	g.sum = crc32.Update(g.sum, crc32.IEEETable, b)
	g.size += uint32(len(b))
	if g.whole && !g.running && !g.passed && g.held+len(b) <= small {
		g.held += copy(g.room[g.held:], b)
		return len(b), nil
	}
	if err := g.run(); err != nil {
		return 0, err
	}
	return g.deflate.Write(b)
}

func (g *gzipWriter) Flush() error {
	if err := g.begin(); err != nil {
		return err
	}
	if g.whole && !g.running && g.held > 0 {
		g.passed = true
		return g.pass(false)
	}
	if err := g.run(); err != nil {
		return err
	}
	return g.deflate.Flush()
}

func (g *gzipWriter) Close() error {
	if err := g.begin(); err != nil {
		return err
	}
	if err := g.end(); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(g.frame[:], g.sum)
	binary.LittleEndian.PutUint32(g.frame[4:], g.size)
	_, err := g.w.Write(g.frame[:8])
	return err
}

// end ends what deflate writes, or writes all of it.
func (g *gzipWriter) end() error {
	if !g.running && (g.held > 0 || g.passed) {
		return g.pass(true)
	}
	if err := g.run(); err != nil {
		return err
	}
	return g.deflate.Close()
}

// NewBrotli returns an encoding of a quality from 0 to 11 and a window of so many bits, 10 to 24.
func NewBrotli(quality, windowBits int) *Encoding {
	memory := 1 << 20
	switch {
	case quality >= 10:
		memory = 32 << 20
	case quality >= 5:
		memory = 16 << 20 // hash tables grow with the quality
	}
	return &Encoding{Name: Brotli, memory: memory + 4<<windowBits, make: func() Encoder {
		return brotli.NewWriterOptions(io.Discard, brotli.WriterOptions{Quality: quality, LGWin: windowBits})
	}}
}

// zstdWindow is how far back zstd looks. The library's default, 8 MiB, is paid for by everybody who has the page open.
const zstdWindow = 512 << 10

// NewZstd returns an encoding of one of zstd's levels, with a dictionary if there is one.
func NewZstd(level int, checksum bool, dictionary []byte) (*Encoding, error) {
	options := []zstd.EOption{
		zstd.WithEncoderConcurrency(1), // in the caller's goroutine
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(checksum),
	}
	if len(dictionary) > 0 {
		options = append(options, zstd.WithEncoderDict(dictionary))
	}
	if _, err := zstd.NewWriter(nil, options...); err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &Encoding{Name: Zstd, memory: 8 << 20, make: func() Encoder {
		w, err := zstd.NewWriter(nil, options...)
		if err != nil {
			panic("coding: options that were fine no longer are: " + err.Error())
		}
		return w
	}}, nil
}
