package build

import (
	"errors"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	brotliv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/brotli/compressor/v3"
	unbrotliv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/brotli/decompressor/v3"
	gzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/compressor/v3"
	gunzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/decompressor/v3"
	zstdv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/zstd/compressor/v3"
	unzstdv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/zstd/decompressor/v3"
	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	decompressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/decompressor/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/coding"
	"github.com/mallamesh/malla/proxy/filter/compressor"
	"github.com/mallamesh/malla/proxy/filter/decompressor"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// Why some of the libraries' fields have no effect.
const (
	ownBuffers = "buffers are as large as they need to be"
	ownSearch  = "the encoder is another library, whose search is not told how"
)

var compressionFields = []*Message{
	message((*compressorv3.Compressor)(nil), reads("content_length", "content_type", "disable_on_etag_header", "remove_accept_encoding_header", "runtime_enabled",
		"compressor_library", "request_direction_config", "response_direction_config", "choose_first")),
	message((*compressorv3.Compressor_CommonDirectionConfig)(nil), reads("enabled", "min_content_length", "content_type", "content_type_matcher")),
	message((*compressorv3.Compressor_RequestDirectionConfig)(nil), reads("common_config")),
	message((*compressorv3.Compressor_ResponseDirectionConfig)(nil), reads("common_config", "disable_on_etag_header", "weaken_etag_on_compress",
		"remove_accept_encoding_header", "uncompressible_response_codes", "status_header_enabled")),
	message((*compressorv3.CompressorPerRoute)(nil), reads("disabled", "overrides")),
	message((*compressorv3.CompressorOverrides)(nil), reads("response_direction_config", "compressor_library")),
	message((*compressorv3.ResponseDirectionOverrides)(nil), reads("remove_accept_encoding_header")),
	message((*gzipv3.Gzip)(nil), reads("compression_level", "compression_strategy", "window_bits"), ignores(ownBuffers, "chunk_size", "memory_level")),
	message((*brotliv3.Brotli)(nil), reads("quality", "window_bits"), ignores(ownBuffers, "chunk_size", "input_block_bits"),
		ignores(ownSearch, "encoder_mode", "disable_literal_context_modeling")),
	message((*zstdv3.Zstd)(nil), reads("compression_level", "enable_checksum", "dictionary"), ignores(ownBuffers, "chunk_size"), ignores(ownSearch, "strategy")),

	message((*decompressorv3.Decompressor)(nil), reads("decompressor_library", "request_direction_config", "response_direction_config")),
	message((*decompressorv3.Decompressor_CommonDirectionConfig)(nil), reads("enabled", "ignore_no_transform_header")),
	message((*decompressorv3.Decompressor_RequestDirectionConfig)(nil), reads("common_config", "advertise_accept_encoding")),
	message((*decompressorv3.Decompressor_ResponseDirectionConfig)(nil), reads("common_config")),
	message((*gunzipv3.Gzip)(nil), reads("max_inflate_ratio"), ignores(ownBuffers, "chunk_size"), ignores("every window can be read", "window_bits")),
	message((*unbrotliv3.Brotli)(nil), ignores(ownBuffers, "chunk_size", "disable_ring_buffer_reallocation")),
	message((*unzstdv3.Zstd)(nil), reads("dictionaries"), ignores(ownBuffers, "chunk_size")),
}

// between checks a number that has a default.
func (r *reader) between(v *wrapperspb.UInt32Value, byDefault, low, high uint32, at *field.Path) int {
	if v == nil {
		return int(byDefault)
	}
	if n := v.GetValue(); n < low || n > high {
		r.errs.Addf(at, "found %d, want %d to %d", n, low, high)
		return int(byDefault)
	}
	return int(v.GetValue())
}

// encoding reads a compressor's library. kind is what statistics call it.
func (r *reader) encoding(l *corev3.TypedExtensionConfig, at *field.Path) (e *coding.Encoding, kind string) {
	at = at.Child("typed_config")
	switch m := r.unpack(l.GetTypedConfig(), at).(type) {
	case nil:
	case *gzipv3.Gzip:
		level := int(m.GetCompressionLevel())
		switch {
		case level < 0 || level > 9:
			r.errs.Addf(at.Child("compression_level"), "found %v, want one of the enum", m.GetCompressionLevel())
			level = coding.DefaultLevel
		case m.GetCompressionStrategy() == gzipv3.Gzip_HUFFMAN_ONLY:
			level = coding.HuffmanOnly
		case level == 0:
			level = coding.DefaultLevel
		}
		return coding.NewGzip(level, r.between(m.GetWindowBits(), 0, 9, 15, at.Child("window_bits"))), "gzip"
	case *brotliv3.Brotli:
		return coding.NewBrotli(r.between(m.GetQuality(), 3, 0, 11, at.Child("quality")), r.between(m.GetWindowBits(), 18, 10, 24, at.Child("window_bits"))), "brotli"
	case *zstdv3.Zstd:
		level := int(m.GetCompressionLevel().GetValue())
		if level == 0 {
			level = 3
		}
		var dictionary []byte
		if m.GetDictionary() != nil {
			dictionary = r.data(m.GetDictionary(), at.Child("dictionary"))
		}
		e, err := coding.NewZstd(level, m.GetEnableChecksum(), dictionary)
		if err != nil {
			r.errs.Addf(at.Child("dictionary"), "%v", err)
		}
		return e, "zstd"
	default:
		r.errs.Addf(at, "found %s, want a compressor of gzip, brotli or zstd", anyName(m))
	}
	return nil, ""
}

func (r *listenerReader) compressor(name string, m *compressorv3.Compressor, c *stream.Config, at *field.Path) stream.Factory {
	if m.GetCompressorLibrary() == nil {
		r.errs.Addf(at.Child("compressor_library"), "is not set")
		return compressor.New(name, nil)
	}
	e, kind := r.encoding(m.GetCompressorLibrary(), at.Child("compressor_library"))
	prefix := m.GetCompressorLibrary().GetName() + "." + kind
	counters := func(direction string) *stats.Compressor {
		set, scope := r.env.Stats.Compressor(c.StatPrefix, prefix+direction)
		r.scopes = append(r.scopes, scope)
		return set
	}
	out := &compressor.Config{Encoding: e, ChooseFirst: m.GetChooseFirst()}
	var scope *stats.Scope
	out.Headers, scope = r.env.Stats.CompressorChoice(c.StatPrefix, prefix)
	r.scopes = append(r.scopes, scope)
	if d := m.GetRequestDirectionConfig(); d != nil {
		out.Request = r.direction(d.GetCommonConfig(), at.Child("request_direction_config").Child("common_config"))
	}
	out.Request.Counters = counters(".request")
	if d := m.GetResponseDirectionConfig(); d != nil {
		out.Response = compressor.ResponseDirection{
			Direction: r.direction(d.GetCommonConfig(), at.Child("response_direction_config").Child("common_config")), NotWithETag: d.GetDisableOnEtagHeader(),
			WeakenETag: d.GetWeakenEtagOnCompress(), RemoveAccept: d.GetRemoveAcceptEncodingHeader(), TellStatus: d.GetStatusHeaderEnabled(), Not: map[int]bool{},
		}
		for i, code := range d.GetUncompressibleResponseCodes() {
			if code < 200 || code > 599 {
				r.errs.Addf(at.Child("response_direction_config").Child("uncompressible_response_codes").Index(i), "found %d, want a status from 200 to 599", code)
			}
			out.Response.Not[int(code)] = true
		}
		out.Response.Counters = counters(".response")
		return compressor.New(name, out)
	}
	// Fields of old, for responses only.
	out.Response = compressor.ResponseDirection{
		Direction:   compressor.Direction{Enabled: r.runtimeFlag(m.GetRuntimeEnabled()), Minimum: minimum(m.GetContentLength()), Types: types(m.GetContentType(), nil)}, //nolint:staticcheck // deprecated, and everywhere
		NotWithETag: m.GetDisableOnEtagHeader(), RemoveAccept: m.GetRemoveAcceptEncodingHeader(),                                                                        //nolint:staticcheck // deprecated, and everywhere
	}
	out.Response.Counters = counters("")
	return compressor.New(name, out)
}

func (r *reader) direction(m *compressorv3.Compressor_CommonDirectionConfig, at *field.Path) compressor.Direction {
	return compressor.Direction{
		Enabled: r.runtimeFlag(m.GetEnabled()), Minimum: minimum(m.GetMinContentLength()),
		Types: types(m.GetContentType(), r.stringMatchers(m.GetContentTypeMatcher(), at.Child("content_type_matcher"))), //nolint:staticcheck // deprecated, and everywhere
	}
}

func (r *reader) stringMatchers(list []*matcherv3.StringMatcher, at *field.Path) (out []*route.Matcher) {
	for i, m := range list {
		c, err := route.NewMatcher(r.stringMatch(m, at.Index(i)))
		if err != nil {
			r.errs.Addf(at.Index(i), "%v", err)
			continue
		}
		out = append(out, c)
	}
	return out
}

func types(names []string, matchers []*route.Matcher) compressor.Types {
	switch {
	case len(matchers) > 0:
		return compressor.NewTypes(nil, matchers)
	case len(names) > 0:
		return compressor.NewTypes(names, nil)
	}
	return compressor.Default()
}

// minimum is Envoy's default where nothing is set, or 0.
func minimum(v *wrapperspb.UInt32Value) uint64 {
	if v.GetValue() == 0 {
		return 30
	}
	return uint64(v.GetValue())
}

func (r *reader) compressorWord(m *compressorv3.CompressorPerRoute, at *field.Path) *compressor.Word {
	yes, no := true, false
	if m.GetDisabled() {
		return &compressor.Word{Response: &no}
	}
	o := m.GetOverrides()
	if o == nil {
		r.errs.Addf(at, "wants one of disabled and overrides")
		return nil
	}
	w := &compressor.Word{}
	if d := o.GetResponseDirectionConfig(); d != nil {
		w.Response, w.RemoveAccept = &yes, optionalTruth(d.GetRemoveAcceptEncodingHeader())
	}
	if l := o.GetCompressorLibrary(); l != nil {
		w.Encoding, _ = r.encoding(l, at.Child("overrides").Child("compressor_library"))
	}
	return w
}

func (r *listenerReader) decompressor(name string, m *decompressorv3.Decompressor, c *stream.Config, at *field.Path) stream.Factory {
	out := &decompressor.Config{Library: m.GetDecompressorLibrary().GetName(), Advertise: truth(m.GetRequestDirectionConfig().GetAdvertiseAcceptEncoding(), true)}
	kind := r.decoding(m.GetDecompressorLibrary(), c, out, at.Child("decompressor_library"))
	direction := func(d *decompressorv3.Decompressor_CommonDirectionConfig, name string) decompressor.Direction {
		set, scope := r.env.Stats.Decompressor(c.StatPrefix, out.Library+"."+kind+name)
		r.scopes = append(r.scopes, scope)
		return decompressor.Direction{Enabled: r.runtimeFlag(d.GetEnabled()), IgnoreNoTransform: d.GetIgnoreNoTransformHeader(), Counters: set}
	}
	out.Request = direction(m.GetRequestDirectionConfig().GetCommonConfig(), ".request")
	out.Response = direction(m.GetResponseDirectionConfig().GetCommonConfig(), ".response")
	return decompressor.New(name, out)
}

// decoding reads a decompressor's library, and returns what statistics call it.
func (r *listenerReader) decoding(l *corev3.TypedExtensionConfig, c *stream.Config, out *decompressor.Config, at *field.Path) string {
	if l == nil {
		r.errs.Addf(at, "is not set")
		return ""
	}
	at = at.Child("typed_config")
	switch m := r.unpack(l.GetTypedConfig(), at).(type) {
	case nil:
	case *gunzipv3.Gzip:
		out.Decoding = coding.NewGunzip(r.between(m.GetMaxInflateRatio(), coding.DefaultRatio, 1, 1032, at.Child("max_inflate_ratio")))
		set, scope := stats.DecompressorLibrary[stats.Gunzip](r.env.Stats, c.StatPrefix, l.GetName()+".gzip")
		r.scopes = append(r.scopes, scope)
		out.Failed = func(error) { set.DataError.Inc() }
		return "gzip"
	case *unbrotliv3.Brotli:
		out.Decoding = coding.NewUnbrotli()
		set, scope := stats.DecompressorLibrary[stats.Unbrotli](r.env.Stats, c.StatPrefix, l.GetName()+".brotli")
		r.scopes = append(r.scopes, scope)
		out.Failed = func(err error) {
			if errors.Is(err, coding.ErrTooLarge) {
				set.Overflow.Inc()
				return
			}
			set.Error.Inc()
		}
		return "brotli"
	case *unzstdv3.Zstd:
		var dictionaries [][]byte
		for i, d := range m.GetDictionaries() {
			dictionaries = append(dictionaries, r.data(d, at.Child("dictionaries").Index(i)))
		}
		var err error
		if out.Decoding, err = coding.NewUnzstd(dictionaries); err != nil {
			r.errs.Addf(at.Child("dictionaries"), "%v", err)
		}
		set, scope := stats.DecompressorLibrary[stats.Unzstd](r.env.Stats, c.StatPrefix, l.GetName()+".zstd")
		r.scopes = append(r.scopes, scope)
		out.Failed = func(error) { set.Error.Inc() }
		return "zstd"
	default:
		r.errs.Addf(at, "found %s, want a decompressor of gzip, brotli or zstd", anyName(m))
	}
	return ""
}
