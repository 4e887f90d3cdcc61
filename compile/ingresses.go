package compile

import (
	"slices"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile/ingress"
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
			ClusterDomain: m.Config.ClusterDomain, RootNamespace: m.Config.RootNamespace, Services: m.Services,
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

// ingressProblems is what the authors of Ingresses should know.
func ingressProblems(m *memo) []Problem {
	var out []Problem
	for _, n := range m.ingress.result.Notices {
		p := Problem{Reason: Weak, Notice: true, Ref: model.Ref{Kind: n.Object.Kind.Kind, Namespace: n.Object.Namespace, Name: n.Object.Name, Pos: n.Object.Pos, Version: n.Object.Version},
			Error: &field.Error{In: n.Object.String(), Pos: n.Object.Pos, At: n.At, Msg: n.Text}}
		if n.Missing {
			p.Reason, p.Waits = NotFound, soon
		}
		out = append(out, p)
	}
	return out
}
