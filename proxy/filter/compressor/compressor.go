// Package compressor is the HTTP filter that compresses responses for clients that take it, and requests if it is told to.
//
// Of several such filters in a chain the one with the coding that the client likes best compresses a response;
// filters know of each other through their stream. What has a coding already, is small, or is of no kind that gains by it stays
// as it is, as does everything once a shard's memory for encoders is in use (package coding).
//
// Each piece of a body goes on at once, with what the encoder has of it: nothing waits for more.
package compressor

import (
	"github.com/mallamesh/malla/proxy/coding"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config says what is compressed, and how. It must not change.
type Config struct {
	Encoding    *coding.Encoding
	ChooseFirst bool // of codings that the client likes as much
	Request     Direction
	Response    ResponseDirection
	Headers     *stats.CompressorChoice
}

// A Direction is what requests and responses have in common.
type Direction struct {
	Enabled  bool
	Minimum  uint64 // of a content-length
	Types    Types
	Counters *stats.Compressor
}

// A ResponseDirection says what is special about responses.
type ResponseDirection struct {
	Direction
	NotWithETag  bool         // a response that has one stays as it is
	WeakenETag   bool         // a strong one becomes weak, in place of going
	RemoveAccept bool         // requests go on without accept-encoding
	Not          map[int]bool // statuses of responses that stay as they are
	TellStatus   bool         // a field says why not
}

// A Word is what a route says.
type Word struct {
	Response     *bool // whether responses are compressed
	RemoveAccept *bool
	Encoding     *coding.Encoding // nil: the filter's
}

type factory struct {
	name   string
	config *Config
}

// New returns the factory of filters with a name in the chain.
func New(name string, config *Config) stream.Factory { return &factory{name, config} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(w *pool.Worker) any {
	return &filter{factory: f, stock: w.Local(coding.StockKey{}, func() any { return coding.NewStock() }).(*coding.Stock)}
}

// A filter handles one stream.
type filter struct {
	*factory
	stock    *coding.Stock
	word     *Word // nil: the route says nothing
	accept   []byte
	accepts  bool // the request said what it accepts
	decision decision
	request  encoder
	response encoder
	scratch  []byte
}

// An encoder compresses one body. It has a library's encoder from its first piece to its last.
type encoder struct {
	of  *coding.Encoding // nil: it is off
	use coding.Encoder
	out []byte
}

func (e *encoder) on() bool { return e.of != nil }

// Write takes what the library's encoder writes.
func (e *encoder) Write(b []byte) (int, error) {
	e.out = append(e.out, b...)
	return len(b), nil
}

// begin reports whether there was memory for it.
func (e *encoder) begin(k *coding.Stock, of *coding.Encoding) bool {
	if !k.Reserve(of) {
		return false
	}
	e.of = of
	return true
}

// encode returns what a piece becomes. Its memory is used again for the next.
func (e *encoder) encode(k *coding.Stock, b []byte, end bool, count *stats.Compressor) []byte {
	if e.out = e.out[:0]; e.use == nil {
		e.use = k.Encoder(e.of, e)
	}
	e.use.Write(b) // none of these fails: what they write to does not
	if end {
		e.use.Close()
	} else {
		e.use.Flush()
	}
	count.UncompressedBytes.Add(uint64(len(b)))
	count.CompressedBytes.Add(uint64(len(e.out)))
	out := e.out
	if end {
		e.stop(k) // for the next body of this turn
	}
	return out
}

func (e *encoder) stop(k *coding.Stock) {
	switch {
	case e.of == nil:
		return
	case e.use == nil:
		k.Release(e.of)
	default:
		k.Return(e.of, e.use)
	}
	e.of, e.use = nil, nil
	if cap(e.out) > 64<<10 {
		e.out = nil
	}
}

// encoding is what this route compresses with.
func (f *filter) encoding() *coding.Encoding {
	if f.word != nil && f.word.Encoding != nil {
		return f.word.Encoding
	}
	return f.config.Encoding
}

// or returns what the route says, or else the filter.
func or(word *bool, config bool) bool {
	if word != nil {
		return *word
	}
	return config
}

func (f *filter) responseEnabled() bool {
	if f.word != nil {
		return or(f.word.Response, f.config.Response.Enabled)
	}
	return f.config.Response.Enabled
}

// OnRequest notes what the client accepts, and begins to compress the request if it is to.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	f.word, _ = s.FilterConfig(f.name).(*Word)
	if v := m.Get(header.AcceptEncoding); v != nil || m.Has(header.AcceptEncoding) {
		f.accept, f.accepts = append(f.accept[:0], v...), true
	}
	remove := f.config.Response.RemoveAccept
	if f.word != nil {
		remove = or(f.word.RemoveAccept, remove)
	}
	if remove && f.responseEnabled() {
		m.Remove(header.AcceptEncoding)
	}
	d := &f.config.Request
	if s.RequestEnded() || !d.Enabled || s.Upgrade || !d.long(m) || !d.Types.has(m) || m.Has(header.ContentEncoding) || !f.request.begin(f.stock, f.encoding()) {
		d.Counters.NotCompressed.Inc()
		return stream.Continue
	}
	m.Remove(header.ContentLength)
	m.SetCopy(header.ContentEncoding, []byte(f.encoding().Name))
	d.Counters.Compressed.Inc()
	return stream.Continue
}

// OnRequestData compresses a piece.
func (f *filter) OnRequestData(_ *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	if f.request.on() {
		b.Bytes = f.request.encode(f.stock, b.Bytes, end, f.config.Request.Counters)
	}
	return stream.Continue
}

// OnRequestTrailers ends the body that they follow.
func (f *filter) OnRequestTrailers(s *stream.Stream, _ *header.Map) stream.Verdict {
	if f.request.on() {
		s.InjectRequest(f, f.request.encode(f.stock, nil, true, f.config.Request.Counters), false)
	}
	return stream.Continue
}

// OnResponse begins to compress a response that is to be.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	d := &f.config.Response
	var compressible, chosen bool
	reason := ""
	if d.TellStatus {
		compressible, chosen, reason = f.judgeAndTell(s, m)
	} else {
		compressible, chosen = f.judge(s, m)
	}
	length := m.Get(header.ContentLength)
	if chosen && f.response.begin(f.stock, f.encoding()) {
		d.sanitizeETag(m)
		if d.TellStatus {
			f.tell(m, "Compressed;OriginalLength=", length)
		}
		m.Remove(header.ContentLength)
		m.SetCopy(header.ContentEncoding, []byte(f.encoding().Name))
		d.Counters.Compressed.Inc()
	} else {
		if reason != "" {
			f.tell(m, reason, nil)
		}
		d.Counters.NotCompressed.Inc()
	}
	if compressible { // a cache is to know that another client would get another answer
		vary(m)
	}
	return stream.Continue
}

// tell adds what has become of the response.
func (f *filter) tell(m *header.Map, what string, more []byte) {
	v := append(append(f.scratch[:0], f.encoding().Name...), ';')
	f.scratch = append(append(v, what...), more...)
	m.AddName(statusName, m.Copy(f.scratch))
}

var statusName = []byte("x-envoy-compression-status")

// tunnel reports whether a response switches to another protocol.
func tunnel(s *stream.Stream, m *header.Map) bool {
	return s.Upgrade && (string(m.Get(header.Status)) == "101" || string(s.Request.Get(header.Method)) == "CONNECT")
}

// judge says whether a response could be compressed, and whether it is.
func (f *filter) judge(s *stream.Stream, m *header.Map) (compressible, chosen bool) {
	d := &f.config.Response
	candidate := f.responseEnabled() && d.long(m)
	compressible = candidate && !tunnel(s, m) && d.Types.has(m) && !noTransform(m) && f.etagAllowed(m) && !m.Has(header.ContentEncoding) && !d.Not[m.StatusCode()]
	chosen = !s.ResponseEnds() && candidate && f.chosen(s, m)
	return compressible, chosen && compressible
}

// judgeAndTell is judge with the first reason why not. As in Envoy, the order is another one then, and what is too short counts twice.
func (f *filter) judgeAndTell(s *stream.Stream, m *header.Map) (compressible, chosen bool, reason string) {
	d := &f.config.Response
	if !f.responseEnabled() || tunnel(s, m) || noTransform(m) || m.Has(header.ContentEncoding) {
		return false, false, ""
	}
	compressible = d.long(m) && d.Types.has(m) && !d.etagForbids(m) && !d.Not[m.StatusCode()]
	if s.ResponseEnds() {
		return compressible, false, ""
	}
	switch {
	case !d.long(m):
		reason = "ContentLengthTooSmall"
	case !d.Types.has(m):
		reason = "ContentTypeNotAllowed"
	case !f.etagAllowed(m):
		reason = "EtagNotAllowed"
	case d.Not[m.StatusCode()]:
		reason = "StatusCodeNotAllowed"
	}
	return compressible, reason == "" && f.chosen(s, m), reason
}

// OnResponseData compresses a piece.
func (f *filter) OnResponseData(_ *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	if f.response.on() {
		b.Bytes = f.response.encode(f.stock, b.Bytes, end, f.config.Response.Counters)
	}
	return stream.Continue
}

// OnResponseTrailers ends the body that they follow.
func (f *filter) OnResponseTrailers(s *stream.Stream, _ *header.Map) stream.Verdict {
	if f.response.on() {
		s.InjectResponse(f, f.response.encode(f.stock, nil, true, f.config.Response.Counters), false)
	}
	return stream.Continue
}

// OnEnd forgets the stream.
func (f *filter) OnEnd(*stream.Stream) {
	f.request.stop(f.stock)
	f.response.stop(f.stock)
	f.word, f.accepts, f.decision = nil, false, decision{}
}

// Default returns the media types that are compressed unless others are named.
func Default() Types { return NewTypes(defaultTypes, nil) }

// NewTypes returns a set of media types, by name or else by conditions.
func NewTypes(names []string, matchers []*route.Matcher) Types {
	t := Types{matchers: matchers}
	for _, n := range names {
		t.names = append(t.names, []byte(n))
	}
	return t
}

// OnUnasked has nothing to prepare: nobody has said what the client accepts.
func (f *filter) OnUnasked(*stream.Stream) {}
