package pods

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
)

// Connections that come while one pod of a gateway takes over from another wait for it; where none is to
// come they are refused.
func TestWhoHasAnHeir(t *testing.T) {
	owned := func(kind, name string) []metav1.OwnerReference {
		yes := true
		return []metav1.OwnerReference{{Kind: kind, Name: name, UID: types.UID(name), Controller: &yes}}
	}
	meta := func(name string, owners []metav1.OwnerReference) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), OwnerReferences: owners}
	}
	none, one := int32(0), int32(1)
	set := &appsv1.ReplicaSet{ObjectMeta: meta("edge-1", owned("Deployment", "edge")), Spec: appsv1.ReplicaSetSpec{Replicas: &none}}
	deployment := func(replicas *int32) runtime.Object {
		return &appsv1.Deployment{ObjectMeta: meta("edge", nil), Spec: appsv1.DeploymentSpec{Replicas: replicas}}
	}
	now := metav1.NewTime(time.Now())
	for _, test := range []struct {
		what    string
		owner   []metav1.OwnerReference
		deleted *metav1.Time
		there   []runtime.Object
		last    bool
	}{
		{"a container that fails starts again", nil, nil, nil, false},
		{"a pod of its own that is deleted", nil, &now, nil, true},
		{"an old template of a Deployment", owned("ReplicaSet", "edge-1"), &now, []runtime.Object{set, deployment(&one)}, false},
		{"a Deployment without replicas", owned("ReplicaSet", "edge-1"), &now, []runtime.Object{set, deployment(&none)}, true},
		{"a Deployment that is gone", owned("ReplicaSet", "edge-1"), &now, []runtime.Object{set}, true},
		{"all is gone", owned("ReplicaSet", "edge-1"), &now, nil, true},
		{"another of that name", owned("StatefulSet", "db"), &now, []runtime.Object{&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "new"}}}, true},
		{"an owner that we do not know", owned("Rollout", "edge"), &now, nil, false},
	} {
		w := &worker{k: &Kubelet{Options: Options{Client: fake.NewClientset(test.there...)}}, namespace: "shop",
			pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", OwnerReferences: test.owner, DeletionTimestamp: test.deleted}}}
		if got := w.last(); got != test.last {
			t.Errorf("%s: last is %v, want %v", test.what, got, test.last)
		}
	}
}
