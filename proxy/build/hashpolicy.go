package build

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	canaryv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/omit_canary_hosts/v3"
	omitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/omit_host_metadata/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/route"
)

// pickFields are messages by which routes have a say in the choice of a host.
var pickFields = []*Message{
	message((*routev3.RouteAction_HashPolicy)(nil), reads("header", "cookie", "connection_properties", "query_parameter", "filter_state", "terminal")),
	message((*routev3.RouteAction_HashPolicy_Header)(nil), reads("header_name", "regex_rewrite")),
	message((*routev3.RouteAction_HashPolicy_Cookie)(nil), reads("name", "ttl", "path", "attributes")),
	message((*routev3.RouteAction_HashPolicy_CookieAttribute)(nil), reads("name", "value")),
	message((*routev3.RouteAction_HashPolicy_ConnectionProperties)(nil), reads("source_ip")),
	message((*routev3.RouteAction_HashPolicy_QueryParameter)(nil), reads("name")),
	message((*routev3.RouteAction_HashPolicy_FilterState)(nil), reads("key")),
	message((*typev3.HashPolicy)(nil), reads("source_ip", "filter_state")),
	message((*typev3.HashPolicy_FilterState)(nil), reads("key")),
	message((*typev3.HashPolicy_SourceIp)(nil)),
	message((*previoushostsv3.PreviousHostsPredicate)(nil)),
	message((*canaryv3.OmitCanaryHostsPredicate)(nil)),
	message((*omitv3.OmitHostMetadataConfig)(nil), reads("metadata_match")),
}

// choice reads what a route says about the choice of a host.
func (r *reader) choice(a *routev3.RouteAction, out *route.ForwardConfig, at *field.Path) {
	out.HashPolicies = r.hashPolicies(a.GetHashPolicy(), at.Child("hash_policy"))
	all := criteria(a.GetMetadataMatch())
	if all != nil {
		out.MetadataMatch = all
	}
	for i := range out.Weighted {
		if c := criteria(a.GetWeightedClusters().GetClusters()[i].GetMetadataMatch()); c != nil {
			out.Weighted[i].MetadataMatch = all.With(c)
		}
	}
}

// hashPolicies reads what a hash is made of.
func (r *reader) hashPolicies(list []*routev3.RouteAction_HashPolicy, at *field.Path) []route.HashPolicy {
	var out []route.HashPolicy
	for i, m := range list {
		at := at.Index(i)
		p := route.HashPolicy{Terminal: m.GetTerminal()}
		name, what := "", ""
		switch m.GetPolicySpecifier().(type) {
		case *routev3.RouteAction_HashPolicy_Header_:
			p.Header = m.GetHeader().GetHeaderName()
			if re := m.GetHeader().GetRegexRewrite(); re != nil {
				p.HeaderRegex, p.HeaderSubstitution = r.regex(re.GetPattern(), at.Child("header").Child("regex_rewrite").Child("pattern")), re.GetSubstitution()
			}
			name, what = p.Header, "header.header_name"
		case *routev3.RouteAction_HashPolicy_Cookie_:
			c := m.GetCookie()
			p.Cookie, p.CookiePath = c.GetName(), c.GetPath()
			p.CookieTTL = r.optional(c.GetTtl(), at.Child("cookie").Child("ttl"))
			for _, a := range c.GetAttributes() {
				p.CookieAttributes = append(p.CookieAttributes, [2]string{a.GetName(), a.GetValue()})
			}
			name, what = p.Cookie, "cookie.name"
		case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
			if p.SourceIP = m.GetConnectionProperties().GetSourceIp(); !p.SourceIP {
				continue // as Envoy: nothing to hash
			}
			name = "-"
		case *routev3.RouteAction_HashPolicy_QueryParameter_:
			p.Query = m.GetQueryParameter().GetName()
			name, what = p.Query, "query_parameter.name"
		case *routev3.RouteAction_HashPolicy_FilterState_:
			p.FilterState = m.GetFilterState().GetKey()
			name, what = p.FilterState, "filter_state.key"
		default:
			r.errs.Addf(at, "says not what to hash")
			continue
		}
		if name == "" {
			r.errs.Addf(at, "%s is empty", what)
		}
		out = append(out, p)
	}
	return out
}

// tcpHash reads what the hash of a TCP connection is made of.
func (r *reader) tcpHash(m *tcpv3.TcpProxy, at *field.Path) (sourceIP bool, state string) {
	for i, p := range m.GetHashPolicy() {
		if i > 0 {
			r.errs.Addf(at.Index(i), "there may be one policy only")
		}
		switch sourceIP, state = p.GetSourceIp() != nil, p.GetFilterState().GetKey(); {
		case p.GetFilterState() != nil && state == "":
			r.errs.Addf(at.Index(i).Child("filter_state").Child("key"), "is empty")
		case state == "" && !sourceIP:
			r.errs.Addf(at.Index(i), "says not what to hash, want source_ip or filter_state")
		}
	}
	return sourceIP, state
}

// The predicates of hosts that retries avoid, by the message of their configuration and by the name
// under which they go without one.
var (
	previousHosts = anyName(&previoushostsv3.PreviousHostsPredicate{})
	omitCanary    = anyName(&canaryv3.OmitCanaryHostsPredicate{})
	omitMetadata  = anyName(&omitv3.OmitHostMetadataConfig{})
)

func (r *reader) retryHosts(list []*routev3.RetryPolicy_RetryHostPredicate, out *route.RetryPolicy, at *field.Path) {
	for i, h := range list {
		at := at.Index(i)
		message := h.GetTypedConfig().MessageName()
		if h.GetTypedConfig() == nil {
			switch h.GetName() {
			case "envoy.retry_host_predicates.previous_hosts":
				message = previousHosts
			case "envoy.retry_host_predicates.omit_canary_hosts":
				message = omitCanary
			}
		}
		switch message {
		case previousHosts:
			out.PreviousHosts = true
		case omitCanary:
			out.OmitCanary = true
		case omitMetadata:
			m, _ := r.unpack(h.GetTypedConfig(), at).(*omitv3.OmitHostMetadataConfig)
			out.OmitHosts = has(m.GetMetadataMatch().GetFilterMetadata()[metadata.LB])
		default:
			r.errs.Addf(at, "found %q, want envoy.retry_host_predicates.previous_hosts, omit_canary_hosts or omit_host_metadata", h.GetName())
		}
	}
}
