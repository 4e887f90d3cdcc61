package pods

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// changed says that the status is to be written.
func (w *worker) changed() {
	select {
	case w.statusWake <- struct{}{}:
	default:
	}
}

// report writes the status when it changes, until ctx ends.
func (w *worker) report(ctx context.Context) {
	for {
		select {
		case <-w.statusWake:
			w.flushStatus(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// flushStatus writes the status now, if it differs from what was written last.
func (w *worker) flushStatus(ctx context.Context) {
	for range 5 {
		status := w.status()
		w.mu.Lock()
		same := equality.Semantic.DeepEqual(status, w.reported)
		w.mu.Unlock()
		if same {
			return
		}
		pods := w.k.Client.CoreV1().Pods(w.namespace)
		p, err := pods.Get(ctx, w.name, metav1.GetOptions{})
		if err != nil || p.UID != w.object().UID {
			return // it is gone
		}
		p.Status = status
		if _, err = pods.UpdateStatus(ctx, p, metav1.UpdateOptions{}); err == nil {
			w.mu.Lock()
			w.reported = status
			w.mu.Unlock()
			return
		}
		if !apierrors.IsConflict(err) {
			if ctx.Err() == nil {
				w.k.Log.Warn("status not written", "pod", w.namespace+"/"+w.name, "reason", err)
				time.AfterFunc(time.Second, w.changed)
			}
			return
		}
	}
	w.changed()
}

// status is the pod's state as Kubernetes shows it.
func (w *worker) status() corev1.PodStatus {
	p := w.object()
	w.mu.Lock()
	started, box := w.started, w.box
	w.mu.Unlock()
	s := corev1.PodStatus{Phase: corev1.PodPending, HostIP: hostIP, HostIPs: []corev1.HostIP{{IP: hostIP}}, QOSClass: corev1.PodQOSBestEffort, ObservedGeneration: p.Generation}
	if !started.IsZero() {
		t := metav1.NewTime(started.Truncate(time.Second))
		s.StartTime = &t
	}
	if box != nil {
		for _, ip := range w.ips {
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip.String()})
		}
		s.PodIP = w.ips[0].String()
	}
	initialized, running, failed, succeeded, ready := true, 0, 0, 0, true
	for _, c := range w.init {
		cs := c.status()
		cs.Ready = cs.State.Terminated != nil && cs.State.Terminated.ExitCode == 0
		initialized = initialized && cs.Ready
		s.InitContainerStatuses = append(s.InitContainerStatuses, cs)
	}
	for _, c := range w.containers {
		cs := c.status()
		ready = ready && cs.Ready
		switch t := cs.State.Terminated; {
		case cs.State.Running != nil:
			running++
		case t != nil && t.ExitCode == 0:
			succeeded++
		case t != nil:
			failed++
		}
		s.ContainerStatuses = append(s.ContainerStatuses, cs)
	}
	all := len(w.containers)
	switch {
	case box == nil || !initialized:
	case succeeded == all && p.Spec.RestartPolicy != corev1.RestartPolicyAlways:
		s.Phase = corev1.PodSucceeded
	case succeeded+failed == all && (p.Spec.RestartPolicy == corev1.RestartPolicyNever || p.Spec.RestartPolicy == corev1.RestartPolicyOnFailure && failed == 0):
		s.Phase = corev1.PodFailed
	case running+succeeded+failed > 0 || w.everRan():
		s.Phase = corev1.PodRunning
	}
	ready = ready && s.Phase == corev1.PodRunning
	s.Conditions = w.conditions(map[corev1.PodConditionType]bool{
		corev1.PodReadyToStartContainers: box != nil, corev1.PodScheduled: true, corev1.PodInitialized: initialized,
		corev1.ContainersReady: ready, corev1.PodReady: ready,
	}, s.ContainerStatuses)
	return s
}

func (w *worker) everRan() bool {
	for _, c := range w.containers {
		c.mu.Lock()
		ran := c.restarts > 0
		c.mu.Unlock()
		if ran {
			return true
		}
	}
	return false
}

// conditions keeps the time of a condition that did not change.
func (w *worker) conditions(now map[corev1.PodConditionType]bool, containers []corev1.ContainerStatus) []corev1.PodCondition {
	w.mu.Lock()
	old := w.reported.Conditions
	w.mu.Unlock()
	var out []corev1.PodCondition
	for _, t := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(time.Now().Truncate(time.Second))}
		if now[t] {
			c.Status = corev1.ConditionTrue
		} else if t == corev1.PodReady || t == corev1.ContainersReady {
			var names []string
			for _, cs := range containers {
				if !cs.Ready {
					names = append(names, cs.Name)
				}
			}
			c.Reason, c.Message = "ContainersNotReady", "containers with unready status: ["+strings.Join(names, " ")+"]"
		}
		for _, was := range old {
			if was.Type == t && was.Status == c.Status {
				c.LastTransitionTime = was.LastTransitionTime
			}
		}
		out = append(out, c)
	}
	return out
}

func (c *container) status() corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	started := c.started && c.state.Running != nil
	s := corev1.ContainerStatus{Name: c.name, Image: c.spec.Image, ImageID: c.spec.Image, State: c.state, Ready: c.ready && c.state.Running != nil,
		RestartCount: int32(c.restarts), Started: &started}
	if c.state.Running != nil {
		s.ContainerID = "malla://" + string(c.w.pod.UID) + "/" + c.name
	}
	if c.last.Terminated != nil && c.state.Terminated == nil {
		s.LastTerminationState = c.last
	}
	return s
}
