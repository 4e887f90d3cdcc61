package compile

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile/ingress"
	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// An ingressMemo is what Ingresses became, and of what.
type ingressMemo struct {
	objects, classes []*config.Object
	result           ingress.Result
}

// ingresses adds what Ingresses mean to the mesh, whose registry and credentials are
// there. Same is true if those are as before; the result says if all is.
func ingresses(s *config.Snapshot, m *model.Mesh, old, next *memo, same bool) bool {
	now := ingressMemo{objects: s.List("Ingress"), classes: s.List("IngressClass")}
	same = same && slices.EqualFunc(old.ingress.objects, now.objects, unchanged) && slices.EqualFunc(old.ingress.classes, now.classes, unchanged)
	if same {
		now = old.ingress
	} else {
		now.result = ingress.Compile(now.objects, now.classes, ingress.Env{
			ClusterDomain: m.Config.ClusterDomain, RootNamespace: m.Config.RootNamespace, Settings: m.Config.Ingress, Services: m.Services,
			Secret: func(namespace, name string) *model.Credential {
				return m.Credentials[model.CredentialKey{Kind: "Secret", Namespace: namespace, Name: name}]
			},
		})
	}
	next.ingress = now
	if list := now.result.Gateways; len(list) > 0 {
		m.Gateways = append(slices.Clone(m.Gateways), list...)
		slices.SortStableFunc(m.Gateways, func(a, b *model.Gateway) int { return refOfGateway(a).compare(refOfGateway(b)) })
		m.Rules = append(slices.Clone(m.Rules), now.result.Rules...)
		slices.SortStableFunc(m.Rules, func(a, b *model.RouteRules) int { return refOfRules(a).compare(refOfRules(b)) })
	}
	return same
}

// Ingresses returns those that a mesh serves, the oldest first.
func Ingresses(m *model.Mesh) []*config.Object {
	if memo, ok := m.Sources.(*memo); ok {
		return memo.ingress.result.Served
	}
	return nil
}

// IngressPoints are where those are reached, as an Ingress says it: at the Service that the mesh names for it.
func IngressPoints(s *config.Snapshot, cfg *model.MeshConfig) (points []any) {
	o, ok := s.Get("Service", cfg.RootNamespace, cfg.Ingress.Service)
	if !ok {
		return nil
	}
	for _, p := range o.Value.(*corev1.Service).Status.LoadBalancer.Ingress {
		point := map[string]any{}
		if p.IP != "" {
			point["ip"] = p.IP
		}
		if p.Hostname != "" {
			point["hostname"] = p.Hostname
		}
		points = append(points, point)
	}
	return points
}

// ingressProblems is what the authors of Ingresses should know.
func ingressProblems(m *memo) []Problem {
	var out []Problem
	for _, n := range m.ingress.result.Notices {
		out = append(out, noticed(n.Object, n.At, n.Missing, n.Text))
	}
	return out
}

// noticed makes a problem of what a dialect noticed about an object. What is missing may come.
func noticed(o *config.Object, at *field.Path, missing bool, text string) Problem {
	p := Problem{Reason: Weak, Notice: true, Ref: istio.RefOf(o), Error: &field.Error{In: o.String(), Pos: o.Pos, At: at, Msg: text}}
	if missing {
		p.Reason, p.Waits = NotFound, soon
	}
	return p
}
