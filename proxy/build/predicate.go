package build

import (
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/header"
)

// predicateFields are those of conditions on messages. What asks for more than a response's headers has a meaning
// for taps only.
var predicateFields = []*Message{
	message((*httpv3.HttpProtocolOptions_OutlierDetection)(nil), reads("error_matcher")),
	message((*matcherv3.MatchPredicate)(nil), reads("or_match", "and_match", "not_match", "any_match", "http_request_headers_match", "http_request_trailers_match",
		"http_response_headers_match", "http_response_trailers_match", "http_request_generic_body_match", "http_response_generic_body_match")),
	message((*matcherv3.MatchPredicate_MatchSet)(nil), reads("rules")),
	message((*matcherv3.HttpHeadersMatch)(nil), reads("headers")),
}

// predicate reads a condition on a response's headers.
func (r *reader) predicate(m *matcherv3.MatchPredicate, at *field.Path) func(*header.Map) bool {
	switch m.GetRule().(type) {
	case *matcherv3.MatchPredicate_AnyMatch:
		return func(*header.Map) bool { return true }
	case *matcherv3.MatchPredicate_HttpResponseHeadersMatch:
		return r.matchers(m.GetHttpResponseHeadersMatch().GetHeaders(), at.Child("http_response_headers_match").Child("headers")).OfResponse
	case *matcherv3.MatchPredicate_NotMatch:
		not := r.predicate(m.GetNotMatch(), at.Child("not_match"))
		return func(h *header.Map) bool { return !not(h) }
	case *matcherv3.MatchPredicate_OrMatch:
		return r.predicates(m.GetOrMatch().GetRules(), at.Child("or_match"), true)
	case *matcherv3.MatchPredicate_AndMatch:
		return r.predicates(m.GetAndMatch().GetRules(), at.Child("and_match"), false)
	}
	r.errs.Addf(at, "says nothing about a response's headers, want or_match, and_match, not_match, any_match or http_response_headers_match")
	return func(*header.Map) bool { return false }
}

// predicates reads several, of which one is enough if any is set.
func (r *reader) predicates(list []*matcherv3.MatchPredicate, at *field.Path, any bool) func(*header.Map) bool {
	if len(list) < 2 {
		r.errs.Addf(at.Child("rules"), "has %d, want at least 2", len(list))
	}
	parts := make([]func(*header.Map) bool, len(list))
	for i, p := range list {
		parts[i] = r.predicate(p, at.Child("rules").Index(i))
	}
	return func(h *header.Map) bool {
		for _, fits := range parts {
			if fits(h) == any {
				return any
			}
		}
		return !any
	}
}
