package deploy

import (
	"context"
	"fmt"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// deploymentStatus writes what `get` and `rollout status` show.
func (c *Controller) deploymentStatus(ctx context.Context, d *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) error {
	status := appsv1.DeploymentStatus{ObservedGeneration: d.Generation, CollisionCount: d.Status.CollisionCount}
	for _, rs := range append([]*appsv1.ReplicaSet{current}, old...) {
		if rs == nil {
			continue
		}
		status.Replicas += rs.Status.Replicas
		status.ReadyReplicas += rs.Status.ReadyReplicas
		status.AvailableReplicas += rs.Status.AvailableReplicas
	}
	if current != nil {
		status.UpdatedReplicas = current.Status.Replicas
	}
	want := replicas(d.Spec.Replicas)
	status.UnavailableReplicas = max(0, want-status.AvailableReplicas)
	status.Conditions = c.conditions(d, current, status, want)
	changed := d.DeepCopy()
	changed.Status = status
	if current != nil && d.Annotations[revision] != strconv.Itoa(revisionOf(current)) {
		if changed.Annotations == nil {
			changed.Annotations = map[string]string{}
		}
		changed.Annotations[revision] = strconv.Itoa(revisionOf(current))
		got, err := c.client.AppsV1().Deployments(d.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
		if err != nil {
			return err
		}
		got.Status = status
		changed = got
	}
	if equality.Semantic.DeepEqual(status, d.Status) {
		return nil
	}
	_, err := c.client.AppsV1().Deployments(d.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return err
}

// conditions returns Available and Progressing, and ReplicaFailure where a pod
// could not be made, with the times of their last change.
func (c *Controller) conditions(d *appsv1.Deployment, current *appsv1.ReplicaSet, s appsv1.DeploymentStatus, want int32) []appsv1.DeploymentCondition {
	var out []appsv1.DeploymentCondition
	add := func(t appsv1.DeploymentConditionType, ok corev1.ConditionStatus, reason, message string, moved bool) {
		now := metav1.NewTime(c.now().Truncate(time.Second))
		cond := appsv1.DeploymentCondition{Type: t, Status: ok, Reason: reason, Message: message, LastTransitionTime: now, LastUpdateTime: now}
		for _, was := range d.Status.Conditions {
			if was.Type != t {
				continue
			}
			if was.Status == ok {
				cond.LastTransitionTime = was.LastTransitionTime
			}
			if !moved && was.Status == ok && was.Reason == reason {
				cond.LastUpdateTime = was.LastUpdateTime
			}
		}
		out = append(out, cond)
	}
	_, unavailable := limits(d)
	if s.AvailableReplicas >= want-int32(unavailable) {
		add(appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.", false)
	} else {
		add(appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.", false)
	}
	if current == nil {
		return out
	}
	for _, cond := range current.Status.Conditions {
		if cond.Type == appsv1.ReplicaSetReplicaFailure {
			add(appsv1.DeploymentReplicaFailure, cond.Status, cond.Reason, cond.Message, false)
		}
	}
	moved := s.UpdatedReplicas > d.Status.UpdatedReplicas || s.ReadyReplicas > d.Status.ReadyReplicas || s.AvailableReplicas > d.Status.AvailableReplicas
	complete := s.UpdatedReplicas == want && s.Replicas == want && s.AvailableReplicas == want
	switch {
	case complete:
		add(appsv1.DeploymentProgressing, corev1.ConditionTrue, "NewReplicaSetAvailable", fmt.Sprintf("ReplicaSet %q has successfully progressed.", current.Name), false)
	case !moved && c.late(d):
		add(appsv1.DeploymentProgressing, corev1.ConditionFalse, "ProgressDeadlineExceeded", fmt.Sprintf("ReplicaSet %q has timed out progressing.", current.Name), false)
	default:
		add(appsv1.DeploymentProgressing, corev1.ConditionTrue, "ReplicaSetUpdated", fmt.Sprintf("ReplicaSet %q is progressing.", current.Name), moved || d.Status.ObservedGeneration < d.Generation)
	}
	return out
}

// late reports whether nothing moved for progressDeadlineSeconds.
func (c *Controller) late(d *appsv1.Deployment) bool {
	for _, cond := range d.Status.Conditions {
		if cond.Type == appsv1.DeploymentProgressing && cond.Reason != "NewReplicaSetAvailable" && d.Status.ObservedGeneration >= d.Generation {
			return cond.LastUpdateTime.Add(progressLimit(d)).Before(c.now())
		}
	}
	return false
}
