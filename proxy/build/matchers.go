package build

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	transportv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/transport_socket/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/matcher"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/route"
)

var matcherFields = []*Message{
	message((*xdsmatcherv3.Matcher)(nil), reads("matcher_list", "matcher_tree", "on_no_match")),
	message((*xdsmatcherv3.Matcher_OnMatch)(nil), reads("matcher", "action"),
		refuses("what is found is the end: a filter chain, or a route", "keep_matching")),
	message((*xdsmatcherv3.Matcher_MatcherList)(nil), reads("matchers")),
	message((*xdsmatcherv3.Matcher_MatcherList_FieldMatcher)(nil), reads("predicate", "on_match")),
	message((*xdsmatcherv3.Matcher_MatcherList_Predicate)(nil), reads("single_predicate", "or_matcher", "and_matcher", "not_matcher")),
	message((*xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate)(nil), reads("input", "value_match", "custom_match")),
	message((*xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList)(nil), reads("predicate")),
	message((*xdsmatcherv3.Matcher_MatcherTree)(nil), reads("input", "exact_match_map", "prefix_match_map", "custom_match")),
	message((*xdsmatcherv3.Matcher_MatcherTree_MatchMap)(nil), reads("map")),
	message((*xdsmatcherv3.StringMatcher)(nil), reads("exact", "prefix", "suffix", "safe_regex", "contains", "ignore_case")),
	message((*xdsmatcherv3.RegexMatcher)(nil), reads("google_re2", "regex")),
	message((*xdsmatcherv3.RegexMatcher_GoogleRE2)(nil)),
	message((*xdsmatcherv3.IPMatcher)(nil), reads("range_matchers")),
	message((*xdsmatcherv3.IPMatcher_IPRangeMatcher)(nil), reads("ranges", "on_match", "exclusive")),
	message((*xdsmatcherv3.ServerNameMatcher)(nil), reads("domain_matchers")),
	message((*xdsmatcherv3.ServerNameMatcher_DomainMatcher)(nil), reads("domains", "on_match")),
	message((*xdscorev3.TypedExtensionConfig)(nil), reads("name", "typed_config")),
	message((*ipv3.Ip)(nil), reads("cidr_ranges"),
		ignores("it names a counter of texts that are no addresses, which no input gives", "stat_prefix")),
	message((*networkv3.DestinationIPInput)(nil)),
	message((*networkv3.DestinationPortInput)(nil)),
	message((*networkv3.SourceIPInput)(nil)),
	message((*networkv3.SourcePortInput)(nil)),
	message((*networkv3.DirectSourceIPInput)(nil)),
	message((*networkv3.SourceTypeInput)(nil)),
	message((*networkv3.ServerNameInput)(nil)),
	message((*networkv3.TransportProtocolInput)(nil)),
	message((*networkv3.ApplicationProtocolInput)(nil)),
	message((*networkv3.FilterStateInput)(nil), reads("key", "field")),
	message((*matcherv3.HttpRequestHeaderMatchInput)(nil), reads("header_name")),
	message((*routev3.RouteList)(nil), reads("routes")),
	message((*transportv3.EndpointMetadataInput)(nil), reads("filter", "path")),
	message((*transportv3.EndpointMetadataInput_PathSegment)(nil), reads("key")),
	message((*transportv3.TransportSocketNameAction)(nil), reads("name")),
	message((*wrapperspb.StringValue)(nil), reads("value")),
}

// chainTree reads how the filter chain of a connection is chosen.
func (r *listenerReader) chainTree(m *xdsmatcherv3.Matcher, at *field.Path) listen.Tree {
	t := treeReader[*listen.Subject, string]{reader: &r.reader, input: connectionInput, action: func(m proto.Message, at *field.Path) string {
		name, ok := m.(*wrapperspb.StringValue)
		if !ok {
			r.errs.Addf(at, "found %s, want the name of a filter chain as google.protobuf.StringValue", anyName(m))
		}
		return name.GetValue()
	}}
	return t.tree(m, at)
}

// connectionInput returns what an input of connections takes out of them, nil if it is none.
func connectionInput(m proto.Message) matcher.Input[*listen.Subject] {
	ip := func(a netip.Addr) ([]byte, bool) {
		if !a.IsValid() {
			return nil, false
		}
		return a.Unmap().AppendTo(nil), true
	}
	port := func(a netip.AddrPort) ([]byte, bool) {
		return strconv.AppendUint(nil, uint64(a.Port()), 10), a.Addr().IsValid()
	}
	text := func(s string) ([]byte, bool) { return []byte(s), s != "" }
	switch m.(type) {
	case *networkv3.DestinationIPInput:
		return func(s *listen.Subject) ([]byte, bool) { return ip(s.Destination.Addr()) }
	case *networkv3.DestinationPortInput:
		return func(s *listen.Subject) ([]byte, bool) { return port(s.Destination) }
	case *networkv3.SourceIPInput:
		return func(s *listen.Subject) ([]byte, bool) { return ip(s.Source.Addr()) }
	case *networkv3.SourcePortInput:
		return func(s *listen.Subject) ([]byte, bool) { return port(s.Source) }
	case *networkv3.DirectSourceIPInput:
		return func(s *listen.Subject) ([]byte, bool) { return ip(s.DirectSource) }
	case *networkv3.SourceTypeInput:
		return func(s *listen.Subject) ([]byte, bool) { return []byte("local"), s.FromHere() }
	case *networkv3.ServerNameInput:
		return func(s *listen.Subject) ([]byte, bool) { return text(s.SNI) }
	case *networkv3.TransportProtocolInput:
		return func(s *listen.Subject) ([]byte, bool) { return text(s.Transport) }
	case *networkv3.ApplicationProtocolInput:
		return func(s *listen.Subject) ([]byte, bool) {
			return []byte("'" + strings.Join(s.ALPN, "','") + "'"), len(s.ALPN) > 0
		}
	}
	return nil
}

// routeTree reads how the routes of a virtual host are found, in place of a list of them. A leaf is a list of routes, of which the first that
// matches counts; if none does, nothing else is tried.
func (r *reader) routeTree(v *routev3.VirtualHost, limit int, at *field.Path, out *route.VirtualHostConfig) {
	if v.GetMatcher() == nil {
		return
	}
	if len(v.GetRoutes()) > 0 {
		r.errs.Addf(at, "is set together with routes, want one of them")
	}
	t := treeReader[*route.Request, int]{reader: r, input: routeInput, action: func(m proto.Message, at *field.Path) int {
		var list []route.RouteConfig
		switch m := m.(type) {
		case *routev3.Route:
			list = append(list, r.route(m, v.GetName(), limit, at))
		case *routev3.RouteList:
			for i, m := range m.GetRoutes() {
				list = append(list, r.route(m, v.GetName(), limit, at.Child("routes").Index(i)))
			}
		default:
			r.errs.Addf(at, "found %s, want envoy.config.route.v3.Route or RouteList", anyName(m))
		}
		out.Choices = append(out.Choices, list)
		return len(out.Choices) - 1
	}}
	out.Matcher = t.tree(v.GetMatcher(), at)
}

// routeInput returns what an input of routes takes out of requests, nil if it is none. As in Envoy there are two.
func routeInput(m proto.Message) matcher.Input[*route.Request] {
	switch m := m.(type) {
	case *matcherv3.HttpRequestHeaderMatchInput:
		return route.HeaderInput(m.GetHeaderName())
	case *networkv3.FilterStateInput:
		return route.StateInput(m.GetKey(), m.GetField())
	}
	return nil
}

// transportTree reads how the transport of a host is found by its name, nil if by labels.
func (r *reader) transportTree(m *clusterv3.Cluster) matcher.Tree[*cluster.Metadata, int] {
	if m.GetTransportSocketMatcher() == nil {
		return nil
	}
	at, names := field.At("transport_socket_matcher"), map[string]int{}
	for i, t := range m.GetTransportSocketMatches() {
		where := field.At("transport_socket_matches").Index(i).Child("name")
		if _, twice := names[t.GetName()]; twice || t.GetName() == "" {
			r.errs.Addf(where, "found %q, want a name of its own, as there is a transport_socket_matcher", t.GetName())
		}
		names[t.GetName()] = i
	}
	if len(names) == 0 {
		r.errs.Addf(at, "chooses among transport_socket_matches, and there are none")
	}
	t := treeReader[*cluster.Metadata, int]{reader: r, input: hostInput, action: func(m proto.Message, at *field.Path) int {
		a, ok := m.(*transportv3.TransportSocketNameAction)
		if !ok {
			r.errs.Addf(at, "found %s, want envoy.extensions.matching.common_inputs.transport_socket.v3.TransportSocketNameAction", anyName(m))
			return 0
		}
		i, ok := names[a.GetName()]
		if !ok {
			r.errs.Addf(at.Child("name"), "found %q, want one of %s", a.GetName(), strings.Join(sortedNames(names), ", "))
		}
		return i
	}}
	return t.tree(m.GetTransportSocketMatcher(), at)
}

// hostInput returns what an input of hosts takes out of what is said of them, nil if it is none.
func hostInput(m proto.Message) matcher.Input[*cluster.Metadata] {
	in, ok := m.(*transportv3.EndpointMetadataInput)
	if !ok {
		return nil
	}
	key := metadata.Key{Namespace: cmp.Or(in.GetFilter(), metadata.LB)}
	for _, s := range in.GetPath() {
		key.Path = append(key.Path, s.GetKey())
	}
	return func(m *cluster.Metadata) ([]byte, bool) {
		fields, _ := m.All.Space(key.Namespace)
		v, _ := metadata.Lookup(fields, key.Path)
		switch v := v.(type) {
		case string:
			return []byte(v), true
		case float64: // in six digits, as in Envoy
			return fmt.Appendf(nil, "%.6g", v), true
		case bool:
			return strconv.AppendBool(nil, v), true
		}
		return nil, false
	}
}

// A treeReader reads matchers of one kind of things, with one kind of actions.
type treeReader[D, A any] struct {
	*reader
	input  func(proto.Message) matcher.Input[D]
	action func(proto.Message, *field.Path) A
}

func (r *treeReader[D, A]) tree(m *xdsmatcherv3.Matcher, at *field.Path) matcher.Tree[D, A] {
	otherwise := r.then(m.GetOnNoMatch(), at.Child("on_no_match"))
	switch m.GetMatcherType().(type) {
	case *xdsmatcherv3.Matcher_MatcherList_:
		out := &matcher.List[D, A]{Else: otherwise}
		at := at.Child("matcher_list").Child("matchers")
		for i, f := range m.GetMatcherList().GetMatchers() {
			out.Rules = append(out.Rules, matcher.Rule[D, A]{If: r.predicate(f.GetPredicate(), at.Index(i).Child("predicate")), Then: r.wanted(f.GetOnMatch(), at.Index(i).Child("on_match"))})
		}
		if len(out.Rules) == 0 {
			r.errs.Addf(at, "is empty, want at least one")
		}
		return out
	case *xdsmatcherv3.Matcher_MatcherTree_:
		return r.lookup(m.GetMatcherTree(), otherwise, at.Child("matcher_tree"))
	}
	return &matcher.List[D, A]{Else: otherwise} // without one, too, which finds nothing, as in Envoy
}

// then reads what follows; nil if nothing is said.
func (r *treeReader[D, A]) then(m *xdsmatcherv3.Matcher_OnMatch, at *field.Path) *matcher.Then[D, A] {
	if m == nil {
		return nil
	}
	return r.wanted(m, at)
}

func (r *treeReader[D, A]) wanted(m *xdsmatcherv3.Matcher_OnMatch, at *field.Path) *matcher.Then[D, A] {
	switch m.GetOnMatch().(type) {
	case *xdsmatcherv3.Matcher_OnMatch_Matcher:
		return &matcher.Then[D, A]{Tree: r.tree(m.GetMatcher(), at.Child("matcher"))}
	case *xdsmatcherv3.Matcher_OnMatch_Action:
		at := at.Child("action").Child("typed_config")
		if a := r.unpack(m.GetAction().GetTypedConfig(), at); a != nil {
			return &matcher.Then[D, A]{Action: r.action(a, at)}
		}
		return nil
	}
	r.errs.Addf(at, "says not what follows, want matcher or action")
	return nil
}

func (r *treeReader[D, A]) take(m *xdscorev3.TypedExtensionConfig, at *field.Path) matcher.Input[D] {
	at = at.Child("input")
	if m == nil {
		r.errs.Addf(at, "is not set")
	} else if config := r.unpack(m.GetTypedConfig(), at.Child("typed_config")); config != nil {
		if in := r.input(config); in != nil {
			return in
		}
		r.errs.Addf(at.Child("typed_config"), "found %s, which is no input here", anyName(config))
	}
	return func(D) ([]byte, bool) { return nil, false }
}

func (r *treeReader[D, A]) lookup(m *xdsmatcherv3.Matcher_MatcherTree, otherwise *matcher.Then[D, A], at *field.Path) matcher.Tree[D, A] {
	in := r.take(m.GetInput(), at)
	branches := func(m *xdsmatcherv3.Matcher_MatcherTree_MatchMap, at *field.Path) map[string]*matcher.Then[D, A] {
		out := map[string]*matcher.Then[D, A]{}
		for _, key := range sortedNames(m.GetMap()) {
			out[key] = r.wanted(m.GetMap()[key], at.Child("map").Child(key))
		}
		if len(out) == 0 {
			r.errs.Addf(at.Child("map"), "is empty, want at least one")
		}
		return out
	}
	switch m.GetTreeType().(type) {
	case *xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap:
		return &matcher.Exact[D, A]{Input: in, Map: branches(m.GetExactMatchMap(), at.Child("exact_match_map")), Else: otherwise}
	case *xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap:
		return matcher.NewPrefix(in, branches(m.GetPrefixMatchMap(), at.Child("prefix_match_map")), otherwise)
	case *xdsmatcherv3.Matcher_MatcherTree_CustomMatch:
		at := at.Child("custom_match").Child("typed_config")
		switch c := r.unpack(m.GetCustomMatch().GetTypedConfig(), at).(type) {
		case nil:
		case *xdsmatcherv3.IPMatcher:
			return r.addresses(c, in, otherwise, at)
		case *xdsmatcherv3.ServerNameMatcher:
			return r.names(c, in, otherwise, at)
		default:
			r.errs.Addf(at, "found %s, want xds.type.matcher.v3.IPMatcher or ServerNameMatcher", anyName(c))
		}
	default:
		r.errs.Addf(at, "says not how to look up, want exact_match_map, prefix_match_map or custom_match")
	}
	return &matcher.List[D, A]{Else: otherwise}
}

func (r *treeReader[D, A]) addresses(m *xdsmatcherv3.IPMatcher, in matcher.Input[D], otherwise *matcher.Then[D, A], at *field.Path) matcher.Tree[D, A] {
	var ranges []matcher.Range[D, A]
	at = at.Child("range_matchers")
	for i, x := range m.GetRangeMatchers() {
		then := r.wanted(x.GetOnMatch(), at.Index(i).Child("on_match"))
		for _, p := range r.networks(x.GetRanges(), at.Index(i).Child("ranges")) {
			ranges = append(ranges, matcher.Range[D, A]{Network: p, Then: then, Exclusive: x.GetExclusive()})
		}
	}
	return matcher.NewNetworks(in, ranges, otherwise)
}

func (r *treeReader[D, A]) names(m *xdsmatcherv3.ServerNameMatcher, in matcher.Input[D], otherwise *matcher.Then[D, A], at *field.Path) matcher.Tree[D, A] {
	branches := map[string]*matcher.Then[D, A]{}
	at = at.Child("domain_matchers")
	for i, x := range m.GetDomainMatchers() {
		then := r.wanted(x.GetOnMatch(), at.Index(i).Child("on_match"))
		for k, name := range x.GetDomains() {
			at := at.Index(i).Child("domains").Index(k)
			name = strings.ToLower(name)
			if name == "" || name != "*" && strings.Contains(strings.TrimPrefix(name, "*."), "*") {
				r.errs.Addf(at, "found %q, want a name, *. and a name, or *", name)
			}
			if _, twice := branches[name]; twice {
				r.errs.Addf(at, "found %q a second time", name)
			}
			branches[name] = then
		}
	}
	return matcher.NewNames(in, branches, otherwise)
}

func (r *treeReader[D, A]) predicate(m *xdsmatcherv3.Matcher_MatcherList_Predicate, at *field.Path) matcher.Predicate[D] {
	list := func(l *xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList, at *field.Path) (out []matcher.Predicate[D]) {
		at = at.Child("predicate")
		for i, p := range l.GetPredicate() {
			out = append(out, r.predicate(p, at.Index(i)))
		}
		if len(out) < 2 {
			r.errs.Addf(at, "has %d conditions, want at least 2", len(out))
		}
		return out
	}
	switch m.GetMatchType().(type) {
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_:
		return r.single(m.GetSinglePredicate(), at.Child("single_predicate"))
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_OrMatcher:
		return matcher.Any(list(m.GetOrMatcher(), at.Child("or_matcher")))
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher:
		return matcher.All(list(m.GetAndMatcher(), at.Child("and_matcher")))
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher:
		return matcher.Not(r.predicate(m.GetNotMatcher(), at.Child("not_matcher")))
	}
	r.errs.Addf(at, "is no condition, want single_predicate, or_matcher, and_matcher or not_matcher")
	return func(D) bool { return false }
}

func (r *treeReader[D, A]) single(m *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate, at *field.Path) matcher.Predicate[D] {
	in := r.take(m.GetInput(), at)
	switch m.GetMatcher().(type) {
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch:
		at := at.Child("value_match")
		if e := m.GetValueMatch().GetSafeRegex(); e != nil && e.GetGoogleRe2() == nil {
			r.errs.Addf(at.Child("safe_regex").Child("google_re2"), "is not set, and there is no other engine")
		}
		c, err := route.NewMatcher(r.stringMatch(envoyMatcher(m.GetValueMatch()), at))
		if err != nil {
			r.errs.Addf(at, "%v", err)
			break
		}
		return matcher.Text(in, c.Match)
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch:
		at := at.Child("custom_match").Child("typed_config")
		switch c := r.unpack(m.GetCustomMatch().GetTypedConfig(), at).(type) {
		case nil:
		case *ipv3.Ip:
			networks := r.prefixes(c.GetCidrRanges(), at.Child("cidr_ranges"))
			if len(networks) == 0 {
				r.errs.Addf(at.Child("cidr_ranges"), "is empty, want at least one")
			}
			return matcher.Text(in, func(s []byte) bool { return within(string(s), networks) })
		default:
			r.errs.Addf(at, "found %s, want envoy.extensions.matching.input_matchers.ip.v3.Ip", anyName(c))
		}
	default:
		r.errs.Addf(at, "says not what to compare with, want value_match or custom_match")
	}
	return func(D) bool { return false }
}

func within(address string, networks []netip.Prefix) bool {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// envoyMatcher is xDS's matcher as Envoy's own, which has the same fields.
func envoyMatcher(m *xdsmatcherv3.StringMatcher) *matcherv3.StringMatcher {
	out := &matcherv3.StringMatcher{IgnoreCase: m.GetIgnoreCase()}
	switch m.GetMatchPattern().(type) {
	case *xdsmatcherv3.StringMatcher_Exact:
		out.MatchPattern = &matcherv3.StringMatcher_Exact{Exact: m.GetExact()}
	case *xdsmatcherv3.StringMatcher_Prefix:
		out.MatchPattern = &matcherv3.StringMatcher_Prefix{Prefix: m.GetPrefix()}
	case *xdsmatcherv3.StringMatcher_Suffix:
		out.MatchPattern = &matcherv3.StringMatcher_Suffix{Suffix: m.GetSuffix()}
	case *xdsmatcherv3.StringMatcher_Contains:
		out.MatchPattern = &matcherv3.StringMatcher_Contains{Contains: m.GetContains()}
	case *xdsmatcherv3.StringMatcher_SafeRegex:
		out.MatchPattern = &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: m.GetSafeRegex().GetRegex()}}
	}
	return out
}
