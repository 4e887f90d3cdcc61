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

// sameHosts finds rules of the mesh for a host that older ones have.
func (f *finder) sameHosts(m *memo) {
	objects := map[*model.RouteRules]*config.Object{}
	for _, c := range m.kinds["VirtualService"] {
		if c.result.Rules != nil {
			objects[c.result.Rules] = c.object
		}
	}
	first := map[string][]*model.RouteRules{}
	rules := slices.Collect(maps.Keys(objects))
	slices.SortFunc(rules, func(a, b *model.RouteRules) int { return refOfRules(a).compare(refOfRules(b)) })
	for _, r := range rules {
		if !r.Applies("mesh") {
			continue
		}
		for i, host := range r.Hosts {
			older := slices.IndexFunc(first[host], func(o *model.RouteRules) bool {
				return o != r && f.common(o.From.Namespace, o.ExportTo, r.From.Namespace, r.ExportTo, f.mesh.Config.RulesExportTo)
			})
			if older < 0 {
				first[host] = append(first[host], r)
				continue
			}
			f.at(objects[r])
			f.add(HostConflict, soon, field.At("spec", "hosts").Index(i), "the host %s has the rules of %s, which is older: for sidecars these have no effect", host, first[host][older].From)
		}
	}
}

// common reports whether some namespace sees resources of both, as far as is known.
func (f *finder) common(ns string, exported model.ExportTo, ns2 string, exported2 model.ExportTo, def model.ExportTo) bool {
	const other = "\x00" // any namespace that nobody names
	for _, client := range slices.Concat([]string{ns, ns2, other}, exported, exported2, def) {
		if exported.Sees(ns, client, def) && exported2.Sees(ns2, client, def) {
			return true
		}
	}
	return false
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
		if !slices.ContainsFunc(f.mesh.Registry.Services, func(s *model.Service) bool { return model.HostMatches(d.Host, s.Host) }) &&
			len(f.services(d.Host)) == 0 {
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
	return p.LB == nil && p.Pool == nil && p.Outlier == nil && p.TLS == nil && p.Budget == nil && p.Ports == nil
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
			case r.Policy != nil:
				selector, at = r.Policy.Workload, field.At("spec", "workloadSelector")
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
