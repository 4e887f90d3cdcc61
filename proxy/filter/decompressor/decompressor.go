// Package decompressor is the HTTP filter that decompresses requests and responses with a coding, and tells
// servers that it can.
//
// A body that is not what its content-encoding says, that breaks off, or that grows beyond all proportion ends its
// message: a request is answered with 400, a response is broken off. Envoy passes on what it has and
// calls that the whole message. Where a shard's memory for decoders is in use, messages stay as they are; one that has begun and
// looks further back than there is memory for ends, a request with 503.
package decompressor

import (
	"bytes"
	"strconv"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/coding"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config says what is decompressed. It must not change.
type Config struct {
	Decoding  *coding.Decoding
	Library   string // its name, in trailers
	Request   Direction
	Response  Direction
	Advertise bool        // requests say that the coding is accepted
	Failed    func(error) // counts a body that was not what it said
}

// A Direction is what requests and responses have in common.
type Direction struct {
	Enabled           bool
	IgnoreNoTransform bool
	Counters          *stats.Decompressor
}

type factory struct {
	name                 string
	config               *Config
	compressed, unpacked []byte // names of trailers
}

// New returns the factory of filters with a name in the chain.
func New(name string, config *Config) stream.Factory {
	prefix := "x-envoy-decompressor-" + string(bytes.ToLower([]byte(config.Library)))
	return &factory{name, config, []byte(prefix + "-compressed-bytes"), []byte(prefix + "-uncompressed-bytes")}
}

func (f *factory) Name() string { return f.name }

func (f *factory) New(w *pool.Worker) any {
	return &filter{factory: f, stock: w.Local(coding.StockKey{}, func() any { return coding.NewStock() }).(*coding.Stock)}
}

// A filter handles one stream.
type filter struct {
	*factory
	stock             *coding.Stock
	request, response body
	trailers          header.Map // of a message that had none
	scratch           []byte
}

// A body is one that is decompressed, if it has a decoder.
type body struct {
	decoder  coding.Decoder
	out      []byte
	from, to uint64 // bytes
}

// OnRequest tells the server what we take, and begins with the request.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	if f.config.Advertise && f.config.Response.Enabled {
		f.advertise(m)
	}
	if !s.RequestEnded() {
		f.begin(&f.request, &f.config.Request, m)
	}
	return stream.Continue
}

// advertise adds a coding to those that are accepted, as the last and with full weight.
func (f *filter) advertise(m *header.Map) {
	name, out := f.config.Decoding.Name, f.scratch[:0]
	for rest := m.Get(header.AcceptEncoding); len(rest) > 0; {
		var item []byte
		item, rest, _ = bytes.Cut(rest, []byte{','})
		item = bytes.TrimSpace(item)
		if is, _, _ := bytes.Cut(item, []byte{';'}); string(bytes.TrimSpace(is)) != name && len(item) > 0 {
			out = append(append(out, item...), ',')
		}
	}
	f.scratch = append(out, name...)
	m.SetCopy(header.AcceptEncoding, f.scratch)
}

// begin makes ready for a body with our coding. Only the outermost coding counts.
func (f *filter) begin(b *body, d *Direction, m *header.Map) {
	coding, rest, more := bytes.Cut(m.Get(header.ContentEncoding), []byte{','})
	if !d.Enabled || !d.IgnoreNoTransform && header.ListHas(m.Get(header.CacheControl), noTransform) || !bytes.EqualFold(bytes.TrimSpace(coding), []byte(f.config.Decoding.Name)) {
		d.Counters.NotDecompressed.Inc()
		return
	}
	if !b.decoder.Begin(f.stock, f.config.Decoding) {
		d.Counters.NotDecompressed.Inc()
		return
	}
	d.Counters.Decompressed.Inc()
	m.Remove(header.ContentLength)
	if rest = bytes.TrimSpace(rest); more {
		m.SetCopy(header.ContentEncoding, bytes.Clone(rest))
	} else {
		m.Remove(header.ContentEncoding)
	}
}

var noTransform = []byte("no-transform") // the sender forbids it (RFC 9111, section 5.2.2.6)

// decode returns what a piece was. Its memory is used again for the next.
func (f *filter) decode(b *body, d *Direction, piece []byte, end bool) ([]byte, error) {
	out, err := b.decoder.Write(b.out[:0], piece, end)
	b.out = out
	b.from, b.to = b.from+uint64(len(piece)), b.to+uint64(len(out))
	d.Counters.CompressedBytes.Add(uint64(len(piece)))
	d.Counters.UncompressedBytes.Add(uint64(len(out)))
	if err != nil && err != coding.ErrNoMemory {
		f.config.Failed(err)
	}
	return out, err
}

// refuse answers a request whose body cannot be decompressed.
func refuse(s *stream.Stream, err error) stream.Verdict {
	if err == coding.ErrNoMemory {
		return s.Reply(503, "Service Unavailable", noMemory)
	}
	return s.Reply(400, "Bad Request", failed)
}

// breakOff ends a response that cannot be.
func breakOff(s *stream.Stream, err error) stream.Verdict {
	details := failed
	if err == coding.ErrNoMemory {
		details = noMemory
	}
	s.Abort(access.NoFlag, details)
	return stream.Stop
}

// What logs say.
const (
	failed   = "decompression_failed"
	noMemory = "decompression_overflow" // the worker's memory for bodies is in use
)

// report says in trailers how large a body was.
func (f *filter) report(b *body, m *header.Map) {
	var digits [20]byte
	m.AddName(f.compressed, m.Copy(strconv.AppendUint(digits[:0], b.from, 10)))
	m.AddName(f.unpacked, m.Copy(strconv.AppendUint(digits[:0], b.to, 10)))
}

// OnRequestData decompresses a piece.
func (f *filter) OnRequestData(s *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	if !f.request.decoder.On() {
		return stream.Continue
	}
	out, err := f.decode(&f.request, &f.config.Request, b.Bytes, end)
	if err != nil {
		return refuse(s, err)
	}
	if !end {
		b.Bytes = out
		return stream.Continue
	}
	s.InjectRequest(f, out, false)
	if f.request.decoder.On() { // the stream is not over
		f.trailers.Reset()
		f.report(&f.request, &f.trailers)
		s.EndRequest(f, &f.trailers)
	}
	return stream.Taken
}

// OnRequestTrailers ends the body that they follow.
func (f *filter) OnRequestTrailers(s *stream.Stream, m *header.Map) stream.Verdict {
	if !f.request.decoder.On() {
		return stream.Continue
	}
	out, err := f.decode(&f.request, &f.config.Request, nil, true)
	if err != nil {
		return refuse(s, err)
	}
	s.InjectRequest(f, out, false)
	f.report(&f.request, m)
	return stream.Continue
}

// OnResponse begins with the response.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	if !s.ResponseEnds() {
		f.begin(&f.response, &f.config.Response, m)
	}
	return stream.Continue
}

// OnResponseData decompresses a piece.
func (f *filter) OnResponseData(s *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	if !f.response.decoder.On() {
		return stream.Continue
	}
	out, err := f.decode(&f.response, &f.config.Response, b.Bytes, end)
	if err != nil {
		return breakOff(s, err)
	}
	if !end {
		b.Bytes = out
		return stream.Continue
	}
	s.InjectResponse(f, out, false)
	if f.response.decoder.On() {
		f.trailers.Reset()
		f.report(&f.response, &f.trailers)
		s.EndResponse(f, &f.trailers)
	}
	return stream.Taken
}

// OnResponseTrailers ends the body that they follow.
func (f *filter) OnResponseTrailers(s *stream.Stream, m *header.Map) stream.Verdict {
	if !f.response.decoder.On() {
		return stream.Continue
	}
	out, err := f.decode(&f.response, &f.config.Response, nil, true)
	if err != nil {
		return breakOff(s, err)
	}
	s.InjectResponse(f, out, false)
	f.report(&f.response, m)
	return stream.Continue
}

// OnEnd forgets the stream.
func (f *filter) OnEnd(*stream.Stream) {
	for _, b := range []*body{&f.request, &f.response} {
		b.decoder.Close()
		if *b = (body{out: b.out[:0]}); cap(b.out) > 64<<10 {
			b.out = nil
		}
	}
}
