package gatewayapi

import (
	"cmp"
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// uses notes the services that a route leads to. Its parents are the ancestors of policies about them.
func (c *compiler) uses(b *backends) {
	for _, s := range b.found {
		c.used[s] = append(c.used[s], b.from)
	}
}

// ancestors are the parents through which a service is called, by name.
func (c *compiler) ancestors(services []model.ServiceKey) []gatewayv1.RouteParentStatus {
	var out []gatewayv1.RouteParentStatus
	seen := map[gatewayv1.Kind]map[model.Name]bool{}
	var routes []*config.Object
	for _, s := range services {
		routes = append(routes, c.used[s]...)
	}
	for _, o := range routes {
		status, _ := c.out.Status[refOf(o)].(*gatewayv1.RouteStatus)
		if status == nil {
			continue
		}
		for _, p := range status.Parents {
			ref := p.ParentRef
			ref.SectionName, ref.Port = nil, nil
			ns := deref(ref.Namespace, gatewayv1.Namespace(o.Namespace))
			if s := c.sets[model.Name{Namespace: string(ns), Name: string(ref.Name)}]; s != nil && deref(ref.Kind, "") == "ListenerSet" {
				kind := gatewayv1.Kind("Gateway") // as the API server completes it: else the next look finds another ancestor
				ref.Kind, ns, ref.Name = &kind, gatewayv1.Namespace(s.gateway.object.Namespace), gatewayv1.ObjectName(s.gateway.object.Name)
			}
			ref.Namespace = &ns
			of, name := deref(ref.Kind, "Gateway"), model.Name{Namespace: string(ns), Name: string(ref.Name)}
			if seen[of] == nil {
				seen[of] = map[model.Name]bool{}
			}
			if !seen[of][name] {
				seen[of][name] = true
				out = append(out, gatewayv1.RouteParentStatus{ParentRef: ref, ControllerName: p.ControllerName})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b gatewayv1.RouteParentStatus) int {
		return cmp.Or(cmp.Compare(*a.ParentRef.Namespace, *b.ParentRef.Namespace), cmp.Compare(a.ParentRef.Name, b.ParentRef.Name), cmp.Compare(deref(a.ParentRef.Kind, "Gateway"), deref(b.ParentRef.Kind, "Gateway")))
	})
	return out
}

// A target is a service, or one port of it, that a policy is about.
type target struct {
	service *model.Service
	section string
}

// backendTLS compiles BackendTLSPolicies. Of two for one target the oldest counts, and one for
// a port beats one for the whole service.
func (c *compiler) backendTLS() {
	taken := map[model.ServiceKey]map[string]*config.Object{}
	tls := map[model.ServiceKey]*model.DestinationRule{}
	for _, o := range oldest(c.objects.BackendTLSPolicies) {
		spec := &o.Value.(*gatewayv1.BackendTLSPolicy).Spec
		is := conditionsOf(o)
		is.set(accepted, true, "Accepted", "its targets are called by TLS")
		is.set(resolved, true, "ResolvedRefs", "what it names is there")
		policy := c.clientTLS(o, spec, is)
		var services []model.ServiceKey
		for i, t := range c.targets(o, spec, is) {
			key := t.service.Key()
			services = append(services, key)
			if taken[key] == nil {
				taken[key] = map[string]*config.Object{}
			}
			if older := taken[key][t.section]; older != nil {
				is.fail(accepted, "Conflicted", "spec.targetRefs[%d]: BackendTLSPolicy %s, which is older, is for %s", i, older.Name, t.service.Name)
				continue
			}
			taken[key][t.section] = o
			d := tls[key]
			if d == nil {
				d = &model.DestinationRule{From: refOf(o), Created: o.Created, Host: t.service.Host, ExportTo: model.ExportTo{"*"}}
				tls[key] = d
				c.out.Policies = append(c.out.Policies, d)
			}
			set(d, t, policy)
		}
		status := &gatewayv1.PolicyStatus{Ancestors: []gatewayv1.PolicyAncestorStatus{}}
		all := c.ancestors(services)
		if n := len(all); n > mostAncestors {
			c.notice(o, field.At("spec", "targetRefs"), false, "its targets are called through %d parents, of which its status has room for %d; it is in force at all of them", n, mostAncestors)
			all = all[:mostAncestors]
		}
		for _, a := range all {
			status.Ancestors = append(status.Ancestors, gatewayv1.PolicyAncestorStatus{AncestorRef: a.ParentRef, ControllerName: a.ControllerName, Conditions: is.clone().list})
		}
		c.out.Status[refOf(o)] = status
		if is.bad(accepted) && len(status.Ancestors) == 0 { // nobody to tell it to
			c.notice(o, field.At("spec"), true, "%s", is.get(accepted).Message)
		}
	}
	for _, d := range c.out.Policies {
		slices.SortFunc(d.Policy.Ports, func(a, b model.PortPolicy) int { return int(a.Port) - int(b.Port) })
	}
}

// targets are the services of a policy that exist.
func (c *compiler) targets(o *config.Object, spec *gatewayv1.BackendTLSPolicySpec, is *conditions) []target {
	var out []target
	for i, t := range spec.TargetRefs {
		if t.Group != "" || t.Kind != "Service" {
			is.fail(accepted, "TargetNotFound", "spec.targetRefs[%d]: is %s, want a Service", i, kindOf(t.Group, t.Kind))
			continue
		}
		host := istio.Host(string(t.Name), o.Namespace, istio.Env{ClusterDomain: c.env.ClusterDomain})
		j := slices.IndexFunc(c.env.Services(host), func(s *model.Service) bool { return s.Kubernetes && s.Namespace == o.Namespace })
		if j < 0 {
			is.fail(accepted, "TargetNotFound", "spec.targetRefs[%d]: there is no Service %s", i, t.Name)
			continue
		}
		s, section := c.env.Services(host)[j], string(deref(t.SectionName, ""))
		if section != "" && !slices.ContainsFunc(s.Ports, func(p model.Port) bool { return p.Name == section }) {
			is.fail(accepted, "TargetNotFound", "spec.targetRefs[%d].sectionName: Service %s has no port %q", i, t.Name, section)
			continue
		}
		out = append(out, target{s, section})
	}
	return out
}

// set makes a policy that of a target. What is for the whole service is on its other ports.
func set(d *model.DestinationRule, t target, tls *model.ClientTLS) {
	if t.section == "" {
		d.Policy.TLS = tls
		return
	}
	for _, p := range t.service.Ports {
		if p.Name == t.section {
			d.Policy.Ports = append(d.Policy.Ports, model.PortPolicy{Port: p.Number, TLS: tls})
		}
	}
}

// clientTLS is what clients do. Where it cannot be done there are no connections: the author wants none in plain text.
func (c *compiler) clientTLS(o *config.Object, spec *gatewayv1.BackendTLSPolicySpec, is *conditions) *model.ClientTLS {
	v := spec.Validation
	out := &model.ClientTLS{Mode: model.TLSSimple, SNI: string(v.Hostname), SANs: []string{string(v.Hostname)}, Presents: true}
	if err := isHostname(string(v.Hostname)); err != nil || v.Hostname == "" {
		is.fail(accepted, "Invalid", "spec.validation.hostname is %q, want a host", v.Hostname)
	}
	if len(v.SubjectAltNames) > 0 {
		out.SANs = nil
	}
	for i, n := range v.SubjectAltNames {
		switch {
		case n.Type == gatewayv1.HostnameSubjectAltNameType && n.Hostname != "":
			out.SANs = append(out.SANs, string(n.Hostname))
		case n.Type == gatewayv1.URISubjectAltNameType && n.URI != "":
			out.SANs = append(out.SANs, string(n.URI))
		default:
			is.fail(accepted, "Invalid", "spec.validation.subjectAltNames[%d] has no value of its type", i)
		}
	}
	switch well := deref(v.WellKnownCACertificates, ""); {
	case len(v.CACertificateRefs) > 0:
		out.Roots = c.policyRoots(o, v.CACertificateRefs, is)
	case well != gatewayv1.WellKnownCACertificatesSystem:
		is.fail(accepted, "Invalid", "spec.validation.wellKnownCACertificates is %q, want System, or caCertificateRefs", well)
	}
	if is.bad(accepted) { // nobody has these roots
		out.Roots = &model.SecretSource{Kind: model.FromConfigMap, Namespace: o.Namespace, Name: "~invalid", Granted: "*"}
	}
	return out
}

// policyRoots finds what a policy's servers are verified by.
func (c *compiler) policyRoots(o *config.Object, refs []gatewayv1.LocalObjectReference, is *conditions) *model.SecretSource {
	var all trust
	for i, ref := range refs {
		kind, get := model.FromConfigMap, c.env.ConfigMap
		at := fmt.Sprintf("spec.validation.caCertificateRefs[%d]", i)
		switch {
		case ref.Group == "" && ref.Kind == "ConfigMap":
		case ref.Group == "" && ref.Kind == "Secret":
			kind, get = model.FromSecret, c.env.Secret
		default:
			is.fail(resolved, "InvalidKind", "%s: is %s, want a ConfigMap or a Secret", at, kindOf(ref.Group, ref.Kind))
			continue
		}
		held := get(o.Namespace, string(ref.Name))
		if text := noRoots(held, string(ref.Kind), o.Namespace, string(ref.Name)); text != "" {
			is.fail(resolved, "InvalidCACertificateRef", "%s: %s", at, text)
			continue
		}
		// Roots are no secret: whoever calls the service has them.
		all.add(model.SecretSource{Kind: kind, Namespace: o.Namespace, Name: string(ref.Name), Granted: "*", Exact: true}, held)
	}
	if text := all.mixed(); text != "" {
		is.fail(accepted, "Invalid", "spec.validation.caCertificateRefs: %s", text)
	}
	if all.first == nil {
		is.fail(accepted, "NoValidCACertificate", "there is nothing to verify servers by; condition ResolvedRefs says why")
	}
	return all.first
}

// Beneath returns an author's DestinationRules with what a BackendTLSPolicy's says laid beneath: a rule of the
// same namespace and host keeps what it says itself of TLS, and gets the policy's where it says nothing.
func Beneath(rules, policies []*model.DestinationRule) []*model.DestinationRule {
	if len(policies) == 0 {
		return rules
	}
	out := slices.Clone(rules)
	type key struct{ namespace, host string }
	at := map[key][]int{}
	for i, d := range rules {
		k := key{d.From.Namespace, d.Host}
		at[k] = append(at[k], i)
	}
	for _, p := range policies {
		found := false
		for _, i := range at[key{p.From.Namespace, p.Host}] {
			out[i], found = beneath(out[i], p), found || len(out[i].Workload) == 0
		}
		if !found {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b *model.DestinationRule) int { return cmp.Compare(a.From.Namespace, b.From.Namespace) })
	return out
}

func beneath(d, p *model.DestinationRule) *model.DestinationRule {
	out := *d
	ports := slices.Clone(d.Policy.Ports)
	for i := range ports {
		if ports[i].TLS == nil {
			ports[i].TLS = p.Policy.On(ports[i].Port, model.TrafficPolicy{}).TLS
		}
	}
	for _, own := range p.Policy.Ports {
		if d.Policy.TLS == nil && !slices.ContainsFunc(ports, func(q model.PortPolicy) bool { return q.Port == own.Port }) {
			ports = append(ports, model.PortPolicy{Port: own.Port, LB: d.Policy.LB, Pool: d.Policy.Pool, Outlier: d.Policy.Outlier, TLS: own.TLS})
		}
	}
	slices.SortFunc(ports, func(a, b model.PortPolicy) int { return int(a.Port) - int(b.Port) })
	out.Policy.Ports = ports
	out.Policy.TLS = cmp.Or(d.Policy.TLS, p.Policy.TLS)
	return &out
}
