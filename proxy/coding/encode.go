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
		return &gzipWriter{deflate: w, flags: flags}
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
	w       io.Writer
	began   bool
	sum     uint32
	size    uint32
	frame   [10]byte
}

func (g *gzipWriter) Reset(w io.Writer) {
	g.deflate.Reset(w)
	g.w, g.began, g.sum, g.size = w, false, 0, 0
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
	g.sum = crc32.Update(g.sum, crc32.IEEETable, b)
	g.size += uint32(len(b))
	return g.deflate.Write(b)
}

func (g *gzipWriter) Flush() error {
	if err := g.begin(); err != nil {
		return err
	}
	return g.deflate.Flush()
}

func (g *gzipWriter) Close() error {
	if err := g.begin(); err != nil {
		return err
	}
	if err := g.deflate.Close(); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(g.frame[:], g.sum)
	binary.LittleEndian.PutUint32(g.frame[4:], g.size)
	_, err := g.w.Write(g.frame[:8])
	return err
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
