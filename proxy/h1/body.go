package h1

import (
	"github.com/mallamesh/malla/proxy/header"
)

// A Body finds the end of a message's body.
type Body struct {
	kind  BodyKind
	state chunkState
	size  uint8 // digits of the present chunk size
	ext   int16
	left  int64 // of a sized body, or of the present chunk
	seen  int32 // of an incomplete trailer section

	Trailers int32 // bytes of the fields after the body, counted as those of a Head
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExtension
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer
	bodyDone
)

// maxExtension bounds what a sender may put into chunk extensions of one body;
// nobody uses them, so they are only a way to make us work.
const maxExtension = 4 << 10

// Start begins the body of a message.
func (d *Body) Start(h *Head) {
	*d = Body{kind: h.Body, left: h.Length}
	if h.Body == NoBody {
		d.state = bodyDone
	}
}

// Done reports whether the whole body has been taken.
func (d *Body) Done() bool { return d.state == bodyDone }

// End says that the connection has ended; it reports whether that is a proper end of the body.
func (d *Body) End() bool {
	if d.kind == UntilClose {
		d.state = bodyDone
	}
	return d.state == bodyDone
}

// Next takes the next piece of the body from b. It returns the piece, which may be
// empty, and how many bytes of b it used up; nothing used means that more is
// needed. Trailers go into m and are owned by it.
func (d *Body) Next(p *Parser, b []byte, m *header.Map) (piece []byte, n int, err *Error) {
	switch d.kind {
	case Sized:
		n = int(min(int64(len(b)), d.left))
		if d.left -= int64(n); d.left == 0 {
			d.state = bodyDone
		}
		return b[:n], n, nil
	case UntilClose:
		return b, len(b), nil
	case Chunked:
		return d.chunk(p, b, m)
	}
	return nil, 0, nil
}

// chunk runs the state machine up to the next piece of data or the end.
func (d *Body) chunk(p *Parser, b []byte, m *header.Map) ([]byte, int, *Error) {
	i := 0
	for i < len(b) {
		switch d.state {
		case chunkData:
			n := int(min(int64(len(b)-i), d.left))
			if d.left -= int64(n); d.left == 0 {
				d.state = chunkDataCR
			}
			return b[i : i+n], i + n, nil
		case chunkTrailer:
			n, err := d.trailer(p, b[i:], m)
			return nil, i + n, err
		case bodyDone:
			return nil, i, nil
		default:
			if p.Lenient && d.state == chunkDataCR && b[i] == '\n' {
				d.state = chunkDataLF
			}
			if !d.octet(b[i]) {
				return nil, 0, errChunk
			}
			i++
		}
	}
	return nil, i, nil
}

// octet steps over one byte of a chunk's frame; it reports whether the byte may stand there.
func (d *Body) octet(c byte) bool {
	switch d.state {
	case chunkSize:
		return d.sizeOctet(c)
	case chunkExtension:
		d.ext++
		if c == '\r' {
			d.state = chunkSizeLF
			return true
		}
		return d.ext <= maxExtension && (c >= 0x20 || c == '\t') && c != 0x7f
	case chunkSizeLF:
		d.state, d.size = chunkData, 0
		if d.left == 0 {
			d.state = chunkTrailer
		}
		return c == '\n'
	case chunkDataCR:
		d.state = chunkDataLF
		return c == '\r'
	case chunkDataLF:
		d.state = chunkSize
		return c == '\n'
	}
	return false
}

func (d *Body) sizeOctet(c byte) bool {
	var v int64
	switch {
	case c >= '0' && c <= '9':
		v = int64(c - '0')
	case c >= 'a' && c <= 'f':
		v = int64(c-'a') + 10
	case c >= 'A' && c <= 'F':
		v = int64(c-'A') + 10
	case c == '\r' && d.size > 0:
		d.state = chunkSizeLF
		return true
	case c == ';' && d.size > 0:
		d.state = chunkExtension
		return true
	default:
		return false
	}
	d.left = d.left<<4 | v
	d.size++
	return d.size <= 15
}

// trailer parses the fields after the last chunk. They are awaited whole.
func (d *Body) trailer(p *Parser, b []byte, m *header.Map) (int, *Error) {
	m.Reset()
	if b[0] == '\r' && len(b) == 1 {
		return 0, nil
	}
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		d.state = bodyDone
		return 2, nil
	}
	if p.Lenient && b[0] == '\n' {
		d.state = bodyDone
		return 1, nil
	}
	n, err := p.HeadEnd(b, int(d.seen))
	if err != nil || n == 0 {
		d.seen = int32(len(b))
		return 0, err
	}
	f := fieldParser{p: p, m: m}
	if err := f.all(b[:n]); err != nil {
		return 0, err
	}
	if f.codings > 0 || f.lengths > 0 && !p.Lenient {
		return 0, errTrailer // RFC 9110, section 6.5.1: never in trailers
	}
	m.Remove(header.ContentLength) // an answer that has one there is whole; only nobody is to read it as another length
	for _, t := range notInTrailers {
		m.Remove(t)
	}
	for _, name := range alsoNotInTrailers {
		m.RemoveName(name)
	}
	m.RemovePrefix("x-forwarded-")
	m.RemovePrefix("x-envoy-")
	m.Own()
	d.Trailers = int32(f.head.Fields)
	d.state = bodyDone
	return n, nil
}

// What must not stand in trailers (RFC 9110, section 6.5.1): framing, routing, request
// modifiers, authentication, response control, and what says how content is to be read.
// Whoever merges trailers into the header would take them from somebody whom no filter and no
// policy has asked; so they end here, with what is for one hop only and what proxies tell each other.
var (
	notInTrailers = []header.Token{
		header.Connection, header.KeepAlive, header.ProxyConnection, header.TE, header.Trailer, header.Upgrade, header.HTTP2Settings,
		header.Host, header.Authority, header.Expect, header.Authorization, header.Cookie, header.SetCookie, header.CacheControl,
		header.ContentEncoding, header.ContentType, header.Date, header.Location, header.RetryAfter, header.Vary, header.Via, header.XRequestID,
	}
	alsoNotInTrailers = [][]byte{
		[]byte("proxy-authorization"), []byte("proxy-authenticate"), []byte("www-authenticate"), []byte("content-range"), []byte("range"),
		[]byte("max-forwards"), []byte("age"), []byte("expires"), []byte("pragma"), []byte("forwarded"),
	}
)

// Tunnel makes the body everything that follows.
func (d *Body) Tunnel() { *d = Body{kind: UntilClose} }
