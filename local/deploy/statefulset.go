package deploy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mallamesh/malla/config/claim"
)

// statefulSet brings a StatefulSet one step nearer to its pods: in order, each when the one before is ready,
// unless they may come all at once; then the highest that has an old template is replaced.
func (c *Controller) statefulSet(ctx context.Context, namespace, name string) (time.Duration, error) {
	s, err := c.client.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && s.DeletionTimestamp != nil {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	pods, err := c.podsOf(ctx, s, s.Spec.Selector)
	if err != nil {
		return 0, err
	}
	byOrdinal := map[int]*corev1.Pod{}
	for _, p := range pods {
		if n, ok := ordinal(s.Name, p.Name); ok {
			byOrdinal[n] = p
		}
	}
	if err := c.statefulStep(ctx, s, byOrdinal); err != nil {
		return 0, err
	}
	return soonest(pods, s.Spec.MinReadySeconds, c.now()), c.statefulStatus(ctx, s)
}

// statefulStep does what can be done now.
func (c *Controller) statefulStep(ctx context.Context, s *appsv1.StatefulSet, have map[int]*corev1.Pod) error {
	first := 0
	if s.Spec.Ordinals != nil {
		first = int(s.Spec.Ordinals.Start)
	}
	end := first + int(replicas(s.Spec.Replicas))
	together := s.Spec.PodManagementPolicy == appsv1.ParallelPodManagement
	c.templates.Store(s.Namespace+"/"+revisionName(s, &s.Spec.Template), s.Spec.Template.DeepCopy())
	for n := first; n < end; n++ {
		p := have[n]
		switch {
		case p == nil:
			if err := c.createOrdinal(ctx, s, n); err != nil {
				c.event(ctx, s, "StatefulSet", corev1.EventTypeWarning, "FailedCreate", "Error creating: "+err.Error())
				return err
			}
		case p.DeletionTimestamp != nil: // its name is not free yet
		case !active(p):
			if err := c.deletePod(ctx, s, "StatefulSet", p); err != nil {
				return err
			}
		case c.available(p, s.Spec.MinReadySeconds):
			continue
		case p.Labels[appsv1.StatefulSetRevisionLabel] != revisionAt(s, n) && s.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType:
			// An old template that never became ready must not keep the new one away.
			if err := c.deletePod(ctx, s, "StatefulSet", p); err != nil {
				return err
			}
		}
		if !together {
			return nil
		}
	}
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(have))) {
		if n >= first && n < end {
			continue
		}
		if p := have[n]; p.DeletionTimestamp == nil {
			if err := c.deletePod(ctx, s, "StatefulSet", p); err != nil {
				return err
			}
		}
		if !together {
			return nil // until it has gone
		}
	}
	if s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return nil
	}
	left := maxUnavailable(s)
	for n := end - 1; n >= first; n-- {
		p := have[n]
		switch {
		case p == nil || p.DeletionTimestamp != nil || !c.available(p, s.Spec.MinReadySeconds):
			left--
		case p.Labels[appsv1.StatefulSetRevisionLabel] != revisionAt(s, n):
			if err := c.deletePod(ctx, s, "StatefulSet", p); err != nil {
				return err
			}
			left--
		}
		if left <= 0 {
			return nil
		}
	}
	return nil
}

// maxUnavailable is how many pods may be missing while a new template comes: one, if nothing is said.
func maxUnavailable(s *appsv1.StatefulSet) int {
	u := s.Spec.UpdateStrategy.RollingUpdate
	if u == nil || u.MaxUnavailable == nil {
		return 1
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(u.MaxUnavailable, int(replicas(s.Spec.Replicas)), true)
	if err != nil {
		return 1
	}
	return max(n, 1)
}

// revisionAt names the template that a pod is to have: below the partition that which all had before.
func revisionAt(s *appsv1.StatefulSet, n int) string {
	if u := s.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil && n < int(*u.Partition) && s.Status.CurrentRevision != "" {
		return s.Status.CurrentRevision
	}
	return revisionName(s, &s.Spec.Template)
}

func (c *Controller) createOrdinal(ctx context.Context, s *appsv1.StatefulSet, n int) error {
	revision, template := revisionAt(s, n), &s.Spec.Template
	if old, ok := c.templates.Load(s.Namespace + "/" + revision); ok {
		template = old.(*corev1.PodTemplateSpec)
	} else {
		revision = revisionName(s, template) // of before a restart: nobody knows it any more
	}
	p := podOf(template, s, "StatefulSet")
	p.Name, p.GenerateName = fmt.Sprintf("%s-%d", s.Name, n), ""
	p.Labels[appsv1.StatefulSetPodNameLabel], p.Labels[appsv1.PodIndexLabel], p.Labels[appsv1.StatefulSetRevisionLabel] = p.Name, strconv.Itoa(n), revision
	p.Spec.Hostname, p.Spec.Subdomain = p.Name, s.Spec.ServiceName
	with := *s
	with.Spec.Template = *template
	p.Spec.Volumes = claim.Volumes(&with, p.Name)
	return c.create(ctx, s, "StatefulSet", p)
}

// ordinal returns the number at the end of a pod's name.
func ordinal(set, pod string) (int, bool) {
	text, ok := strings.CutPrefix(pod, set+"-")
	n, err := strconv.Atoi(text)
	return n, ok && err == nil && n >= 0 && strconv.Itoa(n) == text
}

// revisionName names a template of an owner's.
func revisionName(o metav1.Object, t *corev1.PodTemplateSpec) string {
	return o.GetName() + "-" + templateHash(t, 0)
}

func (c *Controller) statefulStatus(ctx context.Context, s *appsv1.StatefulSet) error {
	pods, err := c.podsOf(ctx, s, s.Spec.Selector)
	if err != nil {
		return err
	}
	update := revisionName(s, &s.Spec.Template)
	status := appsv1.StatefulSetStatus{ObservedGeneration: s.Generation, CurrentRevision: s.Status.CurrentRevision, UpdateRevision: update, CollisionCount: s.Status.CollisionCount}
	if status.CurrentRevision == "" {
		status.CurrentRevision = update
	}
	for _, p := range pods {
		if !active(p) {
			continue
		}
		status.Replicas++
		if ready(p) {
			status.ReadyReplicas++
		}
		if c.available(p, s.Spec.MinReadySeconds) {
			status.AvailableReplicas++
		}
		switch p.Labels[appsv1.StatefulSetRevisionLabel] {
		case update:
			status.UpdatedReplicas++
		case status.CurrentRevision:
			status.CurrentReplicas++
		}
	}
	if want := replicas(s.Spec.Replicas); status.UpdatedReplicas == want && status.ReadyReplicas == want && status.Replicas == want {
		status.CurrentRevision = update
	}
	if status.CurrentRevision == update {
		status.CurrentReplicas = status.UpdatedReplicas
	}
	if equality.Semantic.DeepEqual(status, s.Status) {
		return nil
	}
	changed := s.DeepCopy()
	changed.Status = status
	_, err = c.client.AppsV1().StatefulSets(s.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return err
}
