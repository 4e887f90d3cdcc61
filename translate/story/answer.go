package story

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/api/nds"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
)

func sortServices(s []*model.Service) {
	slices.SortFunc(s, func(a, b *model.Service) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Namespace, b.Namespace))
	})
}

var types = map[string]string{
	"cluster": translate.ClusterType, "endpoint": translate.EndpointType, "listener": translate.ListenerType, "route": translate.RouteType,
	"extension": translate.ExtensionType,
	"secret":    translate.SecretType,
}

// Answer answers one question:
//
//	clusters | endpoints | listeners | routes | secrets   the names, one per line
//	secret NAME                                 what is in it, but for keys
//	cluster NAME [PATH...]                      the fields at PATH as YAML; all of it without one. "none" if there is none
//	chains LISTENER                             what each filter chain matches and does
//	filters LISTENER CHAIN                      the names of the filters of its chain of that number
//	table ROUTE                                 each route's host, match and action
//	places CLUSTER                              priority, locality, weight and addresses of its endpoints
//	names table                                 what the proxy answers for names, and the rules for them
//	problems                                    what the authors are told
//	status                                      what Ingresses and the objects of Gateway API are told
func (s *Story) Answer(question string) (string, error) {
	words := strings.Fields(question)
	if question == "problems" {
		var out strings.Builder
		for _, p := range s.Problems {
			kind := "error"
			if p.Notice {
				kind = "notice"
			}
			fmt.Fprintf(&out, "%s: %s\n", kind, p.Error.Error())
		}
		return out.String(), nil
	}
	if question == "status" {
		return s.status(), nil
	}
	if url, ok := types[strings.TrimSuffix(words[0], "s")]; ok && len(words) == 1 {
		return lines(translate.Names(s.View, url)), nil
	}
	if len(words) < 2 {
		return "", fmt.Errorf("question %q is not known", question)
	}
	switch words[0] {
	case "names":
		return names(s.View)
	case "places":
		return places(s.View, words[1])
	case "secret":
		return secret(s.View, words[1]), nil
	case "chains":
		l, ok := translate.Listener(s.View, words[1])
		if !ok {
			return "none\n", nil
		}
		return chains(l)
	case "filters":
		l, ok := translate.Listener(s.View, words[1])
		i, err := strconv.Atoi(words[len(words)-1])
		if !ok || err != nil || i >= len(l.FilterChains) {
			return "none\n", nil
		}
		return filterNames(l.FilterChains[i])
	case "table":
		r, ok := translate.Routes(s.View, words[1])
		if !ok {
			return "none\n", nil
		}
		return table(r), nil
	}
	url, ok := types[words[0]]
	if !ok {
		return "", fmt.Errorf("question %q is not known", question)
	}
	m, ok := translate.Resource(s.View, url, words[1])
	if !ok {
		return "none\n", nil
	}
	return fields(m, words[2:])
}

func lines(in []string) string {
	if len(in) == 0 {
		return "none\n"
	}
	return strings.Join(in, "\n") + "\n"
}

// fields prints a message, or the parts of it that the paths name.
func fields(m proto.Message, paths []string) (string, error) {
	data, err := protojson.Marshal(m)
	if err != nil {
		return "", err
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		return "", err
	}
	if len(paths) == 0 {
		out, err := yaml.Marshal(tree)
		return string(out), err
	}
	var b strings.Builder
	for _, path := range paths {
		part := at(tree, strings.Split(path, "/"))
		out, err := yaml.Marshal(part)
		if err != nil {
			return "", err
		}
		if len(paths) > 1 {
			fmt.Fprintf(&b, "# %s\n", path)
		}
		b.Write(out)
	}
	return b.String(), nil
}

// at walks into a tree; an absent part is null.
func at(tree any, path []string) any {
	for _, step := range path {
		switch t := tree.(type) {
		case map[string]any:
			tree = t[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(t) {
				return nil
			}
			tree = t[i]
		default:
			return nil
		}
	}
	return tree
}

// chains prints one line per filter chain: what it matches, then what it does.
func chains(l *listenerv3.Listener) (string, error) {
	var b strings.Builder
	for _, f := range l.ListenerFilters {
		fmt.Fprintf(&b, "inspect %s", strings.TrimPrefix(f.Name, "envoy.filters.listener."))
		if f.FilterDisabled != nil {
			fmt.Fprintf(&b, " except %s", exceptions(f.FilterDisabled))
		}
		b.WriteByte('\n')
	}
	for _, c := range l.FilterChains {
		line(&b, c)
	}
	if l.DefaultFilterChain != nil {
		b.WriteString("default ")
		line(&b, l.DefaultFilterChain)
	}
	return b.String(), nil
}

func exceptions(p *listenerv3.ListenerFilterChainMatchPredicate) string {
	if r := p.GetDestinationPortRange(); r != nil {
		return strconv.Itoa(int(r.Start))
	}
	var out []string
	for _, r := range p.GetOrMatch().GetRules() {
		out = append(out, exceptions(r))
	}
	return strings.Join(out, ",")
}

func line(b *strings.Builder, c *listenerv3.FilterChain) {
	fmt.Fprintf(b, "chain %s", cmp.Or(c.Name, "-"))
	m := c.FilterChainMatch
	if p := m.GetDestinationPort(); p != nil {
		fmt.Fprintf(b, " port %d", p.Value)
	}
	for _, p := range m.GetPrefixRanges() {
		fmt.Fprintf(b, " to %s/%d", p.AddressPrefix, p.PrefixLen.GetValue())
	}
	if len(m.GetServerNames()) > 0 {
		fmt.Fprintf(b, " name %s", strings.Join(m.ServerNames, ","))
	}
	if m.GetTransportProtocol() != "" {
		fmt.Fprintf(b, " %s", m.TransportProtocol)
	}
	if len(m.GetApplicationProtocols()) > 0 {
		fmt.Fprintf(b, " alpn %s", strings.Join(m.ApplicationProtocols, ","))
	}
	b.WriteString(" ->")
	if s := socket(c.TransportSocket); s != "" {
		b.WriteString(" " + s)
	}
	fmt.Fprintf(b, " %s", target(c.Filters[len(c.Filters)-1])) // those before it only look on
	b.WriteByte('\n')
}

// target says where a network filter sends things.
func target(f *listenerv3.Filter) string {
	data, err := protojson.Marshal(f.GetTypedConfig())
	if err != nil {
		return err.Error()
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		return err.Error()
	}
	switch {
	case at(tree, []string{"rds"}) != nil:
		return fmt.Sprint("http by ", at(tree, []string{"rds", "routeConfigName"}))
	case at(tree, []string{"routeConfig"}) != nil:
		return fmt.Sprint("http to ", at(tree, strings.Split("routeConfig/virtualHosts/0/routes/0/route/cluster", "/")))
	case at(tree, []string{"weightedClusters"}) != nil:
		var parts []string
		for _, c := range at(tree, []string{"weightedClusters", "clusters"}).([]any) {
			parts = append(parts, fmt.Sprint(at(c, []string{"name"}), "=", at(c, []string{"weight"})))
		}
		return "tcp to " + strings.Join(parts, " ")
	}
	return fmt.Sprint("tcp to ", at(tree, []string{"cluster"}))
}

// filterNames prints the filters of a chain, those of HTTP below the connection manager.
func filterNames(c *listenerv3.FilterChain) (string, error) {
	var b strings.Builder
	for _, f := range c.Filters {
		fmt.Fprintln(&b, f.GetName())
		m := new(hcmv3.HttpConnectionManager)
		if !f.GetTypedConfig().MessageIs(m) {
			continue
		}
		if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
			return "", err
		}
		for _, h := range m.GetHttpFilters() {
			fmt.Fprintln(&b, "  "+h.GetName())
		}
	}
	return b.String(), nil
}

// table prints a route table: hosts with their domains, then each route.
func table(r *routev3.RouteConfiguration) string {
	var b strings.Builder
	for _, h := range r.VirtualHosts {
		fmt.Fprintf(&b, "%s: %s\n", h.Name, strings.Join(h.Domains, " "))
		if h.RequireTls != routev3.VirtualHost_NONE {
			fmt.Fprintf(&b, "  require tls %s\n", h.RequireTls)
		}
		for _, route := range h.Routes {
			fmt.Fprintf(&b, "  [%s] %s -> %s\n", route.Name, match(route.Match), action(route))
		}
	}
	return b.String()
}

func match(m *routev3.RouteMatch) string {
	var out []string
	switch p := m.PathSpecifier.(type) {
	case *routev3.RouteMatch_Prefix:
		out = append(out, p.Prefix+"*")
	case *routev3.RouteMatch_Path:
		out = append(out, p.Path)
	case *routev3.RouteMatch_SafeRegex:
		out = append(out, "~"+p.SafeRegex.Regex)
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out = append(out, p.PathSeparatedPrefix+"/*")
	}
	for _, h := range m.Headers {
		not := ""
		if h.InvertMatch {
			not = "!"
		}
		out = append(out, not+h.Name+value(h.GetPresentMatch(), h.GetStringMatch()))
	}
	for _, q := range m.QueryParameters {
		out = append(out, "?"+q.Name+value(q.GetPresentMatch(), q.GetStringMatch()))
	}
	return strings.Join(out, " ")
}

func value(present bool, s *matcherv3.StringMatcher) string {
	switch {
	case present:
		return ""
	case s.GetPrefix() != "":
		return "=" + s.GetPrefix() + "*"
	case s.GetSafeRegex() != nil:
		return "~" + s.GetSafeRegex().Regex
	}
	return "=" + s.GetExact()
}

func action(r *routev3.Route) string {
	switch a := r.Action.(type) {
	case *routev3.Route_Redirect:
		return "redirect"
	case *routev3.Route_DirectResponse:
		return fmt.Sprintf("answer %d", a.DirectResponse.Status)
	case *routev3.Route_Route:
		if w := a.Route.GetWeightedClusters(); w != nil {
			var parts []string
			for _, c := range w.Clusters {
				parts = append(parts, fmt.Sprintf("%s=%d", c.Name, c.Weight.GetValue()))
			}
			return strings.Join(parts, " ")
		}
		return a.Route.GetCluster()
	}
	return "nothing"
}

func places(v *model.View, cluster string) (string, error) {
	a, ok := translate.Endpoints(v, cluster)
	if !ok {
		return "none\n", nil
	}
	var out strings.Builder
	for _, g := range a.Endpoints {
		l := g.GetLocality()
		fmt.Fprintf(&out, "%d %s weight %d:", g.Priority, strings.TrimRight(l.GetRegion()+"/"+l.GetZone()+"/"+l.GetSubZone(), "/"), g.GetLoadBalancingWeight().GetValue())
		for _, e := range g.LbEndpoints {
			out.WriteString(" " + e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
		}
		out.WriteString("\n")
	}
	return out.String(), nil
}

// names prints the table of names: addresses in their order, with a bar between steps of distance.
func names(v *model.View) (string, error) {
	packed, ok := translate.NameTable(v, "names")
	if !ok {
		return "none\n", nil
	}
	t, err := nds.Parse(packed.GetValue())
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t.Names)) {
		out.WriteString(name)
		n := t.Names[name]
		ends, at := map[int]bool{}, 0
		for _, size := range n.Tiers {
			at += size
			ends[at] = true
		}
		for i, a := range n.Addrs {
			if ends[i] {
				out.WriteString(" |")
			}
			out.WriteString(" " + a.String())
		}
		out.WriteString("\n")
	}
	for _, r := range t.Rules {
		fmt.Fprintf(&out, "rule %s %s rcode=%d delay=%s percent=%v log=%v\n", r.From, strings.Join(r.Hosts, ","), r.Rcode, r.Delay, r.Percent, r.Log)
	}
	return out.String(), nil
}
