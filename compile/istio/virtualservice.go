//lint:file-ignore SA1019 old manifests still use the fields that Istio deprecates, and they still work

package istio

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/model"
)

func (c *compiler) virtualService() {
	vs := &c.obj.Value.(*networkingv1.VirtualService).Spec
	spec := field.At("spec")
	r := &model.RouteRules{From: c.ref, Created: c.obj.Created, ExportTo: vs.ExportTo, Gateways: c.gatewayNames(vs.Gateways)}
	if r.Gateways == nil {
		r.Gateways = []string{"mesh"}
	}
	if len(vs.Hosts) == 0 && len(vs.Gateways)+len(vs.Tls)+len(vs.Tcp) > 0 {
		c.out.Errors.Addf(spec.Child("hosts"), "is empty, which makes it a delegate: want no gateways, tls and tcp then, or hosts")
	}
	for _, h := range vs.Hosts {
		r.Hosts = append(r.Hosts, c.host(h))
	}
	for i, h := range vs.Http {
		r.HTTP = append(r.HTTP, c.httpRule(h, spec.Child("http").Index(i)))
	}
	for i, t := range vs.Tls {
		r.TLS = append(r.TLS, c.tlsRule(t, spec.Child("tls").Index(i)))
	}
	for i, t := range vs.Tcp {
		r.TCP = append(r.TCP, c.tcpRule(t, spec.Child("tcp").Index(i)))
	}
	c.out.Rules = r
}

// gatewayNames returns namespace/name for each gateway; mesh stays mesh.
func (c *compiler) gatewayNames(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, GatewayKey(n, c.obj.Namespace))
	}
	return out
}

func (c *compiler) httpRule(h *networking.HTTPRoute, at *field.Path) *model.HTTPRule {
	before := len(c.out.Errors)
	r := &model.HTTPRule{
		Name: h.Name, Timeout: c.duration(h.Timeout, at.Child("timeout")),
		Redirect: c.redirect(h.Redirect, at.Child("redirect")), Direct: c.direct(h.DirectResponse, at.Child("directResponse")),
		Rewrite: c.rewrite(h.Rewrite, at.Child("rewrite")), Retry: c.retries(h.Retries, at.Child("retries")),
		Fault: c.fault(h.Fault, at.Child("fault")), CORS: c.cors(h.CorsPolicy, at.Child("corsPolicy")), Headers: c.operations(headers(h.Headers), at.Child("headers")),
	}
	for i, m := range h.Match {
		r.Matches = append(r.Matches, c.httpMatch(m, at.Child("match").Index(i)))
	}
	for i, d := range h.Route {
		at := at.Child("route").Index(i)
		r.Forward = append(r.Forward, model.Split{
			To: c.destination(d.GetDestination(), at), Weight: positive(d.Weight), Headers: c.operations(headers(d.Headers), at.Child("headers")),
		})
	}
	r.Forward = c.weigh(r.Forward, at)
	r.Mirrors = c.mirrors(h, at)
	if d := h.Delegate; d != nil {
		r.Delegate = &model.Name{Namespace: cmp.Or(d.Namespace, c.obj.Namespace), Name: d.Name}
		if r.Redirect != nil || r.Direct != nil || len(r.Forward) > 0 {
			c.out.Errors.Addf(at.Child("delegate"), "stands beside an action of its own, want one of the two")
		}
	}
	if r.Redirect == nil && r.Direct == nil && len(r.Forward) == 0 && r.Delegate == nil && before == len(c.out.Errors) {
		c.out.Errors.Addf(at, "does nothing: want one of route, redirect and directResponse")
	}
	return r
}

// weigh drops destinations that get nothing. A single destination gets all,
// whatever its weight.
func (c *compiler) weigh(splits []model.Split, at *field.Path) []model.Split {
	if len(splits) <= 1 {
		return splits
	}
	kept := slices.DeleteFunc(splits, func(s model.Split) bool { return s.Weight == 0 })
	if len(kept) == 0 {
		c.out.Errors.Addf(at.Child("route"), "all %d weights are 0, want at least one above 0", len(splits))
	}
	return kept
}

func (c *compiler) destination(d *networking.Destination, at *field.Path) model.Destination {
	if d.GetHost() == "" {
		c.out.Errors.Addf(at.Child("destination").Child("host"), "is empty, want the host of a service")
		return model.Destination{}
	}
	return model.Destination{Host: c.host(d.Host), Subset: d.Subset, Port: uint16(d.GetPort().GetNumber())}
}

func (c *compiler) mirrors(h *networking.HTTPRoute, at *field.Path) []model.Mirror {
	var out []model.Mirror
	if h.Mirror != nil {
		percent := 100.0
		switch {
		case h.MirrorPercentage != nil:
			percent = h.MirrorPercentage.Value
		case h.MirrorPercent != nil:
			percent = float64(h.MirrorPercent.Value)
		}
		out = append(out, model.Mirror{To: c.destination(h.Mirror, at.Child("mirror")), Percent: percent})
	}
	for i, m := range h.Mirrors {
		percent := 100.0
		if m.Percentage != nil {
			percent = m.Percentage.Value
		}
		out = append(out, model.Mirror{To: c.destination(m.Destination, at.Child("mirrors").Index(i)), Percent: percent})
	}
	return slices.DeleteFunc(out, func(m model.Mirror) bool { return m.Percent <= 0 })
}

func (c *compiler) httpMatch(m *networking.HTTPMatchRequest, at *field.Path) *model.HTTPMatch {
	for name := range m.Headers {
		c.unsupported(strings.HasPrefix(name, "@"), at.Child("headers").Child(name))
	}
	for name := range m.WithoutHeaders {
		c.unsupported(strings.HasPrefix(name, "@"), at.Child("withoutHeaders").Child(name))
	}
	return &model.HTTPMatch{
		Name: m.Name, StatPrefix: m.StatPrefix, IgnoreCase: m.IgnoreUriCase,
		URI: c.text(stringMatch(m.Uri), at.Child("uri")), Scheme: c.text(stringMatch(m.Scheme), at.Child("scheme")),
		Method: c.text(stringMatch(m.Method), at.Child("method")), Authority: c.text(stringMatch(m.Authority), at.Child("authority")),
		Headers:        c.named(namedMatches(m.Headers, true), at.Child("headers")),
		WithoutHeaders: c.named(namedMatches(m.WithoutHeaders, true), at.Child("withoutHeaders")),
		QueryParams:    c.named(namedMatches(m.QueryParams, false), at.Child("queryParams")),
		Port:           uint16(m.Port), SourceLabels: m.SourceLabels, SourceNamespace: m.SourceNamespace, Gateways: c.gatewayNames(m.Gateways),
	}
}

func stringMatch(m *networking.StringMatch) *model.StringMatch {
	if m == nil {
		return nil
	}
	switch t := m.MatchType.(type) {
	case *networking.StringMatch_Exact:
		return &model.StringMatch{Kind: model.Exact, Value: t.Exact}
	case *networking.StringMatch_Prefix:
		return &model.StringMatch{Kind: model.Prefix, Value: t.Prefix}
	case *networking.StringMatch_Regex:
		return &model.StringMatch{Kind: model.Regex, Value: t.Regex}
	}
	return &model.StringMatch{}
}

// namedMatches sorts the map. Names of headers are lower case on the wire of
// HTTP/2 and ignore case everywhere; names of query parameters do not.
func namedMatches(in map[string]*networking.StringMatch, fold bool) []model.NamedMatch {
	var out []model.NamedMatch
	for name, m := range in {
		if fold {
			name = strings.ToLower(name)
		}
		match := stringMatch(m)
		if match == nil {
			match = &model.StringMatch{}
		}
		out = append(out, model.NamedMatch{Name: name, StringMatch: *match})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

func headers(h *networking.Headers) model.HeaderOps {
	return model.HeaderOps{Request: headerChange(h.GetRequest()), Response: headerChange(h.GetResponse())}
}

func headerChange(o *networking.Headers_HeaderOperations) model.HeaderChange {
	list := func(m map[string]string) []model.Header {
		var out []model.Header
		for n, v := range m {
			out = append(out, model.Header{Name: n, Value: v})
		}
		sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
		return out
	}
	return model.HeaderChange{Set: list(o.GetSet()), Add: list(o.GetAdd()), Remove: o.GetRemove()}
}

func (c *compiler) redirect(r *networking.HTTPRedirect, at *field.Path) *model.Redirect {
	if r == nil {
		return nil
	}
	c.oneLine(r.Uri, at.Child("uri"))
	c.oneLine(r.PrefixRewrite, at.Child("prefixRewrite"))
	c.oneLine(r.Authority, at.Child("authority"))
	out := &model.Redirect{Path: r.Uri, Prefix: r.PrefixRewrite, Authority: r.Authority, Scheme: r.Scheme, Code: r.RedirectCode}
	switch out.Code {
	case 0:
		out.Code = 301
	case 301, 302, 303, 307, 308:
	default:
		c.out.Errors.Addf(at.Child("redirectCode"), "is %d, want one of 301, 302, 303, 307 and 308", out.Code)
	}
	switch p := r.RedirectPort.(type) {
	case *networking.HTTPRedirect_Port:
		out.Port = uint16(p.Port)
	case *networking.HTTPRedirect_DerivePort:
		out.DerivePort = model.FromProtocol
		if p.DerivePort == networking.HTTPRedirect_FROM_REQUEST_PORT {
			out.DerivePort = model.FromRequest
		}
	}
	return out
}

func (c *compiler) direct(d *networking.HTTPDirectResponse, at *field.Path) *model.DirectResponse {
	if d == nil {
		return nil
	}
	c.status(d.Status, at.Child("status"))
	out := &model.DirectResponse{Status: d.Status}
	switch b := d.GetBody().GetSpecifier().(type) {
	case *networking.HTTPBody_String_:
		out.Body = []byte(b.String_)
	case *networking.HTTPBody_Bytes:
		out.Body = b.Bytes
	}
	return out
}

func (c *compiler) rewrite(r *networking.HTTPRewrite, at *field.Path) *model.Rewrite {
	if r == nil {
		return nil
	}
	c.oneLine(r.Uri, at.Child("uri"))
	c.oneLine(r.Authority, at.Child("authority"))
	c.oneLine(r.UriRegexRewrite.GetRewrite(), at.Child("uriRegexRewrite").Child("rewrite"))
	if r.UriRegexRewrite != nil {
		c.regex(r.UriRegexRewrite.Match, at.Child("uriRegexRewrite").Child("match"))
	}
	return &model.Rewrite{URI: r.Uri, Authority: r.Authority, Regex: r.UriRegexRewrite.GetMatch(), Replace: r.UriRegexRewrite.GetRewrite()}
}

func (c *compiler) retries(r *networking.HTTPRetry, at *field.Path) *model.Retry {
	if r == nil {
		return nil
	}
	c.duration(r.PerTryTimeout, at.Child("perTryTimeout"))
	c.duration(r.Backoff, at.Child("backoff"))
	return mesh.Retry(r)
}

func (c *compiler) fault(f *networking.HTTPFaultInjection, at *field.Path) *model.Fault {
	if f == nil {
		return nil
	}
	out := &model.Fault{}
	if d := f.Delay; d != nil {
		if _, ok := d.HttpDelayType.(*networking.HTTPFaultInjection_Delay_ExponentialDelay); ok {
			c.unsupported(true, at.Child("delay").Child("exponentialDelay"))
		}
		out.Delay = c.duration(d.GetFixedDelay(), at.Child("delay").Child("fixedDelay"))
		out.DelayPercent = percentOf(d.Percentage, d.Percent)
		c.share(out.DelayPercent, at.Child("delay").Child("percentage"))
	}
	if a := f.Abort; a != nil {
		switch e := a.ErrorType.(type) {
		case *networking.HTTPFaultInjection_Abort_HttpStatus:
			out.AbortStatus = positive(e.HttpStatus)
			c.status(out.AbortStatus, at.Child("abort").Child("httpStatus"))
		case *networking.HTTPFaultInjection_Abort_GrpcStatus:
			out.AbortGRPC = e.GrpcStatus
			if _, ok := model.GRPCCode(e.GrpcStatus); !ok {
				c.out.Errors.Addf(at.Child("abort").Child("grpcStatus"), "is %q, want the name of a gRPC status, such as UNAVAILABLE", e.GrpcStatus)
			}
		case *networking.HTTPFaultInjection_Abort_Http2Error:
			c.unsupported(true, at.Child("abort").Child("http2Error"))
		}
		out.AbortPercent = percentOf(a.Percentage, 0)
		c.share(out.AbortPercent, at.Child("abort").Child("percentage"))
	}
	return out
}

// percentOf returns the share in percent; nothing said is 0.
func percentOf(p *networking.Percent, old int32) float64 {
	if p != nil {
		return p.Value
	}
	return float64(old)
}

func (c *compiler) tlsRule(t *networking.TLSRoute, at *field.Path) *model.TLSRule {
	r := &model.TLSRule{Forward: c.splits(t.Route, at)}
	for i, m := range t.Match {
		at := at.Child("match").Index(i)
		r.Matches = append(r.Matches, &model.TLSMatch{
			SNI: c.sniHosts(m.SniHosts, at.Child("sniHosts")), Subnets: c.subnets(m.DestinationSubnets, at.Child("destinationSubnets")), Port: uint16(m.Port),
			SourceLabels: m.SourceLabels, SourceNamespace: m.SourceNamespace, Gateways: c.gatewayNames(m.Gateways),
		})
		if len(m.SniHosts) == 0 {
			c.out.Errors.Addf(at.Child("sniHosts"), "is empty, want at least one host")
		}
	}
	if len(t.Match) == 0 {
		c.out.Errors.Addf(at.Child("match"), "is empty, want at least one match with sniHosts")
	}
	return r
}

func (c *compiler) tcpRule(t *networking.TCPRoute, at *field.Path) *model.TCPRule {
	r := &model.TCPRule{Forward: c.splits(t.Route, at)}
	for i, m := range t.Match {
		at := at.Child("match").Index(i)
		c.unsupported(m.SourceSubnet != "", at.Child("sourceSubnet"))
		r.Matches = append(r.Matches, &model.TCPMatch{
			Subnets: c.subnets(m.DestinationSubnets, at.Child("destinationSubnets")), Port: uint16(m.Port),
			SourceLabels: m.SourceLabels, SourceNamespace: m.SourceNamespace, Gateways: c.gatewayNames(m.Gateways),
		})
	}
	return r
}

func (c *compiler) splits(routes []*networking.RouteDestination, at *field.Path) []model.Split {
	var out []model.Split
	for i, d := range routes {
		out = append(out, model.Split{To: c.destination(d.GetDestination(), at.Child("route").Index(i)), Weight: positive(d.Weight)})
	}
	if len(out) == 0 {
		c.out.Errors.Addf(at.Child("route"), "is empty, want at least one destination")
	}
	return c.weigh(out, at)
}

func (c *compiler) subnets(in []string, at *field.Path) []netip.Prefix {
	var out []netip.Prefix
	for i, s := range in {
		p, err := ParsePrefix(s)
		if err != nil {
			c.out.Errors.Addf(at.Index(i), "is %q, want an IP address or a range such as 10.1.0.0/16", s)
			continue
		}
		out = append(out, p)
	}
	return out
}

// ParsePrefix reads an address or a range of addresses.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}
