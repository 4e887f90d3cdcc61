package config

import (
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/mallamesh/malla/model"
)

// Healthy reports whether the workload of a WorkloadEntry is well. Where its proxy probes it, what that has said
// counts, and before its first word the workload is not; others are well, and so are objects of other kinds.
func Healthy(o *Object) bool {
	e, ok := o.Value.(*networkingv1.WorkloadEntry)
	if !ok || o.Annotations[model.HealthAnnotation] != "true" {
		return true
	}
	for _, c := range e.Status.GetConditions() {
		if c.GetType() == model.ConditionHealthy {
			return c.GetStatus() == "True"
		}
	}
	return false
}
