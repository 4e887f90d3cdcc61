package validate

import (
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/mesh"
)

// workloadGroup checks what proxies of machines are registered by.
func (r *ruler) workloadGroup(g *networkingv1.WorkloadGroup) {
	spec, at := &g.Spec, field.At("spec")
	r.labels(at.Child("metadata").Child("labels"), spec.GetMetadata().GetLabels())
	mesh.CheckProbe(spec.GetProbe(), at.Child("probe"), &r.errs)
	template, at := spec.GetTemplate(), at.Child("template")
	if template == nil {
		r.errorf(at, "missing; want what the WorkloadEntries of the group are like")
		return
	}
	with := &networking.WorkloadEntry{Address: "0.0.0.0", Locality: template.GetLocality(), ServiceAccount: template.GetServiceAccount()}
	r.workload(at, with)
	for _, name := range sortedKeys(template.GetPorts()) {
		r.port(at.Child("ports").Child(name), template.GetPorts()[name])
	}
	r.labels(at.Child("labels"), template.GetLabels())
}
