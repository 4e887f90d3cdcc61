package publish

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/control/inject"
)

func service(kind corev1.ServiceType, port, node int32) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{Type: kind, Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: port, NodePort: node}}}}
}

func pod(gateway bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{"app": "web"}}}
	if gateway {
		p.Annotations = map[string]string{inject.TemplatesAnnotation: "gateway"}
	}
	return p
}

func TestWhatIsPublished(t *testing.T) {
	for _, test := range []struct {
		name    string
		service *corev1.Service
		pods    []*corev1.Pod
		want    []uint16
	}{
		{"a ClusterIP is not", service(corev1.ServiceTypeClusterIP, 80, 0), []*corev1.Pod{pod(false)}, nil},
		{"a NodePort under its node port", service(corev1.ServiceTypeNodePort, 80, 30080), []*corev1.Pod{pod(false)}, []uint16{30080}},
		{"a LoadBalancer under both", service(corev1.ServiceTypeLoadBalancer, 80, 30080), []*corev1.Pod{pod(false)}, []uint16{80, 30080}},
		{"a gateway opens its ports itself", service(corev1.ServiceTypeLoadBalancer, 80, 30080), []*corev1.Pod{pod(true)}, nil},
		{"without pods it is not known yet whether it is one", service(corev1.ServiceTypeLoadBalancer, 80, 30080), nil, nil},
	} {
		got := wanted([]*corev1.Service{test.service}, test.pods, nil)
		if len(got) != len(test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
		for _, port := range test.want {
			if _, ok := got[key{"default/web", port}]; !ok {
				t.Errorf("%s: got %v, want port %d", test.name, got, port)
			}
		}
	}
}
