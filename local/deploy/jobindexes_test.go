package deploy

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What becomes of a Job whose indexes have their own limits, or of which some are enough. Pods are written as
// INDEX:s (succeeded), f (failed a minute ago), n (failed now), x (failed with exit code 42, which gives up the index) or a (active).
func TestIndexesOfJobs(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	two, one, zero := int32(2), int32(1), int32(0)
	enough := func(indexes string, count int32) func(*batchv1.JobSpec) {
		rule := batchv1.SuccessPolicyRule{}
		if indexes != "" {
			rule.SucceededIndexes = &indexes
		}
		if count > 0 {
			rule.SucceededCount = &count
		}
		return func(s *batchv1.JobSpec) {
			s.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{rule}}
		}
	}
	limited := func(each int32, most *int32) func(*batchv1.JobSpec) {
		return func(s *batchv1.JobSpec) {
			s.BackoffLimitPerIndex, s.MaxFailedIndexes = &each, most
			s.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{{Action: batchv1.PodFailurePolicyActionFailIndex,
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}}}}}
		}
	}
	for _, test := range []struct {
		name string
		spec func(*batchv1.JobSpec)
		pods string
		want string
	}{
		{"the leader is enough", enough("0", 0), "0:s 1:a", "Complete SuccessPolicy"},
		{"not the leader", enough("0", 0), "1:s 2:s", "next 0,3"},
		{"any two", enough("", 2), "1:s 3:s", "Complete SuccessPolicy"},
		{"one of two", enough("0,2-3", 1), "1:s 2:s", "Complete SuccessPolicy"},
		{"none of them", enough("0,2-3", 1), "1:s", "next 0,2,3"},
		{"an index may fail once", limited(1, nil), "0:f", "next 0,1,2,3"},
		{"and waits for itself", limited(1, nil), "0:n", "next 1,2,3 in 1s"},
		{"twice is too often, for that index", limited(1, nil), "0:f 0:f", "next 1,2,3 without 0"},
		{"a rule gives it up at once", limited(2, nil), "1:x", "next 0,2,3 without 1"},
		{"the others come to their end first", limited(0, nil), "0:f 1:s 2:s 3:a", "next  without 0"},
		{"and then the Job has failed", limited(0, nil), "0:f 1:s 2:s 3:s", "Failed FailedIndexes"},
		{"as it has with too many", limited(0, &one), "0:f 1:f 2:a", "Failed MaxFailedIndexesExceeded"},
		{"of which none is one", limited(0, &zero), "0:f", "Failed MaxFailedIndexesExceeded"},
		{"all have succeeded", limited(two, nil), "0:f 0:s 1:s 2:s 3:s", "Complete CompletionsReached"},
	} {
		mode, completions, parallelism, limit := batchv1.IndexedCompletion, int32(4), int32(4), int32(100)
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "j", Namespace: "default"}, Spec: batchv1.JobSpec{CompletionMode: &mode, Completions: &completions, Parallelism: &parallelism, BackoffLimit: &limit, Template: template("v1")}}
		test.spec(&j.Spec)
		var pods []*corev1.Pod
		for i, word := range strings.Fields(test.pods) {
			index, how, _ := strings.Cut(word, ":")
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), Annotations: map[string]string{batchv1.JobCompletionIndexAnnotation: index}}}
			end := &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(now.Add(-time.Minute)), ExitCode: 1}
			switch how {
			case "s":
				p.Status.Phase = corev1.PodSucceeded
			case "n":
				end.FinishedAt = metav1.NewTime(now)
			case "x":
				end.ExitCode = 42
			}
			if strings.Contains("fnx", how) {
				p.Status.Phase = corev1.PodFailed
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Terminated: end}}}
			}
			pods = append(pods, p)
		}
		tl := tally(j, pods)
		wait, end := tl.next(now)
		got := ""
		if end != nil {
			got = string(end.Type) + " " + end.Reason
		} else {
			var next []string
			for _, p := range tl.wanted(now) {
				next = append(next, p.Annotations[batchv1.JobCompletionIndexAnnotation])
			}
			got = "next " + strings.Join(next, ",")
			for _, n := range tl.failedIndexes() {
				got += " without " + strconv.Itoa(n)
			}
			if wait > 0 {
				got += " in " + wait.String()
			}
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
