package deploy

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/transport"

	"github.com/mallamesh/malla/local/api"
)

// cluster is an API server with the controller at work and, in place of a
// kubelet, a goroutine that makes every pod ready at once.
type cluster struct {
	t      *testing.T
	client kubernetes.Interface
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	client := apiServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- New(client, slog.New(slog.DiscardHandler)).Run(ctx, informers.NewSharedInformerFactory(client, 0))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	c := &cluster{t, client}
	go c.kubelet(ctx)
	return c
}

// apiServer runs one, of which no controller knows, until the test ends.
func apiServer(t *testing.T, wrap ...transport.WrapperFunc) kubernetes.Interface {
	t.Helper()
	server, err := api.New(api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	config := server.Config()
	for _, w := range wrap {
		config.Wrap(w)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func (c *cluster) kubelet(ctx context.Context) {
	w, err := c.client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		p, ok := e.Object.(*corev1.Pod)
		switch {
		case !ok:
		case p.DeletionTimestamp != nil:
			zero := int64(0)
			_ = c.client.CoreV1().Pods("default").Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
		case p.Annotations["ready"] == "never" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		case p.Annotations["ends"] != "":
			p.Status.Phase = corev1.PodPhase(p.Annotations["ends"])
			_, _ = c.client.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{})
		case len(p.Status.Conditions) == 0:
			p.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}}
			_, _ = c.client.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{})
		}
	}
}

// until watches the Deployment until it is as wanted.
func (c *cluster) until(name string, done func(*appsv1.Deployment) bool) *appsv1.Deployment {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	w, err := c.client.AppsV1().Deployments("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		c.t.Fatal(err)
	}
	defer w.Stop()
	var last *appsv1.Deployment
	for e := range w.ResultChan() {
		if d, ok := e.Object.(*appsv1.Deployment); ok {
			if last = d; done(d) {
				return d
			}
		}
	}
	c.t.Fatalf("it never was so: %+v", last.Status)
	return nil
}

func settled(n int32) func(*appsv1.Deployment) bool {
	return func(d *appsv1.Deployment) bool {
		s := d.Status
		return s.ObservedGeneration == d.Generation && s.Replicas == n && s.UpdatedReplicas == n && s.AvailableReplicas == n
	}
}

func (c *cluster) pods() []corev1.Pod {
	c.t.Helper()
	list, err := c.client.CoreV1().Pods("default").List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return list.Items
}

func (c *cluster) deployment(n int32) *appsv1.Deployment {
	c.t.Helper()
	labels := map[string]string{"app": "web"}
	d, err := c.client.AppsV1().Deployments("default").Create(c.t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web:1"}}}}},
	}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return d
}

// change edits the Deployment as `kubectl edit` would.
func (c *cluster) change(edit func(*appsv1.Deployment)) {
	c.t.Helper()
	for {
		d, err := c.client.AppsV1().Deployments("default").Get(c.t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			c.t.Fatal(err)
		}
		edit(d)
		if _, err = c.client.AppsV1().Deployments("default").Update(c.t.Context(), d, metav1.UpdateOptions{}); err == nil {
			return
		}
	}
}

func TestPodsAreNamedAsInACluster(t *testing.T) {
	c := newCluster(t)
	c.deployment(2)
	c.until("web", settled(2))
	for _, p := range c.pods() {
		parts := strings.Split(p.Name, "-") // web-<hash>-<5>
		if len(parts) != 3 || parts[0] != "web" || parts[1] != p.Labels["pod-template-hash"] || len(parts[2]) != 5 {
			t.Errorf("pod %q of hash %q", p.Name, p.Labels["pod-template-hash"])
		}
	}
}

func TestRollout(t *testing.T) {
	c := newCluster(t)
	c.deployment(3)
	c.until("web", settled(3))
	first := c.pods()[0].Labels["pod-template-hash"]

	c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "web:2" })
	d := c.until("web", func(d *appsv1.Deployment) bool {
		return settled(3)(d) && d.Annotations[revision] == "2"
	})
	for _, p := range c.pods() {
		if p.Spec.Containers[0].Image != "web:2" {
			t.Errorf("pod %s still runs %s", p.Name, p.Spec.Containers[0].Image)
		}
	}
	for _, cond := range d.Status.Conditions {
		if cond.Status != corev1.ConditionTrue {
			t.Errorf("condition %s is %s: %s", cond.Type, cond.Status, cond.Message)
		}
	}

	// Back to the first template: the old ReplicaSet again, as revision 3.
	c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "web:1" })
	c.until("web", func(d *appsv1.Deployment) bool { return settled(3)(d) && d.Annotations[revision] == "3" })
	if got := c.pods()[0].Labels["pod-template-hash"]; got != first {
		t.Errorf("hash %s, want the first one's %s", got, first)
	}
}

func TestScaleAndPause(t *testing.T) {
	c := newCluster(t)
	c.deployment(1)
	c.until("web", settled(1))
	c.change(func(d *appsv1.Deployment) { n := int32(4); d.Spec.Replicas = &n })
	c.until("web", settled(4))
	c.change(func(d *appsv1.Deployment) { n := int32(0); d.Spec.Replicas = &n })
	c.until("web", settled(0))
	if n := len(c.pods()); n != 0 {
		t.Errorf("%d pods are left", n)
	}
	// A pause holds the new template back, and not the number.
	c.change(func(d *appsv1.Deployment) {
		n := int32(3)
		d.Spec.Paused, d.Spec.Replicas, d.Spec.Template.Spec.Containers[0].Image = true, &n, "other"
	})
	c.until("web", func(d *appsv1.Deployment) bool { return d.Status.Replicas == 3 && d.Status.AvailableReplicas == 3 })
	for _, p := range c.pods() {
		if p.Spec.Containers[0].Image == "other" {
			t.Errorf("%s has the new image while the rollout is paused", p.Name)
		}
	}
	c.change(func(d *appsv1.Deployment) { d.Spec.Paused = false })
	c.until("web", settled(3))
}

func TestDeletedPodIsReplaced(t *testing.T) {
	c := newCluster(t)
	c.deployment(1)
	c.until("web", settled(1))
	old := c.pods()[0].Name
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w, err := c.client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := c.client.CoreV1().Pods("default").Delete(t.Context(), old, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for range w.ResultChan() {
		if pods := c.pods(); len(pods) == 1 && pods[0].Name != old && ready(&pods[0]) {
			return
		}
	}
	t.Errorf("pods %v", c.pods())
}

func TestRecreateNeverRunsTwoVersions(t *testing.T) {
	c := newCluster(t)
	c.deployment(2)
	c.change(func(d *appsv1.Deployment) {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	})
	c.until("web", settled(2))
	w, err := c.client.CoreV1().Pods("default").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.change(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "web:2" })
	c.until("web", func(d *appsv1.Deployment) bool { return settled(2)(d) && d.Annotations[revision] == "2" })
	w.Stop()
	alive := map[string]string{}
	for e := range w.ResultChan() {
		p, ok := e.Object.(*corev1.Pod)
		if !ok {
			continue
		}
		alive[p.Name] = p.Spec.Containers[0].Image
		if e.Type == "DELETED" {
			delete(alive, p.Name)
		}
		images := map[string]bool{}
		for _, i := range alive {
			images[i] = true
		}
		if len(images) > 1 {
			t.Errorf("two versions at once: %v", alive)
		}
	}
}
