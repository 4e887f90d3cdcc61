//go:build linux

package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/mallamesh/malla/cli"
	"github.com/mallamesh/malla/control/ca"
	"github.com/mallamesh/malla/local/seed"
)

// state reads how far the mesh is.
type state struct {
	u       *up
	client  kubernetes.Interface
	dynamic dynamic.Interface
}

const (
	look        = 60 * time.Millisecond // between two looks
	patience    = 30 * time.Second      // in front of a person, with a mesh in which nothing changes
	detachLimit = 2 * time.Minute       // for a mesh that was started to be left alone
)

// picture is what one look saw.
type picture struct {
	lines    map[string]string // by pod
	pending  []string          // what is not there yet, with the reason
	hopeless []string          // what will not come by itself
	pods     []corev1.Pod
}

// waitUntilReady shows the pods until all of them are ready. Detached, it gives up
// on what cannot get ready and says why.
func (s *state) waitUntilReady(ctx context.Context, show *cli.Progress) error {
	var hopelessSince time.Time
	var last string
	changed := time.Now()
	for {
		p, err := s.look(ctx)
		if err != nil {
			return err
		}
		show.Set(p.lines)
		if len(p.pending) == 0 && len(p.hopeless) == 0 {
			return nil
		}
		if now := fmt.Sprint(p.lines); now != last {
			last, changed = now, time.Now()
		}
		switch {
		case len(p.hopeless) == 0:
			hopelessSince = time.Time{}
		case hopelessSince.IsZero():
			hopelessSince = time.Now()
		}
		if s.u.o.Detach {
			if !hopelessSince.IsZero() && time.Since(hopelessSince) > 3*time.Second {
				return errors.New("not everything gets ready:\n  " + strings.Join(append(p.hopeless, p.pending...), "\n  "))
			}
			if time.Since(s.u.began) > detachLimit {
				return fmt.Errorf("not everything is ready after %s:\n  %s", detachLimit, strings.Join(append(p.hopeless, p.pending...), "\n  "))
			}
		} else if len(p.pending) == 0 && !hopelessSince.IsZero() && time.Since(hopelessSince) > 3*time.Second || time.Since(changed) > patience {
			// In front of a person the rest is worth having: what fails is shown and can be mended.
			for _, line := range p.hopeless {
				show.Say("malla: error: %s", line)
			}
			return nil
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *state) look(ctx context.Context) (picture, error) {
	p := picture{lines: map[string]string{}}
	deployments, err := s.client.AppsV1().Deployments(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return p, err
	}
	pods, err := s.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return p, err
	}
	p.pods = pods.Items
	if err := s.ordered(ctx, &p); err != nil {
		return p, err
	}
	if err := s.standard(ctx, &p); err != nil {
		return p, err
	}
	var workloads []map[string]string
	for i := range deployments.Items {
		d := &deployments.Items[i]
		workloads = append(workloads, d.Spec.Template.Labels)
		if why := unmade(d); why != "" {
			p.hopeless = append(p.hopeless, fmt.Sprintf("deployment %s/%s: its pods cannot be made: %s", d.Namespace, d.Name, why))
		} else if why := unfinished(d); why != "" {
			p.pending = append(p.pending, fmt.Sprintf("deployment %s/%s: %s", d.Namespace, d.Name, why))
		}
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		workloads = append(workloads, pod.Labels)
		name := pod.Namespace + "/" + pod.Name
		text, ready, hopeless := podLine(pod)
		p.lines[name] = text
		switch {
		case hopeless:
			p.hopeless = append(p.hopeless, "pod "+name+": "+text+s.lastOutput(ctx, pod))
		case !ready && pod.DeletionTimestamp == nil:
			p.pending = append(p.pending, "pod "+name+": "+text+s.lastWarning(ctx, pod))
		}
	}
	if len(p.hopeless) > 0 { // their workloads say nothing new
		kept := p.pending[:0]
		for _, line := range p.pending {
			if !strings.HasPrefix(line, "deployment ") && !strings.HasPrefix(line, "statefulset ") {
				kept = append(kept, line)
			}
		}
		p.pending = kept
	}
	selectors, err := s.gatewaySelectors(ctx)
	if err != nil {
		return p, err
	}
	if seed.NeedsIngressGateway(selectors, workloads) {
		p.pending = append(p.pending, "the default gateway")
	}
	return p, nil
}

// lastOutput is the end of what a container wrote that keeps failing.
func (s *state) lastOutput(ctx context.Context, p *corev1.Pod) string {
	lines := int64(5)
	for _, c := range append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
		if c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" {
			continue
		}
		text, err := s.client.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{Container: c.Name, TailLines: &lines}).DoRaw(ctx)
		if err == nil && len(text) > 0 {
			return "\n    " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n    ")
		}
	}
	return ""
}

// lastWarning is what the kubelet said last about a pod that has been starting
// for a while.
func (s *state) lastWarning(ctx context.Context, p *corev1.Pod) string {
	if time.Since(p.CreationTimestamp.Time) < 5*time.Second {
		return ""
	}
	events, err := s.client.CoreV1().Events(p.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "type=Warning,involvedObject.name=" + p.Name})
	if err != nil || len(events.Items) == 0 {
		return ""
	}
	last := events.Items[0]
	for _, e := range events.Items[1:] {
		if !e.LastTimestamp.Before(&last.LastTimestamp) {
			last = e
		}
	}
	return " (" + last.Message + ")"
}

var gatewayResource = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "gateways"}

func (s *state) gatewaySelectors(ctx context.Context) ([]map[string]string, error) {
	list, err := s.dynamic.Resource(gatewayResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []map[string]string
	for _, g := range list.Items {
		m, _, _ := unstructured.NestedStringMap(g.Object, "spec", "selector")
		out = append(out, m)
	}
	return out, nil
}

// ordered adds the StatefulSets whose pods are not all there yet: they come one after the other.
func (s *state) ordered(ctx context.Context, p *picture) error {
	sets, err := s.client.AppsV1().StatefulSets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range sets.Items {
		set := &sets.Items[i]
		want := int32(1)
		if set.Spec.Replicas != nil {
			want = *set.Spec.Replicas
		}
		if st := set.Status; st.ObservedGeneration < set.Generation || st.UpdatedReplicas < want || st.AvailableReplicas < want {
			p.pending = append(p.pending, fmt.Sprintf("statefulset %s/%s: %d of %d pods are ready", set.Namespace, set.Name, st.AvailableReplicas, want))
		}
	}
	return nil
}

// unfinished says what a Deployment waits for, "" if nothing.
func unfinished(d *appsv1.Deployment) string {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		return "not looked at yet"
	case s.UpdatedReplicas < want || s.Replicas > s.UpdatedReplicas || s.AvailableReplicas < want:
		return fmt.Sprintf("%d of %d pods are ready", s.AvailableReplicas, want)
	}
	return ""
}

// unmade says why no pod of a Deployment's can be made, "" if they can.
func unmade(d *appsv1.Deployment) string {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue && d.Status.ObservedGeneration >= d.Generation {
			return c.Message
		}
	}
	return ""
}

// podLine says in a few words what a pod waits for.
func podLine(p *corev1.Pod) (text string, ready, hopeless bool) {
	if p.Status.Phase == corev1.PodSucceeded {
		return "completed", true, false
	}
	up, all := 0, len(p.Status.ContainerStatuses)
	waits := ""
	for _, c := range append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
		if w := c.State.Waiting; w != nil {
			waits = c.Name + ": " + inShort(w)
			switch {
			case w.Reason == "ErrImagePull", w.Reason == "CrashLoopBackOff" && c.RestartCount >= 3:
				return waits + lastWords(c), false, true
			}
		} else if !c.Ready && c.State.Running != nil {
			waits = c.Name + ": started, not ready" + answerOf(p, c.Name)
		} else if again(c) {
			return c.Name + ": started again" + lastWords(c), false, false
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.Ready {
			up++
		}
	}
	switch {
	case p.DeletionTimestamp != nil:
		return "terminating", false, false
	case all > 0 && up == all:
		return fmt.Sprintf("ready %d/%d", up, all), true, false
	case waits != "":
		return fmt.Sprintf("%d/%d, %s", up, all, waits), false, false
	}
	return "starting", false, false
}

// inShort is what a container waits for: the kubelet's words, without what the line
// says already and with a plain word for what every mesh goes through.
func inShort(w *corev1.ContainerStateWaiting) string {
	switch {
	case w.Message == "":
		return w.Reason
	case strings.Contains(w.Message, `configmap "`+ca.RootConfigMap+`" not found`):
		return "waits for the control plane's root certificate"
	}
	message, _, _ := strings.Cut(w.Message, "=") // "back-off 4s restarting failed container=app pod=..."
	if message == w.Message || !strings.HasPrefix(message, "back-off ") {
		message = w.Message
	}
	return w.Reason + ": " + message
}

// answerOf is what a container's probe said last, as the pod's condition tells it.
func answerOf(p *corev1.Pod, container string) string {
	for _, c := range p.Status.Conditions {
		if _, answer, ok := strings.Cut(c.Message, "probe failed: "); ok && c.Type == corev1.PodReady && strings.Contains(c.Message, container) {
			answer, _, _ = strings.Cut(answer, "\n")
			return ": " + answer
		}
	}
	return ""
}

// again reports whether a container runs after a failure, and not for long enough to be believed.
func again(c corev1.ContainerStatus) bool {
	last, now := c.LastTerminationState.Terminated, c.State.Running
	return last != nil && last.ExitCode != 0 && now != nil && time.Since(now.StartedAt.Time) < 3*time.Second
}

func lastWords(c corev1.ContainerStatus) string {
	if t := c.LastTerminationState.Terminated; t != nil {
		return fmt.Sprintf(" (exit code %d)", t.ExitCode)
	}
	return ""
}

// summary collects what there is to say at last.
func (s *state) summary(ctx context.Context) (sum cli.Summary) {
	p, err := s.look(ctx)
	if err != nil {
		return sum
	}
	malla := s.u.typed + " " + meshFlag(s.u.o.Mesh)
	var sidecar string // a pod that has one
	for i := range p.pods {
		pod := &p.pods[i]
		text, ready, _ := podLine(pod)
		switch {
		case ready:
			sum.Pods++
		case pod.DeletionTimestamp == nil:
			if sum.NotReady = append(sum.NotReady, pod.Namespace+"/"+pod.Name+": "+text); len(sum.NotReady) == 1 {
				sum.Next = append(sum.Next, malla+whyNot(pod))
			}
		}
		if sidecar == "" && len(pod.Spec.Containers) > 1 {
			sidecar = named(pod)
		}
	}
	s.u.mu.Lock()
	offered := slices.Collect(maps.Values(s.u.published))
	s.u.mu.Unlock()
	sum.Links = s.links(ctx, offered)
	sum.Next = append(sum.Next, malla+"get pods")
	if len(sum.Links) > 0 {
		sum.Next = append(sum.Next, sum.Links[0].Curl())
	}
	if sidecar != "" {
		sum.Next = append(sum.Next, malla+"logs "+sidecar+" -c istio-proxy")
	}
	if len(sum.Next) < 3 {
		sum.Next = append(sum.Next, malla+"stop")
	}
	return sum
}

// named is how a pod is named on the command line.
func named(p *corev1.Pod) string {
	if p.Namespace != metav1.NamespaceDefault {
		return "-n " + p.Namespace + " " + p.Name
	}
	return p.Name
}

// whyNot is the verb that says most of why a pod is not ready: what a container that ended
// had to say, or else what happened to the pod.
func whyNot(p *corev1.Pod) string {
	for _, c := range append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
		if c.LastTerminationState.Terminated != nil && !c.Ready {
			return "logs " + named(p) + " -c " + c.Name + " --previous"
		}
	}
	return "describe pod " + named(p)
}
