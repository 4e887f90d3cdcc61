package endpoints

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/mallamesh/malla/local/api"
)

// running is a controller at work, in a bubble of synctest.
func running(t *testing.T) (context.Context, kubernetes.Interface) {
	server, err := api.New(api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	client, err := kubernetes.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactory(client, 0)
	ended := make(chan error, 1)
	go func() { ended <- New(client, slog.New(slog.DiscardHandler)).Run(ctx, factory) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		factory.Shutdown()
	})
	time.Sleep(time.Second) // the caches fill
	return ctx, client
}

// The slices follow the pods at once, and so do the Endpoints: between the steps of this story no time passes.
func TestSlicesFollowPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, client := running(t)
		want := func(step, want string) {
			t.Helper()
			synctest.Wait()
			list, err := client.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, s := range list.Items {
				for _, e := range s.Endpoints {
					got += e.Addresses[0]
					if !*e.Conditions.Ready {
						got += " not ready"
					}
					got += ";"
				}
			}
			if got != want {
				t.Errorf("%s: got %q, want %q", step, got, want)
			}
			old, err := client.CoreV1().Endpoints("default").Get(ctx, "web", metav1.GetOptions{})
			if step == "no service" {
				if !apierrors.IsNotFound(err) {
					t.Errorf("%s: the Endpoints are still there: %v", step, err)
				}
				return
			}
			if want = strings.ReplaceAll(want, ";", ":8080;"); step == "on its way out" {
				want = "" // Endpoints do not know of it any more
			}
			if got := oldText(old); err != nil || got != want {
				t.Errorf("%s: Endpoints %q (%v), want %q", step, got, err, want)
			}
		}
		must := func(err error) { t.Helper(); check(t, err) }
		s := service(func(s *corev1.Service) { s.UID = ""; s.Spec.Selector = map[string]string{"app": "web"} })
		_, err := client.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{})
		must(err)
		want("no pods", "")

		p, err := client.CoreV1().Pods("default").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default", Labels: map[string]string{"app": "web"}},
			Spec: corev1.PodSpec{NodeName: "malla", Containers: []corev1.Container{{Name: "c", Image: "i"}}}}, metav1.CreateOptions{})
		must(err)
		want("a pod without an address", "")

		state := func(ready corev1.ConditionStatus) {
			p.Status.PodIPs = []corev1.PodIP{{IP: "10.244.0.20"}}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
			p, err = client.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{})
			must(err)
		}
		state(corev1.ConditionFalse)
		want("starting", "10.244.0.20 not ready;")
		state(corev1.ConditionTrue)
		want("ready", "10.244.0.20;")

		p.Labels = map[string]string{"app": "other"}
		p, err = client.CoreV1().Pods("default").Update(ctx, p, metav1.UpdateOptions{})
		must(err)
		want("no longer selected", "")
		p.Labels = map[string]string{"app": "web"}
		p, err = client.CoreV1().Pods("default").Update(ctx, p, metav1.UpdateOptions{})
		must(err)
		want("selected again", "10.244.0.20;")

		must(client.CoreV1().Pods("default").Delete(ctx, "a", metav1.DeleteOptions{}))
		want("on its way out", "10.244.0.20 not ready;")
		zero := int64(0)
		must(client.CoreV1().Pods("default").Delete(ctx, "a", metav1.DeleteOptions{GracePeriodSeconds: &zero}))
		want("gone", "")

		must(client.CoreV1().Services("default").Delete(ctx, "web", metav1.DeleteOptions{}))
		want("no service", "")
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func oldText(e *corev1.Endpoints) (text string) {
	for _, set := range e.Subsets {
		for _, a := range set.Addresses {
			text += fmt.Sprintf("%s:%d;", a.IP, set.Ports[0].Port)
		}
		for _, a := range set.NotReadyAddresses {
			text += fmt.Sprintf("%s not ready:%d;", a.IP, set.Ports[0].Port)
		}
	}
	return text
}

// What somebody writes of Endpoints for a service that selects no pods is what its slices say.
func TestEndpointsOfAServiceWithoutASelector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, client := running(t)
		want := func(step, want string) {
			t.Helper()
			synctest.Wait()
			list, err := client.DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
			check(t, err)
			var lines []string
			for _, s := range list.Items {
				lines = append(lines, fmt.Sprint(s.AddressType, " ", *s.Ports[0].Name, "=", *s.Ports[0].Port))
				for _, e := range s.Endpoints {
					lines[len(lines)-1] += fmt.Sprint(" ", e.Addresses[0], " ", *e.Conditions.Ready)
				}
			}
			slices.Sort(lines)
			if got := strings.Join(lines, "; "); got != want {
				t.Errorf("%s: got %q, want %q", step, got, want)
			}
		}
		s := service(func(s *corev1.Service) { s.UID = "" })
		_, err := client.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{})
		check(t, err)
		e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Subsets: []corev1.EndpointSubset{{
			Addresses:         []corev1.EndpointAddress{{IP: "10.9.0.1"}, {IP: "2001:db8::1"}},
			NotReadyAddresses: []corev1.EndpointAddress{{IP: "10.9.0.2"}},
			Ports:             []corev1.EndpointPort{{Name: "http", Port: 8080}},
		}}}
		e, err = client.CoreV1().Endpoints("default").Create(ctx, e, metav1.CreateOptions{})
		check(t, err)
		want("written", "IPv4 http=8080 10.9.0.1 true 10.9.0.2 false; IPv6 http=8080 2001:db8::1 true")

		e.Subsets[0].Addresses = e.Subsets[0].Addresses[:1]
		e.Subsets[0].Ports[0].Port = 81
		e, err = client.CoreV1().Endpoints("default").Update(ctx, e, metav1.UpdateOptions{})
		check(t, err)
		want("changed", "IPv4 http=81 10.9.0.1 true 10.9.0.2 false")

		e.Labels = map[string]string{"endpointslice.kubernetes.io/skip-mirror": "true"}
		e, err = client.CoreV1().Endpoints("default").Update(ctx, e, metav1.UpdateOptions{})
		check(t, err)
		want("not to be repeated", "")
		e.Labels = nil
		_, err = client.CoreV1().Endpoints("default").Update(ctx, e, metav1.UpdateOptions{})
		check(t, err)
		want("again", "IPv4 http=81 10.9.0.1 true 10.9.0.2 false")

		check(t, client.CoreV1().Endpoints("default").Delete(ctx, "web", metav1.DeleteOptions{}))
		want("deleted", "")
	})
}
