package table

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

func statefulSetCells(s *appsv1.StatefulSet, c Context) []any {
	names, images := containers(s.Spec.Template.Spec.Containers)
	return []any{s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, count(s.Spec.Replicas)), Age(c.Now, s.CreationTimestamp), names, images}
}

func daemonSetCells(d *appsv1.DaemonSet, c Context) []any {
	names, images := containers(d.Spec.Template.Spec.Containers)
	s := d.Status
	return []any{d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady), int64(s.UpdatedNumberScheduled), int64(s.NumberAvailable),
		metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: d.Spec.Template.Spec.NodeSelector}), Age(c.Now, d.CreationTimestamp), names, images, metav1.FormatLabelSelector(d.Spec.Selector)}
}

func jobCells(j *batchv1.Job, c Context) []any {
	completions := fmt.Sprintf("%d/1", j.Status.Succeeded)
	switch {
	case j.Spec.Completions != nil:
		completions = fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	case count(j.Spec.Parallelism) > 1:
		completions += fmt.Sprintf(" of %d", *j.Spec.Parallelism)
	}
	took := ""
	switch from, to := j.Status.StartTime, j.Status.CompletionTime; {
	case from == nil:
	case to == nil:
		took = duration.HumanDuration(c.Now.Sub(from.Time))
	default:
		took = duration.HumanDuration(to.Sub(from.Time))
	}
	names, images := containers(j.Spec.Template.Spec.Containers)
	selector := "<none>"
	if j.Spec.Selector != nil {
		selector = metav1.FormatLabelSelector(j.Spec.Selector)
	}
	return []any{j.Name, jobState(j), completions, took, Age(c.Now, j.CreationTimestamp), names, images, selector}
}

// jobState is in one word how a Job is.
func jobState(j *batchv1.Job) string {
	for _, is := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed, batchv1.JobSuspended} {
		for _, cond := range j.Status.Conditions {
			if cond.Type == is && cond.Status == corev1.ConditionTrue {
				return string(is)
			}
		}
	}
	if j.DeletionTimestamp != nil {
		return "Terminating"
	}
	return "Running"
}

func cronJobCells(j *batchv1.CronJob, c Context) []any {
	last := "<none>"
	if at := j.Status.LastScheduleTime; at != nil {
		last = duration.HumanDuration(max(0, c.Now.Sub(at.Time)) / time.Second * time.Second)
	}
	zone := "<none>"
	if j.Spec.TimeZone != nil {
		zone = *j.Spec.TimeZone
	}
	names, images := containers(j.Spec.JobTemplate.Spec.Template.Spec.Containers)
	suspend := "False"
	if j.Spec.Suspend != nil && *j.Spec.Suspend {
		suspend = "True"
	}
	return []any{j.Name, strings.TrimSpace(j.Spec.Schedule), zone, suspend, int64(len(j.Status.Active)), last, Age(c.Now, j.CreationTimestamp), names, images, "<none>"}
}
