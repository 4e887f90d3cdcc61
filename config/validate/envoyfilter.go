package validate

import (
	networkingv1alpha3 "istio.io/client-go/pkg/apis/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/envoyfilter"
)

func (r *ruler) envoyFilter(f *networkingv1alpha3.EnvoyFilter) {
	spec, at := &f.Spec, field.At("spec")
	labels := spec.GetWorkloadSelector().GetLabels()
	r.labels(at.Child("workloadSelector").Child("labels"), labels)
	if len(labels) > 0 && len(spec.GetTargetRefs()) > 0 {
		r.errorf(at.Child("targetRefs"), "found beside workloadSelector; keep one")
	}
	for i, t := range spec.GetTargetRefs() {
		p := at.Child("targetRefs").Index(i)
		switch {
		case t.GetKind() != "Gateway" && t.GetKind() != "GatewayClass":
			r.errorf(p.Child("kind"), "found %q, want Gateway or GatewayClass", t.GetKind())
		case t.GetGroup() != "gateway.networking.k8s.io":
			r.errorf(p.Child("group"), "found %q, want gateway.networking.k8s.io", t.GetGroup())
		case t.GetName() == "":
			r.errorf(p.Child("name"), "missing; want the name of a %s", t.GetKind())
		case t.GetNamespace() != "" && t.GetNamespace() != f.Namespace:
			r.errorf(p.Child("namespace"), "found %q; a target is in the same namespace", t.GetNamespace())
		}
	}
	if len(spec.GetConfigPatches()) == 0 {
		r.notice(at.Child("configPatches"), "there are none, so nothing is changed")
	}
	read := envoyfilter.Patches(spec, at)
	r.errs = append(r.errs, read.Errors...)
	r.notices = append(r.notices, read.Notices...)
}
