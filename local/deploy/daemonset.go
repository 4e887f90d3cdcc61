package deploy

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// daemonSet keeps one pod: there is one machine. A changed template replaces it, the old one first, as
// Kubernetes does by default.
func (c *Controller) daemonSet(ctx context.Context, namespace, name string) (time.Duration, error) {
	d, err := c.client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && d.DeletionTimestamp != nil {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	pods, err := c.podsOf(ctx, d, d.Spec.Selector)
	if err != nil {
		return 0, err
	}
	revision := revisionName(d, &d.Spec.Template)
	status := appsv1.DaemonSetStatus{DesiredNumberScheduled: 1, ObservedGeneration: d.Generation, CollisionCount: d.Status.CollisionCount}
	kept := false
	for _, p := range pods {
		old := p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] != revision && d.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType
		switch {
		case p.DeletionTimestamp != nil:
			kept = true // the next one waits for its end
			continue
		case !active(p) || old || kept:
			if err := c.deletePod(ctx, d, "DaemonSet", p); err != nil {
				return 0, err
			}
			kept = true
			continue
		}
		kept = true
		status.CurrentNumberScheduled = 1
		if p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == revision {
			status.UpdatedNumberScheduled = 1
		}
		if ready(p) {
			status.NumberReady = 1
		}
		if c.available(p, d.Spec.MinReadySeconds) {
			status.NumberAvailable = 1
		}
	}
	if !kept {
		p := podOf(&d.Spec.Template, d, "DaemonSet")
		p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = revision
		if err := c.create(ctx, d, "DaemonSet", p); err != nil {
			c.event(ctx, d, "DaemonSet", corev1.EventTypeWarning, "FailedCreate", "Error creating: "+err.Error())
			return 0, err
		}
	}
	status.NumberUnavailable = 1 - status.NumberAvailable
	if equality.Semantic.DeepEqual(status, d.Status) {
		return soonest(pods, d.Spec.MinReadySeconds, c.now()), nil
	}
	changed := d.DeepCopy()
	changed.Status = status
	_, err = c.client.AppsV1().DaemonSets(namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return soonest(pods, d.Spec.MinReadySeconds, c.now()), err
}
