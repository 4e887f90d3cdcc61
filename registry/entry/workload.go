package entry

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"istio.io/api/annotation"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/registry/kube"
)

// workloadName is the label by which a workload that is no pod says what it is called.
const workloadName = "service.istio.io/workload-name"

// A member is what a selector selects: a *config.Object that is a WorkloadEntry, or a *model.Workload
// that is a pod. One pointer is one content.
type member any

// members are those of each namespace, entries before pods, each by name.
type members map[string][]member

func membersOf(entries []*config.Object, pods []*model.Workload) members {
	out := members{}
	for _, o := range entries {
		out[o.Namespace] = append(out[o.Namespace], o)
	}
	for _, w := range pods {
		out[w.Namespace] = append(out[w.Namespace], w)
	}
	return out
}

// selected returns the members of the namespace that have the labels. Without a label
// nothing is selected.
func (m members) selected(namespace string, selector map[string]string) (out []member) {
	if len(selector) == 0 {
		return nil
	}
	for _, x := range m[namespace] {
		if model.Labels(labelsOf(x)).Matches(selector) {
			out = append(out, x)
		}
	}
	return out
}

// labelsOf returns a member's labels. Those of an entry's own spec count before those of the object.
func labelsOf(x member) map[string]string {
	if w, ok := x.(*model.Workload); ok {
		return w.Labels
	}
	o := x.(*config.Object)
	if l := o.Value.(*networkingv1.WorkloadEntry).Spec.GetLabels(); len(l) > 0 {
		return l
	}
	return o.Labels
}

// endpoint makes what a member is behind one port.
func endpoint(x member, portName string, number uint16, mesh *model.MeshConfig) *model.Endpoint {
	if w, ok := x.(*model.Workload); ok {
		e := &model.Endpoint{Addrs: w.Addrs, Port: number, PortName: portName, Cluster: "Kubernetes"}
		if !w.Ready {
			e.Health = model.Unhealthy
		}
		kube.Describe(e, w, mesh)
		return e
	}
	o := x.(*config.Object)
	e := ofEntry(&o.Value.(*networkingv1.WorkloadEntry).Spec, labelsOf(x), o.Namespace, mesh)
	if !config.Healthy(o) {
		e.Health = model.Unhealthy
	}
	if e.Path == "" {
		e.Port = number
	}
	e.PortName, e.Workload = portName, cmp.Or(o.Annotations[annotation.IoIstioAutoRegistrationGroup.Name], labelsOf(x)[workloadName], o.Name)
	e.Canonical, e.Revision = kube.Canonical(labelsOf(x), e.Workload)
	return e
}

// ofEntry makes an endpoint of an entry, whether it stands in a ServiceEntry or for itself, but for its port.
// One with an account has a proxy, if its labels do not say otherwise.
func ofEntry(e *networking.WorkloadEntry, labels map[string]string, namespace string, mesh *model.MeshConfig) *model.Endpoint {
	out := &model.Endpoint{
		Weight: e.GetWeight(), Labels: labels, Namespace: namespace, Network: e.GetNetwork(),
		Locality: cmp.Or(e.GetLocality(), model.LocalityOf(labels)),
	}
	out.Canonical, out.Revision = kube.Canonical(labels, "")
	mode, said := labels[kube.TLSModeLabel]
	out.TLS = mode == "istio" || !said && e.GetServiceAccount() != ""
	if sa := e.GetServiceAccount(); sa != "" {
		out.ServiceAccount = kube.Account(mesh.TrustDomain, namespace, sa)
	}
	path, isPath := strings.CutPrefix(e.GetAddress(), "unix://")
	addr, err := netip.ParseAddr(e.GetAddress())
	switch {
	case isPath:
		out.Path = path
	case err == nil:
		out.Addrs = []netip.Addr{addr.Unmap()}
	default:
		out.Hostname = strings.ToLower(e.GetAddress())
	}
	return out
}

// ownPort returns the port that a member has for one of its service's by name, 0 if it says none.
func ownPort(x member, name string) uint16 {
	if w, ok := x.(*model.Workload); ok {
		for _, p := range w.Ports {
			if p.Name == name && p.Protocol != "UDP" {
				return p.Number
			}
		}
		return 0
	}
	return uint16(x.(*config.Object).Value.(*networkingv1.WorkloadEntry).Spec.GetPorts()[name])
}

// A widened service is one of Kubernetes with the entries that its selector selects.
type widened struct {
	service, full *model.Service // without and with the entries' accounts
	set, all      *model.EndpointSet
	entries       []member
}

// Widen adds the WorkloadEntries that a Service's selector selects to what is behind it. It wants the snapshot
// of the last Build, and gives what it was given where there are none.
func (b *Builder) Widen(s *model.Service, set *model.EndpointSet, mesh *model.MeshConfig) (*model.Service, *model.EndpointSet) {
	if len(b.entries[s.Namespace]) == 0 || s.Resolution == model.Alias {
		return s, set
	}
	chosen := b.entries.selected(s.Namespace, s.Selector)
	if len(chosen) == 0 {
		return s, set
	}
	old, had := b.widened[s.Key()]
	if had && old.service == s && old.set == set && slices.Equal(old.entries, chosen) {
		return old.full, old.all
	}
	w := widened{service: s, set: set, entries: chosen, all: &model.EndpointSet{}}
	if set != nil {
		w.all.Endpoints = slices.Clone(set.Endpoints)
	}
	for _, x := range chosen {
		for _, p := range s.Ports {
			if p.Protocol != model.UDP {
				w.all.Endpoints = append(w.all.Endpoints, endpoint(x, p.Name, portBehind(x, p), mesh))
			}
		}
	}
	sortEndpoints(w.all)
	full := *s
	full.Accounts = accounts(w.all)
	w.full = &full
	if had && reflect.DeepEqual(old.full, w.full) {
		w.full = old.full
	}
	if had && reflect.DeepEqual(old.all, w.all) {
		w.all = old.all
	}
	b.widened[s.Key()] = w
	return w.full, w.all
}

// portBehind returns an entry's port behind a port of a Service: its own for the port's name, else
// the target port, by number or by the name that the entry knows, else the number.
func portBehind(x member, p model.Port) uint16 {
	if own := ownPort(x, p.Name); own != 0 {
		return own
	}
	if p.Target.Name != "" {
		return cmp.Or(ownPort(x, p.Target.Name), p.Number)
	}
	return cmp.Or(p.Target.Number, p.Number)
}
