package mesh

import (
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/model"
)

// ingress reads which Ingresses are served, and by whom.
func (r *reader) ingress(m *meshv1alpha1.MeshConfig, out *model.IngressSettings) {
	if r.has("ingressClass") {
		out.Class = m.GetIngressClass()
	}
	switch m.GetIngressControllerMode() {
	case meshv1alpha1.MeshConfig_OFF:
		out.Mode = model.IngressOff
	case meshv1alpha1.MeshConfig_DEFAULT:
		out.Mode = model.IngressDefault
	case meshv1alpha1.MeshConfig_STRICT:
		out.Mode = model.IngressStrict
	}
	if s := m.GetIngressSelector(); s != "" {
		if len(validation.IsValidLabelValue(s)) > 0 {
			r.errorf("found %q, want the value of a label", []any{s}, "ingressSelector")
		} else {
			out.Selector = s
		}
	}
	r.name(m.GetIngressService(), &out.Service, "ingressService")
}

var visibilities = map[meshv1alpha1.ServiceEntryVisibility_Visibility]model.Visibility{
	meshv1alpha1.ServiceEntryVisibility_NONE: model.SeenByNobody, meshv1alpha1.ServiceEntryVisibility_NAMESPACE: model.SeenInNamespace,
}

// visibility reads how far ServiceEntries are seen; nil if sidecars do not heed it.
func (r *reader) visibility(e *meshv1alpha1.ServiceEntryVisibility) *model.EntryVisibility {
	out := &model.EntryVisibility{Default: visibilities[e.GetDefaultVisibility()]}
	for _, p := range e.GetPolicies() {
		policy := model.VisibilityPolicy{Visibility: visibilities[p.GetVisibility()]}
		for _, m := range p.GetMatchingRules() {
			policy.Namespaces = append(policy.Namespaces, r.selectors([]*meshv1alpha1.LabelSelector{m.GetNamespaceSelector()}, "serviceEntryVisibility", "policies")...)
		}
		out.Policies = append(out.Policies, policy)
	}
	if !e.GetApplyToSidecars() {
		return nil
	}
	return out
}
