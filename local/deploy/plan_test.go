package deploy

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func set(replicas, available int32) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Replicas: &replicas}, Status: appsv1.ReplicaSetStatus{Replicas: replicas, AvailableReplicas: available}}
}

func rolling(want int32, surge, unavailable string) *appsv1.Deployment {
	s, u := intstr.Parse(surge), intstr.Parse(unavailable)
	return &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: &want, Strategy: appsv1.DeploymentStrategy{
		RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u}}}}
}

func TestOneStepOfARollingUpdate(t *testing.T) {
	for _, test := range []struct {
		name               string
		want               int32
		surge, unavailable string
		current, old       *appsv1.ReplicaSet
		up, down           int32
	}{
		{"one replica: the new pod comes first", 1, "25%", "25%", set(0, 0), set(1, 1), 1, 1},
		{"the old one stays until the new one is there", 1, "25%", "25%", set(1, 0), set(1, 1), 1, 1},
		{"and goes then", 1, "25%", "25%", set(1, 1), set(1, 1), 1, 0},
		{"without surge an old one makes room", 4, "0", "1", set(0, 0), set(4, 4), 0, 3},
		{"surge and unavailable together", 10, "30%", "20%", set(0, 0), set(10, 10), 3, 8},
		{"pods that never came up go first", 3, "1", "0", set(1, 1), set(3, 0), 1, 2},
		{"scaling down needs no update", 1, "25%", "25%", set(3, 3), set(0, 0), 1, 0},
	} {
		up, downs := plan(test.want, rolling(test.want, test.surge, test.unavailable), test.current, []*appsv1.ReplicaSet{test.old})
		if up != test.up || downs[0] != test.down {
			t.Errorf("%s: got %d new and %d old, want %d and %d", test.name, up, downs[0], test.up, test.down)
		}
	}
}

// Whatever the limits, an update ends, never has too many pods and never too few
// that work.
func TestRollingUpdateKeepsItsLimits(t *testing.T) {
	for want := int32(1); want <= 7; want++ {
		for _, limit := range [][2]string{{"25%", "25%"}, {"1", "0"}, {"0", "1"}, {"100%", "0"}, {"0", "100%"}, {"0", "0"}} {
			d := rolling(want, limit[0], limit[1])
			surge, unavailable := limits(d)
			current, old := set(0, 0), set(want, want)
			steps := 0
			for ; *current.Spec.Replicas != want || *old.Spec.Replicas != 0 || current.Status.AvailableReplicas != want; steps++ {
				up, downs := plan(want, d, current, []*appsv1.ReplicaSet{old})
				if up+downs[0] > want+int32(surge) {
					t.Fatalf("want %d, %v: %d pods", want, limit, up+downs[0])
				}
				old = set(downs[0], min(old.Status.AvailableReplicas, downs[0]))
				if got := current.Status.AvailableReplicas + old.Status.AvailableReplicas; got < want-int32(unavailable) {
					t.Fatalf("want %d, %v: only %d available", want, limit, got)
				}
				current = set(up, up) // its pods come up
				if steps > 50 {
					t.Fatalf("want %d, %v: no end", want, limit)
				}
			}
		}
	}
}

func TestSurplusIsMissedLeast(t *testing.T) {
	at := func(s int) metav1.Time { return metav1.NewTime(time.Unix(int64(s), 0)) }
	pod := func(name string, made int, ready bool) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: at(made)}}
		if ready {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		return p
	}
	pods := []*corev1.Pod{pod("old", 1, true), pod("young", 9, true), pod("broken", 2, false)}
	var got string
	for _, p := range surplus(pods, 1) {
		got += p.Name + " "
	}
	if got != "broken young " {
		t.Errorf("got %q, want the broken one, then the youngest", got)
	}
}

func TestTemplateHash(t *testing.T) {
	a := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}}}}
	b := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "b"}}}}
	if templateHash(&a, 0) != templateHash(a.DeepCopy(), 0) {
		t.Error("the same template has two names")
	}
	if templateHash(&a, 0) == templateHash(&b, 0) || templateHash(&a, 0) == templateHash(&a, 1) {
		t.Error("two templates have one name")
	}
}
