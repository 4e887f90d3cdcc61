package deploy

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// burst bounds how many pods one step makes.
const burst = 100

// replicaSet makes or deletes pods until there are as many as wanted.
func (c *Controller) replicaSet(ctx context.Context, namespace, name string) (time.Duration, error) {
	rs, err := c.client.AppsV1().ReplicaSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if rs.DeletionTimestamp != nil {
		return 0, nil
	}
	list, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(rs.Spec.Selector)})
	if err != nil {
		return 0, err
	}
	var pods []*corev1.Pod
	for _, p := range controlled[corev1.Pod](list.Items, rs) {
		if active(p) {
			pods = append(pods, p)
		}
	}
	want := int(replicas(rs.Spec.Replicas))
	for n := len(pods); n < want && n < len(pods)+burst; n++ {
		if err := c.createPod(ctx, rs); err != nil {
			why := unnamed(rs, err)
			c.event(ctx, rs, "ReplicaSet", corev1.EventTypeWarning, "FailedCreate", "Error creating: "+why)
			return 0, errFirst(c.replicaSetStatus(ctx, rs, pods, why), err)
		}
	}
	for _, p := range surplus(pods, want) {
		err := c.client.CoreV1().Pods(namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, err
		}
		c.event(ctx, rs, "ReplicaSet", corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+p.Name)
	}
	return c.untilAvailable(rs, pods), c.replicaSetStatus(ctx, rs, pods, "")
}

// unnamed is why a pod could not be made, without the name that it would have had: it is another one each time, and a
// status that is another one each time would be looked at again at once, for ever.
func unnamed(rs *appsv1.ReplicaSet, err error) string {
	return regexp.MustCompile(regexp.QuoteMeta(rs.Name)+"-[a-z0-9]{5}\\b").ReplaceAllString(err.Error(), rs.Name+"-")
}

func errFirst(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (c *Controller) createPod(ctx context.Context, rs *appsv1.ReplicaSet) error {
	t := rs.Spec.Template.DeepCopy()
	p := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	p.Name, p.GenerateName, p.Namespace = "", rs.Name+"-", rs.Namespace
	p.OwnerReferences = ownerOf(rs, "ReplicaSet")
	made, err := c.client.CoreV1().Pods(rs.Namespace).Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	c.event(ctx, rs, "ReplicaSet", corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+made.Name)
	return nil
}

// active reports whether a pod counts: it has not ended and is not on its way out.
func active(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

// surplus returns the pods beyond want, the ones to miss least first: not ready
// before ready, then the youngest.
func surplus(pods []*corev1.Pod, want int) []*corev1.Pod {
	if len(pods) <= want {
		return nil
	}
	order := slices.Clone(pods)
	slices.SortStableFunc(order, func(a, b *corev1.Pod) int {
		if ra, rb := ready(a), ready(b); ra != rb {
			if rb {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.CreationTimestamp.UnixNano(), a.CreationTimestamp.UnixNano())
	})
	return order[:len(order)-want]
}

func ready(p *corev1.Pod) bool {
	since := readySince(p)
	return since != nil
}

// readySince returns when the pod became ready, nil if it is not.
func readySince(p *corev1.Pod) *metav1.Time {
	for i := range p.Status.Conditions {
		if cond := &p.Status.Conditions[i]; cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue {
			return &cond.LastTransitionTime
		}
	}
	return nil
}

// available reports whether the pod has been ready for minReadySeconds.
func (c *Controller) available(p *corev1.Pod, minReady int32) bool {
	since := readySince(p)
	return since != nil && (minReady == 0 || !c.now().Before(since.Add(time.Duration(minReady)*time.Second)))
}

// untilAvailable returns when a pod becomes available by time alone, 0 for never.
func (c *Controller) untilAvailable(rs *appsv1.ReplicaSet, pods []*corev1.Pod) time.Duration {
	var soonest time.Duration
	for _, p := range pods {
		if since := readySince(p); since != nil && !c.available(p, rs.Spec.MinReadySeconds) {
			left := since.Add(time.Duration(rs.Spec.MinReadySeconds) * time.Second).Sub(c.now())
			if soonest == 0 || left < soonest {
				soonest = left
			}
		}
	}
	return soonest
}

func (c *Controller) replicaSetStatus(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod, failure string) error {
	status := appsv1.ReplicaSetStatus{Replicas: int32(len(pods)), ObservedGeneration: rs.Generation}
	for _, p := range pods {
		status.FullyLabeledReplicas++
		if ready(p) {
			status.ReadyReplicas++
		}
		if c.available(p, rs.Spec.MinReadySeconds) {
			status.AvailableReplicas++
		}
	}
	if failure != "" {
		status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
			Message: failure, LastTransitionTime: metav1.NewTime(c.now().Truncate(time.Second))}}
		if old := rs.Status.Conditions; len(old) == 1 && old[0].Message == status.Conditions[0].Message {
			status.Conditions = old
		}
	}
	if equality.Semantic.DeepEqual(status, rs.Status) {
		return nil
	}
	changed := rs.DeepCopy()
	changed.Status = status
	_, err := c.client.AppsV1().ReplicaSets(rs.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return err
}

// replicas is a count whose absence means one.
func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}
