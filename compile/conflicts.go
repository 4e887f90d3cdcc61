package compile

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// What follows finds objects that have no effect, or less than they say, because an
// older one has it, or because there is nothing that they are about.

// sameHosts finds rules of the mesh for a host that others have, for everybody who sees them: those of
// VirtualServices, and of Gateway API's routes of services.
func (f *finder) sameHosts(m *memo) {
	objects := map[*model.RouteRules]*config.Object{}
	for _, c := range m.kinds["VirtualService"] {
		if c.result.Rules != nil && c.result.Rules.Applies("mesh") {
			objects[c.result.Rules] = c.object
		}
	}
	for _, r := range f.mesh.Rules {
		if objects[r] == nil && r.From.Kind != "VirtualService" && r.Applies("mesh") {
			objects[r] = nil
		}
	}
	rules := slices.SortedFunc(maps.Keys(objects), func(a, b *model.RouteRules) int { return refOfRules(a).compare(refOfRules(b)) })
	having := map[string][]*model.RouteRules{}
	for _, r := range rules {
		for _, host := range r.Hosts {
			if !slices.Contains(having[host], r) {
				having[host] = append(having[host], r)
			}
		}
	}
	for _, r := range rules {
		for i, host := range r.Hosts {
			if first := f.instead(r, having[host]); first != nil {
				why := "is older"
				if refOfRules(first).compare(refOfRules(r)) > 0 {
					why = "fewer namespaces see"
				}
				if objects[r] == nil {
					f.addTo(r.From, HostConflict, field.At("spec", "parentRefs"), "the host %s has the rules of %s, which %s: for sidecars these have no effect", host, first.From, why)
					continue
				}
				f.at(objects[r])
				f.add(HostConflict, soon, field.At("spec", "hosts").Index(i), "the host %s has the rules of %s, which %s: for sidecars these have no effect", host, first.From, why)
			}
		}
	}
}

// instead returns the rules that come before r wherever r is seen, as far as is known;
// nil if r comes first for somebody, or nobody sees it. All have one host, the oldest first.
func (f *finder) instead(r *model.RouteRules, all []*model.RouteRules) (instead *model.RouteRules) {
	if len(all) < 2 {
		return nil
	}
	def := f.mesh.Config.RulesExportTo
	clients := append([]string{"\x00"}, def...) // any namespace that nobody names
	for _, o := range all {
		clients = append(append(clients, o.From.Namespace), o.ExportTo...)
	}
	for _, client := range clients {
		if !r.ExportTo.Sees(r.From.Namespace, client, def) {
			continue
		}
		first := r
		for _, o := range slices.Backward(all) {
			if o.ExportTo.Sees(o.From.Namespace, client, def) && o.Rank(client, def) <= first.Rank(client, def) {
				first = o
			}
		}
		if first == r {
			return nil
		}
		instead = first
	}
	return instead
}

// destinationRules finds those of hosts that nobody has, and what is left out of
// those that are merged with an older one.
func (f *finder) destinationRules(m *memo) {
	objects := map[model.Ref]*config.Object{}
	rules := map[model.Ref]*model.DestinationRule{}
	for _, c := range m.kinds["DestinationRule"] {
		d := c.result.Policy
		if d == nil {
			continue
		}
		objects[d.From], rules[d.From] = c.object, d
		f.at(c.object)
		// Only a wildcard has to be held against every service of a large mesh.
		if len(f.services(d.Host)) == 0 && !(model.IsWildcard(d.Host) &&
			slices.ContainsFunc(f.mesh.Registry.Services, func(s *model.Service) bool { return model.HostMatches(d.Host, s.Host) })) {
			f.add(UnknownHost, soon, field.At("spec", "host"), "no service has the host %s: the rule has no effect", d.Host)
		}
	}
	for _, d := range f.mesh.Policies {
		if len(d.Merged) < 2 {
			continue
		}
		seen := rules[d.Merged[0]]
		for _, ref := range d.Merged[1:] { // oldest first
			young := rules[ref]
			f.at(objects[ref])
			merged := merge(seen, young)
			if policy := young.Policy; !empty(policy) && !empty(seen.Policy) {
				f.add(PolicyConflict, soon, field.At("spec", "trafficPolicy"), "the traffic policy for %s is that of %s, which is older: this one has no effect", d.Host, d.Merged[0])
			}
			for i, s := range young.Subsets {
				if _, taken := seen.Subset(s.Name); taken {
					f.add(PolicyConflict, soon, field.At("spec", "subsets").Index(i), "the subset %s of %s is that of an older DestinationRule: this one has no effect", s.Name, d.Host)
				}
			}
			seen = merged
		}
	}
}

func empty(p model.TrafficPolicy) bool {
	return p.LB == nil && p.Pool == nil && p.Outlier == nil && p.TLS == nil && p.Budget == nil && p.Tunnel == nil && p.Proxy == 0 && p.Ports == nil
}

// selectors finds those that no pod has the labels of.
func (f *finder) selectors(m *memo) {
	for _, kind := range istio.Kinds {
		for _, c := range m.kinds[kind] {
			var selector map[string]string
			namespace, at, effect := c.object.Namespace, field.At("spec", "selector"), "it has no effect"
			switch r := c.result; {
			case r.Gateway != nil:
				selector, namespace, effect = r.Gateway.Selector, "", "nobody serves it"
			case r.Peer != nil && namespace != f.mesh.Config.RootNamespace: // where it is said already
				selector = r.Peer.Selector
			case r.Scope != nil:
				selector, at = r.Scope.Selector, field.At("spec", "workloadSelector")
			case r.Names != nil:
				selector = r.Names.Selector
				if namespace == f.mesh.Config.RootNamespace {
					namespace = ""
				}
			case r.Policy != nil:
				selector, at = r.Policy.Workload, field.At("spec", "workloadSelector")
			case r.Patches != nil:
				selector, at = r.Patches.Selector, field.At("spec", "workloadSelector")
				if namespace == f.mesh.Config.RootNamespace {
					namespace = ""
				}
			}
			if len(selector) == 0 || f.selects(selector, namespace) {
				continue
			}
			where := "no pod"
			if namespace != "" {
				where += " of namespace " + namespace
			}
			f.at(c.object)
			f.add(SelectsNothing, later, at, "%s has the labels %s: %s", where, written(selector), effect)
		}
	}
}

func (f *finder) selects(selector map[string]string, namespace string) bool {
	all := f.mesh.Registry.Workloads // by namespace
	if namespace != "" {
		from, _ := slices.BinarySearchFunc(all, namespace, func(w *model.Workload, ns string) int { return cmp.Compare(w.Namespace, ns) })
		to := from
		for to < len(all) && all[to].Namespace == namespace {
			to++
		}
		all = all[from:to]
	}
	return slices.ContainsFunc(all, func(w *model.Workload) bool { return model.Labels(w.Labels).Matches(selector) })
}

func written(labels map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, k+"="+labels[k])
	}
	return strings.Join(list, ",")
}

// oneOfANamespace finds younger objects where only the oldest without a selector counts.
func (f *finder) oneOfANamespace() {
	peers := map[string]model.Ref{}
	for _, p := range f.mesh.Peers { // oldest first
		if len(p.Selector) > 0 {
			continue
		}
		if have, ok := peers[p.From.Namespace]; ok {
			f.addTo(p.From, PolicyConflict, field.At("spec"), "has no selector, nor has %s, which is older: this one has no effect", have)
			continue
		}
		peers[p.From.Namespace] = p.From
	}
	for _, s := range f.mesh.Scopes {
		for i := range s.Ingress {
			if in := &s.Ingress[i]; in.TLS != nil && f.mesh.MTLS(s.From.Namespace, s.Selector, in.Port.Number) != model.MTLSDisable {
				f.addTo(s.From, Weak, field.At("spec", "ingress").Index(i).Child("tls"),
					"has no effect: port %d speaks mutual TLS of the mesh; want a PeerAuthentication that has mode DISABLE on it", in.Port.Number)
			}
		}
	}
	scopes := map[string]model.Ref{}
	for _, s := range f.mesh.Scopes {
		if len(s.Selector) > 0 {
			continue
		}
		if have, ok := scopes[s.From.Namespace]; ok {
			f.addTo(s.From, SidecarConflict, field.At("spec"), "has no workloadSelector, nor has %s, which is older: this one has no effect", have)
			continue
		}
		scopes[s.From.Namespace] = s.From
	}
}
