package build

import (
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	matchv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	tapv3 "github.com/envoyproxy/go-control-plane/envoy/config/tap/v3"
	commontapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/tap/v3"
	tapfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/tap/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	tapfilter "github.com/mallamesh/malla/proxy/filter/tap"
	"github.com/mallamesh/malla/proxy/stream"
	"github.com/mallamesh/malla/proxy/tap"
	"github.com/mallamesh/malla/proxy/tap/sink"
)

const noTapService = "taps go to files and to who asks the administration interface"

// tapFields are what a tap is told, in a listener or by the administration interface; predicateFields are what it
// has in common with others.
var tapFields = []*Message{
	message((*tapfilterv3.Tap)(nil), reads("common_config", "record_headers_received_time", "record_downstream_connection", "record_upstream_connection")),
	message((*commontapv3.CommonExtensionConfig)(nil), reads("admin_config", "static_config")),
	message((*commontapv3.AdminConfig)(nil), reads("config_id")),
	message((*adminv3.TapRequest)(nil), reads("config_id", "tap_config")),
	message((*tapv3.TapConfig)(nil), reads("match_config", "match", "output_config", "tap_enabled")),
	message((*tapv3.OutputConfig)(nil), reads("sinks", "max_buffered_rx_bytes", "max_buffered_tx_bytes", "streaming"),
		refuses("is for taps of transport sockets, which there are none of", "min_streamed_sent_bytes")),
	message((*tapv3.OutputSink)(nil), reads("format", "streaming_admin", "file_per_tap", "buffered_admin"), refuses(noTapService, "streaming_grpc", "custom_sink")),
	message((*tapv3.StreamingAdminSink)(nil)),
	message((*tapv3.BufferedAdminSink)(nil), reads("max_traces", "timeout")),
	message((*tapv3.FilePerTapSink)(nil), reads("path_prefix")),
	message((*matchv3.HttpGenericBodyMatch)(nil), reads("bytes_limit", "patterns")),
	message((*matchv3.HttpGenericBodyMatch_GenericTextMatch)(nil), reads("string_match", "binary_match")),
	message((*tapv3.MatchPredicate)(nil), reads("or_match", "and_match", "not_match", "any_match", "http_request_headers_match", "http_request_trailers_match",
		"http_response_headers_match", "http_response_trailers_match", "http_request_generic_body_match", "http_response_generic_body_match")),
	message((*tapv3.MatchPredicate_MatchSet)(nil), reads("rules")),
	message((*tapv3.HttpHeadersMatch)(nil), reads("headers")),
	message((*tapv3.HttpGenericBodyMatch)(nil), reads("bytes_limit", "patterns")),
	message((*tapv3.HttpGenericBodyMatch_GenericTextMatch)(nil), reads("string_match", "binary_match")),
}

// tap makes a filter that records streams. Its point is known to the administration interface for as long as the listener lives.
func (r *listenerReader) tap(name string, m *tapfilterv3.Tap, c *stream.Config, at *field.Path) stream.Factory {
	set, scope := r.env.Stats.Tap(c.StatPrefix)
	r.scopes = append(r.scopes, scope)
	point := &tap.Point{}
	at = at.Child("common_config")
	switch common := m.GetCommonConfig(); common.GetConfigType().(type) {
	case *commontapv3.CommonExtensionConfig_AdminConfig:
		id := common.GetAdminConfig().GetConfigId()
		if id == "" {
			r.errs.Addf(at.Child("admin_config").Child("config_id"), "is empty")
		}
		if r.env.Taps != nil {
			r.closers = append(r.closers, r.env.Taps.Add(id, point))
		}
	case *commontapv3.CommonExtensionConfig_StaticConfig:
		config, _ := r.tapConfig(common.GetStaticConfig(), false, at.Child("static_config"))
		point.Set(config)
	default:
		r.errs.Addf(at, "says nothing, want admin_config or static_config")
	}
	return tapfilter.New(name, &tapfilter.Config{
		Point: point, Times: m.GetRecordHeadersReceivedTime(), Downstream: m.GetRecordDownstreamConnection(), Upstream: m.GetRecordUpstreamConnection(),
	}, set)
}

// ReadTap reads what somebody asks the administration interface for: the name of the points, and what to record, for a reader.
func ReadTap(env *Env, text []byte) (id string, c *tap.Config, out *sink.Reader, err error) {
	m := &adminv3.TapRequest{}
	if err := parse("", text, m, nil); len(err) > 0 {
		return "", nil, nil, err
	}
	if errs := Check(m); len(errs) > 0 {
		return "", nil, nil, errs.Err()
	}
	r := &reader{env: env}
	if m.GetConfigId() == "" {
		r.errs.Addf(field.At("config_id"), "is empty")
	}
	c, out = r.tapConfig(m.GetTapConfig(), true, field.At("tap_config"))
	return m.GetConfigId(), c, out, r.errs.Err()
}

// tapConfig reads what is recorded, and the reader of it if somebody asks.
func (r *reader) tapConfig(m *tapv3.TapConfig, asked bool, at *field.Path) (*tap.Config, *sink.Reader) {
	o := m.GetOutputConfig()
	c := &tap.Config{Streaming: o.GetStreaming(), MaxRx: orDefaultSize(o.GetMaxBufferedRxBytes()), MaxTx: orDefaultSize(o.GetMaxBufferedTxBytes())}
	c.Share = r.runtimeFraction(m.GetTapEnabled(), at.Child("tap_enabled"))
	match := m.GetMatch()
	if old := m.GetMatchConfig(); match == nil && old != nil { //nolint:staticcheck // deprecated for match, and the same on the wire
		match = &matchv3.MatchPredicate{}
		if text, err := proto.Marshal(old); err != nil || proto.Unmarshal(text, match) != nil {
			r.errs.Addf(at.Child("match_config"), "cannot be read")
		}
	}
	c.Predicate = r.tapPredicate(match, at.Child("match"))
	at = at.Child("output_config").Child("sinks")
	if len(o.GetSinks()) != 1 {
		r.errs.Addf(at, "has %d sinks, want one", len(o.GetSinks()))
		return c, nil
	}
	to := o.GetSinks()[0]
	format := sink.Format(to.GetFormat())
	if format > sink.Text {
		r.errs.Addf(at.Index(0).Child("format"), "found %v, want a format", to.GetFormat())
		format = sink.JSONBytes
	}
	var out *sink.Reader
	switch to.GetOutputSinkType().(type) {
	case *tapv3.OutputSink_FilePerTap:
		prefix := to.GetFilePerTap().GetPathPrefix()
		if prefix == "" {
			r.errs.Addf(at.Index(0).Child("file_per_tap").Child("path_prefix"), "is empty")
		}
		c.Sink = sink.NewFiles(prefix, format, r.env.Log)
	case *tapv3.OutputSink_StreamingAdmin:
		_ = to.GetStreamingAdmin() // it has no fields
		out = sink.NewReader(format)
	case *tapv3.OutputSink_BufferedAdmin:
		out = sink.NewReader(format)
		b := to.GetBufferedAdmin()
		out.Block, out.Max, out.Timeout = true, b.GetMaxTraces(), r.orDefault(b.GetTimeout(), time.Duration(0), at.Index(0).Child("buffered_admin").Child("timeout"))
		if out.Max == 0 {
			r.errs.Addf(at.Index(0).Child("buffered_admin").Child("max_traces"), "found 0, want at least 1")
		}
	}
	switch {
	case out != nil && !asked:
		r.errs.Addf(at.Index(0), "is a sink of the administration interface, want file_per_tap")
	case out != nil && format == sink.Binary, out != nil && format == sink.Text:
		r.errs.Addf(at.Index(0).Child("format"), "found %v, want JSON or PROTO_BINARY_LENGTH_DELIMITED", to.GetFormat())
	case out != nil:
		c.Sink = out
	case c.Sink == nil:
		r.errs.Addf(at.Index(0), "says not where to, want file_per_tap, streaming_admin or buffered_admin")
	}
	return c, out
}

func orDefaultSize(v *wrapperspb.UInt32Value) int {
	if v == nil {
		return tap.DefaultMax
	}
	return int(v.GetValue())
}

// tapPredicate reads which streams are meant.
func (r *reader) tapPredicate(m *matchv3.MatchPredicate, at *field.Path) *tap.Predicate {
	p := &tap.Predicate{}
	fields := func(h *matchv3.HttpHeadersMatch, at *field.Path) *tap.Fields {
		return &tap.Fields{Conditions: r.matchers(h.GetHeaders(), at.Child("headers"))}
	}
	switch m.GetRule().(type) {
	case *matchv3.MatchPredicate_OrMatch:
		p.Or = r.tapPredicates(m.GetOrMatch(), at.Child("or_match"))
	case *matchv3.MatchPredicate_AndMatch:
		p.And = r.tapPredicates(m.GetAndMatch(), at.Child("and_match"))
	case *matchv3.MatchPredicate_NotMatch:
		p.Not = r.tapPredicate(m.GetNotMatch(), at.Child("not_match"))
	case *matchv3.MatchPredicate_AnyMatch:
		if !m.GetAnyMatch() {
			r.errs.Addf(at.Child("any_match"), "found false, want true")
		}
	case *matchv3.MatchPredicate_HttpRequestHeadersMatch:
		p.RequestHeaders = fields(m.GetHttpRequestHeadersMatch(), at.Child("http_request_headers_match"))
	case *matchv3.MatchPredicate_HttpRequestTrailersMatch:
		p.RequestTrailers = fields(m.GetHttpRequestTrailersMatch(), at.Child("http_request_trailers_match"))
	case *matchv3.MatchPredicate_HttpResponseHeadersMatch:
		p.ResponseHeaders = fields(m.GetHttpResponseHeadersMatch(), at.Child("http_response_headers_match"))
	case *matchv3.MatchPredicate_HttpResponseTrailersMatch:
		p.ResponseTrailers = fields(m.GetHttpResponseTrailersMatch(), at.Child("http_response_trailers_match"))
	case *matchv3.MatchPredicate_HttpRequestGenericBodyMatch:
		p.RequestBody = r.tapSearch(m.GetHttpRequestGenericBodyMatch(), at.Child("http_request_generic_body_match"))
	case *matchv3.MatchPredicate_HttpResponseGenericBodyMatch:
		p.ResponseBody = r.tapSearch(m.GetHttpResponseGenericBodyMatch(), at.Child("http_response_generic_body_match"))
	default:
		r.errs.Addf(at, "says not which streams, want any_match or another rule")
	}
	return p
}

func (r *reader) tapPredicates(set *matchv3.MatchPredicate_MatchSet, at *field.Path) []*tap.Predicate {
	at = at.Child("rules")
	if len(set.GetRules()) < 2 {
		r.errs.Addf(at, "has %d rules, want at least 2", len(set.GetRules()))
	}
	var out []*tap.Predicate
	for i, m := range set.GetRules() {
		out = append(out, r.tapPredicate(m, at.Index(i)))
	}
	return out
}

func (r *reader) tapSearch(m *matchv3.HttpGenericBodyMatch, at *field.Path) *tap.Search {
	s := &tap.Search{Limit: int(m.GetBytesLimit())}
	if len(m.GetPatterns()) == 0 {
		r.errs.Addf(at.Child("patterns"), "is empty, want at least one")
	}
	for i, p := range m.GetPatterns() {
		text := p.GetBinaryMatch()
		if _, ok := p.GetRule().(*matchv3.HttpGenericBodyMatch_GenericTextMatch_StringMatch); ok {
			text = []byte(p.GetStringMatch())
		}
		if len(text) == 0 {
			r.errs.Addf(at.Child("patterns").Index(i), "is empty")
		}
		s.Patterns = append(s.Patterns, text)
	}
	return s
}
