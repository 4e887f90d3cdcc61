package peer

import (
	"bytes"
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
