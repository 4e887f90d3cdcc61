package build

import (
	"math/rand/v2"
	"slices"
	"strconv"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stream"
)

var localReplyFields = []*Message{
	message((*hcmv3.LocalReplyConfig)(nil), reads("mappers", "body_format")),
	message((*hcmv3.ResponseMapper)(nil), reads("filter", "status_code", "body", "body_format_override", "headers_to_add")),
}

// localReply reads what becomes of answers of our own, nil if they stay as they are.
func (r *listenerReader) localReply(m *hcmv3.LocalReplyConfig, at *field.Path) *stream.LocalReply {
	if m == nil {
		return nil
	}
	out := &stream.LocalReply{Body: r.bodyFormat(m.GetBodyFormat(), at.Child("body_format"))}
	for i, p := range m.GetMappers() {
		at := at.Child("mappers").Index(i)
		if p.GetFilter() == nil {
			r.errs.Addf(at.Child("filter"), "is not set")
			continue
		}
		mapper := stream.ReplyMapper{Filter: r.logFilter(p.GetFilter(), at.Child("filter")), Format: r.bodyFormat(p.GetBodyFormatOverride(), at.Child("body_format_override"))}
		if c := p.GetStatusCode(); c != nil {
			if mapper.Status = int(c.GetValue()); mapper.Status < 200 || mapper.Status > 599 {
				r.errs.Addf(at.Child("status_code"), "found %d, want 200 to 599", mapper.Status)
			}
		}
		if p.GetBody() != nil {
			text := string(r.data(p.GetBody(), at.Child("body")))
			mapper.Body = &text
		}
		var adds []route.Mutation
		for _, v := range r.headerValues(p.GetHeadersToAdd(), at.Child("headers_to_add")) {
			adds = append(adds, route.Mutation{Append: &v})
		}
		var err error
		if mapper.Headers, err = route.NewMutations(adds); err != nil {
			r.errs.Addf(at.Child("headers_to_add"), "%v", err)
		}
		out.Mappers = append(out.Mappers, mapper)
	}
	return out
}

// bodyFormat reads how bodies are written, nil if nothing is said. Their type is text/plain, or
// application/json for JSON, unless the format says otherwise.
func (r *reader) bodyFormat(m *corev3.SubstitutionFormatString, at *field.Path) *stream.BodyFormat {
	if m == nil {
		return nil
	}
	f := r.substitution(m, at)
	if f == nil {
		return nil
	}
	out := &stream.BodyFormat{Format: f, ContentType: m.GetContentType()}
	if out.ContentType == "" {
		if out.ContentType = "text/plain"; m.GetJsonFormat() != nil {
			out.ContentType = "application/json"
		}
	}
	return out
}

// moreFilters makes the filters of access logs that few use.
func (r *reader) moreFilters(m *accesslogv3.AccessLogFilter, at *field.Path) filter {
	switch m.GetFilterSpecifier().(type) {
	case *accesslogv3.AccessLogFilter_HeaderFilter:
		fits := r.matchers([]*routev3.HeaderMatcher{m.GetHeaderFilter().GetHeader()}, at.Child("header_filter").Child("header"))
		return func(rec *access.Record) bool {
			q := route.Request{Headers: rec.Request}
			if rec.Request == nil {
				q.Headers = &noHeaders
			}
			return fits.All(&q)
		}
	case *accesslogv3.AccessLogFilter_GrpcStatusFilter:
		f := m.GetGrpcStatusFilter()
		var codes []int
		for _, s := range f.GetStatuses() {
			codes = append(codes, int(s))
		}
		exclude := f.GetExclude()
		return func(rec *access.Record) bool { return slices.Contains(codes, grpcStatus(rec)) != exclude }
	case *accesslogv3.AccessLogFilter_LogTypeFilter:
		f := m.GetLogTypeFilter()
		var names []string
		for _, t := range f.GetTypes() {
			names = append(names, t.String())
		}
		exclude := f.GetExclude()
		return func(rec *access.Record) bool { return slices.Contains(names, rec.Type.String()) != exclude }
	case *accesslogv3.AccessLogFilter_MetadataFilter:
		return r.metadataFilter(m.GetMetadataFilter(), at.Child("metadata_filter"))
	case *accesslogv3.AccessLogFilter_TraceableFilter: // which Envoy takes for: somebody wants it traced
		_ = m.GetTraceableFilter()
		return func(rec *access.Record) bool { return rec.ForceTraced }
	case *accesslogv3.AccessLogFilter_RuntimeFilter:
		f := m.GetRuntimeFilter()
		share := r.fraction(f.GetPercentSampled(), at.Child("runtime_filter").Child("percent_sampled"))
		// An integer is in parts of the denominator here, not of a hundred.
		share.Numerator = uint32(min(r.env.Values.integer(f.GetRuntimeKey(), uint64(share.Numerator)), uint64(share.Denominator)))
		if f.GetUseIndependentRandomness() {
			return func(*access.Record) bool { return share.Hit(rand.Uint64()) }
		}
		return func(rec *access.Record) bool { return share.Hit(shareOf(rec)) }
	}
	return func(*access.Record) bool { return true }
}

// shareOf is the number that says which shares a request is of: that of its id, so that all logs, and all proxies on
// its way, agree; or else chance.
func shareOf(rec *access.Record) uint64 {
	if rec.Request != nil {
		if id := rec.Request.Get(header.XRequestID); len(id) >= 8 {
			if n, err := strconv.ParseUint(string(id[:8]), 16, 64); err == nil {
				return n
			}
		}
	}
	return rand.Uint64()
}

var noHeaders header.Map

// grpcStatus is the status of a gRPC call: what its response says, or what the HTTP status stands for.
func grpcStatus(rec *access.Record) int {
	if n, ok := access.StatusOf(rec); ok {
		return n
	}
	return access.HTTPToGRPC(int(rec.Code))
}
