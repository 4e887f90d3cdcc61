//go:build linux

package app

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A ready pod is known only when the slices of each Service that selects it hold its address as ready.
func TestAReadyPodMustBeAnEndpoint(t *testing.T) {
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{"app": "web"}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.244.0.9", Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	service := corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}}}
	slice := func(service, address string, ready bool) discoveryv1.EndpointSlice {
		return discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}}}
	}
	const missing = "pod shop/web-1 is not an endpoint of service shop/web"
	for name, test := range map[string]struct {
		change func(*corev1.Pod, *corev1.Service)
		list   []discoveryv1.EndpointSlice
		want   string
	}{
		"listed":                       {list: []discoveryv1.EndpointSlice{slice("web", "10.244.0.9", true)}},
		"no slice":                     {want: missing},
		"listed as not ready":          {list: []discoveryv1.EndpointSlice{slice("web", "10.244.0.9", false)}, want: missing},
		"listed for another service":   {list: []discoveryv1.EndpointSlice{slice("other", "10.244.0.9", true)}, want: missing},
		"another pod listed":           {list: []discoveryv1.EndpointSlice{slice("web", "10.244.0.8", true)}, want: missing},
		"not selected":                 {change: func(p *corev1.Pod, _ *corev1.Service) { p.Labels["app"] = "other" }},
		"not ready":                    {change: func(p *corev1.Pod, _ *corev1.Service) { p.Status.Conditions[0].Status = corev1.ConditionFalse }},
		"on its way out":               {change: func(p *corev1.Pod, _ *corev1.Service) { p.DeletionTimestamp = &metav1.Time{} }},
		"a service without a selector": {change: func(_ *corev1.Pod, s *corev1.Service) { s.Spec.Selector = nil }},
		"a service of the other family": {change: func(_ *corev1.Pod, s *corev1.Service) {
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
		}},
	} {
		p, s := *pod.DeepCopy(), *service.DeepCopy()
		if test.change != nil {
			test.change(&p, &s)
		}
		if got := unlisted([]corev1.Pod{p}, []corev1.Service{s}, test.list); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
