package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: image}}}}
}

var selectsX = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}

// eventually asks until it is so.
func (c *cluster) eventually(what string, is func() (string, bool)) {
	c.t.Helper()
	last, ok := "", false
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-look.C {
		if last, ok = is(); ok {
			return
		}
	}
	c.t.Fatalf("%s: it never was so, but %s", what, last)
}

// names are those of the pods, with their images, sorted.
func (c *cluster) names() string {
	var out []string
	for _, p := range c.pods() {
		if p.DeletionTimestamp == nil {
			out = append(out, p.Name+"="+p.Spec.Containers[0].Image)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (c *cluster) have(want string) {
	c.t.Helper()
	c.eventually(want, func() (string, bool) { got := c.names(); return got, got == want })
}

// A StatefulSet's pods have names that stay; they come in order, go in the opposite order, and a new template
// replaces the last first.
func TestStatefulSet(t *testing.T) {
	c := newCluster(t)
	sets := c.client.AppsV1().StatefulSets("default")
	three := int32(3)
	set, err := sets.Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{ServiceName: "db", Replicas: &three, Selector: selectsX, Template: template("v1"),
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.have("db-0=v1 db-1=v1 db-2=v1")
	pods := c.pods()
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	for i, p := range pods {
		if v := p.Spec.Volumes; len(v) == 0 || v[0].Name != "data" || v[0].PersistentVolumeClaim == nil || v[0].PersistentVolumeClaim.ClaimName != fmt.Sprintf("data-db-%d", i) {
			t.Errorf("%s has the volumes %v, want its claim", p.Name, v)
		}
		if p.Spec.Hostname != p.Name || p.Spec.Subdomain != "db" || p.Labels["apps.kubernetes.io/pod-index"] != fmt.Sprint(i) || p.Labels["statefulset.kubernetes.io/pod-name"] != p.Name {
			t.Errorf("pod %s: host %s.%s, labels %v", p.Name, p.Spec.Hostname, p.Spec.Subdomain, p.Labels)
		}
		if i > 0 && p.CreationTimestamp.Before(&pods[i-1].CreationTimestamp) {
			t.Errorf("%s came before %s", p.Name, pods[i-1].Name)
		}
	}
	edit := func(change func(*appsv1.StatefulSet)) {
		t.Helper()
		c.eventually("edit", func() (string, bool) {
			s, err := sets.Get(t.Context(), set.Name, metav1.GetOptions{})
			if err == nil {
				change(s)
				_, err = sets.Update(t.Context(), s, metav1.UpdateOptions{})
			}
			return fmt.Sprint(err), err == nil
		})
	}
	edit(func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "v2" })
	c.have("db-0=v2 db-1=v2 db-2=v2")
	c.eventually("status", func() (string, bool) {
		s, err := sets.Get(t.Context(), set.Name, metav1.GetOptions{})
		if err != nil {
			return err.Error(), false
		}
		st := s.Status
		return fmt.Sprintf("%+v", st), st.ObservedGeneration == s.Generation && st.UpdatedReplicas == 3 && st.AvailableReplicas == 3 && st.CurrentRevision == st.UpdateRevision
	})
	edit(func(s *appsv1.StatefulSet) { one := int32(1); s.Spec.Replicas = &one })
	c.have("db-0=v2")
	if err := c.client.CoreV1().Pods("default").Delete(t.Context(), "db-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.have("db-0=v2")
}

// Below the partition pods keep the template that they have, also one that is made anew; what is at and above it gets the
// new one, as many at once as may be missing.
func TestStatefulSetPartition(t *testing.T) {
	c := newCluster(t)
	three, two := int32(3), int32(2)
	most := intstr.FromInt32(2)
	sets := c.client.AppsV1().StatefulSets("default")
	if _, err := sets.Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: appsv1.StatefulSetSpec{Replicas: &three, Selector: selectsX, Template: template("v1"),
		UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &two, MaxUnavailable: &most}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.have("db-0=v1 db-1=v1 db-2=v1")
	edit := func(change func(*appsv1.StatefulSet)) {
		c.eventually("edit", func() (string, bool) {
			s, err := sets.Get(t.Context(), "db", metav1.GetOptions{})
			if err == nil && s.Status.CurrentRevision == "" {
				return "no status yet", false
			}
			if err == nil {
				change(s)
				_, err = sets.Update(t.Context(), s, metav1.UpdateOptions{})
			}
			return fmt.Sprint(err), err == nil
		})
	}
	edit(func(s *appsv1.StatefulSet) { s.Spec.Template = template("v2") })
	c.have("db-0=v1 db-1=v1 db-2=v2")
	if err := c.client.CoreV1().Pods("default").Delete(t.Context(), "db-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.have("db-0=v1 db-1=v1 db-2=v2")
	edit(func(s *appsv1.StatefulSet) { none := int32(0); s.Spec.UpdateStrategy.RollingUpdate.Partition = &none })
	c.have("db-0=v2 db-1=v2 db-2=v2")
}

// What a Job's policy passes over is tried again and does not count; what is hopeless ends it at once.
func TestPodFailurePolicy(t *testing.T) {
	code := func(n int32) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Status: corev1.PodStatus{Phase: corev1.PodFailed,
			Conditions:        []corev1.PodCondition{{Type: "DisruptionTarget", Status: corev1.ConditionStatus(map[bool]string{true: "True", false: "False"}[n == 137])}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: n}}}}}}
	}
	other := "other"
	job := &batchv1.Job{Spec: batchv1.JobSpec{PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{ContainerName: &other, Operator: "In", Values: []int32{3}}},
		{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: "DisruptionTarget", Status: "True"}}},
		{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "In", Values: []int32{42}}},
		{Action: batchv1.PodFailurePolicyActionIgnore, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: "NotIn", Values: []int32{1, 3}}},
	}}}}
	for _, test := range []struct {
		code    int32
		counted int
		ends    bool
	}{{1, 1, false}, {3, 1, false}, {5, 0, false}, {137, 0, false}, {42, 1, true}} {
		tally := tally(job, []*corev1.Pod{code(test.code)})
		_, end := tally.next(time.Now())
		if len(tally.failed) != test.counted || (end != nil) != test.ends || end != nil && end.Reason != "PodFailurePolicy" {
			t.Errorf("exit code %d: %d counted, end %+v", test.code, len(tally.failed), end)
		}
	}
}

// A pod that is not ready keeps the next from coming, and a new template gets past it.
func TestStatefulSetWaits(t *testing.T) {
	c := newCluster(t)
	two := int32(2)
	broken := template("v1")
	broken.Annotations = map[string]string{"ready": "never"}
	sets := c.client.AppsV1().StatefulSets("default")
	if _, err := sets.Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db"}, Spec: appsv1.StatefulSetSpec{Replicas: &two, Selector: selectsX, Template: broken}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.have("db-0=v1")
	c.eventually("edit", func() (string, bool) {
		s, err := sets.Get(t.Context(), "db", metav1.GetOptions{})
		if err == nil {
			s.Spec.Template = template("v2")
			_, err = sets.Update(t.Context(), s, metav1.UpdateOptions{})
		}
		return fmt.Sprint(err), err == nil
	})
	c.have("db-0=v2 db-1=v2")
}

func TestDaemonSet(t *testing.T) {
	c := newCluster(t)
	sets := c.client.AppsV1().DaemonSets("default")
	if _, err := sets.Create(t.Context(), &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent"}, Spec: appsv1.DaemonSetSpec{Selector: selectsX, Template: template("v1")}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	available := func(image string) {
		t.Helper()
		c.eventually(image, func() (string, bool) {
			s, err := sets.Get(t.Context(), "agent", metav1.GetOptions{})
			if err != nil {
				return err.Error(), false
			}
			pods := c.names()
			return fmt.Sprintf("%s %+v", pods, s.Status), strings.HasSuffix(pods, "="+image) && !strings.Contains(pods, " ") && s.Status.NumberAvailable == 1 && s.Status.UpdatedNumberScheduled == 1
		})
	}
	available("v1")
	c.eventually("edit", func() (string, bool) {
		s, err := sets.Get(t.Context(), "agent", metav1.GetOptions{})
		if err == nil {
			s.Spec.Template = template("v2")
			_, err = sets.Update(t.Context(), s, metav1.UpdateOptions{})
		}
		return fmt.Sprint(err), err == nil
	})
	available("v2")
}

// A Job runs as many pods at once as it may, until enough have succeeded; too many failures end it.
func TestJob(t *testing.T) {
	c := newCluster(t)
	jobs := c.client.BatchV1().Jobs("default")
	run := func(name, outcome string, completions, parallelism, backoff int32, mode batchv1.CompletionMode) *batchv1.Job {
		t.Helper()
		pods := template("v1")
		pods.Annotations = map[string]string{"ends": outcome}
		pods.Spec.RestartPolicy = corev1.RestartPolicyNever
		if _, err := jobs.Create(t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: batchv1.JobSpec{Completions: &completions, Parallelism: &parallelism, BackoffLimit: &backoff, CompletionMode: &mode, Template: pods}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		var last *batchv1.Job
		c.eventually(name, func() (string, bool) {
			j, err := jobs.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err.Error(), false
			}
			last = j
			return fmt.Sprintf("%+v", j.Status), jobEnded(j) != ""
		})
		return last
	}
	if j := run("all", "Succeeded", 5, 2, 6, batchv1.NonIndexedCompletion); jobEnded(j) != batchv1.JobComplete || j.Status.Succeeded != 5 || j.Status.CompletionTime == nil {
		t.Errorf("five completions: %+v", j.Status)
	}
	if j := run("parts", "Succeeded", 3, 3, 6, batchv1.IndexedCompletion); j.Status.CompletedIndexes != "0-2" {
		t.Errorf("three parts: completed %q", j.Status.CompletedIndexes)
	}
	if j := run("bad", "Failed", 1, 1, 0, batchv1.NonIndexedCompletion); jobEnded(j) != batchv1.JobFailed || j.Status.Failed != 1 || j.Status.Conditions[0].Reason != "BackoffLimitExceeded" {
		t.Errorf("a pod that fails: %+v", j.Status)
	}
}

// A Job that waits after a failure is looked at again when its deadline comes, if that is sooner.
func TestJobDeadlineComesInBackoff(t *testing.T) {
	client := apiServer(t)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ctrl := &Controller{client: client, now: func() time.Time { return now }}
	for _, test := range []struct {
		name     string
		deadline int64
		failed   time.Duration // ago
		want     time.Duration
	}{
		{"the-deadline-is-first", 3, 0, 3 * time.Second},
		{"the-next-pod-is-first", 9, 0, 4 * time.Second},
		{"the-next-pod-is-due", 9, 5 * time.Second, 9 * time.Second},
	} {
		template := template("v1")
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		j, err := client.BatchV1().Jobs("default").Create(t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: test.name},
			Spec: batchv1.JobSpec{ActiveDeadlineSeconds: &test.deadline, Template: template}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 { // after which the next pod waits for 4s
			p := podOf(&template, j, "Job")
			p.Name, p.GenerateName = fmt.Sprint(test.name, "-", i), ""
			p.Labels[batchv1.JobNameLabel] = j.Name
			p, err = client.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			p.Status = corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{Name: "a",
				State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(now.Add(-test.failed))}}}}}
			if _, err := client.CoreV1().Pods("default").UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if again, err := ctrl.job(t.Context(), "default", j.Name); err != nil || again != test.want {
			t.Errorf("%s: again in %s, %v; want %s", test.name, again, err, test.want)
		}
	}
}

// A CronJob makes the Job of the last time that has come, and says how long it is until the next.
func TestCronDue(t *testing.T) {
	at := func(text string) time.Time {
		t.Helper()
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, test := range []struct {
		what, schedule, zone, made, last, now, due string
		again                                      time.Duration
	}{
		{"it is not time yet", "*/5 * * * *", "", "2026-01-01T00:01:00Z", "", "2026-01-01T00:04:00Z", "", time.Minute},
		{"it is time", "*/5 * * * *", "", "2026-01-01T00:01:00Z", "", "2026-01-01T00:05:00Z", "2026-01-01T00:05:00Z", 5 * time.Minute},
		{"of several that were missed the last", "*/5 * * * *", "", "2026-01-01T00:01:00Z", "2026-01-01T00:05:00Z", "2026-01-01T00:21:00Z", "2026-01-01T00:20:00Z", 4 * time.Minute},
		{"a machine slept for weeks", "* * * * *", "", "2026-01-01T00:01:00Z", "2026-01-01T00:05:00Z", "2026-02-01T00:00:30Z", "2026-02-01T00:00:00Z", 30 * time.Second},
		{"a zone", "0 12 * * *", "Europe/Madrid", "2026-01-01T00:00:00Z", "", "2026-01-01T11:00:00Z", "2026-01-01T11:00:00Z", 24 * time.Hour},
		{"not within the years that are looked at, so not again", "0 0 29 2 *", "", "2096-03-01T00:00:00Z", "", "2096-03-01T00:00:00Z", "", 0},
		{"a month passes by in a skip of minutes", "0 0 1 * *", "", "2000-01-01T00:01:00Z", "", "2026-01-15T00:00:00Z", "2026-01-01T00:00:00Z", 17 * 24 * time.Hour},
	} {
		c := &Controller{now: func() time.Time { return at(test.now) }}
		j := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(at(test.made))}, Spec: batchv1.CronJobSpec{Schedule: test.schedule, TimeZone: &test.zone}}
		if test.last != "" {
			j.Status.LastScheduleTime = &metav1.Time{Time: at(test.last)}
		}
		again, due, err := c.due(j)
		var want time.Time
		if test.due != "" {
			want = at(test.due)
		}
		if err != nil || !due.Equal(want) || again != test.again {
			t.Errorf("%s: due %s, again in %s, %v; want %s, %s", test.what, due, again, err, want, test.again)
		}
	}
}

// A schedule that cannot be read is an error, also where nothing has validated it.
func TestCronUnreadable(t *testing.T) {
	c := &Controller{now: func() time.Time { return time.Unix(0, 0) }}
	for _, text := range []string{"TZ=UTC", "CRON_TZ=UTC", "every day", "0 0 30 2 *"} {
		if again, due, err := c.due(&batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: text}}); err == nil {
			t.Errorf("%q: due %s, again in %s", text, due, again)
		}
	}
}

// CronJobs keep to their policy about those that still run.
func TestCronJob(t *testing.T) {
	c := newCluster(t)
	ctrl := &Controller{client: c.client, now: time.Now}
	job := func(policy batchv1.ConcurrencyPolicy) *batchv1.CronJob {
		name := "cron-" + strings.ToLower(string(policy))
		pods := template("v1")
		pods.Spec.RestartPolicy = corev1.RestartPolicyNever
		never := true
		j, err := c.client.BatchV1().CronJobs("default").Create(context.Background(), &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *", ConcurrencyPolicy: policy, JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Suspend: &never, Template: pods}}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	for policy, want := range map[batchv1.ConcurrencyPolicy]int{batchv1.AllowConcurrent: 2, batchv1.ForbidConcurrent: 1, batchv1.ReplaceConcurrent: 1} {
		j := job(policy)
		owned := func() (out []*batchv1.Job) {
			list, err := c.client.BatchV1().Jobs("default").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, made := range controlled[batchv1.Job](list.Items, j) {
				if made.DeletionTimestamp == nil {
					out = append(out, made)
				}
			}
			return out
		}
		for i := range 2 {
			if _, err := ctrl.start(t.Context(), j, time.Unix(int64(60*(i+1)), 0), owned()); err != nil {
				t.Fatal(err)
			}
		}
		c.eventually(string(policy), func() (string, bool) { n := len(owned()); return fmt.Sprint(n, " jobs"), n == want })
	}
}
