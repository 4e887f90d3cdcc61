package deploy

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/config/schedule"
)

// succeededEnough reports whether a rule of the success policy is met, so that what is missing is not waited for.
func (t *tallied) succeededEnough() bool {
	if t.Spec.SuccessPolicy == nil || !t.indexed() || t.Spec.Completions == nil {
		return false
	}
	done := t.indexes(t.succeeded)
	return slices.ContainsFunc(t.Spec.SuccessPolicy.Rules, func(rule batchv1.SuccessPolicyRule) bool {
		have, want := len(done), int64(0)
		if rule.SucceededIndexes != nil {
			set, err := schedule.Indexes(*rule.SucceededIndexes, int64(*t.Spec.Completions))
			if err != nil {
				return false // validation refuses it
			}
			want, have = int64(len(set)), 0
			for _, n := range set {
				if slices.Contains(done, n) {
					have++
				}
			}
		}
		if rule.SucceededCount != nil {
			want = int64(*rule.SucceededCount)
		}
		return want > 0 && int64(have) >= want
	})
}

// failures are the pods of each index that have failed.
func (t *tallied) failures() map[int][]*corev1.Pod {
	out := map[int][]*corev1.Pod{}
	for _, p := range t.failed {
		for _, n := range t.indexes([]*corev1.Pod{p}) {
			out[n] = append(out[n], p)
		}
	}
	return out
}

// failedIndexes are those that get no more pods, in order.
func (t *tallied) failedIndexes() (out []int) {
	limit := t.Spec.BackoffLimitPerIndex
	if limit == nil {
		return nil
	}
	done := t.indexes(t.succeeded)
	for n, pods := range t.failures() {
		if (t.lost[n] || len(pods) > int(*limit)) && !slices.Contains(done, n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// indexesEnd returns how failed indexes end the Job: when there are too many, or when nothing else is left.
func (t *tallied) indexesEnd() *batchv1.JobCondition {
	failed := len(t.failedIndexes())
	switch {
	case failed == 0:
		return nil
	case t.Spec.MaxFailedIndexes != nil && failed > int(*t.Spec.MaxFailedIndexes):
		return ended(batchv1.JobFailed, "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes")
	case t.Spec.Completions != nil && t.done()+failed >= int(*t.Spec.Completions):
		return ended(batchv1.JobFailed, "FailedIndexes", "Job has failed indexes")
	}
	return nil
}

// until is when the next pod of an index may come after its failures.
func until(pods []*corev1.Pod) (at time.Time) {
	for _, p := range pods {
		if end := endOf(p); end.After(at) {
			at = end
		}
	}
	return at.Add(min(lastBackoff, firstBackoff<<min(len(pods)-1, 20)))
}

// waiting are the indexes whose next pod is not due yet.
func (t *tallied) waiting(now time.Time) (out []int) {
	if t.Spec.BackoffLimitPerIndex == nil {
		return nil
	}
	for n, pods := range t.failures() {
		if until(pods).After(now) {
			out = append(out, n)
		}
	}
	return out
}

// nextIndex is how long it is until the pod of an index that waits is due; 0: none waits.
func (t *tallied) nextIndex(now time.Time) (wait time.Duration) {
	gone := slices.Concat(t.failedIndexes(), t.indexes(t.succeeded), t.indexes(t.active))
	for n, pods := range t.failures() {
		left := until(pods).Sub(now)
		if left > 0 && !slices.Contains(gone, n) && (wait == 0 || left < wait) {
			wait = left
		}
	}
	return wait
}
