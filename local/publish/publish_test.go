package publish

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"k8s.io/client-go/kubernetes"

	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/local/api"
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

func TestLoadBalancerHasAnAddress(t *testing.T) {
	server, err := api.New(api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := kubernetes.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	services := client.CoreV1().Services("default")
	made, err := services.Create(t.Context(), service(corev1.ServiceTypeLoadBalancer, 80, 0), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := name(t.Context(), client, made); err != nil {
		t.Fatal(err)
	}
	got, err := services.Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || len(got.Status.LoadBalancer.Ingress) != 1 || got.Status.LoadBalancer.Ingress[0].IP != "127.0.0.1" {
		t.Errorf("status %+v, %v; want 127.0.0.1, where people's scripts look for it", got.Status, err)
	}
}
