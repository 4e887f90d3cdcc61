// Package claim says which volumes the claims of a StatefulSet are.
//
// A claim is a directory of this machine that outlives the pods which mount it. It is known by its name: there are no objects
// for claims, and what a claim asks for (a class, a size) has no effect.
package claim

import (
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Volumes are those of a StatefulSet's pod: what its template says, and its claims, called as Kubernetes calls them. A
// claim counts before a volume of its name.
func Volumes(s *appsv1.StatefulSet, pod string) []corev1.Volume {
	out := slices.Clone(s.Spec.Template.Spec.Volumes)
	for _, c := range s.Spec.VolumeClaimTemplates {
		out = slices.DeleteFunc(out, func(v corev1.Volume) bool { return v.Name == c.Name })
		out = append(out, corev1.Volume{Name: c.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.Name + "-" + pod},
		}})
	}
	return out
}
