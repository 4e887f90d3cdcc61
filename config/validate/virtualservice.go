package validate

import (
	"slices"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
)

func (r *ruler) virtualService(v *networkingv1.VirtualService) {
	spec, at := &v.Spec, field.At("spec")
	gateways := spec.GetGateways()
	mesh := len(gateways) == 0 || slices.Contains(gateways, "mesh")
	delegate := len(spec.GetHosts()) == 0
	if delegate && (len(spec.GetHttp()) == 0 || len(spec.GetTls())+len(spec.GetTcp())+len(gateways) > 0) {
		r.errorf(at.Child("hosts"), "missing; want the hosts whose requests are routed (only a delegate has none: http routes, and no gateways, tls and tcp)")
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
		if delegate && h.GetDelegate() != nil {
			r.errorf(p.Child("delegate"), "a VirtualService without hosts is a delegate itself; want a route, redirect or directResponse")
		}
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
	actions := oneSet([]string{"route", "redirect", "directResponse", "delegate"},
		len(h.GetRoute()) > 0, h.GetRedirect() != nil, h.GetDirectResponse() != nil, h.GetDelegate() != nil)
	switch {
	case len(actions) == 0:
		r.errorf(at, "no action; want route, redirect, directResponse or delegate")
	case len(actions) > 1:
		r.errorf(at, "%s exclude each other; keep one", strings.Join(actions, " and "))
	case actions[0] == "delegate":
		r.delegate(at.Child("delegate"), h.GetDelegate())
	case actions[0] != "route":
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
	r.cors(at.Child("corsPolicy"), h.GetCorsPolicy())
}

func (r *ruler) delegate(at *field.Path, d *networking.Delegate) {
	if d.GetName() == "" {
		r.errorf(at.Child("name"), "missing; want the name of a VirtualService without hosts")
	} else if len(validation.IsDNS1123Subdomain(d.GetName())) > 0 {
		r.errorf(at.Child("name"), "found %q, want the name of a VirtualService", d.GetName())
	}
	if ns := d.GetNamespace(); ns != "" && len(validation.IsDNS1123Label(ns)) > 0 {
		r.errorf(at.Child("namespace"), "found %q, want the name of a namespace", ns)
	}
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
	if p := m.GetStatPrefix(); strings.ContainsAny(p, " \t\n|") {
		r.errorf(at.Child("statPrefix"), "found %q, want a name without blanks", p)
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
