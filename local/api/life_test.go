package api_test

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/mallamesh/malla/local/api"
)

// awaitGone waits until a ConfigMap is deleted, which it must be after version.
func awaitGone(t *testing.T, c kubernetes.Interface, ns, name, version string) {
	t.Helper()
	w, err := c.CoreV1().ConfigMaps(ns).Watch(within(t), metav1.ListOptions{ResourceVersion: version,
		FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if e.Type == watch.Deleted {
			return
		}
	}
	t.Fatalf("%s/%s is not deleted", ns, name)
}

func owned(name string, owner metav1.Object) *corev1.ConfigMap {
	cm := configMap(name, "")
	block := true
	cm.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: owner.GetName(), UID: owner.GetUID(), BlockOwnerDeletion: &block}}
	return cm
}

func TestDependentsGoWithTheirOwner(t *testing.T) {
	_, c := start(t, api.Options{})
	ds, cms := c.AppsV1().Deployments("default"), c.CoreV1().ConfigMaps("default")
	d := make1(t, ds.Create, deployment("web"))
	cm := make1(t, cms.Create, owned("a", d))
	if err := ds.Delete(within(t), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, c, "default", "a", cm.ResourceVersion)
	// One whose owner is gone before it comes does not stay.
	late := make1(t, cms.Create, owned("late", d))
	awaitGone(t, c, "default", "late", late.ResourceVersion)
}

func TestForegroundDeletionWaitsForDependents(t *testing.T) {
	_, c := start(t, api.Options{})
	ds, cms := c.AppsV1().Deployments("default"), c.CoreV1().ConfigMaps("default")
	d := make1(t, ds.Create, deployment("web"))
	held := owned("held", d)
	held.Finalizers = []string{"example.com/hold"}
	held = make1(t, cms.Create, held)
	w, err := ds.Watch(within(t), metav1.ListOptions{ResourceVersion: d.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	policy := metav1.DeletePropagationForeground
	if err := ds.Delete(within(t), "web", metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		t.Fatal(err)
	}
	if e := <-w.ResultChan(); e.Type != watch.Modified || e.Object.(*appsv1.Deployment).DeletionTimestamp == nil {
		t.Fatalf("first event %s, want the owner to be marked", e.Type)
	}
	cw, err := cms.Watch(within(t), metav1.ListOptions{ResourceVersion: held.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	if e := <-cw.ResultChan(); e.Type != watch.Modified || e.Object.(*corev1.ConfigMap).DeletionTimestamp == nil {
		t.Fatalf("the dependent: %s, want it to be marked too", e.Type)
	}
	if _, err := ds.Get(within(t), "web", metav1.GetOptions{}); err != nil {
		t.Fatalf("the owner went before its dependent: %v", err)
	}
	if _, err := cms.Patch(within(t), "held", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if e := <-w.ResultChan(); e.Type != watch.Deleted {
		t.Fatalf("the owner: %s, want it gone", e.Type)
	}
}

func TestOrphansStay(t *testing.T) {
	_, c := start(t, api.Options{})
	ds, cms := c.AppsV1().Deployments("default"), c.CoreV1().ConfigMaps("default")
	d := make1(t, ds.Create, deployment("web"))
	cm := make1(t, cms.Create, owned("a", d))
	w, err := cms.Watch(within(t), metav1.ListOptions{ResourceVersion: cm.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	policy := metav1.DeletePropagationOrphan
	if err := ds.Delete(within(t), "web", metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		t.Fatal(err)
	}
	if e := <-w.ResultChan(); e.Type != watch.Modified || len(e.Object.(*corev1.ConfigMap).OwnerReferences) != 0 {
		t.Errorf("the dependent: %s %+v, want it to stay without an owner", e.Type, e.Object)
	}
}

func TestPodHasItsGrace(t *testing.T) {
	_, c := start(t, api.Options{})
	pods := c.CoreV1().Pods("default")
	pod := func(name, node string) *corev1.Pod {
		return make1(t, pods.Create, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "a", Image: "b"}}}})
	}
	pod("nowhere", "")
	pod("here", "node")
	for _, name := range []string{"nowhere", "here"} {
		if err := pods.Delete(within(t), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pods.Get(within(t), "nowhere", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a pod that runs nowhere: %v, want it gone at once", err)
	}
	p, err := pods.Get(within(t), "here", metav1.GetOptions{})
	if err != nil || p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != 30 {
		t.Fatalf("a pod that runs: %+v, %v; want 30 s of grace", p, err)
	}
	zero := int64(0) // as the node does when the pod has ended
	if err := pods.Delete(within(t), "here", metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: metav1.NewUIDPreconditions(string(p.UID))}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(within(t), "here", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after grace: %v, want it gone", err)
	}
}

func TestPodHasItsServiceAccount(t *testing.T) {
	_, c := start(t, api.Options{RootCA: []byte("root")})
	runPod(t, c)
	p, err := c.CoreV1().Pods("default").Get(within(t), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Spec.ServiceAccountName != "default" || len(p.Spec.Volumes) != 1 || p.Spec.Volumes[0].Projected == nil {
		t.Errorf("account %q, volumes %+v", p.Spec.ServiceAccountName, p.Spec.Volumes)
	}
	for _, ctr := range p.Spec.Containers {
		if len(ctr.VolumeMounts) != 1 || ctr.VolumeMounts[0].MountPath != "/var/run/secrets/kubernetes.io/serviceaccount" {
			t.Errorf("container %s mounts %+v", ctr.Name, ctr.VolumeMounts)
		}
	}
	cm, err := c.CoreV1().ConfigMaps("default").Get(within(t), "kube-root-ca.crt", metav1.GetOptions{})
	if err != nil || cm.Data["ca.crt"] != "root" {
		t.Errorf("root certificate: %+v, %v", cm, err)
	}
}

func TestNamespaceGoesWithWhatIsInIt(t *testing.T) {
	_, c := start(t, api.Options{})
	ns := make1(t, c.CoreV1().Namespaces().Create, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "prod"}})
	if _, err := c.CoreV1().ServiceAccounts("prod").Get(within(t), "default", metav1.GetOptions{}); err != nil {
		t.Errorf("a new namespace has no default account: %v", err)
	}
	cm := configMap("a", "")
	cm.Namespace = "prod"
	cm = make1(t, c.CoreV1().ConfigMaps("prod").Create, cm)
	w, err := c.CoreV1().Namespaces().Watch(within(t), metav1.ListOptions{ResourceVersion: ns.ResourceVersion, FieldSelector: "metadata.name=prod"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CoreV1().Namespaces().Delete(within(t), "prod", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, c, "prod", "a", cm.ResourceVersion)
	if e := <-w.ResultChan(); e.Type != watch.Modified || e.Object.(*corev1.Namespace).Status.Phase != corev1.NamespaceTerminating {
		t.Errorf("first: %s %+v, want Terminating", e.Type, e.Object)
	}
	if e := <-w.ResultChan(); e.Type != watch.Deleted {
		t.Errorf("then: %s, want it gone", e.Type)
	}
	if l, _ := c.CoreV1().ServiceAccounts("prod").List(within(t), metav1.ListOptions{}); len(l.Items) > 0 {
		t.Errorf("accounts are left: %v", l.Items)
	}
}

func TestOldEventsAreForgotten(t *testing.T) {
	now := time.Now()
	s, c := start(t, api.Options{Now: func() time.Time { return now }})
	event := func(name string, at time.Time) *corev1.Event {
		return make1(t, c.CoreV1().Events("default").Create, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: name},
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web", Namespace: "default"}, LastTimestamp: metav1.NewTime(at)})
	}
	old := event("old", now.Add(-2*time.Hour))
	event("new", now)
	w, err := c.CoreV1().Events("default").Watch(within(t), metav1.ListOptions{ResourceVersion: old.ResourceVersion, FieldSelector: "metadata.name=old"})
	if err != nil {
		t.Fatal(err)
	}
	s.Sweep()
	if e := <-w.ResultChan(); e.Type != watch.Deleted {
		t.Errorf("the old event: %s", e.Type)
	}
	if _, err := c.CoreV1().Events("default").Get(within(t), "new", metav1.GetOptions{}); err != nil {
		t.Errorf("the new event: %v", err)
	}
}

func TestKubernetesNamespacesStay(t *testing.T) {
	_, c := start(t, api.Options{})
	for _, ns := range []string{"default", "kube-system", "kube-public"} {
		if err := c.CoreV1().Namespaces().Delete(within(t), ns, metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("delete %s: %v, want Forbidden", ns, err)
		}
	}
}
