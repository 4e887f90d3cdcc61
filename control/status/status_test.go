package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/mallamesh/malla/config/source/kube"
)

var (
	rules = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}
	vs    = kube.ID{Kind: "VirtualService", Namespace: "prod", Name: "web"}
	mesh  = kube.ID{Kind: "ConfigMap", Namespace: "istio-system", Name: "istio"}
	wrong = Finding{Reason: "NotFound", Code: "IST0101", Text: "spec.host: no such host"}
)

// A cluster is an API server with one VirtualService, and what a source saw of it.
type cluster struct {
	mu      sync.Mutex
	stand   kube.Standing
	writes  int
	refuse  func() error // asked before a write
	dynamic *dynamicfake.FakeDynamicClient
	events  *fake.Clientset
}

func newCluster() *cluster {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
		"metadata": map[string]any{"name": "web", "namespace": "prod", "uid": "u1", "resourceVersion": "1", "generation": int64(1)}}}
	c := &cluster{stand: kube.Standing{UID: "u1", Version: "1", Generation: 1}, events: fake.NewClientset()}
	c.dynamic = dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{rules: "VirtualServiceList"}, u)
	c.dynamic.PrependReactor("patch", "virtualservices", func(clienttesting.Action) (bool, runtime.Object, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.writes++
		if c.refuse != nil {
			if err := c.refuse(); err != nil {
				return true, nil, err
			}
		}
		return false, nil, nil
	})
	return c
}

func (c *cluster) Standing(id kube.ID) (kube.Standing, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stand, id == vs
}

func (c *cluster) Standings() map[kube.ID]kube.Standing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return map[kube.ID]kube.Standing{vs: c.stand}
}

func (c *cluster) Resource(string) (schema.GroupVersionResource, bool) { return rules, true }

// see brings what the server has to the source.
func (c *cluster) see(t *testing.T) string {
	t.Helper()
	u, err := c.dynamic.Resource(rules).Namespace("prod").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	status, _ := u.Object["status"].(map[string]any)
	c.stand.Status = status
	message, _ := condition(status)["message"].(string)
	return message
}

func (c *cluster) told(t *testing.T) string {
	t.Helper()
	list, err := c.events.CoreV1().Events("istio-system").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list.Items {
		out = append(out, e.InvolvedObject.Name+": "+e.Message)
	}
	return strings.Join(out, "\n")
}

func (c *cluster) writer() *Writer {
	return New(Options{Objects: c, Client: c.dynamic, Events: c.events.CoreV1(), Log: slog.New(slog.DiscardHandler)})
}

// run starts a writer; end stops it.
func run(w *Writer) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	return func() { cancel(); <-done }
}

func want(generation int64, f ...Finding) map[kube.ID]Wanted {
	return map[kube.ID]Wanted{vs: {UID: "u1", Generation: generation, Findings: f}}
}

func TestFindingsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		w := c.writer()
		defer run(w)()
		settle := func() { time.Sleep(time.Second); synctest.Wait() }
		w.Set(map[kube.ID]Wanted{})
		settle()
		if c.writes != 0 {
			t.Errorf("%d writes about an object that is right", c.writes)
		}
		w.Set(want(1, wrong))
		settle()
		if got := c.see(t); got != wrong.Text || c.writes != 1 {
			t.Errorf("shows %q after %d writes", got, c.writes)
		}
		for range 10 { // every build of the mesh tells the same again
			w.Set(want(1, wrong))
			settle()
		}
		if c.writes != 1 {
			t.Errorf("%d writes of one finding", c.writes)
		}
		w.Set(nil)
		settle()
		if got := c.see(t); got != "" || c.stand.Status != nil {
			t.Errorf("mended, but shows %q: %v", got, c.stand.Status)
		}
		time.Sleep(time.Hour)
		if c.writes != 2 {
			t.Errorf("%d writes, want 2", c.writes)
		}
	})
}

// A control plane that starts anew knows what its predecessor wrote: what holds is not
// written again, though it may be mended soon; what does not goes.
func TestRestartDoesNotFlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		settings := map[kube.ID]Wanted{mesh: {UID: "u2", Findings: []Finding{{Reason: "Invalid", Text: "data.mesh: wrong"}}}}
		all := want(1, wrong)
		maps.Copy(all, settings)
		w := c.writer()
		end := run(w)
		w.Set(all)
		time.Sleep(time.Second)
		end()
		c.see(t)
		for range 3 {
			w := c.writer()
			end := run(w)
			soon := wrong
			soon.Pending = true
			first := want(1, soon)
			maps.Copy(first, settings)
			w.Set(first)
			time.Sleep(time.Second)
			w.Set(all)
			time.Sleep(time.Second)
			end()
		}
		if got := c.see(t); got != wrong.Text || c.writes != 1 {
			t.Errorf("shows %q after %d writes, want one", got, c.writes)
		}
		if got := c.told(t); got != "istio: data.mesh: wrong" {
			t.Errorf("events %q", got)
		}
		w = c.writer()
		end = run(w)
		w.Set(map[kube.ID]Wanted{})
		time.Sleep(time.Second)
		end()
		if got := c.see(t) + c.told(t); got != "" {
			t.Errorf("mended while nobody was there, but %q", got)
		}
	})
}

// An event that has run out is made again while its cause lasts.
func TestEventsAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		w := c.writer()
		defer run(w)()
		w.Set(map[kube.ID]Wanted{mesh: {UID: "u2", Findings: []Finding{wrong}}})
		time.Sleep(time.Second)
		list, _ := c.events.CoreV1().Events("istio-system").List(t.Context(), metav1.ListOptions{})
		if len(list.Items) != 1 || list.Items[0].Type != corev1.EventTypeWarning || list.Items[0].InvolvedObject.UID != "u2" {
			t.Fatalf("events %+v", list.Items)
		}
		if err := c.events.CoreV1().Events("istio-system").Delete(t.Context(), list.Items[0].Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * resyncEvery)
		if got := c.told(t); got != "istio: "+wrong.Text {
			t.Errorf("events %q", got)
		}
	})
}

// What cannot be written is tried again, ever more rarely, and in the end is there.
func TestRefusedWritesBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		refuse := func(err error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.refuse = func() error { return err }
		}
		tries := func() int {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.writes
		}
		refuse(errors.New("no"))
		w := c.writer()
		defer run(w)()
		w.Set(want(1, wrong))
		time.Sleep(10 * time.Minute)
		if n := tries(); n < 10 || n > 30 {
			t.Errorf("%d tries in ten minutes, want some 20", n)
		}
		refuse(apierrors.NewConflict(rules.GroupResource(), "web", fmt.Errorf("stale")))
		time.Sleep(2 * lastRetry)
		refuse(nil)
		time.Sleep(2 * lastRetry)
		if got := c.see(t); got != wrong.Text {
			t.Errorf("shows %q", got)
		}
	})
}
