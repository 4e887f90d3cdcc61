package endpoints

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func service(change func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "1"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}}}}
	if change != nil {
		change(s)
	}
	return s
}

func pod(name, ip string, ready bool, change func(*corev1.Pod)) *corev1.Pod {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Status: corev1.PodStatus{
		PodIPs: []corev1.PodIP{{IP: ip}}, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}}}
	if change != nil {
		change(p)
	}
	return p
}

// text shows slices as "http=8080: 10.0.0.1 ready".
func text(s *corev1.Service, pods ...*corev1.Pod) string {
	var lines []string
	for _, sl := range Slices(s, pods) {
		var b strings.Builder
		for _, p := range sl.Ports {
			fmt.Fprintf(&b, "%s=%d", *p.Name, *p.Port)
		}
		for _, e := range sl.Endpoints {
			fmt.Fprintf(&b, " %s", e.Addresses[0])
			for state, on := range map[string]bool{"!ready": !*e.Conditions.Ready} {
				if on {
					b.WriteString(" " + state)
				}
			}
			if *e.Conditions.Terminating {
				b.WriteString(" terminating")
			}
		}
		lines = append(lines, b.String())
	}
	return strings.Join(lines, "; ")
}

func TestEndpoints(t *testing.T) {
	now := metav1.Now()
	named := func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") }
	port := func(n int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: n}}}}
		}
	}
	for _, test := range []struct{ name, got, want string }{
		{"the target port, not the service's", text(service(nil), pod("a", "10.0.0.1", true, nil)), "http=8080 10.0.0.1"},
		{"no target port means the service's", text(service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.IntOrString{} }), pod("a", "10.0.0.1", true, nil)), "http=80 10.0.0.1"},
		{"a pod that is not ready is listed as such", text(service(nil), pod("a", "10.0.0.1", false, nil)), "http=8080 10.0.0.1 !ready"},
		{"unless the service wants it anyway", text(service(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }), pod("a", "10.0.0.1", false, nil)), "http=8080 10.0.0.1"},
		{"a pod on its way out takes nothing new", text(service(nil), pod("a", "10.0.0.1", true, func(p *corev1.Pod) { p.DeletionTimestamp = &now })), "http=8080 10.0.0.1 !ready terminating"},
		{"a pod that has ended is no endpoint", text(service(nil), pod("a", "10.0.0.1", true, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })), ""},
		{"a named port is looked up in each pod", text(service(named), pod("a", "10.0.0.1", true, port(81))), "http=81 10.0.0.1"},
		{"a name that no container has is no port", text(service(named), pod("a", "10.0.0.1", true, nil)), " 10.0.0.1"},
		{"both families unless the service says which", text(service(func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }), pod("a", "10.0.0.1", true, nil)), ""},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, test.got, test.want)
		}
	}
}

func TestPodsWithDifferentPortsAreApart(t *testing.T) {
	s := service(func(s *corev1.Service) { s.Spec.Ports[0].TargetPort = intstr.FromString("web") })
	with := func(n int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: n}}}}
		}
	}
	got := Slices(s, []*corev1.Pod{pod("a", "10.0.0.1", true, with(81)), pod("b", "10.0.0.2", true, with(82))})
	if len(got) != 2 || got[0].Name == got[1].Name {
		t.Errorf("got %d slices", len(got))
	}
	again := Slices(s, []*corev1.Pod{pod("a", "10.0.0.1", true, with(81)), pod("b", "10.0.0.2", true, with(82))})
	if got[0].Name != again[0].Name {
		t.Error("the slice changed its name: every change would be a delete and a create")
	}
}
