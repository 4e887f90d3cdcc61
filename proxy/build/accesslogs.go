package build

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	celfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	celformatv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/cel/v3"
	metadataformatv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/metadata/v3"
	withoutqueryv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/req_without_query/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cel"
	"github.com/mallamesh/malla/proxy/listen"
)

var accessFields = []*Message{
	message((*accesslogv3.AccessLog)(nil), reads("filter", "typed_config"), ignores("typed_config says what it is", "name")),
	message((*accesslogv3.AccessLogFilter)(nil), reads("status_code_filter", "duration_filter", "and_filter", "or_filter", "response_flag_filter", "not_health_check_filter",
		"header_filter", "grpc_status_filter", "log_type_filter", "runtime_filter", "metadata_filter", "traceable_filter", "extension_filter")),
	message((*accesslogv3.TraceableFilter)(nil)),
	message((*accesslogv3.ExtensionFilter)(nil), reads("typed_config"), ignores("typed_config says what it is", "name")),
	message((*celfilterv3.ExpressionFilter)(nil), reads("expression", "cel_config")),
	message((*celformatv3.Cel)(nil), reads("cel_config")),
	message((*corev3.CelExpressionConfig)(nil), reads("enable_string_conversion", "enable_string_concat"),
		refuses("a request could have replace() take as much memory as it likes", "enable_string_functions")),
	message((*accesslogv3.HeaderFilter)(nil), reads("header")),
	message((*accesslogv3.GrpcStatusFilter)(nil), reads("statuses", "exclude")),
	message((*accesslogv3.LogTypeFilter)(nil), reads("types", "exclude")),
	message((*accesslogv3.RuntimeFilter)(nil), reads("runtime_key", "percent_sampled", "use_independent_randomness")),
	message((*accesslogv3.NotHealthCheckFilter)(nil)),
	message((*accesslogv3.AndFilter)(nil), reads("filters")),
	message((*accesslogv3.OrFilter)(nil), reads("filters")),
	message((*accesslogv3.StatusCodeFilter)(nil), reads("comparison")),
	message((*accesslogv3.DurationFilter)(nil), reads("comparison")),
	message((*accesslogv3.ComparisonFilter)(nil), reads("op", "value")),
	message((*accesslogv3.ResponseFlagFilter)(nil), reads("flags")),
	message((*filev3.FileAccessLog)(nil), reads("path", "log_format", "format", "json_format", "typed_json_format")),
	message((*streamv3.StdoutAccessLog)(nil), reads("log_format")),
	message((*streamv3.StderrAccessLog)(nil), reads("log_format")),
	message((*corev3.SubstitutionFormatString)(nil), reads("text_format_source", "text_format", "json_format", "omit_empty_values", "content_type", "formatters"),
		ignores("properties are always sorted", "json_format_options")),
	message((*metadataformatv3.Metadata)(nil)),
	message((*withoutqueryv3.ReqWithoutQuery)(nil)),
	message((*corev3.JsonFormatOptions)(nil), ignores("properties are always sorted", "sort_properties")),
}

type accesslogConfig = accesslogv3.AccessLog

// Files opens the files of access logs; one that is open already is shared.
type Files interface {
	Open(path string) (Lines, error)
	// OpenPrivate makes a file that others may not read, if it makes one.
	OpenPrivate(path string) (Lines, error)
}

// Lines takes lines of a log in without waiting, on the thread of a shard.
type Lines interface {
	Write(shard int, f *access.Format, r *access.Record)
	// Append takes in a finished line, on any goroutine.
	Append(line []byte)
}

// A logger is one access log of a listener, connection manager or TCP proxy.
type logger struct {
	lines  Lines
	format *access.Format
	filter filter // nil: everything
}

// Log writes the end of a stream, the connections that found no chain, and the moments of which a stream tells
// only if somebody has asked for them.
func (l *logger) Log(shard int, r *access.Record) {
	switch r.Type {
	case access.DownstreamEnd, access.TCPConnectionEnd, access.NotSet:
	case access.UpstreamPoolReady, access.UpstreamPeriodic, access.UpstreamEnd:
	case access.TCPUpstreamConnected, access.TCPPeriodic, access.DownstreamStart, access.DownstreamPeriodic, access.DownstreamTunnelEstablished:
	default:
		return
	}
	if l.filter == nil || l.filter(r) {
		l.lines.Write(shard, l.format, r)
	}
}

// A filter decides whether a record is written.
type filter func(*access.Record) bool

func (r *listenerReader) accessLog(m *accesslogConfig, at *field.Path) listen.Log {
	l := &logger{}
	if m.GetFilter() != nil {
		l.filter = r.logFilter(m.GetFilter(), at.Child("filter"))
	}
	path := ""
	where := at.Child("typed_config")
	switch c := r.unpack(m.GetTypedConfig(), at).(type) {
	case nil:
		return nil
	case *filev3.FileAccessLog:
		path = c.GetPath()
		l.format = r.fileFormat(c, where)
	case *streamv3.StdoutAccessLog:
		path, l.format = "/dev/stdout", r.logFormat(c.GetLogFormat(), where.Child("log_format"))
	case *streamv3.StderrAccessLog:
		path, l.format = "/dev/stderr", r.logFormat(c.GetLogFormat(), where.Child("log_format"))
	default:
		r.errs.Addf(at, "found %q, want a file or stream access log", m.GetName())
		return nil
	}
	if len(r.errs) > 0 || l.format == nil {
		return nil
	}
	lines, err := r.env.Files.Open(path)
	if err != nil {
		r.errs.Addf(where.Child("path"), "%v", err)
		return nil
	}
	l.lines, l.format = lines, l.format.Line()
	return l
}

// fileFormat reads the format of a file, which has had four fields in its life.
func (r *listenerReader) fileFormat(c *filev3.FileAccessLog, at *field.Path) *access.Format {
	switch c.GetAccessLogFormat().(type) {
	case *filev3.FileAccessLog_LogFormat:
		return r.logFormat(c.GetLogFormat(), at.Child("log_format"))
	case *filev3.FileAccessLog_Format: //nolint:staticcheck // deprecated, still in use
		return r.textFormat(c.GetFormat(), access.Options{}, at.Child("format")) //nolint:staticcheck
	case *filev3.FileAccessLog_JsonFormat: //nolint:staticcheck
		return r.jsonFormat(c.GetJsonFormat().AsMap(), access.Options{}, at.Child("json_format")) //nolint:staticcheck
	case *filev3.FileAccessLog_TypedJsonFormat: //nolint:staticcheck
		return r.jsonFormat(c.GetTypedJsonFormat().AsMap(), access.Options{}, at.Child("typed_json_format")) //nolint:staticcheck
	}
	return r.logFormat(nil, at)
}

func (r *listenerReader) logFormat(s *corev3.SubstitutionFormatString, at *field.Path) *access.Format {
	if s.GetFormat() == nil {
		f, _ := access.Named("envoy")
		return f
	}
	return r.substitution(s, at)
}

// formatters reads which operators a format may have beside the usual ones, which we know without being told, and
// what expressions may do.
func (r *reader) formatters(list []*corev3.TypedExtensionConfig, at *field.Path) (o cel.Options) {
	for i, f := range list {
		at := at.Index(i)
		switch m := r.unpack(f.GetTypedConfig(), at).(type) {
		case nil, *metadataformatv3.Metadata, *withoutqueryv3.ReqWithoutQuery:
		case *celformatv3.Cel:
			o = expressionOptions(m.GetCelConfig())
		default:
			r.errs.Addf(at, "found %s, want the metadata, the req_without_query or the cel formatter", anyName(m))
		}
	}
	return o
}

// plainFormatters is formatters where expressions may do no more than usual.
func (r *reader) plainFormatters(list []*corev3.TypedExtensionConfig, at *field.Path) {
	if r.formatters(list, at) != (cel.Options{}) {
		r.errs.Addf(at, "have a cel_config, which counts in the formats of logs and of answers only")
	}
}

func expressionOptions(m *corev3.CelExpressionConfig) cel.Options {
	return cel.Options{Convert: m.GetEnableStringConversion(), Concat: m.GetEnableStringConcat()}
}

// extensionFilter reads the one kind of conditions that is an extension: an expression.
func (r *listenerReader) extensionFilter(m *accesslogv3.ExtensionFilter, at *field.Path) filter {
	switch c := r.unpack(m.GetTypedConfig(), at).(type) {
	case nil:
	case *celfilterv3.ExpressionFilter:
		e, err := access.CompileExpression(c.GetExpression(), expressionOptions(c.GetCelConfig()))
		if err != nil {
			r.errs.Addf(at.Child("typed_config").Child("expression"), "%v", err)
			break
		}
		return e.Holds
	default:
		r.errs.Addf(at, "found %s, want envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", anyName(c))
	}
	return func(*access.Record) bool { return false }
}

// substitution reads a format that is there.
func (r *reader) substitution(s *corev3.SubstitutionFormatString, at *field.Path) *access.Format {
	o := access.Options{OmitEmpty: s.GetOmitEmptyValues(), Expressions: r.formatters(s.GetFormatters(), at.Child("formatters"))}
	switch s.GetFormat().(type) {
	case *corev3.SubstitutionFormatString_TextFormatSource:
		return r.textFormat(string(r.data(s.GetTextFormatSource(), at.Child("text_format_source"))), o, at.Child("text_format_source"))
	case *corev3.SubstitutionFormatString_TextFormat: //nolint:staticcheck // deprecated, still in use
		return r.textFormat(s.GetTextFormat(), o, at.Child("text_format")) //nolint:staticcheck
	case *corev3.SubstitutionFormatString_JsonFormat:
		_ = s.GetJsonFormatOptions()
		return r.jsonFormat(s.GetJsonFormat().AsMap(), o, at.Child("json_format"))
	}
	r.errs.Addf(at, "has a format of a kind that is not supported")
	return nil
}

func (r *reader) textFormat(text string, o access.Options, at *field.Path) *access.Format {
	f, err := access.CompileText(text, o)
	if err != nil {
		r.errs.Addf(at, "%v", err)
		return nil
	}
	return f
}

func (r *reader) jsonFormat(m map[string]any, o access.Options, at *field.Path) *access.Format {
	f, err := access.CompileJSON(m, o)
	if err != nil {
		r.errs.Addf(at, "%v", err)
		return nil
	}
	return f
}

func (r *listenerReader) logFilter(m *accesslogv3.AccessLogFilter, at *field.Path) filter {
	switch m.GetFilterSpecifier().(type) {
	case *accesslogv3.AccessLogFilter_StatusCodeFilter:
		compare := r.comparison(m.GetStatusCodeFilter().GetComparison(), at.Child("status_code_filter"))
		return func(rec *access.Record) bool { return compare(uint64(rec.Code)) }
	case *accesslogv3.AccessLogFilter_DurationFilter:
		compare := r.comparison(m.GetDurationFilter().GetComparison(), at.Child("duration_filter"))
		return func(rec *access.Record) bool { return compare(uint64(rec.Duration().Milliseconds())) }
	case *accesslogv3.AccessLogFilter_NotHealthCheckFilter:
		_ = m.GetNotHealthCheckFilter()
		return func(rec *access.Record) bool { return !rec.HealthCheck }
	case *accesslogv3.AccessLogFilter_ResponseFlagFilter:
		return r.flagFilter(m.GetResponseFlagFilter().GetFlags(), at.Child("response_flag_filter").Child("flags"))
	case *accesslogv3.AccessLogFilter_AndFilter:
		all := r.logFilters(m.GetAndFilter().GetFilters(), at.Child("and_filter").Child("filters"))
		return func(rec *access.Record) bool {
			for _, f := range all {
				if !f(rec) {
					return false
				}
			}
			return true
		}
	case *accesslogv3.AccessLogFilter_OrFilter:
		some := r.logFilters(m.GetOrFilter().GetFilters(), at.Child("or_filter").Child("filters"))
		return func(rec *access.Record) bool {
			for _, f := range some {
				if f(rec) {
					return true
				}
			}
			return false
		}
	case *accesslogv3.AccessLogFilter_ExtensionFilter:
		return r.extensionFilter(m.GetExtensionFilter(), at.Child("extension_filter"))
	}
	return r.moreFilters(m, at)
}

func (r *listenerReader) logFilters(list []*accesslogv3.AccessLogFilter, at *field.Path) []filter {
	var out []filter
	for i, m := range list {
		out = append(out, r.logFilter(m, at.Index(i)))
	}
	return out
}

func (r *listenerReader) flagFilter(names []string, at *field.Path) filter {
	var flags []access.Flag
	for i, n := range names {
		f, ok := access.ParseFlag(n)
		if !ok {
			r.errs.Addf(at.Index(i), "found %q, which is no response flag", n)
		}
		flags = append(flags, f)
	}
	if len(flags) == 0 { // any flag at all
		return func(rec *access.Record) bool { return rec.Flags != 0 }
	}
	return func(rec *access.Record) bool {
		for _, f := range flags {
			if rec.Flags.Has(f) {
				return true
			}
		}
		return false
	}
}

func (r *listenerReader) comparison(c *accesslogv3.ComparisonFilter, at *field.Path) func(uint64) bool {
	want := runtimeInteger(&r.reader, c.GetValue())
	switch c.GetOp() {
	case accesslogv3.ComparisonFilter_EQ:
		return func(v uint64) bool { return v == want }
	case accesslogv3.ComparisonFilter_GE:
		return func(v uint64) bool { return v >= want }
	case accesslogv3.ComparisonFilter_LE:
		return func(v uint64) bool { return v <= want }
	case accesslogv3.ComparisonFilter_NE:
		return func(v uint64) bool { return v != want }
	}
	r.errs.Addf(at.Child("comparison").Child("op"), "found %v, want EQ, GE, LE or NE", c.GetOp())
	return func(uint64) bool { return false }
}
