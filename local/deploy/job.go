package deploy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

// After a failure the next pod comes after a while that doubles, as containers do here.
const (
	firstBackoff = time.Second
	lastBackoff  = 5 * time.Minute
)

// A tallied job is a Job with its pods.
type tallied struct {
	*batchv1.Job
	active, succeeded, failed []*corev1.Pod // of those that failed, what the policy does not pass over
	lost                      map[int]bool  // indexes that a rule of the policy gives up
	hopeless                  string        // why the policy ends the Job; "": it does not
	restarts                  int32         // of the containers of pods that restart them
}

func tally(j *batchv1.Job, pods []*corev1.Pod) *tallied {
	t := &tallied{Job: j, lost: map[int]bool{}}
	for _, p := range pods {
		switch {
		case p.Status.Phase == corev1.PodSucceeded:
			t.succeeded = append(t.succeeded, p)
		case p.Status.Phase == corev1.PodFailed:
			switch action, why := failure(j.Spec.PodFailurePolicy, p); action {
			case batchv1.PodFailurePolicyActionIgnore:
			case batchv1.PodFailurePolicyActionFailIndex:
				for _, n := range t.indexes([]*corev1.Pod{p}) {
					t.lost[n] = true
				}
				t.failed = append(t.failed, p)
			case batchv1.PodFailurePolicyActionFailJob:
				t.hopeless = why
				fallthrough
			default:
				t.failed = append(t.failed, p)
			}
		case p.DeletionTimestamp == nil:
			t.active = append(t.active, p)
		}
		if p.Spec.RestartPolicy == corev1.RestartPolicyOnFailure {
			for _, s := range p.Status.ContainerStatuses {
				t.restarts += s.RestartCount
			}
		}
	}
	return t
}

// job brings a Job one step further.
func (c *Controller) job(ctx context.Context, namespace, name string) (time.Duration, error) {
	j, err := c.client.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && j.DeletionTimestamp != nil {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if jobEnded(j) != "" {
		return c.expire(ctx, j)
	}
	pods, err := c.podsOf(ctx, j, &metav1.LabelSelector{MatchLabels: map[string]string{batchv1.JobNameLabel: j.Name}})
	if err != nil {
		return 0, err
	}
	t := tally(j, pods)
	now := c.now()
	if j.Status.StartTime == nil && !suspended(j) {
		j.Status.StartTime = &metav1.Time{Time: now.Truncate(time.Second)}
	}
	again, end := t.next(now)
	switch {
	case end != nil || suspended(j):
		for _, p := range t.active {
			if err := c.deletePod(ctx, j, "Job", p); err != nil {
				return 0, err
			}
		}
		t.active = nil
	case again == 0 || j.Spec.BackoffLimitPerIndex != nil: // there each index waits for itself
		for _, p := range t.wanted(now) {
			if err := c.create(ctx, j, "Job", p); err != nil {
				c.event(ctx, j, "Job", corev1.EventTypeWarning, "FailedCreate", "Error creating: "+err.Error())
				return 0, err
			}
			t.active = append(t.active, p)
		}
	}
	if s := j.Spec.ActiveDeadlineSeconds; s != nil && end == nil && !suspended(j) {
		left := max(time.Millisecond, j.Status.StartTime.Add(time.Duration(*s)*time.Second).Sub(now))
		if again == 0 || left < again { // the deadline does not wait for the next pod
			again = left
		}
	}
	return again, c.jobStatus(ctx, t, end)
}

func suspended(j *batchv1.Job) bool { return j.Spec.Suspend != nil && *j.Spec.Suspend }

// jobEnded returns the condition by which a Job has ended, "" if it has not.
func jobEnded(j *batchv1.Job) batchv1.JobConditionType {
	for _, cond := range j.Status.Conditions {
		if (cond.Type == batchv1.JobComplete || cond.Type == batchv1.JobFailed) && cond.Status == corev1.ConditionTrue {
			return cond.Type
		}
	}
	return ""
}

// next says whether the Job has come to its end, or how long it waits after a failure.
func (t *tallied) next(now time.Time) (wait time.Duration, end *batchv1.JobCondition) {
	limit := int32(6)
	if n := t.Spec.BackoffLimit; n != nil {
		limit = *n
	}
	if s := t.Spec.ActiveDeadlineSeconds; s != nil && t.Status.StartTime != nil && !now.Before(t.Status.StartTime.Add(time.Duration(*s)*time.Second)) {
		return 0, ended(batchv1.JobFailed, "DeadlineExceeded", "Job was active longer than specified deadline")
	}
	if t.hopeless != "" {
		return 0, ended(batchv1.JobFailed, "PodFailurePolicy", t.hopeless)
	}
	if n := int32(len(t.failed)) + t.restarts; n > limit {
		return 0, ended(batchv1.JobFailed, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
	}
	if t.succeededEnough() {
		return 0, ended(batchv1.JobComplete, "SuccessPolicy", "Matched rules of the success policy")
	}
	if end := t.indexesEnd(); end != nil {
		return 0, end
	}
	switch n := t.Spec.Completions; {
	case n != nil && t.done() >= int(*n), n == nil && len(t.succeeded) > 0 && len(t.active) == 0:
		return 0, ended(batchv1.JobComplete, "CompletionsReached", "Reached expected number of succeeded pods")
	}
	if t.Spec.BackoffLimitPerIndex != nil {
		return t.nextIndex(now), nil
	}
	var last time.Time
	for _, p := range t.failed {
		if at := endOf(p); at.After(last) {
			last = at
		}
	}
	if n := len(t.failed); n > 0 {
		pause := min(lastBackoff, firstBackoff<<min(n-1, 20))
		return max(0, last.Add(pause).Sub(now)), nil
	}
	return 0, nil
}

func ended(kind batchv1.JobConditionType, reason, message string) *batchv1.JobCondition {
	return &batchv1.JobCondition{Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message}
}

// endOf is when the last container of a pod ended.
func endOf(p *corev1.Pod) (last time.Time) {
	for _, s := range p.Status.ContainerStatuses {
		if e := s.State.Terminated; e != nil && e.FinishedAt.After(last) {
			last = e.FinishedAt.Time
		}
	}
	return last
}

func (t *tallied) indexed() bool {
	return t.Spec.CompletionMode != nil && *t.Spec.CompletionMode == batchv1.IndexedCompletion
}

// done counts what is completed: pods, or indexes.
func (t *tallied) done() int {
	if t.indexed() {
		return len(t.indexes(t.succeeded))
	}
	return len(t.succeeded)
}

func (t *tallied) indexes(pods []*corev1.Pod) []int {
	var out []int
	for _, p := range pods {
		if n, err := strconv.Atoi(p.Annotations[batchv1.JobCompletionIndexAnnotation]); err == nil {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// wanted makes the pods that are missing.
func (t *tallied) wanted(now time.Time) []*corev1.Pod {
	most := int(replicas(t.Spec.Parallelism))
	if n := t.Spec.Completions; n != nil {
		most = min(most, int(*n)-t.done()-len(t.failedIndexes()))
	} else if len(t.succeeded) > 0 {
		return nil // what is done for one is done: the others end by themselves
	}
	busy := slices.Concat(t.indexes(t.active), t.indexes(t.succeeded), t.failedIndexes(), t.waiting(now))
	var out []*corev1.Pod
	for n, index := len(t.active), 0; n < most; n++ {
		for t.indexed() && slices.Contains(busy, index) {
			index++
		}
		if t.indexed() && t.Spec.Completions != nil && index >= int(*t.Spec.Completions) {
			break // the others wait after a failure
		}
		p := podOf(&t.Spec.Template, t.Job, "Job")
		for key, value := range map[string]string{batchv1.JobNameLabel: t.Name, "job-name": t.Name, batchv1.ControllerUidLabel: string(t.UID), "controller-uid": string(t.UID)} {
			p.Labels[key] = value
		}
		p.Name, p.GenerateName = t.Name+"-"+rand.String(5), ""
		if t.indexed() {
			setIndex(p, t.Name, index)
			index++
		}
		out = append(out, p)
	}
	return out
}

// setIndex tells a pod which part of the work is its.
func setIndex(p *corev1.Pod, job string, index int) {
	text := strconv.Itoa(index)
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Annotations[batchv1.JobCompletionIndexAnnotation], p.Labels[batchv1.JobCompletionIndexAnnotation] = text, text
	p.Name, p.Spec.Hostname = job+"-"+text+"-"+rand.String(5), job+"-"+text
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			list[i].Env = append(list[i].Env, corev1.EnvVar{Name: "JOB_COMPLETION_INDEX", Value: text})
		}
	}
}

// expire deletes a Job that has ended long enough ago.
func (c *Controller) expire(ctx context.Context, j *batchv1.Job) (time.Duration, error) {
	ttl := j.Spec.TTLSecondsAfterFinished
	if ttl == nil {
		return 0, nil
	}
	for _, cond := range j.Status.Conditions {
		if cond.Type != jobEnded(j) {
			continue
		}
		if left := cond.LastTransitionTime.Add(time.Duration(*ttl) * time.Second).Sub(c.now()); left > 0 {
			return left, nil
		}
	}
	return 0, c.deleteJob(ctx, j)
}

func (c *Controller) deleteJob(ctx context.Context, j *batchv1.Job) error {
	background := metav1.DeletePropagationBackground
	err := c.client.BatchV1().Jobs(j.Namespace).Delete(ctx, j.Name, metav1.DeleteOptions{PropagationPolicy: &background})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Controller) jobStatus(ctx context.Context, t *tallied, end *batchv1.JobCondition) error {
	status := *t.Status.DeepCopy()
	status.Active, status.Succeeded, status.Failed = int32(len(t.active)), int32(len(t.succeeded)), int32(len(t.failed))
	n := int32(0)
	for _, p := range t.active {
		if ready(p) {
			n++
		}
	}
	status.Ready = &n
	if t.indexed() {
		status.CompletedIndexes = ranges(t.indexes(t.succeeded))
		if t.Spec.BackoffLimitPerIndex != nil {
			failed := ranges(t.failedIndexes())
			status.FailedIndexes = &failed
		}
	}
	now := metav1.NewTime(c.now().Truncate(time.Second))
	status.Conditions = slices.DeleteFunc(status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == batchv1.JobSuspended && !suspended(t.Job) })
	if suspended(t.Job) && !slices.ContainsFunc(status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == batchv1.JobSuspended }) {
		end = ended(batchv1.JobSuspended, "JobSuspended", "Job suspended")
		status.StartTime = nil
	}
	if end != nil {
		end.LastProbeTime, end.LastTransitionTime = now, now
		status.Conditions = append(status.Conditions, *end)
		typ, reason := corev1.EventTypeNormal, "Completed"
		switch end.Type {
		case batchv1.JobComplete:
			status.CompletionTime = &now
		case batchv1.JobFailed:
			typ, reason = corev1.EventTypeWarning, end.Reason
		case batchv1.JobSuspended:
			reason = "Suspended"
		}
		c.event(ctx, t.Job, "Job", typ, reason, end.Message)
	}
	// What this step has set itself (StartTime) is in the object already, so it is compared with what is stored.
	changed := t.DeepCopy()
	changed.Status = status
	stored, err := c.client.BatchV1().Jobs(t.Namespace).Get(ctx, t.Name, metav1.GetOptions{})
	if err != nil || equality.Semantic.DeepEqual(stored.Status, status) {
		return err
	}
	_, err = c.client.BatchV1().Jobs(t.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return err
}

// ranges writes numbers as Kubernetes does: 0-2,5.
func ranges(list []int) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, strconv.Itoa(list[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", list[i], list[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}
