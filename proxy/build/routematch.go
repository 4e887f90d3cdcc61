package build

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	templatematchv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/route"
)

func (r *reader) match(m *routev3.RouteMatch, at *field.Path) route.Match {
	out := route.Match{IgnoreCase: !truth(m.GetCaseSensitive(), true), GRPC: m.GetGrpc() != nil, Fraction: r.runtimeFraction(m.GetRuntimeFraction(), at.Child("runtime_fraction"))}
	switch m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		out.Kind, out.Path = route.PrefixPath, m.GetPrefix()
	case *routev3.RouteMatch_Path:
		out.Kind, out.Path = route.ExactPath, m.GetPath()
	case *routev3.RouteMatch_SafeRegex:
		out.Kind, out.Path = route.RegexPath, r.regex(m.GetSafeRegex(), at.Child("safe_regex"))
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out.Kind, out.Path = route.SeparatedPath, m.GetPathSeparatedPrefix()
	case *routev3.RouteMatch_ConnectMatcher_:
		_ = m.GetConnectMatcher()
		out.Kind = route.ConnectPath
	case *routev3.RouteMatch_PathMatchPolicy:
		at := at.Child("path_match_policy")
		t, ok := r.unpack(m.GetPathMatchPolicy().GetTypedConfig(), at).(*templatematchv3.UriTemplateMatchConfig)
		if !ok {
			r.errs.Addf(at, "found %q, want envoy.path.match.uri_template.uri_template_matcher", m.GetPathMatchPolicy().GetName())
		}
		out.Kind, out.Path = route.TemplatePath, t.GetPathTemplate()
	default:
		r.errs.Addf(at, "says not which paths match, want prefix, path, safe_regex, path_separated_prefix or connect_matcher")
	}
	out.Headers = r.headerMatches(m.GetHeaders(), at.Child("headers"))
	out.Query = r.queryMatches(m.GetQueryParameters(), at.Child("query_parameters"))
	for i, c := range m.GetCookies() {
		at := at.Child("cookies").Index(i)
		out.Cookies = append(out.Cookies, route.CookieMatch{Name: c.GetName(), StringMatch: r.stringMatch(c.GetStringMatch(), at.Child("string_match")), Invert: c.GetInvertMatch()})
	}
	for i, f := range m.GetFilterState() {
		at := at.Child("filter_state").Index(i)
		out.State = append(out.State, route.StateMatch{Key: f.GetKey(), StringMatch: r.stringMatch(f.GetStringMatch(), at.Child("string_match"))})
	}
	for i, f := range m.GetDynamicMetadata() {
		out.Metadata = append(out.Metadata, r.metadataMatch(f, at.Child("dynamic_metadata").Index(i)))
	}
	if t := m.GetTlsContext(); t != nil {
		out.Presented, out.Validated = optionalTruth(t.GetPresented()), optionalTruth(t.GetValidated())
	}
	return out
}

func (r *reader) queryMatches(list []*routev3.QueryParameterMatcher, at *field.Path) []route.QueryMatch {
	var out []route.QueryMatch
	for i, q := range list {
		at := at.Index(i)
		qm := route.QueryMatch{Name: q.GetName()}
		switch {
		case q.GetStringMatch() != nil:
			qm.StringMatch = r.stringMatch(q.GetStringMatch(), at.Child("string_match"))
		case q.GetQueryParameterMatchSpecifier() != nil && !q.GetPresentMatch():
			qm.Kind = route.Absent
		default:
			qm.Kind = route.Present
		}
		out = append(out, qm)
	}
	return out
}

// optionalTruth is a truth value, nil where nothing is set.
func optionalTruth(v *wrapperspb.BoolValue) *bool {
	if v == nil {
		return nil
	}
	b := v.GetValue()
	return &b
}

func (r *reader) headerMatches(list []*routev3.HeaderMatcher, at *field.Path) []route.HeaderMatch {
	var out []route.HeaderMatch
	for i, m := range list {
		out = append(out, r.headerMatch(m, at.Index(i)))
	}
	return out
}

func (r *reader) headerMatch(m *routev3.HeaderMatcher, at *field.Path) route.HeaderMatch {
	out := route.HeaderMatch{Name: strings.ToLower(m.GetName()), Invert: m.GetInvertMatch(), TreatMissingAsEmpty: m.GetTreatMissingHeaderAsEmpty()}
	switch m.GetHeaderMatchSpecifier().(type) {
	case *routev3.HeaderMatcher_StringMatch:
		out.StringMatch = r.stringMatch(m.GetStringMatch(), at.Child("string_match"))
	case *routev3.HeaderMatcher_ExactMatch:
		out.StringMatch = route.StringMatch{Kind: route.Exact, Value: m.GetExactMatch()}
	case *routev3.HeaderMatcher_PrefixMatch:
		out.StringMatch = route.StringMatch{Kind: route.Prefix, Value: m.GetPrefixMatch()}
	case *routev3.HeaderMatcher_SuffixMatch:
		out.StringMatch = route.StringMatch{Kind: route.Suffix, Value: m.GetSuffixMatch()}
	case *routev3.HeaderMatcher_ContainsMatch:
		out.StringMatch = route.StringMatch{Kind: route.Contains, Value: m.GetContainsMatch()}
	case *routev3.HeaderMatcher_SafeRegexMatch:
		out.StringMatch = route.StringMatch{Kind: route.Regex, Value: r.regex(m.GetSafeRegexMatch(), at.Child("safe_regex_match"))}
	case *routev3.HeaderMatcher_RangeMatch:
		out.StringMatch = route.StringMatch{Kind: route.Range, Start: m.GetRangeMatch().GetStart(), End: m.GetRangeMatch().GetEnd()}
	case *routev3.HeaderMatcher_PresentMatch:
		out.Kind = route.Present
		if !m.GetPresentMatch() { // present_match: false asks for absence
			out.Invert = !out.Invert
		}
	default:
		out.Kind = route.Present
	}
	return out
}
