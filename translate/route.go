package translate

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/model"
)

// defaultRetryOn is when a request that nobody said anything about is tried
// again, which is Istio's: when it is sure that no server has worked on it, or when a gRPC server says so
// by its status. No status code of HTTP is among them: with 503, which once was, posts were made twice.
const defaultRetryOn = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"

// A ruleScope is where rules are translated for.
type ruleScope struct {
	v       *model.View
	gateway []string // names by which rules may mean the proxy: "mesh", or gateways
	port    uint16   // that requests are for: the listener's, or a gateway server's
}

// routes translates rules, in their order. It ends after a route that takes
// every request: what follows could never be reached.
func (sc ruleScope) routes(r *model.RouteRules) []*routev3.Route {
	var out []*routev3.Route
	for _, h := range r.HTTP {
		if len(h.Matches) == 0 {
			return append(out, sc.route(r, h, nil))
		}
		for _, m := range h.Matches {
			if !sc.applies(m) {
				continue
			}
			route := sc.route(r, h, m)
			out = append(out, route)
			if takesAll(route) {
				return out
			}
		}
	}
	return out
}

func (sc ruleScope) applies(m *model.HTTPMatch) bool {
	if m.Port != 0 && m.Port != sc.port {
		return false
	}
	return slices.ContainsFunc(sc.gateway, func(g string) bool {
		return forProxy(sc.v, m.Gateways, g, m.SourceLabels, m.SourceNamespace)
	})
}

// takesAll reports whether no request passes the route.
func takesAll(r *routev3.Route) bool {
	m := r.Match
	if len(m.Headers)+len(m.QueryParameters) > 0 {
		return false
	}
	return m.GetPrefix() == "/" || m.GetSafeRegex().GetRegex() == ".*"
}

func everything() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

// route translates one match of one rule; a nil match is every request.
func (sc ruleScope) route(r *model.RouteRules, h *model.HTTPRule, m *model.HTTPMatch) *routev3.Route {
	from := r.From
	if h.From != nil {
		from = *h.From
	}
	out := &routev3.Route{Name: h.Name, Match: routeMatch(m), Metadata: metadata(from, nil)}
	if m != nil && m.Name != "" {
		out.Name += "." + m.Name
	}
	if m != nil {
		out.StatPrefix = m.StatPrefix
	}
	setHeaders(out, h.Headers)
	switch {
	case h.Redirect != nil:
		out.Action = &routev3.Route_Redirect{Redirect: sc.redirect(h.Redirect)}
	case h.Direct != nil:
		out.Action = &routev3.Route_DirectResponse{DirectResponse: directResponse(h.Direct)}
	default:
		out.Action = &routev3.Route_Route{Route: sc.action(out, h)}
	}
	perFilter := make(map[string]*anypb.Any)
	if f := fault(h.Fault); f != nil {
		perFilter[faultFilter] = pack(f)
	}
	if c := cors(h.CORS); c != nil {
		perFilter[corsFilter] = pack(c)
	}
	if s := session(h.Session); s != nil {
		perFilter[sessionFilter] = pack(s)
	}
	if len(perFilter) > 0 {
		out.TypedPerFilterConfig = perFilter
	}
	return out
}

// action forwards to the rule's destinations. The header operations of a
// single destination become the route's own.
func (sc ruleScope) action(out *routev3.Route, h *model.HTTPRule) *routev3.RouteAction {
	var clusters []clusterName
	for _, to := range h.Forward {
		clusters = append(clusters, clusterOf(sc.v, to.To, sc.port))
	}
	a := &routev3.RouteAction{Timeout: span(h.Timeout), HashPolicy: hashPolicies(sc.v, clusters...)}
	a.RetryPolicy = retry(sc.v, h.Retry, len(a.HashPolicy) > 0)
	if h.Strict {
		a.ClusterNotFoundResponseCode = routev3.RouteAction_INTERNAL_SERVER_ERROR
	}
	if host := authority(h.Headers.Request); host != "" {
		a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: host}
	}
	if w := h.Rewrite; w != nil {
		if w.Authority != "" {
			a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: w.Authority}
		}
		if w.Regex != "" {
			a.RegexRewrite = substitution(w.Regex, w.Replace)
		} else {
			a.PrefixRewrite = w.URI
		}
	}
	if len(h.Forward) == 1 {
		to := h.Forward[0]
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: clusterOf(sc.v, to.To, sc.port).String()}
		setHeaders(out, to.Headers)
		if host := authority(to.Headers.Request); host != "" {
			a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: host}
		}
	} else {
		a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: sc.weighted(h.Forward)}
	}
	forwardHost(sc.v, a)
	for _, m := range h.Mirrors {
		a.RequestMirrorPolicies = append(a.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster:         clusterOf(sc.v, m.To, sc.port).String(),
			RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: percent(m.Percent)},
		})
	}
	return a
}

func substitution(regex, replace string) *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{Pattern: &matcherv3.RegexMatcher{Regex: regex}, Substitution: replace}
}

func (sc ruleScope) weighted(splits []model.Split) *routev3.WeightedCluster {
	out := &routev3.WeightedCluster{}
	by := divisorOf(splits)
	for _, s := range splits {
		w := &routev3.WeightedCluster_ClusterWeight{Name: clusterOf(sc.v, s.To, sc.port).String(), Weight: u32(lighter(uint64(s.Weight), by))}
		w.RequestHeadersToAdd, w.RequestHeadersToRemove = headersToAdd(s.Headers.Request), headersToRemove(s.Headers.Request)
		w.ResponseHeadersToAdd, w.ResponseHeadersToRemove = headersToAdd(s.Headers.Response), headersToRemove(s.Headers.Response)
		if host := authority(s.Headers.Request); host != "" {
			w.HostRewriteSpecifier = &routev3.WeightedCluster_ClusterWeight_HostRewriteLiteral{HostRewriteLiteral: host}
		}
		out.Clusters = append(out.Clusters, w)
	}
	return out
}

// defaultRoute sends everything to a service's cluster.
func defaultRoute(v *model.View, cluster clusterName) *routev3.Route {
	hash := hashPolicies(v, cluster)
	return &routev3.Route{
		Name: "default", Match: everything(),
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster.String()}, Timeout: span(0), RetryPolicy: retry(v, nil, len(hash) > 0),
			HashPolicy: hash,
		}},
	}
}

// retry translates when requests are tried again: as the rule says, else the
// mesh, else as Istio does. Zero attempts are none. Another host is tried then,
// unless a hash says which host it must be.
func retry(v *model.View, r *model.Retry, hashed bool) *routev3.RetryPolicy {
	r = cmp.Or(r, v.Mesh.Config.Retry)
	if r == nil {
		r = &model.Retry{Attempts: 2}
	}
	if r.Attempts == 0 {
		return nil
	}
	conditions, codes := retryOn(cmp.Or(r.On, defaultRetryOn))
	out := &routev3.RetryPolicy{
		RetryOn: conditions, RetriableStatusCodes: codes, NumRetries: u32(r.Attempts), PerTryTimeout: spanIf(r.PerTry),
	}
	if avoid := r.AvoidPrevious; avoid == nil && !hashed || avoid != nil && *avoid {
		out.HostSelectionRetryMaxAttempts = 5
		out.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(&previoushostsv3.PreviousHostsPredicate{})},
		}}
	}
	if r.OtherLocalities {
		out.RetryPriority = &routev3.RetryPolicy_RetryPriority{
			Name:       "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{TypedConfig: pack(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 2})},
		}
	}
	if r.Backoff > 0 {
		out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: span(r.Backoff)}
	}
	return out
}

// retryOn splits conditions from status codes.
func retryOn(s string) (conditions string, codes []uint32) {
	var names []string
	for _, part := range strings.Split(s, ",") {
		part = strings.TrimSpace(part)
		if code, err := strconv.ParseUint(part, 10, 16); err == nil {
			codes = append(codes, uint32(code))
		} else if part != "" {
			names = append(names, part)
		}
	}
	if len(codes) > 0 && !slices.Contains(names, "retriable-status-codes") {
		names = append(names, "retriable-status-codes")
	}
	return strings.Join(names, ","), codes
}

func (sc ruleScope) redirect(r *model.Redirect) *routev3.RedirectAction {
	out := &routev3.RedirectAction{HostRedirect: r.Authority, ResponseCode: redirectCodes[r.Code]}
	switch {
	case r.Prefix != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: r.Prefix}
	case r.Path != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: r.Path}
	case r.Regex != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: substitution(r.Regex, r.Replace)}
	}
	if r.Scheme != "" {
		out.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: r.Scheme}
	}
	// From the protocol is what Envoy does by itself; the port of the request is
	// that for which this route is made.
	out.PortRedirect = uint32(r.Port)
	if r.DerivePort == model.FromRequest {
		out.PortRedirect = uint32(sc.port)
	}
	return out
}

var redirectCodes = map[uint32]routev3.RedirectAction_RedirectResponseCode{
	301: routev3.RedirectAction_MOVED_PERMANENTLY, 302: routev3.RedirectAction_FOUND, 303: routev3.RedirectAction_SEE_OTHER,
	307: routev3.RedirectAction_TEMPORARY_REDIRECT, 308: routev3.RedirectAction_PERMANENT_REDIRECT,
}

func directResponse(d *model.DirectResponse) *routev3.DirectResponseAction {
	out := &routev3.DirectResponseAction{Status: d.Status}
	if len(d.Body) > 0 {
		out.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: d.Body}}
	}
	return out
}

// fault translates what is done to requests on purpose; nil if nothing is.
func fault(f *model.Fault) *faultv3.HTTPFault {
	if f == nil {
		return nil
	}
	out := &faultv3.HTTPFault{}
	if f.Delay > 0 && f.DelayPercent > 0 {
		out.Delay = &faultcommonv3.FaultDelay{
			FaultDelaySecifier: &faultcommonv3.FaultDelay_FixedDelay{FixedDelay: span(f.Delay)}, Percentage: percent(f.DelayPercent),
		}
	}
	if f.AbortStatus != 0 && f.AbortPercent > 0 {
		out.Abort = &faultv3.FaultAbort{
			ErrorType: &faultv3.FaultAbort_HttpStatus{HttpStatus: f.AbortStatus}, Percentage: percent(f.AbortPercent),
		}
	}
	if code, ok := model.GRPCCode(f.AbortGRPC); ok && f.AbortPercent > 0 {
		out.Abort = &faultv3.FaultAbort{ErrorType: &faultv3.FaultAbort_GrpcStatus{GrpcStatus: code}, Percentage: percent(f.AbortPercent)}
	}
	if out.Delay == nil && out.Abort == nil {
		return nil
	}
	return out
}
