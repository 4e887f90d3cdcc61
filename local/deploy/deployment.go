package deploy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
)

const (
	revision     = "deployment.kubernetes.io/revision"
	desired      = "deployment.kubernetes.io/desired-replicas"
	maxReplicas  = "deployment.kubernetes.io/max-replicas"
	hashLabel    = appsv1.DefaultDeploymentUniqueLabelKey // pod-template-hash
	lastApplied  = "kubectl.kubernetes.io/last-applied-configuration"
	historyLimit = 10
	deadline     = 600 // progressDeadlineSeconds where none is given
)

// deployment brings a Deployment one step nearer to its template.
func (c *Controller) deployment(ctx context.Context, namespace, name string) (time.Duration, error) {
	d, err := c.client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if d.DeletionTimestamp != nil {
		return 0, nil
	}
	list, err := c.client.AppsV1().ReplicaSets(namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(d.Spec.Selector)})
	if err != nil {
		return 0, err
	}
	sets := controlled[appsv1.ReplicaSet](list.Items, d)
	slices.SortFunc(sets, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(revisionOf(a), revisionOf(b)) })
	current, old := split(d, sets)
	if d.Spec.Paused {
		if err := c.scalePaused(ctx, d, sets); err != nil {
			return 0, err
		}
		return 0, c.deploymentStatus(ctx, d, current, old)
	}
	if current == nil {
		if current, err = c.createReplicaSet(ctx, d, old); err != nil {
			return 0, err
		}
	} else if err = c.keepNewest(ctx, d, current, old); err != nil {
		return 0, err
	}
	if err := c.roll(ctx, d, current, old); err != nil {
		return 0, err
	}
	if err := c.forget(ctx, d, current, old); err != nil {
		return 0, err
	}
	return lookAgain(d), c.deploymentStatus(ctx, d, current, old)
}

// lookAgain returns when a Deployment that is under way must be looked at even
// if nothing happens: to notice that it does not progress.
func lookAgain(d *appsv1.Deployment) time.Duration {
	if want := replicas(d.Spec.Replicas); d.Status.UpdatedReplicas == want && d.Status.AvailableReplicas == want {
		return 0
	}
	return progressLimit(d) + time.Second
}

func progressLimit(d *appsv1.Deployment) time.Duration {
	if s := d.Spec.ProgressDeadlineSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return deadline * time.Second
}

// split finds the ReplicaSet of the Deployment's template; nil if there is none.
func split(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) (current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) {
	for _, rs := range sets {
		t := rs.Spec.Template.DeepCopy()
		delete(t.Labels, hashLabel)
		if current == nil && equality.Semantic.DeepEqual(*t, d.Spec.Template) {
			current = rs
			continue
		}
		old = append(old, rs)
	}
	return current, old
}

func revisionOf(o metav1.Object) int {
	n, _ := strconv.Atoi(o.GetAnnotations()[revision])
	return n
}

func (c *Controller) createReplicaSet(ctx context.Context, d *appsv1.Deployment, old []*appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	for collision := 0; ; collision++ {
		rs := replicaSetOf(d, nextRevision(old), templateHash(&d.Spec.Template, collision))
		rs.Spec.Replicas = new(int32)
		made, err := c.client.AppsV1().ReplicaSets(d.Namespace).Create(ctx, rs, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) && collision < 10 {
			continue // another template has this hash, or a former Deployment of this name left it
		}
		return made, err
	}
}

func replicaSetOf(d *appsv1.Deployment, rev int, hash string) *appsv1.ReplicaSet {
	t := d.Spec.Template.DeepCopy()
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	t.Labels[hashLabel] = hash
	selector := d.Spec.Selector.DeepCopy()
	if selector.MatchLabels == nil {
		selector.MatchLabels = map[string]string{}
	}
	selector.MatchLabels[hashLabel] = hash
	annotations := maps.Clone(d.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	delete(annotations, lastApplied)
	annotations[revision] = strconv.Itoa(rev)
	annotations[desired] = strconv.Itoa(int(replicas(d.Spec.Replicas)))
	surge, _ := limits(d)
	annotations[maxReplicas] = strconv.Itoa(int(replicas(d.Spec.Replicas)) + surge)
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: d.Name + "-" + hash, Namespace: d.Namespace, Labels: t.Labels, Annotations: annotations,
			OwnerReferences: ownerOf(d, "Deployment")},
		Spec: appsv1.ReplicaSetSpec{Selector: selector, MinReadySeconds: d.Spec.MinReadySeconds, Template: *t},
	}
}

func nextRevision(sets []*appsv1.ReplicaSet) int {
	newest := 0
	for _, rs := range sets {
		newest = max(newest, revisionOf(rs))
	}
	return newest + 1
}

// keepNewest gives a ReplicaSet that became current again (rollout undo) the
// highest revision.
func (c *Controller) keepNewest(ctx context.Context, d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) error {
	next := nextRevision(old)
	if revisionOf(current) >= next {
		return nil
	}
	changed := current.DeepCopy()
	changed.Annotations[revision] = strconv.Itoa(next)
	if cause := d.Annotations["kubernetes.io/change-cause"]; cause != "" {
		changed.Annotations["kubernetes.io/change-cause"] = cause
	}
	got, err := c.client.AppsV1().ReplicaSets(d.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
	if err == nil {
		*current = *got
	}
	return err
}

// templateHash names a template: the same template, the same name, in every run.
func templateHash(t *corev1.PodTemplateSpec, collision int) string {
	text, err := json.Marshal(t)
	if err != nil {
		panic("deploy: pod template that does not marshal: " + err.Error()) // it came from the API server
	}
	h := fnv.New32a()
	h.Write(text)
	fmt.Fprint(h, collision)
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// limits returns how many pods may be too many and too few during an update.
func limits(d *appsv1.Deployment) (surge, unavailable int) {
	n := int(replicas(d.Spec.Replicas))
	quarter := intstr.FromString("25%")
	s, u := &quarter, &quarter
	if r := d.Spec.Strategy.RollingUpdate; r != nil {
		if r.MaxSurge != nil {
			s = r.MaxSurge
		}
		if r.MaxUnavailable != nil {
			u = r.MaxUnavailable
		}
	}
	surge, err := intstr.GetScaledValueFromIntOrPercent(s, n, true)
	if err != nil {
		surge = 1
	}
	if unavailable, err = intstr.GetScaledValueFromIntOrPercent(u, n, false); err != nil {
		unavailable = 0
	}
	if surge == 0 && unavailable == 0 {
		unavailable = 1 // else an update could never begin (Kubernetes' rule)
	}
	return surge, unavailable
}

// roll moves replicas from the old sets to the current one.
func (c *Controller) roll(ctx context.Context, d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) error {
	want := replicas(d.Spec.Replicas)
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		for _, rs := range old {
			if err := c.scale(ctx, d, rs, 0); err != nil {
				return err
			}
		}
		for _, rs := range old {
			if gone, err := c.noPods(ctx, rs); err != nil || !gone {
				return err // their pods' end brings us back here
			}
		}
		return c.scale(ctx, d, current, want)
	}
	up, downs := plan(want, d, current, old)
	if err := c.scale(ctx, d, current, up); err != nil {
		return err
	}
	for i, rs := range old {
		if err := c.scale(ctx, d, rs, downs[i]); err != nil {
			return err
		}
	}
	return nil
}

// scalePaused gives a Deployment that is not rolled out its number of pods, as Kubernetes does: the set that has pods, or
// else the newest, gets them all; several, in the midst of a rollout, each by its share, as far as what a
// rollout may have is not the right number already.
func (c *Controller) scalePaused(ctx context.Context, d *appsv1.Deployment, sets []*appsv1.ReplicaSet) error {
	want, total := replicas(d.Spec.Replicas), int32(0)
	var active []*appsv1.ReplicaSet
	for _, rs := range sets {
		if n := replicas(rs.Spec.Replicas); n > 0 {
			active, total = append(active, rs), total+n
		}
	}
	if len(active) == 0 && len(sets) > 0 {
		active = sets[len(sets)-1:]
	}
	if len(active) == 0 {
		return nil
	}
	newest := active[len(active)-1]
	if len(active) == 1 {
		return c.scale(ctx, d, newest, want)
	}
	if surge, unavailable := limits(d); total >= want-int32(unavailable) && total <= want+int32(surge) {
		return nil
	}
	left := want
	for _, rs := range active[:len(active)-1] {
		n := want * replicas(rs.Spec.Replicas) / total
		left -= n
		if err := c.scale(ctx, d, rs, n); err != nil {
			return err
		}
	}
	return c.scale(ctx, d, newest, left)
}

// plan is one step of a rolling update: the size of the current set and of each
// old one. At no time are there more than want+surge pods, nor fewer than
// want-unavailable available ones.
func plan(want int32, d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) (up int32, downs []int32) {
	surge, unavailable := limits(d)
	downs = make([]int32, len(old))
	total := replicas(current.Spec.Replicas)
	ready := current.Status.AvailableReplicas
	for i, rs := range old {
		downs[i] = replicas(rs.Spec.Replicas)
		total += downs[i]
		ready += rs.Status.AvailableReplicas
	}
	up = replicas(current.Spec.Replicas)
	switch {
	case up > want:
		up = want
	case up < want:
		up += max(0, min(want-up, want+int32(surge)-total))
	}
	// Pods of old sets that are not available are no loss.
	budget := total - (want - int32(unavailable)) - (replicas(current.Spec.Replicas) - current.Status.AvailableReplicas)
	for i, rs := range old {
		cut := max(0, min(budget, downs[i]-rs.Status.AvailableReplicas))
		downs[i] -= cut
		budget -= cut
	}
	budget = min(budget, ready-(want-int32(unavailable)))
	for i := range old {
		cut := max(0, min(budget, downs[i]))
		downs[i] -= cut
		budget -= cut
	}
	return up, downs
}

func (c *Controller) scale(ctx context.Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet, n int32) error {
	if rs.Spec.Replicas != nil && *rs.Spec.Replicas == n {
		return nil
	}
	was := replicas(rs.Spec.Replicas)
	changed := rs.DeepCopy()
	changed.Spec.Replicas = &n
	got, err := c.client.AppsV1().ReplicaSets(rs.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
	if err != nil {
		return err
	}
	*rs = *got
	verb := "up"
	if n < was {
		verb = "down"
	}
	c.event(ctx, d, "Deployment", corev1.EventTypeNormal, "ScalingReplicaSet", fmt.Sprintf("Scaled %s replica set %s from %d to %d", verb, rs.Name, was, n))
	return nil
}

func (c *Controller) noPods(ctx context.Context, rs *appsv1.ReplicaSet) (bool, error) {
	list, err := c.client.CoreV1().Pods(rs.Namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(rs.Spec.Selector)})
	if err != nil {
		return false, err
	}
	return len(controlled[corev1.Pod](list.Items, rs)) == 0, nil
}

// forget deletes old sets beyond the history that is kept.
func (c *Controller) forget(ctx context.Context, d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) error {
	keep := historyLimit
	if d.Spec.RevisionHistoryLimit != nil {
		keep = int(*d.Spec.RevisionHistoryLimit)
	}
	for _, rs := range old[:max(0, len(old)-keep)] { // lowest revisions first
		if replicas(rs.Spec.Replicas) != 0 || rs.Status.Replicas != 0 {
			continue
		}
		background := metav1.DeletePropagationBackground
		err := c.client.AppsV1().ReplicaSets(rs.Namespace).Delete(ctx, rs.Name, metav1.DeleteOptions{PropagationPolicy: &background})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
