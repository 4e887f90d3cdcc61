package deploy

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
)

// enoughPods is how many pods may be tried: a loop without a pause would not let fake time go on, and the test would hang.
const enoughPods = 500

// A limit counts pods that somebody creates, and calls stop when they are too many.
type limit struct {
	next http.RoundTripper
	pods atomic.Int64
	stop func()
}

func (l *limit) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/pods") && l.pods.Add(1) > enoughPods {
		l.stop()
	}
	return l.next.RoundTrip(r)
}

// Pods whose service account is not there are tried again at growing intervals, and at once when it comes.
func TestPodsThatCannotBeMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		hot := &limit{stop: cancel}
		client := apiServer(t, func(next http.RoundTripper) http.RoundTripper { hot.next = next; return hot })
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
		c := &cluster{t, client}
		c.deployment(1)
		c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.ServiceAccountName = "late" })
		time.Sleep(8 * time.Second)

		if n := hot.pods.Load(); n > enoughPods {
			t.Fatalf("%d pods were tried in no time", n)
		}
		events, err := client.CoreV1().Events("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		tries := 0
		for _, e := range events.Items {
			if e.Reason == "FailedCreate" {
				tries++
			}
		}
		if tries < 5 || tries > 20 {
			t.Errorf("%d tries in eight seconds", tries)
		}
		d, err := client.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		why := ""
		for _, c := range d.Status.Conditions {
			if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
				why = c.Message
			}
		}
		if !strings.HasSuffix(why, `-" is forbidden: error looking up service account default/late: serviceaccount "late" not found`) {
			t.Errorf("the Deployment says %q", why)
		}

		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "late"}}
		if _, err := client.CoreV1().ServiceAccounts("default").Create(ctx, account, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		made := 0
		for _, p := range c.pods() {
			if p.Spec.ServiceAccountName == "late" {
				made++
			}
		}
		if made != 1 {
			t.Errorf("%d pods with the account, in no time", made)
		}
	})
}
