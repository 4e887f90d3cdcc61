package compile

import (
	"fmt"
	"maps"
	"slices"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile/credential"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// A credentialMemo holds what the objects of one kind hold, in the snapshot's order.
type credentialMemo []heldCredential

type heldCredential struct {
	object *config.Object
	value  *model.Credential // nil: nothing
}

// credentials reads what Secrets and ConfigMaps hold. Same is true if old has exactly that.
func credentials(s *config.Snapshot, old map[string]credentialMemo) (all map[model.CredentialKey]*model.Credential, next map[string]credentialMemo, same bool) {
	all, next, same = map[model.CredentialKey]*model.Credential{}, map[string]credentialMemo{}, old != nil
	for _, kind := range credential.Kinds {
		objects, before := s.List(kind), old[kind]
		same = same && len(objects) == len(before)
		list := make(credentialMemo, 0, len(objects))
		i := 0
		for _, o := range objects {
			for i < len(before) && compareNames(before[i].object, o) < 0 {
				i++
			}
			held := heldCredential{object: o}
			if i < len(before) && unchanged(before[i].object, o) {
				held.value = before[i].value
			} else {
				held.value, same = credential.Read(o), false
			}
			list = append(list, held)
			if held.value != nil {
				all[model.CredentialKey{Kind: kind, Namespace: o.Namespace, Name: o.Name}] = held.value
			}
		}
		next[kind] = list
	}
	return all, next, same
}

// credentials finds certificates that gateways cannot show, and roots that nobody
// can be verified by.
func (f *finder) credentials(m *memo) {
	for _, c := range m.kinds["Gateway"] {
		g := c.result.Gateway
		if g == nil {
			continue
		}
		f.at(c.object)
		spec := &c.object.Value.(*networkingv1.Gateway).Spec
		namespaces := f.namespacesOf(g.Selector)
		for i, s := range spec.Servers {
			j := slices.IndexFunc(g.Servers, func(x *model.Server) bool { return x.At == i })
			if j >= 0 && g.Servers[j].TLS != nil {
				f.serverCredentials(s, g.Servers[j].TLS, namespaces, field.At("spec", "servers").Index(i).Child("tls"))
			}
		}
	}
	for _, c := range m.kinds["DestinationRule"] {
		if d := c.result.Policy; d != nil {
			f.at(c.object)
			f.clientCredentials(d)
		}
	}
}

// namespacesOf lists those in which pods have the labels.
func (f *finder) namespacesOf(selector map[string]string) []string {
	found := map[string]bool{}
	for _, w := range f.mesh.Registry.Workloads {
		if !found[w.Namespace] && model.Labels(w.Labels).Matches(selector) {
			found[w.Namespace] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func (f *finder) serverCredentials(s *networking.Server, t *model.ServerTLS, namespaces []string, at *field.Path) {
	effect := fmt.Sprintf("port %d does not answer to TLS", s.GetPort().GetNumber())
	for _, ns := range namespaces {
		for i, ref := range t.Certs {
			name := at.Child("credentialName")
			if len(s.GetTls().GetCredentialNames()) > 0 {
				name = at.Child("credentialNames").Index(i)
			}
			f.credential(ref, ns, false, name, effect)
		}
		if t.CA == nil {
			continue
		}
		name := at.Child("credentialName")
		if s.GetTls().GetCaCertCredentialName() != "" {
			name = at.Child("caCertCredentialName")
		}
		f.credential(*t.CA, ns, true, name, "no client is let in")
	}
}

// clientCredentials looks for a Secret in all namespaces: whose proxies keep to the
// rule is a question of their own.
func (f *finder) clientCredentials(d *model.DestinationRule) {
	check := func(t *model.ClientTLS, at *field.Path) {
		if t == nil || t.Credential == nil || t.Credential.Kind != model.FromSecret {
			return
		}
		at = at.Child("tls").Child("credentialName")
		if ns := f.unhanded(d, *t.Credential); ns != "" {
			f.add(Weak, 0, at, "without spec.workloadSelector it is for gateways only: sidecars of namespace %s, which has a Secret %s, do not get it, and their TLS to %s fails; want a selector of workloads, and the rule in their namespace", ns, t.Credential.Name, d.Host)
			return
		}
		for k := range f.mesh.Credentials {
			if k.Kind == "Secret" && (k.Name == t.Credential.Name || k.Name == t.Credential.Name+model.RootsSuffix) {
				return
			}
		}
		f.add(NotFound, soon, at, "no namespace has a Secret %s with a certificate: TLS to %s fails", t.Credential.Name, d.Host)
	}
	policy := func(p *model.TrafficPolicy, at *field.Path) {
		check(p.TLS, at)
		for i := range p.Ports {
			check(p.Ports[i].TLS, at.Child("portLevelSettings").Index(i))
		}
	}
	policy(&d.Policy, field.At("spec", "trafficPolicy"))
	for i := range d.Subsets {
		policy(&d.Subsets[i].Policy, field.At("spec", "subsets").Index(i).Child("trafficPolicy"))
	}
}

// unhanded returns the first namespace whose sidecars keep to the rule and have the Secret that it names
// beside them, but do not get it; "" if there is none. A pod that a Gateway selects is a gateway.
func (f *finder) unhanded(d *model.DestinationRule, ref model.SecretSource) string {
	if len(d.Workload) > 0 {
		return ""
	}
	for _, w := range f.mesh.Registry.Workloads { // by namespace
		if !w.Injected || !ref.Open(w.Namespace) || f.mesh.Held(ref, w.Namespace, true) == nil {
			continue
		}
		if slices.ContainsFunc(f.mesh.Gateways, func(g *model.Gateway) bool {
			return len(g.Selector) > 0 && model.Labels(w.Labels).Matches(g.Selector)
		}) {
			continue
		}
		v := model.NewView(&model.Proxy{Type: model.Sidecar, Namespace: w.Namespace, Labels: w.Labels}, f.mesh)
		if slices.ContainsFunc(f.services(d.Host), func(s *model.Service) bool {
			kept := v.PolicyFor(s)
			return kept != nil && kept.From.Namespace == d.From.Namespace && kept.Host == d.Host && len(kept.Workload) == 0
		}) {
			return w.Namespace
		}
	}
	return ""
}

// credential tells if a proxy of the namespace does not get what it is to have.
func (f *finder) credential(ref model.SecretSource, namespace string, roots bool, at *field.Path, effect string) {
	kind := "Secret"
	switch ref.Kind {
	case model.FromConfigMap:
		kind = "ConfigMap"
	case model.FromFiles, model.OfWorkload:
		return
	}
	if !ref.Open(namespace) {
		f.add(NotFound, soon, at, "%s %s/%s is not of namespace %s, in which the gateway runs: %s", kind, ref.Namespace, ref.Name, namespace, effect)
		return
	}
	c := f.mesh.Held(ref, namespace, roots)
	const former = "a gateway that has had a good one goes on with it; elsewhere " // as in Istio: proxies keep what is not replaced
	switch name := namespace + "/" + ref.Name; {
	case c == nil:
		f.add(NotFound, soon, at, "there is no %s %s: %s%s", kind, name, former, effect)
	case !roots && c.NoCert != "":
		f.add(NotFound, soon, at, "%s %s: %s%s", c.From, c.NoCert, former, effect)
	case roots && c.NoCA != "":
		f.add(NotFound, soon, at, "%s %s: %s%s", c.From, c.NoCA, former, effect)
	}
}

// sameNames finds servers that an older one on their port leaves no connection to:
// clients that ask for one of their names get the other.
func (f *finder) sameNames(g *model.Gateway, s *model.Server, other *model.Gateway, older *model.Server) bool {
	for _, h := range s.Hosts {
		for _, o := range older.Hosts {
			if h.Name != o.Name {
				continue
			}
			whose := other.From.String() + ", which is older"
			if other == g {
				whose = "a server before it"
			}
			f.addTo(g.From, GatewayConflict, field.At("spec", "servers").Index(s.At).Child("hosts"),
				"TLS to port %d for %s belongs to %s: the server is left out", s.Port, h.Name, whose)
			return true
		}
	}
	return false
}
