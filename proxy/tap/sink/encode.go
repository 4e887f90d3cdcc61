package sink

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tapv3 "github.com/envoyproxy/go-control-plane/envoy/data/tap/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/tap"
)

// A Format is how traces are written.
type Format uint8

// Formats.
const (
	JSONBytes  Format = iota // bodies in base64
	JSONString               // bodies as text
	Binary
	Delimited // binary, each after its length
	Text
)

// Extension is the end of the name of a file in a format, as Envoy has it.
func (f Format) Extension() string {
	return [...]string{".json", ".json", ".pb", ".pb_length_delimited", ".pb_text"}[f]
}

// Encode writes a trace as Envoy does.
func (f Format) Encode(t *tap.Trace) ([]byte, error) {
	m := wrapper(t, f == JSONString)
	switch f {
	case Binary:
		return proto.Marshal(m)
	case Delimited:
		var b bytes.Buffer
		_, err := protodelim.MarshalTo(&b, m)
		return b.Bytes(), err
	case Text:
		return prototext.MarshalOptions{Multiline: true, Indent: "  "}.Marshal(m)
	}
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer // protojson varies its own spaces on purpose
	err = json.Indent(&b, text, "", " ")
	b.WriteByte('\n')
	return b.Bytes(), err
}

// wrapper is a trace as Envoy's message.
func wrapper(t *tap.Trace, text bool) *tapv3.TraceWrapper {
	out := &tapv3.TraceWrapper{ConfiguredSampleRate: percent(t.Share)}
	if t.Piece != tap.Whole {
		out.Trace = &tapv3.TraceWrapper_HttpStreamedTraceSegment{HttpStreamedTraceSegment: segment(t, text)}
		return out
	}
	out.Trace = &tapv3.TraceWrapper_HttpBufferedTrace{HttpBufferedTrace: &tapv3.HttpBufferedTrace{
		Request: message(&t.Request, text), Response: message(&t.Response, text), DownstreamConnection: connection(t.Downstream), UpstreamConnection: connection(t.Upstream),
	}}
	return out
}

func segment(t *tap.Trace, text bool) *tapv3.HttpStreamedTraceSegment {
	out := &tapv3.HttpStreamedTraceSegment{TraceId: t.ID}
	switch t.Piece {
	case tap.RequestHeaders:
		out.MessagePiece = &tapv3.HttpStreamedTraceSegment_RequestHeaders{RequestHeaders: &corev3.HeaderMap{Headers: values(t.Request.Headers)}}
	case tap.RequestBody:
		out.MessagePiece = &tapv3.HttpStreamedTraceSegment_RequestBodyChunk{RequestBodyChunk: body(&t.Request, text)}
	case tap.RequestTrailers:
		out.MessagePiece = &tapv3.HttpStreamedTraceSegment_RequestTrailers{RequestTrailers: &corev3.HeaderMap{Headers: values(t.Request.Trailers)}}
	case tap.ResponseHeaders:
		out.MessagePiece = &tapv3.HttpStreamedTraceSegment_ResponseHeaders{ResponseHeaders: &corev3.HeaderMap{Headers: values(t.Response.Headers)}}
	case tap.ResponseBody:
		out.MessagePiece = &tapv3.HttpStreamedTraceSegment_ResponseBodyChunk{ResponseBodyChunk: body(&t.Response, text)}
	case tap.ResponseTrailers:
		out.MessagePiece = &tapv3.HttpStreamedTraceSegment_ResponseTrailers{ResponseTrailers: &corev3.HeaderMap{Headers: values(t.Response.Trailers)}}
	}
	return out
}

func message(m *tap.Message, text bool) *tapv3.HttpBufferedTrace_Message {
	if m.Headers == nil && m.Trailers == nil && m.Body == nil {
		return nil
	}
	out := &tapv3.HttpBufferedTrace_Message{Headers: values(m.Headers), Trailers: values(m.Trailers), Body: body(m, text)}
	if !m.Received.IsZero() {
		out.HeadersReceivedTime = timestamppb.New(m.Received)
	}
	return out
}

func body(m *tap.Message, text bool) *tapv3.Body {
	switch {
	case m.Body == nil:
		return nil
	case text:
		return &tapv3.Body{BodyType: &tapv3.Body_AsString{AsString: valid(string(m.Body))}, Truncated: m.Truncated}
	}
	return &tapv3.Body{BodyType: &tapv3.Body_AsBytes{AsBytes: m.Body}, Truncated: m.Truncated}
}

func values(fields []tap.Field) []*corev3.HeaderValue {
	var out []*corev3.HeaderValue
	for _, f := range fields {
		out = append(out, &corev3.HeaderValue{Key: valid(f.Name), Value: valid(f.Value)})
	}
	return out
}

// valid replaces what is no UTF-8, byte by byte as Envoy does: JSON has no room for it.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var out []byte
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			out = append(out, '!')
		} else {
			out = append(out, s[:n]...)
		}
		s = s[n:]
	}
	return string(out)
}

func connection(c *tap.Connection) *tapv3.Connection {
	if c == nil {
		return nil
	}
	return &tapv3.Connection{LocalAddress: address(c.Local), RemoteAddress: address(c.Remote)}
}

func address(a netip.AddrPort) *corev3.Address {
	if !a.IsValid() {
		return nil
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().Unmap().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func percent(f *route.Fraction) *typev3.FractionalPercent {
	if f == nil {
		return nil
	}
	out := &typev3.FractionalPercent{Numerator: f.Numerator}
	switch f.Denominator {
	case 10_000:
		out.Denominator = typev3.FractionalPercent_TEN_THOUSAND
	case 1_000_000:
		out.Denominator = typev3.FractionalPercent_MILLION
	}
	return out
}
