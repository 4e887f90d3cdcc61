package pods

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// at is an endpoint in a state: ready, ending (it still serves), or starting.
func at(ip, state string) discoveryv1.Endpoint {
	yes, no := true, false
	e := discoveryv1.Endpoint{Addresses: []string{ip}}
	switch state {
	case "ready":
		e.Conditions = discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no}
	case "ending":
		e.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes}
	default:
		e.Conditions = discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &no}
	}
	return e
}

func sliceOf(service string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	name, port := "http", int32(8080)
	return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}, Endpoints: endpoints}
}

func TestWhatAClusterIPStandsFor(t *testing.T) {
	web := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.1.1"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	for _, test := range []struct {
		name string
		set  *discoveryv1.EndpointSlice
		want string
	}{
		{"the ready ones", sliceOf("web", at("10.244.0.2", "ready"), at("10.244.0.1", "ready"), at("10.244.0.3", "starting")), "[10.244.0.1:8080 10.244.0.2:8080]"},
		{"not those that end", sliceOf("web", at("10.244.0.1", "ready"), at("10.244.0.2", "ending")), "[10.244.0.1:8080]"},
		{"unless there is no other", sliceOf("web", at("10.244.0.2", "ending"), at("10.244.0.3", "starting")), "[10.244.0.2:8080]"},
		{"none", sliceOf("web", at("10.244.0.3", "starting")), "[]"},
		{"not another service's", sliceOf("db", at("10.244.0.3", "ready")), "[]"},
	} {
		table, names := Tables([]*corev1.Service{web}, []*discoveryv1.EndpointSlice{test.set})
		if got := fmt.Sprint(table[0].Ports[0].Endpoints); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
		if got := fmt.Sprint(names["web.default.svc.cluster.local"].Addrs); got != "[10.96.1.1]" {
			t.Errorf("its name stands for %s", got)
		}
	}
}

func TestNames(t *testing.T) {
	headless := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db"}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}}
	external := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "out"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}}
	one := at("10.244.0.1", "ready")
	host := "db-0"
	one.Hostname = &host
	table, names := Tables([]*corev1.Service{headless, external}, []*discoveryv1.EndpointSlice{sliceOf("db", one, at("10.244.0.2", "ready"), at("10.244.0.3", "starting"))})
	if len(table) != 0 {
		t.Errorf("got ClusterIPs: %v", table)
	}
	for name, want := range map[string]string{
		"db.default.svc.cluster.local":      "[10.244.0.1 10.244.0.2]",
		"db-0.db.default.svc.cluster.local": "[10.244.0.1]",
	} {
		if got := fmt.Sprint(names[name].Addrs); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if got := names["out.default.svc.cluster.local"].CNAME; got != "example.com" {
		t.Errorf("ExternalName: got %q", got)
	}
}
