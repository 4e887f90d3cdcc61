package api_test

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/mallamesh/malla/local/api"
)

// start returns a server in memory and a client of it.
func start(t *testing.T, o api.Options) (*api.Server, *kubernetes.Clientset) {
	t.Helper()
	s, err := api.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, clientOf(t, s)
}

func clientOf(t testing.TB, s *api.Server) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Data: map[string]string{"k": value}}
}

// within returns a context that ends a stuck test.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestInformerSeesChangesInOrder(t *testing.T) {
	_, c := start(t, api.Options{})
	ctx := within(t)
	if _, err := c.CoreV1().ConfigMaps("default").Create(ctx, configMap("before", "0"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f := informers.NewSharedInformerFactory(c, 0)
	seen := make(chan string, 100)
	inf := f.Core().V1().ConfigMaps().Informer()
	inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) {
			if cm := o.(*corev1.ConfigMap); cm.Name != "kube-root-ca.crt" {
				seen <- "add " + cm.Name + " " + cm.Data["k"]
			}
		},
		UpdateFunc: func(_, o any) { cm := o.(*corev1.ConfigMap); seen <- "update " + cm.Name + " " + cm.Data["k"] },
		DeleteFunc: func(o any) { seen <- "delete " + o.(*corev1.ConfigMap).Name },
	})
	f.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), inf.HasSynced) {
		t.Fatal("the informer did not sync")
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-seen:
			if got != want {
				t.Fatalf("saw %q, want %q", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("waited in vain for %q", want)
		}
	}
	expect("add before 0")
	cms := c.CoreV1().ConfigMaps("default")
	if _, err := cms.Create(ctx, configMap("a", "1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("add a 1")
	if _, err := cms.Update(ctx, configMap("a", "2"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("update a 2")
	if err := cms.Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("delete a")
}
