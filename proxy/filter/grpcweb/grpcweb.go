// Package grpcweb is the HTTP filter that lets browsers call gRPC services: it turns requests of
// the gRPC-Web protocol into gRPC's, and responses back, with trailers as the last frame of the body
// and, if the browser asked for text, everything in base64.
//
// A response that is not gRPC's becomes one: its status is mapped and its body is the message.
package grpcweb

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/filter/grpcstats"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

type factory struct {
	name     string
	counters *grpcstats.Counters
}

// New returns the factory of filters with a name in the chain.
func New(name string, counters *grpcstats.Counters) stream.Factory { return &factory{name, counters} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(w *pool.Worker) any {
	return &filter{factory: f, cache: w.Local(f.counters, func() any { return f.counters.Cache() }).(*grpcstats.Cache)}
}

// A filter handles one stream.
type filter struct {
	*factory
	cache             *grpcstats.Cache
	set               *stats.GRPC // nil: nothing to count
	web               bool        // the request is gRPC-Web's
	textRequest, text bool        // in base64: the request, the response
	foreign           bool        // the response is not gRPC's
	decoder           decoder
	encoder           encoder
	out               []byte // what took the place of a piece
}

// Content types, and values of other fields.
var (
	web        = []byte("application/grpc-web")
	webProto   = []byte("application/grpc-web+proto")
	webText    = []byte("application/grpc-web-text")
	webTextP   = []byte("application/grpc-web-text+proto")
	plain      = []byte("application/grpc")
	trailers   = []byte("trailers")
	encodings  = []byte("grpc-accept-encoding")
	noEncoding = []byte("identity")
)

func isText(v []byte) bool { return bytes.Equal(v, webText) || bytes.Equal(v, webTextP) }

// OnRequest makes a gRPC call of a gRPC-Web call.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	kind := m.Get(header.ContentType)
	f.textRequest = isText(kind)
	if !f.textRequest && !bytes.Equal(kind, web) && !bytes.Equal(kind, webProto) {
		return stream.Continue
	}
	f.web = true
	f.text = isText(m.Get(header.Accept))
	if c := s.Worker.Source.Cluster(s.Cluster); c != nil {
		f.set = f.cache.Method(c.StatName, m.Get(header.Path))
	}
	m.Remove(header.ContentLength) // it counts text, or is not needed
	m.Set(header.ContentType, plain)
	m.Set(header.TE, trailers)
	if m.Lookup(encodings) == nil {
		m.AddName(encodings, noEncoding)
	}
	return stream.Continue
}

// OnRequestData decodes text.
func (f *filter) OnRequestData(s *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	if !f.textRequest {
		return stream.Continue
	}
	var ok bool
	if f.out, ok = f.decoder.decode(f.out[:0], b.Bytes); !ok {
		return s.Reply(400, "Bad gRPC-web request, invalid base64 data.", "grpc_base_64_decode_failed")
	}
	if end && f.decoder.pending() {
		return s.Reply(400, "Bad gRPC-web request, invalid base64 data.", "grpc_base_64_decode_failed_bad_size")
	}
	b.Bytes = f.out
	return stream.Continue
}

// maxMessage bounds the body of a foreign response that becomes a message.
const maxMessage = 16 << 10

// OnResponse makes a gRPC-Web response.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	if !f.web {
		return stream.Continue
	}
	grpcstats.Charge(f.set, m.Get(header.GrpcStatus))
	f.foreign = !header.IsGRPCResponse(m, s.ResponseEnds()) && !isWeb(m)
	m.Remove(header.ContentLength)
	if f.text {
		m.Set(header.ContentType, webTextP)
	} else {
		m.Set(header.ContentType, webProto)
	}
	if s.ResponseEnds() || !f.foreign {
		return stream.Continue
	}
	return s.CollectResponse(maxMessage, true)
}

func isWeb(m *header.Map) bool {
	kind, _, _ := bytes.Cut(m.Get(header.ContentType), []byte{';'})
	kind = bytes.TrimRight(kind, " \t")
	return string(m.Get(header.Status)) == "200" && (bytes.EqualFold(kind, web) || bytes.EqualFold(kind, webProto))
}

// OnRequestWhole is never called: requests are not collected.
func (f *filter) OnRequestWhole(_ *stream.Stream, body []byte) []byte { return body }

// OnResponseWhole makes status and message of a foreign response.
func (f *filter) OnResponseWhole(s *stream.Stream, body []byte) []byte {
	m := s.Response
	m.Set(header.GrpcMessage, stream.AppendPercent(nil, string(body)))
	m.SetCopy(header.GrpcStatus, strconv.AppendInt(nil, int64(access.HTTPToGRPC(m.StatusCode())), 10))
	m.Set(header.ContentLength, zero)
	return body[:0]
}

var zero = []byte("0")

// OnResponseData encodes text.
func (f *filter) OnResponseData(_ *stream.Stream, b *stream.Buffer, _ bool) stream.Verdict {
	if f.web && f.text && !f.foreign {
		f.out = f.encoder.encode(f.out[:0], b.Bytes)
		b.Bytes = f.out
	}
	return stream.Continue
}

// OnRequestTrailers passes them on.
func (f *filter) OnRequestTrailers(*stream.Stream, *header.Map) stream.Verdict {
	return stream.Continue
}

// OnResponseTrailers makes the body's last frame of the trailers.
func (f *filter) OnResponseTrailers(s *stream.Stream, m *header.Map) stream.Verdict {
	if !f.web {
		return stream.Continue
	}
	grpcstats.Charge(f.set, m.Get(header.GrpcStatus))
	if f.foreign {
		return stream.Continue
	}
	frame := append(f.out[:0], trailerFlag, 0, 0, 0, 0)
	for _, t := range m.Fields() {
		frame = append(append(append(append(frame, t.Name...), ':'), t.Value...), "\r\n"...)
	}
	binary.BigEndian.PutUint32(frame[1:], uint32(len(frame)-5))
	m.Reset() // they are in the body now
	if f.text {
		frame = appendBase64(nil, frame)
	}
	f.out = frame
	s.InjectResponse(f, frame, false)
	return stream.Continue
}

// trailerFlag marks the frame that holds trailers.
const trailerFlag = 0x80

// OnEnd forgets the stream.
func (f *filter) OnEnd(*stream.Stream) {
	f.web, f.textRequest, f.text, f.foreign, f.set = false, false, false, false, nil
	f.decoder, f.encoder = decoder{}, encoder{}
	if f.out = f.out[:0]; cap(f.out) > 64<<10 {
		f.out = nil
	}
}
