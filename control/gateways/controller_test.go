package gateways

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/mallamesh/malla/compile/gatewayapi"
	"github.com/mallamesh/malla/model"
)

func edge(class string, ports ...uint16) Picture {
	w := Wanted{UID: "u1", Deployment: gatewayapi.Deployment{
		Gateway: model.Ref{Kind: "Gateway", Namespace: "prod", Name: "edge"}, Class: class, Name: "edge-" + class, ServiceType: "LoadBalancer",
		Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"malla.dev/source": "edge.yaml:1", "example.com/x": "y"},
	}}
	for _, p := range ports {
		w.Ports = append(w.Ports, gatewayapi.Port{Name: "http-" + string(rune('a'+p%26)), Number: p})
	}
	return Picture{Gateways: []Wanted{w}, Classes: map[model.Name]string{{Namespace: "prod", Name: "edge"}: class}}
}

// in runs a controller in a world of fake time, with a cluster that holds some objects.
func in(t *testing.T, objects []runtime.Object, f func(ctx context.Context, c *Controller, client *fake.Clientset)) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(objects...)
		c := New(Options{Client: client, Root: "istio-system", Log: slog.New(slog.DiscardHandler),
			Objects: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
				{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gatewayclasses"}: "GatewayClassList"})})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		f(ctx, c, client)
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
}

// settle lets the controller come to rest.
func settle() { time.Sleep(5 * time.Second) } // of fake time

func names(t *testing.T, client *fake.Clientset) (out []string) {
	t.Helper()
	ds, err := client.AppsV1().Deployments("prod").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range ds.Items {
		out = append(out, "Deployment "+d.Name)
	}
	ss, _ := client.CoreV1().Services("prod").List(t.Context(), metav1.ListOptions{})
	for _, s := range ss.Items {
		out = append(out, "Service "+s.Name)
	}
	as, _ := client.CoreV1().ServiceAccounts("prod").List(t.Context(), metav1.ListOptions{})
	for _, a := range as.Items {
		out = append(out, "ServiceAccount "+a.Name)
	}
	slices.Sort(out)
	return out
}

func TestAGatewayGetsItsWorkload(t *testing.T) {
	in(t, nil, func(ctx context.Context, c *Controller, client *fake.Clientset) {
		c.Set(edge("istio", 80))
		settle()
		if got := names(t, client); !slices.Equal(got, []string{"Deployment edge-istio", "Service edge-istio", "ServiceAccount edge-istio"}) {
			t.Fatalf("made: %v", got)
		}
		d, _ := client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
		pod := d.Spec.Template
		if pod.Labels[NameLabel] != "edge" || pod.Labels[ClassLabel] != "istio" || pod.Labels["team"] != "a" || pod.Annotations["inject.istio.io/templates"] != "gateway" ||
			pod.Spec.ServiceAccountName != "edge-istio" || d.OwnerReferences[0].UID != "u1" {
			t.Errorf("the Deployment: %+v", d)
		}
		if d.Annotations["malla.dev/source"] != "" || d.Annotations["example.com/x"] != "y" {
			t.Errorf("the Deployment's annotations: %v", d.Annotations)
		}

		// Ports change without a new pod; what the server gave the Service stays, and so does what people did.
		s, _ := client.CoreV1().Services("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
		s.Spec.ClusterIP, s.Spec.Ports[1].NodePort = "10.96.0.7", 30001
		client.CoreV1().Services("prod").Update(ctx, s, metav1.UpdateOptions{})
		three := int32(3)
		d.Spec.Replicas = &three
		client.AppsV1().Deployments("prod").Update(ctx, d, metav1.UpdateOptions{})
		settle() // a real server answers Conflict to who has not seen that yet; this one would take it
		c.Set(edge("istio", 80, 443))
		settle()
		s, _ = client.CoreV1().Services("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
		var numbers []int32
		for _, p := range s.Spec.Ports {
			numbers = append(numbers, p.Port)
		}
		if !slices.Equal(numbers, []int32{15021, 80, 443}) || s.Spec.ClusterIP != "10.96.0.7" || s.Spec.Ports[1].NodePort != 30001 {
			t.Errorf("the Service after a new listener: %+v", s.Spec)
		}
		after, _ := client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
		if *after.Spec.Replicas != 3 || !maps.Equal(after.Spec.Template.Annotations, pod.Annotations) {
			t.Errorf("the Deployment after a new listener: %+v", after.Spec)
		}

		// Who deletes it gets it back; another class takes it away.
		client.AppsV1().Deployments("prod").Delete(ctx, "edge-istio", metav1.DeleteOptions{})
		settle()
		if got := names(t, client); len(got) != 3 {
			t.Errorf("after the Deployment was deleted: %v", got)
		}
		c.Set(edge("malla", 80))
		settle()
		if got := names(t, client); !slices.Equal(got, []string{"Deployment edge-malla", "Service edge-malla", "ServiceAccount edge-malla"}) {
			t.Errorf("of another class: %v", got)
		}
	})
}

// A restart that somebody asked for is not undone when the Gateway changes, nor is it done twice.
func TestARestartStays(t *testing.T) {
	in(t, nil, func(ctx context.Context, c *Controller, client *fake.Clientset) {
		c.Set(edge("istio", 80))
		settle()
		d, _ := client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
		d.Spec.Template.Annotations[restartedAt] = "2026-01-01T00:00:00Z"
		client.AppsV1().Deployments("prod").Update(ctx, d, metav1.UpdateOptions{})
		settle()
		next := edge("istio", 80)
		next.Gateways[0].Annotations["example.com/x"] = "z"
		c.Set(next)
		settle()
		d, _ = client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
		if a := d.Spec.Template.Annotations; a[restartedAt] != "2026-01-01T00:00:00Z" || a["example.com/x"] != "z" {
			t.Errorf("the pods' annotations: %v", a)
		}
	})
}

// The address that a Gateway names is what its load balancer is asked for, as long as it names it; one that
// somebody else asked for stays.
func TestAnAddressIsAskedFor(t *testing.T) {
	in(t, nil, func(ctx context.Context, c *Controller, client *fake.Clientset) {
		asks := func(address string) string {
			p := edge("istio", 80)
			p.Gateways[0].Address = address
			c.Set(p)
			settle()
			s, _ := client.CoreV1().Services("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
			return s.Spec.LoadBalancerIP
		}
		for _, address := range []string{"192.0.2.7", "192.0.2.8", ""} {
			if got := asks(address); got != address {
				t.Errorf("the Service of a Gateway with the address %q asks for %q", address, got)
			}
		}
		s, _ := client.CoreV1().Services("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
		s.Spec.LoadBalancerIP = "192.0.2.9"
		client.CoreV1().Services("prod").Update(ctx, s, metav1.UpdateOptions{})
		settle()
		c.Set(edge("istio", 80, 443))
		settle()
		if s, _ = client.CoreV1().Services("prod").Get(ctx, "edge-istio", metav1.GetOptions{}); s.Spec.LoadBalancerIP != "192.0.2.9" {
			t.Errorf("what somebody asked for is now %q", s.Spec.LoadBalancerIP)
		}
	})
}

// Who has a Gateway served by pods of his own has no use for those that were made for it.
func TestOthersPodsTakeThePlaceOfOurs(t *testing.T) {
	in(t, nil, func(ctx context.Context, c *Controller, client *fake.Clientset) {
		c.Set(edge("istio", 80))
		settle()
		c.Set(Picture{Classes: map[model.Name]string{{Namespace: "prod", Name: "edge"}: ""}})
		settle()
		if got := names(t, client); len(got) != 0 {
			t.Errorf("there is still %v", got)
		}
	})
}

func TestWhatSomebodyElseMadeIsLeftAlone(t *testing.T) {
	theirs := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "edge-istio", Labels: map[string]string{"by": "hand"}}}
	in(t, []runtime.Object{theirs}, func(ctx context.Context, c *Controller, client *fake.Clientset) {
		c.Set(edge("istio", 80))
		settle()
		d, _ := client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
		if !maps.Equal(d.Labels, theirs.Labels) {
			t.Errorf("their Deployment: %v", d.Labels)
		}
	})
}

func TestDefaultsOfAClass(t *testing.T) {
	defaults := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "small", Labels: map[string]string{DefaultsLabel: "istio"}},
		Data: map[string]string{"service": "spec: {type: ClusterIP}", "deployment": "spec: {replicas: 2}"}}
	in(t, []runtime.Object{defaults}, func(ctx context.Context, c *Controller, client *fake.Clientset) {
		c.Set(edge("istio", 80))
		settle()
		s, err := client.CoreV1().Services("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
		if err != nil || s.Spec.Type != corev1.ServiceTypeClusterIP || len(s.Spec.Ports) != 2 {
			t.Errorf("the Service: %+v, %v", s.Spec, err)
		}
		d, err := client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
		if err != nil || d.Spec.Replicas == nil || *d.Spec.Replicas != 2 {
			t.Errorf("the Deployment: %+v, %v", d, err)
		}

		// Other defaults hold for what is there already, without owners too.
		cm := defaults.DeepCopy()
		cm.Data["service"] = "{metadata: {ownerReferences: null}, spec: {externalTrafficPolicy: Local, loadBalancerSourceRanges: [10.0.0.0/8]}}"
		client.CoreV1().ConfigMaps("istio-system").Update(ctx, cm, metav1.UpdateOptions{})
		settle()
		s, err = client.CoreV1().Services("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
		if err != nil || s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal || len(s.Spec.LoadBalancerSourceRanges) != 1 || len(s.Spec.Ports) != 2 {
			t.Errorf("the Service with other defaults: %+v, %v", s.Spec, err)
		}
		own := edge("istio", 80)
		own.Gateways[0].ClassPatches = map[string]string{"deployment": "spec: {replicas: 3}"} // what the class names beats what is labelled
		c.Set(own)
		settle()
		if d, err = client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{}); err != nil || *d.Spec.Replicas != 3 {
			t.Errorf("the Deployment with parameters of the class: %+v, %v", d, err)
		}
		own = edge("istio", 80)
		own.Gateways[0].ClassPatches = map[string]string{"deployment": "spec: {replicas: 3}"}
		own.Gateways[0].Patches = map[string]string{"deployment": "spec: {replicas: 4}"} // its own parameters come last
		c.Set(own)
		settle()
		if d, err = client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{}); err != nil || *d.Spec.Replicas != 4 {
			t.Errorf("the Deployment with parameters of the Gateway: %+v, %v", d, err)
		}
	})
}

func TestClassesAreThere(t *testing.T) {
	if got := MissingClasses([]string{"istio", "nginx"}); !slices.Equal(got, []string{"malla"}) {
		t.Errorf("missing beside istio: %v", got)
	}
	in(t, nil, func(ctx context.Context, c *Controller, _ *fake.Clientset) {
		c.Set(Picture{Missing: MissingClasses(nil)})
		settle()
		list, err := c.o.Objects.Resource(gatewayClasses).List(ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) != 2 {
			t.Fatalf("GatewayClasses: %v, %v", list, err)
		}
		for _, u := range list.Items { // istiod leaves alone what is not its own
			if name, _, _ := unstructured.NestedString(u.Object, "spec", "controllerName"); name != gatewayapi.Controller {
				t.Errorf("GatewayClass %s is of %s", u.GetName(), name)
			}
		}
	})
}

var gatewayClasses = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "gatewayclasses"}

// Who makes a GatewayClass first has it: one that another controller made, when the picture was taken already, stays
// as it is.
func TestTheFirstHasTheClass(t *testing.T) {
	in(t, nil, func(ctx context.Context, c *Controller, _ *fake.Clientset) {
		missing := MissingClasses(nil)
		theirs := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
			"metadata": map[string]any{"name": "istio"}, "spec": map[string]any{"controllerName": "istio.io/gateway-controller"}}}
		if _, err := c.o.Objects.Resource(gatewayClasses).Create(ctx, theirs, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.Set(Picture{Missing: missing})
		settle()
		u, err := c.o.Objects.Resource(gatewayClasses).Get(ctx, "istio", metav1.GetOptions{})
		if name, _, _ := unstructured.NestedString(u.Object, "spec", "controllerName"); err != nil || name != "istio.io/gateway-controller" {
			t.Errorf("it is of %s now, %v", name, err)
		}
		if _, err := c.o.Objects.Resource(gatewayClasses).Get(ctx, "malla", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// What istiod made carries the same labels. It goes, or is written, only when its Gateway is of a class of ours.
func TestWhatIstiodMadeIsItsOwn(t *testing.T) {
	theirs := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "edge-istio", Labels: map[string]string{ManagedLabel: managed, NameLabel: "edge"}}}
	in(t, []runtime.Object{theirs}, func(ctx context.Context, c *Controller, client *fake.Clientset) {
		c.Set(Picture{Classes: map[model.Name]string{{Namespace: "prod", Name: "edge"}: "istio"}})
		settle()
		if d, err := client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{}); err != nil || len(d.Annotations) > 0 {
			t.Errorf("their Deployment: %v, %v", d, err)
		}
		c.Set(edge("istio", 80))
		settle()
		if d, err := client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{}); err != nil || d.Annotations[madeOf] == "" {
			t.Errorf("the Deployment of a Gateway that is ours now: %v, %v", d, err)
		}
	})
}

// Two control planes at once, of which one makes the same Gateway into something else, as in an update: the newer has
// its way, and after that nobody writes.
func TestTheNewestControlPlaneHasItsWay(t *testing.T) {
	in(t, nil, func(ctx context.Context, c *Controller, client *fake.Clientset) {
		c.Set(edge("istio", 80))
		settle()
		for _, test := range []struct{ made, want string }{
			{"99:newer", "99:newer"},
			{"0:older", ""},
			{"somehow", ""},
		} {
			d, _ := client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
			ours := d.Annotations[madeOf]
			d.Annotations[madeOf] = test.made
			client.AppsV1().Deployments("prod").Update(ctx, d, metav1.UpdateOptions{})
			settle()
			d, _ = client.AppsV1().Deployments("prod").Get(ctx, "edge-istio", metav1.GetOptions{})
			if want := cmp.Or(test.want, d.Annotations[madeOf]); d.Annotations[madeOf] != want || test.want == "" && d.Annotations[madeOf] == test.made {
				t.Errorf("made of %s: it is %s then, was %s", test.made, d.Annotations[madeOf], ours)
			}
		}
	})
}
