//go:build linux

package app

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What to type names the mesh that the pods are of, and for each of them what makes it anew.
func TestHowPodsAreMadeAnew(t *testing.T) {
	pod := func(owner string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}}
		if owner != "" {
			yes := true
			p.OwnerReferences = []metav1.OwnerReference{{Kind: owner, Controller: &yes}}
		}
		return p
	}
	for _, test := range []struct {
		dir, want string
		pods      []*corev1.Pod
	}{
		{"/state/shop", "; type: malla --mesh shop rollout restart deployment -n shop; malla --mesh shop rollout restart statefulset -n shop", []*corev1.Pod{pod("StatefulSet"), pod("ReplicaSet"), pod("ReplicaSet"), pod("Job")}},
		{"/state/default", "; type: malla rollout restart daemonset -n shop; what has no controller must be deleted and made anew", []*corev1.Pod{pod(""), pod("DaemonSet")}},
	} {
		if got := restartHint(test.dir, test.pods); got != test.want {
			t.Errorf("%s: %q, want %q", test.dir, got, test.want)
		}
	}
}
