package endpoints

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/mallamesh/malla/local/api"
)

// The slices follow the pods at once: between the steps of this story no time passes.
func TestSlicesFollowPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		s := service(func(s *corev1.Service) { s.UID = ""; s.Spec.Selector = map[string]string{"app": "web"} })
		_, err = client.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{})
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
