package peer

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// plainly is what a compressed body says. Two encoders write the same in different bytes. What is not what its coding
// says stays as it is.
func plainly(coding string, body []byte) []byte {
	var r io.Reader
	var err error
	switch coding {
	case "gzip":
		r, err = gzip.NewReader(bytes.NewReader(body))
	case "br":
		r = brotli.NewReader(bytes.NewReader(body))
	case "zstd":
		r, err = zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderConcurrency(1))
	default:
		return body
	}
	if err != nil {
		return body
	}
	said, err := io.ReadAll(r)
	if err != nil {
		return body
	}
	return append([]byte("("+coding+") "), said...)
}

// codingOf finds the coding in a head.
func codingOf(head string) string {
	for line := range strings.Lines(head) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "content-encoding") {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// traits is what a coded body tells of the encoder's settings, which decoding takes away: a level and a strategy
// in gzip's extra flags (RFC 1952), the bits of brotli's window (RFC 7932, section 9.1), zstd's checksum (RFC 8878),
// and how well they did.
func traits(coding string, body []byte, length int) string {
	size := fmt.Sprintf("at least %d bytes", length)
	if len(body) < length {
		size = fmt.Sprintf("fewer than %d bytes", length)
	}
	switch {
	case coding == "gzip" && len(body) > 8:
		return fmt.Sprintf("extra flags %d, %s", body[8], size)
	case coding == "br" && len(body) > 0:
		return fmt.Sprintf("window of %d bits, %s", brotliWindow(body[0]), size)
	case coding == "zstd" && len(body) > 4:
		return fmt.Sprintf("checksum %t, %s", body[4]&4 != 0, size)
	}
	return size
}

// brotliWindow reads a window's bits, which are the first of a stream.
func brotliWindow(b byte) int {
	switch {
	case b&1 == 0:
		return 16
	case b>>1&7 != 0:
		return 17 + int(b>>1&7)
	case b>>4&7 == 0:
		return 17
	}
	return 8 + int(b>>4&7)
}
