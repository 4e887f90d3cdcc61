package build

import (
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/filter/cors"
	"github.com/mallamesh/malla/proxy/filter/headermutation"
	"github.com/mallamesh/malla/proxy/route"
)

// matchers reads conditions that filters have.
func (r *reader) matchers(list []*routev3.HeaderMatcher, at *field.Path) route.HeaderMatchers {
	out, err := route.NewHeaderMatchers(r.headerMatches(list, at))
	if err != nil {
		r.errs.Addf(at, "%v", err)
	}
	return out
}

// corsWords are what both kinds of policies have.
type corsWords interface {
	GetAllowOriginStringMatch() []*matcherv3.StringMatcher
	GetAllowMethods() string
	GetAllowHeaders() string
	GetExposeHeaders() string
	GetMaxAge() string
	GetAllowCredentials() *wrapperspb.BoolValue
	GetAllowPrivateNetworkAccess() *wrapperspb.BoolValue
	GetForwardNotMatchingPreflights() *wrapperspb.BoolValue
	GetFilterEnabled() *corev3.RuntimeFractionalPercent
	GetShadowEnabled() *corev3.RuntimeFractionalPercent
}

// oldCors adds what a route's or a virtual host's own field cors says to what they say to filters.
func (r *reader) oldCors(words map[string]any, m *routev3.CorsPolicy, at *field.Path) map[string]any {
	if m == nil {
		return words
	}
	if words == nil {
		words = map[string]any{}
	}
	words[cors.Old] = r.corsPolicy(m, at)
	return words
}

func (r *reader) corsPolicy(m corsWords, at *field.Path) *cors.Policy {
	p := &cors.Policy{
		Methods: []byte(m.GetAllowMethods()), Headers: []byte(m.GetAllowHeaders()), Expose: []byte(m.GetExposeHeaders()), MaxAge: []byte(m.GetMaxAge()),
		Credentials: optionalTruth(m.GetAllowCredentials()), Private: optionalTruth(m.GetAllowPrivateNetworkAccess()),
		ForwardOthers: optionalTruth(m.GetForwardNotMatchingPreflights()),
		Enabled:       route.Fraction{Numerator: 1, Denominator: 1},
	}
	for i, o := range m.GetAllowOriginStringMatch() {
		at := at.Child("allow_origin_string_match").Index(i)
		if c, err := route.NewMatcher(r.stringMatch(o, at)); err != nil {
			r.errs.Addf(at, "%v", err)
		} else {
			p.Origins = append(p.Origins, c)
		}
	}
	if f := r.runtimeFraction(m.GetFilterEnabled(), at.Child("filter_enabled")); f != nil {
		p.Enabled = *f
	}
	if f := r.runtimeFraction(m.GetShadowEnabled(), at.Child("shadow_enabled")); f != nil {
		p.Shadow = *f
	}
	return p
}

func (r *reader) headerMutations(m *headermutationv3.Mutations, at *field.Path) *headermutation.Config {
	compile := func(list []route.Mutation, at *field.Path) *route.Mutations {
		if len(list) == 0 || len(r.errs) > 0 {
			return nil
		}
		out, err := route.NewMutations(list)
		if err != nil {
			r.errs.Addf(at, "%v", err)
		}
		return out
	}
	r.plainFormatters(m.GetFormatters(), at.Child("formatters"))
	in, out := at.Child("request_mutations"), at.Child("response_mutations")
	inTrailers, outTrailers := at.Child("request_trailers_mutations"), at.Child("response_trailers_mutations")
	return &headermutation.Config{
		Request:          compile(r.mutations(m.GetRequestMutations(), false, in), in),
		Response:         compile(r.mutations(m.GetResponseMutations(), true, out), out),
		RequestTrailers:  compile(r.mutations(m.GetRequestTrailersMutations(), true, inTrailers), inTrailers),
		ResponseTrailers: compile(r.mutations(m.GetResponseTrailersMutations(), true, outTrailers), outTrailers),
		Query:            r.parameters(m.GetQueryParameterMutations(), at.Child("query_parameter_mutations")),
	}
}

var appendActions = map[corev3.KeyValueAppend_KeyValueAppendAction]route.AppendAction{
	corev3.KeyValueAppend_APPEND_IF_EXISTS_OR_ADD: route.AppendIfExistsOrAdd, corev3.KeyValueAppend_ADD_IF_ABSENT: route.AddIfAbsent,
	corev3.KeyValueAppend_OVERWRITE_IF_EXISTS_OR_ADD: route.OverwriteIfExistsOrAdd, corev3.KeyValueAppend_OVERWRITE_IF_EXISTS: route.OverwriteIfExists,
}

func (r *reader) parameters(list []*corev3.KeyValueMutation, at *field.Path) []headermutation.Parameter {
	var out []headermutation.Parameter
	for i, m := range list {
		at := at.Index(i)
		a := m.GetAppend()
		if (a == nil) == (m.GetRemove() == "") {
			r.errs.Addf(at, "wants one of append and remove")
			continue
		}
		if a == nil {
			out = append(out, headermutation.Parameter{Name: m.GetRemove()})
			continue
		}
		value, text := a.GetRecord().GetValue().GetKind().(*structpb.Value_StringValue)
		action, known := appendActions[a.GetAction()]
		if !text || !known || a.GetRecord().GetKey() == "" {
			r.errs.Addf(at.Child("append"), "wants a record with a key and a string, and an action that is known")
			continue
		}
		f, err := access.CompileHeader(value.StringValue)
		if err != nil {
			r.errs.Addf(at.Child("append").Child("record").Child("value"), "%v", err)
		}
		out = append(out, headermutation.Parameter{Name: a.GetRecord().GetKey(), Value: f, Action: action})
	}
	return out
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
