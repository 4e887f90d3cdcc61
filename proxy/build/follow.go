package build

import (
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	listedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/internal_redirect/allow_listed_routes/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/internal_redirect/previous_routes/v3"
	safev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/internal_redirect/safe_cross_scheme/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/route"
)

var followFields = []*Message{
	message((*routev3.InternalRedirectPolicy)(nil),
		reads("max_internal_redirects", "redirect_response_codes", "predicates", "allow_cross_scheme_redirect", "response_headers_to_copy")),
	message((*previousv3.PreviousRoutesConfig)(nil)),
	message((*listedv3.AllowListedRoutesConfig)(nil), reads("allowed_route_names")),
	message((*safev3.SafeCrossSchemeConfig)(nil)),
}

// redirects are the statuses that a policy can be about; Envoy passes over others.
var redirects = []uint32{301, 302, 303, 307, 308}

// follow reads which redirects of hosts are followed, nil if none.
func (r *reader) follow(m *routev3.InternalRedirectPolicy, at *field.Path) *route.FollowPolicy {
	if m == nil {
		return nil
	}
	out := &route.FollowPolicy{Max: 1, CrossScheme: m.GetAllowCrossSchemeRedirect()}
	if n := m.GetMaxInternalRedirects(); n != nil {
		out.Max = n.GetValue()
	}
	for _, code := range m.GetRedirectResponseCodes() {
		if slices.Contains(redirects, code) {
			out.Codes = append(out.Codes, int(code))
		}
	}
	if len(m.GetRedirectResponseCodes()) == 0 {
		out.Codes = []int{302}
	}
	for i, name := range m.GetResponseHeadersToCopy() {
		if !header.ValidName([]byte(name)) || strings.EqualFold(name, "host") {
			r.errs.Addf(at.Child("response_headers_to_copy").Index(i), "found %q, want the name of a header that is not host", name)
		}
		out.Copy = append(out.Copy, strings.ToLower(name))
	}
	for i, p := range m.GetPredicates() {
		at := at.Child("predicates").Index(i).Child("typed_config")
		switch c := r.unpack(p.GetTypedConfig(), at).(type) {
		case *previousv3.PreviousRoutesConfig:
			out.Predicates = append(out.Predicates, route.FollowPredicate{Kind: route.PreviousRoutes})
		case *listedv3.AllowListedRoutesConfig:
			out.Predicates = append(out.Predicates, route.FollowPredicate{Kind: route.Listed, Routes: c.GetAllowedRouteNames()})
		case *safev3.SafeCrossSchemeConfig:
			out.Predicates = append(out.Predicates, route.FollowPredicate{Kind: route.SafeCrossScheme})
		default:
			r.errs.Addf(at, "found %s, want the type of envoy.internal_redirect_predicates.previous_routes, allow_listed_routes or safe_cross_scheme", p.GetTypedConfig().GetTypeUrl())
		}
	}
	return out
}
