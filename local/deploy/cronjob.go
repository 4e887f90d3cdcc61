package deploy

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/config/schedule"
)

// cronJob makes a Job whenever it is time.
func (c *Controller) cronJob(ctx context.Context, namespace, name string) (time.Duration, error) {
	j, err := c.client.BatchV1().CronJobs(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && j.DeletionTimestamp != nil {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	list, err := c.client.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	jobs := controlled[batchv1.Job](list.Items, j)
	status := *j.Status.DeepCopy()
	var running []*batchv1.Job
	status.Active = nil
	for _, made := range jobs {
		switch jobEnded(made) {
		case "":
			running = append(running, made)
			status.Active = append(status.Active, corev1.ObjectReference{Kind: "Job", APIVersion: "batch/v1", Namespace: namespace, Name: made.Name, UID: made.UID, ResourceVersion: made.ResourceVersion})
		case batchv1.JobComplete:
			if at := made.Status.CompletionTime; at != nil && (status.LastSuccessfulTime == nil || at.After(status.LastSuccessfulTime.Time)) {
				status.LastSuccessfulTime = at
			}
		}
	}
	if err := c.forgetJobs(ctx, j, jobs); err != nil {
		return 0, err
	}
	again, due, err := c.due(j)
	if err != nil {
		c.event(ctx, j, "CronJob", corev1.EventTypeWarning, "UnparseableSchedule", err.Error())
		return 0, nil // until it is changed
	}
	if !due.IsZero() {
		started, err := c.start(ctx, j, due, running)
		if err != nil {
			return 0, err
		}
		if started {
			status.LastScheduleTime = &metav1.Time{Time: due}
		}
	}
	return again, c.cronStatus(ctx, j, status)
}

// due returns the last time that has come and for which there was no Job yet, and how long it is until the next.
func (c *Controller) due(j *batchv1.CronJob) (again time.Duration, due time.Time, err error) {
	zone := ""
	if z := j.Spec.TimeZone; z != nil {
		zone = *z
	}
	times, err := schedule.Parse(j.Spec.Schedule, zone)
	if err != nil {
		return 0, time.Time{}, err
	}
	now := c.now()
	since := j.CreationTimestamp.Time
	if at := j.Status.LastScheduleTime; at != nil {
		since = at.Time
	}
	if s := j.Spec.StartingDeadlineSeconds; s != nil {
		if oldest := now.Add(-time.Duration(*s) * time.Second); oldest.After(since) {
			since = oldest
		}
	}
	if next := times.Next(now); !next.IsZero() { // else it does not come within years: 0 is not to look again
		again = max(time.Millisecond, next.Sub(now))
	}
	if j.Spec.Suspend != nil && *j.Spec.Suspend {
		return 0, time.Time{}, nil
	}
	return again, latest(times, since, now), nil
}

// latest returns the last time of a schedule after since and until now, zero if there is none. It looks back twice as far
// each time, so that it does not matter how many went by while nobody looked.
func latest(times cron.Schedule, since, now time.Time) (last time.Time) {
	for back := time.Minute; last.IsZero(); back *= 2 {
		from := now.Add(-back)
		if from.Before(since) {
			from = since
		}
		for at := times.Next(from); !at.IsZero() && !at.After(now); at = times.Next(at) {
			last = at
		}
		if from.Equal(since) {
			return last
		}
	}
	return last
}

// start makes the Job of a time, as far as those that run let it.
func (c *Controller) start(ctx context.Context, j *batchv1.CronJob, at time.Time, running []*batchv1.Job) (bool, error) {
	switch {
	case len(running) == 0:
	case j.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent:
		c.event(ctx, j, "CronJob", corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
		return false, nil
	case j.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent:
		for _, old := range running {
			if err := c.deleteJob(ctx, old); err != nil {
				return false, err
			}
		}
	}
	t := j.Spec.JobTemplate.DeepCopy()
	annotations := maps.Clone(t.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[batchv1.CronJobScheduledTimestampAnnotation] = at.Format(time.RFC3339)
	made := &batchv1.Job{Spec: t.Spec, ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", j.Name, at.Unix()/60), Namespace: j.Namespace,
		Labels: t.Labels, Annotations: annotations, OwnerReferences: ownedBy(j, "CronJob")}}
	_, err := c.client.BatchV1().Jobs(j.Namespace).Create(ctx, made, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		return true, nil
	case err != nil:
		c.event(ctx, j, "CronJob", corev1.EventTypeWarning, "FailedCreate", "Error creating job: "+err.Error())
		return false, err
	}
	c.event(ctx, j, "CronJob", corev1.EventTypeNormal, "SuccessfulCreate", "Created job "+made.Name)
	return true, nil
}

// forgetJobs deletes the oldest of those that have ended.
func (c *Controller) forgetJobs(ctx context.Context, j *batchv1.CronJob, jobs []*batchv1.Job) error {
	for kind, limit := range map[batchv1.JobConditionType]*int32{batchv1.JobComplete: j.Spec.SuccessfulJobsHistoryLimit, batchv1.JobFailed: j.Spec.FailedJobsHistoryLimit} {
		keep := map[batchv1.JobConditionType]int{batchv1.JobComplete: 3, batchv1.JobFailed: 1}[kind]
		if limit != nil {
			keep = int(*limit)
		}
		var over []*batchv1.Job
		for _, made := range jobs {
			if jobEnded(made) == kind {
				over = append(over, made)
			}
		}
		slices.SortFunc(over, func(a, b *batchv1.Job) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
		for _, made := range over[:max(0, len(over)-keep)] {
			if err := c.deleteJob(ctx, made); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Controller) cronStatus(ctx context.Context, j *batchv1.CronJob, status batchv1.CronJobStatus) error {
	if equality.Semantic.DeepEqual(status, j.Status) {
		return nil
	}
	changed := j.DeepCopy()
	changed.Status = status
	_, err := c.client.BatchV1().CronJobs(j.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	return err
}
