package istio

import (
	networkingv1alpha3 "istio.io/client-go/pkg/apis/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/envoyfilter"
	"github.com/mallamesh/malla/model"
)

// envoyFilter takes the patches that are right: each stands for itself.
func (c *compiler) envoyFilter() {
	spec, at := &c.obj.Value.(*networkingv1alpha3.EnvoyFilter).Spec, field.At("spec")
	r := envoyfilter.Patches(spec, at)
	p := &model.Patches{From: c.ref, Created: c.obj.Created, Priority: spec.GetPriority(), Selector: spec.GetWorkloadSelector().GetLabels(), List: r.Patches}
	for i, t := range spec.GetTargetRefs() {
		ours := t.GetGroup() == "gateway.networking.k8s.io"
		switch {
		case ours && t.GetKind() == "Gateway" && (t.GetNamespace() == "" || t.GetNamespace() == c.obj.Namespace):
			p.Gateways = append(p.Gateways, t.GetName())
		case ours && t.GetKind() == "GatewayClass" && c.obj.Namespace == c.env.RootNamespace:
			p.Classes = append(p.Classes, t.GetName())
		default:
			c.out.Errors.Addf(at.Child("targetRefs").Index(i), "is %s %q of the group %q, want a Gateway of gateway.networking.k8s.io in the namespace, or in %s a GatewayClass", t.GetKind(), t.GetName(), t.GetGroup(), c.env.RootNamespace)
		}
	}
	c.out.Errors = append(c.out.Errors, r.Errors...)
	for _, n := range r.Notices {
		c.out.Notices.Addf(n.At, "has no effect: %s", n.Why)
	}
	if len(spec.GetTargetRefs()) > 0 && len(p.Gateways)+len(p.Classes) == 0 {
		return // it is for nobody that there is
	}
	c.out.Patches = p
}
