package pods

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// changed says that the status is to be written, and wakes those who wait for a
// container.
func (w *worker) changed() {
	w.moved.notify()
	select {
	case w.statusWake <- struct{}{}:
	default:
	}
}

// report writes the status when it changes, until the pod's end.
func (w *worker) report() {
	for {
		select {
		case <-w.statusWake:
			w.flushStatus()
		case <-w.ctx.Done():
			return
		}
	}
}

// flushStatus writes the status now, if it differs from what was written last.
func (w *worker) flushStatus() {
	w.statusMu.Lock() // or an older status could be written over a newer one
	defer w.statusMu.Unlock()
	pods := w.k.Client.CoreV1().Pods(w.namespace)
	for range 5 {
		status := w.status()
		w.mu.Lock()
		same := equality.Semantic.DeepEqual(status, w.reported)
		w.mu.Unlock()
		if same || w.ctx.Err() != nil {
			return
		}
		p, err := pods.Get(w.ctx, w.name, metav1.GetOptions{})
		if err == nil && p.UID != w.object().UID || apierrors.IsNotFound(err) {
			return // it has gone
		}
		if err == nil {
			p.Status = status
			_, err = pods.UpdateStatus(w.ctx, p, metav1.UpdateOptions{})
		}
		switch {
		case err == nil:
			w.mu.Lock()
			w.reported = status
			w.mu.Unlock()
			return
		case apierrors.IsConflict(err):
			continue
		case w.ctx.Err() == nil:
			w.k.Log.Warn("status not written, trying again", "pod", w.namespace+"/"+w.name, "reason", err)
		}
		break
	}
	time.AfterFunc(time.Second, w.changed)
}

// status is the pod's state as Kubernetes shows it.
func (w *worker) status() corev1.PodStatus {
	p := w.object()
	w.mu.Lock()
	seen, box, ips := w.seen, w.box != nil, w.ips
	w.mu.Unlock()
	start := metav1.NewTime(seen.Truncate(time.Second))
	s := corev1.PodStatus{HostIP: hostIP, HostIPs: []corev1.HostIP{{IP: hostIP}}, StartTime: &start,
		QOSClass: corev1.PodQOSBestEffort, ObservedGeneration: p.Generation}
	proxy := w.proxy()
	t := tally{policy: p.Spec.RestartPolicy}
	var uninitialized, unready []string
	whys := ""
	for _, c := range w.init {
		cs := c.status()
		cs.Ready = cs.State.Terminated != nil && cs.State.Terminated.ExitCode == 0
		if !cs.Ready {
			uninitialized = append(uninitialized, cs.Name)
			t.uninitialized = true
			t.initFailed = t.initFailed || cs.State.Terminated != nil
		}
		s.InitContainerStatuses = append(s.InitContainerStatuses, cs)
	}
	for _, c := range w.containers {
		cs := c.status()
		t.count(&cs, c == proxy)
		if !cs.Ready {
			unready = append(unready, cs.Name)
			c.mu.Lock()
			if c.unready != "" {
				whys += "; " + c.name + ": " + c.unready
			}
			c.mu.Unlock()
		}
		s.ContainerStatuses = append(s.ContainerStatuses, cs)
	}
	s.Phase = t.phase()
	ended := s.Phase == corev1.PodSucceeded || s.Phase == corev1.PodFailed
	if box || ended {
		for _, ip := range ips {
			s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip.String()})
		}
		if len(ips) > 0 {
			s.PodIP = ips[0].String()
		}
	}
	isReady := yes
	switch {
	case s.Phase == corev1.PodSucceeded:
		isReady = no("PodCompleted", "")
	case s.Phase == corev1.PodFailed:
		isReady = no("PodFailed", "")
	case len(unready) > 0:
		isReady = no("ContainersNotReady", "containers with unready status: ["+strings.Join(unready, " ")+"]"+whys)
	case !box:
		isReady = no("ContainersNotReady", "the pod has no sandbox")
	}
	initialized, sandboxed := yes, yes
	if len(uninitialized) > 0 {
		initialized = no("ContainersNotInitialized", "containers with incomplete status: ["+strings.Join(uninitialized, " ")+"]")
	} else if s.Phase == corev1.PodSucceeded {
		initialized.reason = "PodCompleted"
	}
	if !box {
		sandboxed = no("", "")
	}
	w.mu.Lock()
	old := w.reported.Conditions
	w.mu.Unlock()
	for _, c := range []struct {
		kind corev1.PodConditionType
		is   condition
	}{
		{corev1.PodReadyToStartContainers, sandboxed}, {corev1.PodInitialized, initialized},
		{corev1.PodReady, isReady}, {corev1.ContainersReady, isReady}, {corev1.PodScheduled, yes},
	} {
		s.Conditions = append(s.Conditions, c.is.of(c.kind, old, p.Generation))
	}
	return s
}

// A tally counts a pod's containers for its phase.
type tally struct {
	policy                               corev1.RestartPolicy
	uninitialized, initFailed            bool
	waiting, running, succeeded, stopped int
}

// count adds one. The proxy runs for the others: while it does, the pod does, but
// how it ended is not how the pod ended.
func (t *tally) count(s *corev1.ContainerStatus, proxy bool) {
	switch {
	case s.State.Running != nil:
		t.running++
	case proxy && (s.State.Terminated != nil || s.LastTerminationState.Terminated != nil):
	case s.State.Terminated != nil:
		t.stopped++
		if s.State.Terminated.ExitCode == 0 {
			t.succeeded++
		}
	case s.LastTerminationState.Terminated != nil: // between two runs
		t.stopped++
	default:
		t.waiting++
	}
}

// phase follows the kubelet's getPhase.
func (t *tally) phase() corev1.PodPhase {
	switch {
	case t.initFailed && t.policy == corev1.RestartPolicyNever:
		return corev1.PodFailed
	case t.uninitialized || t.waiting > 0:
		return corev1.PodPending
	case t.running > 0 || t.policy == corev1.RestartPolicyAlways || t.policy == "":
		return corev1.PodRunning
	case t.stopped == t.succeeded:
		return corev1.PodSucceeded
	case t.policy == corev1.RestartPolicyNever:
		return corev1.PodFailed
	}
	return corev1.PodRunning // OnFailure: what failed runs again
}

// A condition is one of a pod's; a reason says why it is false.
type condition struct {
	true            bool
	reason, message string
}

var yes = condition{true: true}

func no(reason, message string) condition { return condition{false, reason, message} }

// of returns the condition with the time since when it is as it is.
func (c condition) of(kind corev1.PodConditionType, old []corev1.PodCondition, generation int64) corev1.PodCondition {
	out := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, Reason: c.reason, Message: c.message, ObservedGeneration: generation,
		LastTransitionTime: metav1.NewTime(time.Now().Truncate(time.Second))}
	if c.true {
		out.Status = corev1.ConditionTrue
	}
	for _, was := range old {
		if was.Type == kind && was.Status == out.Status {
			out.LastTransitionTime = was.LastTransitionTime
		}
	}
	return out
}

func (c *container) status() corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	started := c.started && c.state.Running != nil
	s := corev1.ContainerStatus{Name: c.name, Image: c.image, ImageID: c.image, State: c.state, Ready: c.ready && c.state.Running != nil,
		RestartCount: int32(max(c.starts-1, 0)), Started: &started}
	if c.starts > 0 {
		s.ContainerID = c.id()
	}
	if c.last.Terminated != nil && c.state.Terminated == nil {
		s.LastTerminationState = c.last
	}
	return s
}
