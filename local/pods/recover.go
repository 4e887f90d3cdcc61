package pods

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Recover makes order after the end of an earlier run, whose processes are gone:
// pods of a controller are deleted (it makes new ones), others start anew and
// count it as a restart. Logs of pods that are no more are removed. It is called
// once, before the controllers run.
func (k *Kubelet) Recover(ctx context.Context) error {
	list, err := k.Client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for i := range list.Items {
		p := &list.Items[i]
		if metav1.GetControllerOf(p) != nil || p.DeletionTimestamp != nil {
			if err := k.remove(ctx, p); err != nil {
				return err
			}
			continue
		}
		kept[logName(p)] = true
		if finished(p) {
			continue
		}
		interrupted(&p.Status)
		if _, err := k.Client.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(k.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !kept[e.Name()] {
			if err := os.RemoveAll(filepath.Join(k.Dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// finished reports whether a pod's containers have ended for good.
func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// interrupted changes a status to that of a pod whose processes have all gone.
func interrupted(s *corev1.PodStatus) {
	s.PodIP, s.PodIPs, s.Conditions = "", nil, nil
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			c := &list[i]
			switch {
			case c.State.Running != nil:
				c.LastTerminationState = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
					ExitCode: 137, Signal: int32(sigKill), Reason: "Error", Message: "the mesh was stopped",
					StartedAt: c.State.Running.StartedAt, FinishedAt: metav1.NewTime(time.Now().Truncate(time.Second))}}
			case c.State.Terminated != nil:
				c.LastTerminationState = c.State
			}
			c.Ready = false
			c.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
		}
	}
}

// remove takes a pod that has ended out of the API server.
func (k *Kubelet) remove(ctx context.Context, p *corev1.Pod) error {
	zero := int64(0)
	err := k.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it has gone, or its name is another's now
	}
	return err
}
