package compile

import (
	"reflect"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/compile/gatewayapi"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/model"
)

// A gatewayMemo is what the objects of Gateway API became, and of what.
type gatewayMemo struct {
	lists  [][]*config.Object
	reads  map[model.Name]gatewayapi.Front // the Services that were asked for
	result *gatewayapi.Result              // nil: there was nothing to compile
}

// gatewayKinds are those that a compilation reads, in the order of a memo's lists.
var gatewayKinds = []string{"GatewayClass", kind.APIGateway, "ListenerSet", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "ReferenceGrant", "BackendTLSPolicy", "Namespace"}

// gatewayAPI adds what the objects of Gateway API mean to the mesh, whose registry,
// credentials and DestinationRules are there. Same is true if the first two are as
// before; the result says if all is.
func gatewayAPI(s *config.Snapshot, m *model.Mesh, old, next *memo, same bool) bool {
	now := gatewayMemo{lists: make([][]*config.Object, len(gatewayKinds))}
	for i, k := range gatewayKinds {
		now.lists[i] = s.List(k)
		same = same && len(old.gatewayAPI.lists) > i && slices.EqualFunc(old.gatewayAPI.lists[i], now.lists[i], unchanged)
	}
	for name, was := range old.gatewayAPI.reads {
		same = same && reflect.DeepEqual(was, front(s, m, name))
	}
	if same {
		now = old.gatewayAPI
	} else {
		now.compile(s, m)
	}
	next.gatewayAPI = now
	if now.result == nil {
		return same
	}
	if list := now.result.Gateways; len(list) > 0 {
		m.Gateways = append(slices.Clone(m.Gateways), list...)
		slices.SortStableFunc(m.Gateways, func(a, b *model.Gateway) int { return refOfGateway(a).compare(refOfGateway(b)) })
	}
	if list := now.result.Rules; len(list) > 0 {
		m.Rules = append(slices.Clone(m.Rules), list...)
		slices.SortStableFunc(m.Rules, func(a, b *model.RouteRules) int { return refOfRules(a).compare(refOfRules(b)) })
	}
	if list := now.result.Policies; len(list) > 0 {
		m.Policies = gatewayapi.Beneath(m.Policies, list)
		m.IndexPolicies()
	}
	return same
}

func (g *gatewayMemo) compile(s *config.Snapshot, m *model.Mesh) {
	l := g.lists
	if !slices.ContainsFunc(l[:len(l)-1], func(of []*config.Object) bool { return len(of) > 0 }) {
		return
	}
	g.reads = map[model.Name]gatewayapi.Front{}
	held := func(kind, namespace, name string) *model.Credential {
		return m.Credentials[model.CredentialKey{Kind: kind, Namespace: namespace, Name: name}]
	}
	entries := sync.OnceValue(func() map[model.Name][]*model.Service {
		of := map[model.Name][]*model.Service{}
		for _, x := range m.Registry.Services {
			if x.From.Kind == "ServiceEntry" {
				name := model.Name{Namespace: x.From.Namespace, Name: x.From.Name}
				of[name] = append(of[name], x)
			}
		}
		return of
	})
	result := gatewayapi.Compile(gatewayapi.Objects{
		Classes: l[0], Gateways: l[1], ListenerSets: l[2], HTTPRoutes: l[3], GRPCRoutes: l[4], TLSRoutes: l[5], TCPRoutes: l[6], UDPRoutes: l[7],
		Grants: l[8], BackendTLSPolicies: l[9],
	}, gatewayapi.Env{
		ClusterDomain: m.Config.ClusterDomain, RootNamespace: m.Config.RootNamespace, AsIstio: !m.Config.BesideIstio, ServicesExportTo: m.Config.ServiceExportTo, Services: m.Services,
		Entries: func(namespace, name string) []*model.Service {
			return entries()[model.Name{Namespace: namespace, Name: name}]
		},
		Secret:    func(namespace, name string) *model.Credential { return held("Secret", namespace, name) },
		ConfigMap: func(namespace, name string) *model.Credential { return held("ConfigMap", namespace, name) },
		Parameters: func(namespace, name string) map[string]string {
			o, ok := s.Get("ConfigMap", namespace, name)
			if !ok {
				return nil
			}
			var out map[string]string
			for _, key := range append(model.GatewayEntries(), model.UnmadeEntries()...) {
				if text, ok := o.Value.(*corev1.ConfigMap).Data[key]; ok {
					if out == nil {
						out = map[string]string{}
					}
					out[key] = text
				}
			}
			return out
		},
		Namespace: func(name string) map[string]string {
			if o, ok := s.Get("Namespace", "", name); ok {
				return o.Labels
			}
			return nil
		},
		Front: func(namespace, service string) gatewayapi.Front {
			name := model.Name{Namespace: namespace, Name: service}
			found := front(s, m, name)
			g.reads[name] = found
			return found
		},
	})
	g.result = &result
}

// front is the Service before the pods of a gateway: who made it, and where it is reached.
func front(s *config.Snapshot, m *model.Mesh, name model.Name) (out gatewayapi.Front) {
	o, ok := s.Get("Service", name.Namespace, name.Name)
	if !ok {
		return out
	}
	if out.Addresses = addresses(m, name, o.Value.(*corev1.Service)); o.Labels[gatewayapi.ManagedLabel] == gatewayapi.Managed {
		out.Made = o.Labels[gatewayapi.NameLabel]
	}
	out.Taken = out.Made == ""
	return out
}

// addresses is where a gateway's Service is reached: what a load balancer gave it or, if
// it has none, its host in the cluster. There is none before a proxy behind it is ready.
func addresses(m *model.Mesh, name model.Name, service *corev1.Service) []string {
	host := name.Name + "." + name.Namespace + ".svc." + m.Config.ClusterDomain
	ready := func(e *model.Endpoint) bool { return e.Health == model.Healthy }
	if !slices.ContainsFunc(m.Services(host), func(x *model.Service) bool { return x.Kubernetes && slices.ContainsFunc(m.Endpoints(x), ready) }) {
		return nil
	}
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return []string{host}
	}
	var out []string
	for _, in := range service.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			out = append(out, in.IP)
		} else if in.Hostname != "" {
			out = append(out, in.Hostname)
		}
	}
	return out
}

// GatewayAPI returns what a mesh that [Mesh] made says of the objects of Gateway API,
// nil if there are none. As long as nothing of it changes it is the same.
func GatewayAPI(m *model.Mesh) *gatewayapi.Result {
	if memo, ok := m.Sources.(*memo); ok {
		return memo.gatewayAPI.result
	}
	return nil
}

// gatewayProblems is what their authors should know beside the conditions.
func gatewayProblems(m *memo) []Problem {
	if m.gatewayAPI.result == nil {
		return nil
	}
	var out []Problem
	for _, n := range m.gatewayAPI.result.Notices {
		out = append(out, noticed(n.Object, n.At, n.Missing, n.Text))
	}
	return out
}
