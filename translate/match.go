package translate

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mallamesh/malla/model"
)

// routeMatch translates a match; nil is every request. A prefix is one of
// characters, but for that of a standard which counts in segments: /foo takes /foobar.
func routeMatch(m *model.HTTPMatch) *routev3.RouteMatch {
	out := everything()
	if m == nil {
		return out
	}
	if u := m.URI; u != nil {
		switch u.Kind {
		case model.Exact:
			out.PathSpecifier = &routev3.RouteMatch_Path{Path: u.Value}
		case model.Prefix:
			out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: u.Value}
		case model.Regex:
			out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: u.Value}}
		case model.PathPrefix:
			out.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: u.Value}
		}
		if m.IgnoreCase && u.Kind != model.Regex {
			out.CaseSensitive = boolean(false)
		}
	}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, headerMatch(h.Name, h.StringMatch))
	}
	for _, h := range m.WithoutHeaders {
		not := headerMatch(h.Name, h.StringMatch)
		not.InvertMatch = true
		// A header that is not there is without the value, too.
		not.TreatMissingHeaderAsEmpty = h.Kind != model.Present
		out.Headers = append(out.Headers, not)
	}
	for _, pseudo := range []struct {
		name  string
		match *model.StringMatch
	}{{":method", m.Method}, {":authority", m.Authority}, {":scheme", m.Scheme}} {
		if pseudo.match != nil {
			out.Headers = append(out.Headers, headerMatch(pseudo.name, *pseudo.match))
		}
	}
	for _, q := range m.QueryParams {
		out.QueryParameters = append(out.QueryParameters, queryMatch(q))
	}
	return out
}

func headerMatch(name string, s model.StringMatch) *routev3.HeaderMatcher {
	if s.Kind == model.Present {
		return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}
	}
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: stringMatch(s)}}
}

func queryMatch(q model.NamedMatch) *routev3.QueryParameterMatcher {
	if q.Kind == model.Present {
		return &routev3.QueryParameterMatcher{
			Name: q.Name, QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: true},
		}
	}
	return &routev3.QueryParameterMatcher{
		Name: q.Name, QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{StringMatch: stringMatch(q.StringMatch)},
	}
}

func stringMatch(s model.StringMatch) *matcherv3.StringMatcher {
	switch s.Kind {
	case model.Prefix:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: s.Value}}
	case model.Regex:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: s.Value}}}
	}
	return exactly(s.Value)
}

// setHeaders adds header operations to those that a route has.
func setHeaders(r *routev3.Route, o model.HeaderOps) {
	r.RequestHeadersToAdd = append(r.RequestHeadersToAdd, headersToAdd(o.Request)...)
	r.RequestHeadersToRemove = append(r.RequestHeadersToRemove, headersToRemove(o.Request)...)
	r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, headersToAdd(o.Response)...)
	r.ResponseHeadersToRemove = append(r.ResponseHeadersToRemove, headersToRemove(o.Response)...)
}

// reserved are names that these operations cannot touch: the host is rewritten
// (see [authority]), the other pseudo headers are the proxy's.
func reserved(name string) bool {
	return strings.HasPrefix(name, ":") || strings.EqualFold(name, "host")
}

func headersToAdd(c model.HeaderChange) []*corev3.HeaderValueOption {
	var out []*corev3.HeaderValueOption
	add := func(list []model.Header, action corev3.HeaderValueOption_HeaderAppendAction) {
		for _, h := range list {
			if !reserved(h.Name) {
				out = append(out, &corev3.HeaderValueOption{
					Header: &corev3.HeaderValue{Key: h.Name, Value: h.Value}, AppendAction: action,
				})
			}
		}
	}
	add(c.Set, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
	add(c.Add, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
	return out
}

func headersToRemove(c model.HeaderChange) []string {
	var out []string
	for _, name := range c.Remove {
		if !reserved(name) {
			out = append(out, name)
		}
	}
	return out
}

// authority returns the host that an operation on requests sets, "" for none.
func authority(c model.HeaderChange) string {
	for _, h := range c.Set {
		if h.Name == ":authority" || strings.EqualFold(h.Name, "host") {
			return h.Value
		}
	}
	return ""
}
