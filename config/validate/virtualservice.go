package validate

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

func (r *ruler) virtualService(v *networkingv1.VirtualService) {
	spec, at := &v.Spec, field.At("spec")
	gateways := spec.GetGateways()
	mesh := len(gateways) == 0 || slices.Contains(gateways, "mesh")
	if len(spec.GetHosts()) == 0 {
		r.errorf(at.Child("hosts"), "missing; want the hosts whose requests are routed (a VirtualService without hosts is a delegate, which is not supported yet)")
	}
	for i, h := range spec.GetHosts() {
		p := at.Child("hosts").Index(i)
		r.host(p, h, true)
		if h == "*" && mesh {
			r.errorf(p, "found \"*\", which is only for gateways; name the hosts, or the gateways without mesh")
		}
		if slices.Contains(spec.GetHosts()[:i], h) {
			r.errorf(p, "found %q a second time", h)
		}
	}
	r.gatewayNames(at.Child("gateways"), gateways)
	all := qualified(gateways, v.Namespace)
	r.exportTo(at.Child("exportTo"), spec.GetExportTo())
	if len(spec.GetHttp())+len(spec.GetTls())+len(spec.GetTcp()) == 0 {
		r.errorf(at, "no routes; want http, tls or tcp")
	}
	first := -1 // the http route that takes every request
	for i, h := range spec.GetHttp() {
		p := at.Child("http").Index(i)
		if first >= 0 {
			r.notice(p, "spec.http[%d] before it takes every request", first)
		}
		if first < 0 && len(h.GetMatch()) == 0 && (len(h.GetRoute()) > 0 || h.GetRedirect() != nil || h.GetDirectResponse() != nil) {
			first = i
		}
		r.httpRoute(p, h, all)
	}
	for i, t := range spec.GetTls() {
		r.tlsRoute(at.Child("tls").Index(i), t, spec.GetHosts(), all)
	}
	for i, t := range spec.GetTcp() {
		r.tcpRoute(at.Child("tcp").Index(i), t, all)
	}
}

// gatewayNames checks "mesh", "name" and "namespace/name".
func (r *ruler) gatewayNames(at *field.Path, names []string) {
	for i, n := range names {
		ns, name, hasNS := strings.Cut(n, "/")
		if !hasNS {
			ns, name = "default", n
		}
		if ns != "." && len(validation.IsDNS1123Label(ns)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
			r.errorf(at.Index(i), "found %q, want mesh, the name of a Gateway, or namespace/name", n)
		}
	}
}

// allGateways are the gateways of an object: as written, and as namespace/name.
type allGateways struct {
	namespace string
	names     []string
}

func qualified(names []string, namespace string) allGateways {
	all := allGateways{namespace: namespace, names: []string{"mesh"}}
	if len(names) > 0 {
		all.names = nil
	}
	for _, n := range names {
		all.names = append(all.names, all.full(n))
	}
	return all
}

func (a allGateways) full(name string) string {
	if rest, own := strings.CutPrefix(name, "./"); own || name != "mesh" && !strings.Contains(name, "/") {
		return a.namespace + "/" + rest
	}
	return name
}

// among checks the gateways of a match: they choose from those of the object.
func (r *ruler) among(at *field.Path, names []string, all allGateways) {
	r.gatewayNames(at, names)
	for i, n := range names {
		if !slices.Contains(all.names, all.full(n)) {
			r.notice(at.Index(i), "%s is not among spec.gateways (%s)", n, strings.Join(all.names, ", "))
		}
	}
}

func (r *ruler) httpRoute(at *field.Path, h *networking.HTTPRoute, all allGateways) {
	actions := oneSet([]string{"route", "redirect", "directResponse"}, len(h.GetRoute()) > 0, h.GetRedirect() != nil, h.GetDirectResponse() != nil)
	switch {
	case len(actions) == 0 && r.bad(at.Child("delegate")):
	case len(actions) == 0:
		r.errorf(at, "no action; want route, redirect or directResponse")
	case len(actions) > 1:
		r.errorf(at, "%s exclude each other; keep one", strings.Join(actions, " and "))
	case len(actions) == 1 && actions[0] != "route":
		for _, other := range oneSet([]string{"rewrite", "fault", "mirror", "mirrors", "retries", "timeout"},
			h.GetRewrite() != nil, h.GetFault() != nil, h.GetMirror() != nil, len(h.GetMirrors()) > 0, h.GetRetries() != nil, h.GetTimeout() != nil) {
			r.errorf(at.Child(other), "makes no sense beside %s, which asks no destination", actions[0])
		}
	}
	for i, m := range h.GetMatch() {
		r.httpMatch(at.Child("match").Index(i), m, all)
	}
	r.httpSplit(at.Child("route"), h.GetRoute())
	r.least(at.Child("timeout"), h.GetTimeout(), time.Millisecond)
	r.headerOps(at.Child("headers"), h.GetHeaders())
	r.retries(at.Child("retries"), h.GetRetries())
	r.fault(at.Child("fault"), h.GetFault())
	r.redirect(at.Child("redirect"), h.GetRedirect())
	r.direct(at.Child("directResponse"), h.GetDirectResponse())
	r.rewrite(at.Child("rewrite"), h.GetRewrite())
	r.mirrors(at, h)
}

func (r *ruler) httpMatch(at *field.Path, m *networking.HTTPMatchRequest, all allGateways) {
	if m.GetName() != "" && strings.ContainsAny(m.GetName(), " \t\n") {
		r.errorf(at.Child("name"), "found %q, want a name without blanks", m.GetName())
	}
	for _, s := range []struct {
		name  string
		match *networking.StringMatch
	}{{"uri", m.GetUri()}, {"scheme", m.GetScheme()}, {"method", m.GetMethod()}, {"authority", m.GetAuthority()}} {
		if s.match == nil {
			continue
		}
		p := at.Child(s.name)
		switch k := s.match.GetMatchType().(type) {
		case nil:
			r.errorf(p, "says nothing; want exact, prefix or regex")
		case *networking.StringMatch_Exact:
			if k.Exact == "" {
				r.errorf(p.Child("exact"), "empty, which no request matches")
			}
		case *networking.StringMatch_Prefix:
			if k.Prefix == "" {
				r.errorf(p.Child("prefix"), "empty, which every request matches; leave it out")
			}
		}
		r.stringMatch(p, s.match)
	}
	if m.GetIgnoreUriCase() && m.GetUri().GetRegex() != "" {
		r.notice(at.Child("ignoreUriCase"), "it is about exact and prefix; write (?i) in front of the regex")
	}
	for _, list := range []struct {
		name    string
		matches map[string]*networking.StringMatch
	}{{"headers", m.GetHeaders()}, {"withoutHeaders", m.GetWithoutHeaders()}} {
		for _, name := range sortedKeys(list.matches) {
			p := at.Child(list.name).Child(name)
			switch {
			case strings.HasPrefix(name, "@request.auth.claims"):
				r.errorf(p, "matches on the claims of a token are not supported yet")
			case !headerName.MatchString(name):
				r.errorf(p, "found %q, want the name of a header", name)
			case slices.Contains([]string{"uri", "scheme", "method", "authority"}, name):
				r.notice(p, "Istio ignores a header of this name; use the field %s of the match", name)
			}
			r.stringMatch(p, list.matches[name])
		}
	}
	for _, name := range sortedKeys(m.GetQueryParams()) {
		p := at.Child("queryParams").Child(name)
		if name == "" {
			r.errorf(p, "a parameter without name")
		}
		r.stringMatch(p, m.GetQueryParams()[name])
	}
	if m.GetPort() != 0 {
		r.port(at.Child("port"), m.GetPort())
	}
	r.labels(at.Child("sourceLabels"), m.GetSourceLabels())
	r.among(at.Child("gateways"), m.GetGateways(), all)
}

func (r *ruler) stringMatch(at *field.Path, m *networking.StringMatch) {
	if k, ok := m.GetMatchType().(*networking.StringMatch_Regex); ok {
		if k.Regex == "" {
			r.errorf(at.Child("regex"), "empty, which matches nothing but the empty text; use exact")
		}
		r.regex(at.Child("regex"), k.Regex)
	}
}

func (r *ruler) httpSplit(at *field.Path, routes []*networking.HTTPRouteDestination) {
	weights := make([]int32, len(routes))
	for i, d := range routes {
		r.destination(at.Index(i).Child("destination"), d.GetDestination())
		r.headerOps(at.Index(i).Child("headers"), d.GetHeaders())
		weights[i] = d.GetWeight()
	}
	r.weights(at, weights)
}

// weights checks shares: relative, none negative, not all zero where there are several.
func (r *ruler) weights(at *field.Path, weights []int32) {
	total := int64(0)
	for i, w := range weights {
		if w < 0 {
			r.errorf(at.Index(i).Child("weight"), "found %d, want 0 or more", w)
		}
		total += int64(w)
	}
	switch {
	case len(weights) > 1 && total == 0:
		r.errorf(at, "all %d weights are 0, want at least one above 0", len(weights))
	case total > 1<<32-1:
		r.errorf(at, "the weights add up to %d, want at most %d", total, uint32(1<<32-1))
	}
}

func (r *ruler) destination(at *field.Path, d *networking.Destination) {
	if d == nil {
		r.errorf(at, "missing; want the host to which requests go")
		return
	}
	r.host(at.Child("host"), d.GetHost(), false)
	if s := d.GetSubset(); s != "" && len(validation.IsDNS1123Label(strings.ToLower(s))) > 0 {
		r.errorf(at.Child("subset"), "found %q, want the name of a subset: letters, digits and dashes", s)
	}
	if p := d.GetPort(); p != nil {
		r.port(at.Child("port").Child("number"), p.GetNumber())
	}
}

func (r *ruler) headerOps(at *field.Path, h *networking.Headers) {
	for _, side := range []struct {
		name string
		ops  *networking.Headers_HeaderOperations
	}{{"request", h.GetRequest()}, {"response", h.GetResponse()}} {
		p := at.Child(side.name)
		for _, op := range []struct {
			name   string
			values map[string]string
		}{{"set", side.ops.GetSet()}, {"add", side.ops.GetAdd()}} {
			for _, name := range sortedKeys(op.values) {
				r.headerOp(p.Child(op.name).Child(name), name, op.name == "set" && side.name == "request")
				r.headerValue(p.Child(op.name).Child(name), op.values[name])
			}
		}
		for i, name := range side.ops.GetRemove() {
			r.headerOp(p.Child("remove").Index(i), name, false)
		}
	}
}

// headerFormat is the form of a value: Envoy fills in what stands between percent signs.
var headerFormat = regexp.MustCompile(`^([^%]|%%|%[A-Z0-9_]+(\([^)]*\))?(:[0-9]+)?%)*$`)

func (r *ruler) headerValue(at *field.Path, value string) {
	switch {
	case strings.ContainsAny(value, "\r\n\x00"):
		r.errorf(at, "found a line break in the value")
	case !headerFormat.MatchString(value):
		r.errorf(at, "found %q, want %%%% for a percent sign, or a command such as %%REQ(x-name)%%", value)
	}
}

// headerOp checks the name of a header that is changed. The authority of a
// request may be set; Envoy changes no other pseudo header this way.
func (r *ruler) headerOp(at *field.Path, name string, set bool) {
	lower := strings.ToLower(name)
	switch {
	case lower == ":authority" || lower == "host":
		if !set {
			r.errorf(at, "found %q, which can only be set, and only of requests", name)
		}
	case strings.HasPrefix(name, ":"):
		r.errorf(at, "found %q, want an ordinary header; of the pseudo headers only :authority can be set", name)
	case !headerName.MatchString(name):
		r.errorf(at, "found %q, want the name of a header", name)
	}
}

var retryConditions = []string{
	"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx", "refused-stream",
	"retriable-status-codes", "retriable-headers", "http3-post-connect-failure",
	"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}

func (r *ruler) retries(at *field.Path, p *networking.HTTPRetry) {
	if p == nil {
		return
	}
	if p.GetAttempts() < 0 {
		r.errorf(at.Child("attempts"), "found %d, want 0 (never) or more", p.GetAttempts())
	}
	if p.GetAttempts() == 0 && (p.GetPerTryTimeout() != nil || p.GetRetryOn() != "" || p.GetBackoff() != nil) {
		r.errorf(at.Child("attempts"), "0 means never, but there is more said about retries; want 1 or more")
	}
	r.least(at.Child("perTryTimeout"), p.GetPerTryTimeout(), time.Millisecond)
	r.least(at.Child("backoff"), p.GetBackoff(), time.Millisecond)
	if p.GetRetryOn() != "" {
		r.retryOn(at.Child("retryOn"), p.GetRetryOn())
	}
}

func (r *ruler) retryOn(at *field.Path, list string) {
	for c := range strings.SplitSeq(list, ",") {
		c = strings.TrimSpace(c)
		if !slices.Contains(retryConditions, c) && !isStatus(c) {
			r.errorf(at, "found %q, want a list of status codes and of %s", c, strings.Join(retryConditions, ", "))
		}
	}
}

func isStatus(s string) bool {
	return len(s) == 3 && s[0] >= '1' && s[0] <= '5' && s[1] >= '0' && s[1] <= '9' && s[2] >= '0' && s[2] <= '9'
}

var grpcCodes = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func (r *ruler) fault(at *field.Path, f *networking.HTTPFaultInjection) {
	if f == nil {
		return
	}
	if f.GetDelay() == nil && f.GetAbort() == nil {
		r.errorf(at, "says nothing; want delay or abort")
	}
	if d := f.GetDelay(); d != nil {
		p := at.Child("delay")
		if d.GetHttpDelayType() == nil {
			r.errorf(p.Child("fixedDelay"), "missing; want how long requests wait")
		}
		r.above(p.Child("fixedDelay"), d.GetFixedDelay(), time.Millisecond)
		//lint:ignore SA1019 old manifests have it
		r.share(p, d.GetPercentage(), d.GetPercent())
	}
	if a := f.GetAbort(); a != nil {
		p := at.Child("abort")
		switch k := a.GetErrorType().(type) {
		case nil:
			r.errorf(p, "no error; want httpStatus or grpcStatus")
		case *networking.HTTPFaultInjection_Abort_HttpStatus:
			if k.HttpStatus < 200 || k.HttpStatus > 599 {
				r.errorf(p.Child("httpStatus"), "found %d, want a status from 200 to 599", k.HttpStatus)
			}
		case *networking.HTTPFaultInjection_Abort_GrpcStatus:
			if !slices.Contains(grpcCodes, k.GrpcStatus) {
				r.errorf(p.Child("grpcStatus"), "found %q, want one of %s", k.GrpcStatus, strings.Join(grpcCodes, ", "))
			}
		}
		r.share(p, a.GetPercentage(), 0)
	}
}

// share checks how many requests meet a fault. The old field is whole percents.
func (r *ruler) share(at *field.Path, p *networking.Percent, old int32) {
	switch {
	case p != nil:
		r.percent(at.Child("percentage").Child("value"), p.GetValue())
	case old != 0:
		r.percent(at.Child("percent"), float64(old))
	default:
		r.notice(at, "without percentage it meets no request; for all write percentage: {value: 100}")
	}
}

func (r *ruler) redirect(at *field.Path, d *networking.HTTPRedirect) {
	if d == nil {
		return
	}
	if d.GetUri() == "" && d.GetPrefixRewrite() == "" && d.GetAuthority() == "" && d.GetScheme() == "" && d.GetRedirectPort() == nil {
		r.errorf(at, "says nothing; want uri, prefixRewrite, authority, scheme, port or derivePort")
	}
	if d.GetUri() != "" && d.GetPrefixRewrite() != "" {
		r.errorf(at, "uri and prefixRewrite exclude each other; keep one")
	}
	if s := d.GetScheme(); s != "" && s != "http" && s != "https" {
		r.errorf(at.Child("scheme"), "found %q, want http or https", s)
	}
	if c := d.GetRedirectCode(); c != 0 && !slices.Contains([]uint32{301, 302, 303, 307, 308}, c) {
		r.errorf(at.Child("redirectCode"), "found %d, want 301, 302, 303, 307 or 308", c)
	}
	if p, ok := d.GetRedirectPort().(*networking.HTTPRedirect_Port); ok {
		r.port(at.Child("port"), p.Port)
	}
}

// maxDirectBody is Envoy's max_direct_response_body_size as Istio sets it.
const maxDirectBody = 1 << 20

func (r *ruler) direct(at *field.Path, d *networking.HTTPDirectResponse) {
	if d == nil {
		return
	}
	if s := d.GetStatus(); s < 200 || s > 599 {
		r.errorf(at.Child("status"), "found %d, want a status from 200 to 599", s)
	}
	if n := len(d.GetBody().GetString_()) + len(d.GetBody().GetBytes()); n > maxDirectBody {
		r.errorf(at.Child("body"), "%d bytes, want at most %d", n, maxDirectBody)
	}
}

func (r *ruler) rewrite(at *field.Path, w *networking.HTTPRewrite) {
	if w == nil {
		return
	}
	x := w.GetUriRegexRewrite()
	if w.GetUri() == "" && w.GetAuthority() == "" && x == nil {
		r.errorf(at, "says nothing; want uri, authority or uriRegexRewrite")
	}
	if w.GetUri() != "" && x != nil {
		r.errorf(at, "uri and uriRegexRewrite exclude each other; keep one")
	}
	if x == nil {
		return
	}
	p := at.Child("uriRegexRewrite")
	if x.GetMatch() == "" {
		r.errorf(p.Child("match"), "missing; want the pattern of what is replaced")
		return
	}
	re := r.regex(p.Child("match"), x.GetMatch())
	for i := 0; re != nil && i+1 < len(x.GetRewrite()); i++ {
		c := x.GetRewrite()[i+1]
		if x.GetRewrite()[i] != '\\' {
			continue
		}
		i++
		if c >= '0' && c <= '9' && int(c-'0') > re.NumSubexp() {
			r.errorf(p.Child("rewrite"), "found \\%c, but the groups of the pattern end at \\%d", c, re.NumSubexp())
		}
	}
}

func (r *ruler) mirrors(at *field.Path, h *networking.HTTPRoute) {
	if h.GetMirror() != nil && len(h.GetMirrors()) > 0 {
		r.errorf(at, "mirror and mirrors exclude each other; keep one")
	}
	if h.GetMirror() != nil {
		r.destination(at.Child("mirror"), h.GetMirror())
	} else if h.GetMirrorPercentage() != nil {
		r.errorf(at.Child("mirrorPercentage"), "there is no mirror")
	}
	if p := h.GetMirrorPercentage(); p != nil {
		r.percent(at.Child("mirrorPercentage").Child("value"), p.GetValue())
	}
	//lint:ignore SA1019 old manifests have it
	if p := h.GetMirrorPercent(); p != nil {
		r.percent(at.Child("mirrorPercent"), float64(p.GetValue()))
	}
	for i, m := range h.GetMirrors() {
		p := at.Child("mirrors").Index(i)
		r.destination(p.Child("destination"), m.GetDestination())
		if m.GetPercentage() != nil {
			r.percent(p.Child("percentage").Child("value"), m.GetPercentage().GetValue())
		}
	}
}

func (r *ruler) tlsRoute(at *field.Path, t *networking.TLSRoute, hosts []string, all allGateways) {
	if len(t.GetMatch()) == 0 {
		r.errorf(at.Child("match"), "missing; TLS is routed by the names that clients ask for: want sniHosts")
	}
	for i, m := range t.GetMatch() {
		p := at.Child("match").Index(i)
		if len(m.GetSniHosts()) == 0 {
			r.errorf(p.Child("sniHosts"), "missing; want the names that clients ask for")
		}
		for j, name := range m.GetSniHosts() {
			r.host(p.Child("sniHosts").Index(j), name, true)
			if !slices.ContainsFunc(hosts, func(h string) bool { return model.HostMatches(h, name) }) {
				r.errorf(p.Child("sniHosts").Index(j), "found %q, want a name that is among spec.hosts (%s)", name, strings.Join(hosts, ", "))
			}
		}
		r.l4Match(p, m.GetDestinationSubnets(), m.GetPort(), m.GetSourceLabels(), m.GetGateways(), all)
	}
	r.l4Split(at.Child("route"), t.GetRoute())
}

func (r *ruler) tcpRoute(at *field.Path, t *networking.TCPRoute, all allGateways) {
	for i, m := range t.GetMatch() {
		r.l4Match(at.Child("match").Index(i), m.GetDestinationSubnets(), m.GetPort(), m.GetSourceLabels(), m.GetGateways(), all)
	}
	r.l4Split(at.Child("route"), t.GetRoute())
}

func (r *ruler) l4Match(at *field.Path, subnets []string, port uint32, labels map[string]string, gateways []string, all allGateways) {
	for i, s := range subnets {
		_, err := netip.ParsePrefix(s)
		if _, addrErr := netip.ParseAddr(s); err != nil && addrErr != nil {
			r.errorf(at.Child("destinationSubnets").Index(i), "found %q, want an address or a range such as 10.0.0.0/8", s)
		}
	}
	if port != 0 {
		r.port(at.Child("port"), port)
	}
	r.labels(at.Child("sourceLabels"), labels)
	r.among(at.Child("gateways"), gateways, all)
}

func (r *ruler) l4Split(at *field.Path, routes []*networking.RouteDestination) {
	if len(routes) == 0 {
		r.errorf(at, "missing; want where connections go")
	}
	weights := make([]int32, len(routes))
	for i, d := range routes {
		r.destination(at.Index(i).Child("destination"), d.GetDestination())
		weights[i] = d.GetWeight()
	}
	r.weights(at, weights)
}
