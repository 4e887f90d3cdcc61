package validate

import (
	"errors"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/claim"
	"github.com/mallamesh/malla/config/schedule"
)

func (r *ruler) statefulSet(s *appsv1.StatefulSet) {
	at := field.At("spec")
	r.replicas(at.Child("replicas"), s.Spec.Replicas)
	template := s.Spec.Template
	template.Spec.Volumes = claim.Volumes(s, "0")
	r.template(at, s.Spec.Selector, &template)
	for i, c := range s.Spec.VolumeClaimTemplates {
		p := at.Child("volumeClaimTemplates").Index(i).Child("metadata").Child("name")
		for _, text := range validation.IsDNS1123Label(c.Name) {
			r.errorf(p, "found %q: %s", c.Name, problem(text))
		}
		if slices.ContainsFunc(s.Spec.VolumeClaimTemplates[:i], func(o corev1.PersistentVolumeClaim) bool { return o.Name == c.Name }) {
			r.errorf(p, "found %q a second time", c.Name)
		}
	}
	r.choice(at.Child("podManagementPolicy"), string(s.Spec.PodManagementPolicy), "OrderedReady", "Parallel")
	r.choice(at.Child("updateStrategy").Child("type"), string(s.Spec.UpdateStrategy.Type), "RollingUpdate", "OnDelete")
	if u := s.Spec.UpdateStrategy.RollingUpdate; u != nil {
		p := at.Child("updateStrategy").Child("rollingUpdate")
		if u.Partition != nil && *u.Partition < 0 {
			r.errorf(p.Child("partition"), "found %d, want 0 or more", *u.Partition)
		}
		if m := u.MaxUnavailable; m != nil {
			if n, err := intstr.GetScaledValueFromIntOrPercent(m, 100, true); err != nil || n < 1 {
				r.errorf(p.Child("maxUnavailable"), "found %q, want 1 or more, or a percentage above 0", m.String())
			}
		}
	}
	if n := s.Spec.ServiceName; n != "" {
		for _, p := range validation.IsDNS1123Label(n) {
			r.errorf(at.Child("serviceName"), "found %q: %s", n, problem(p))
		}
	}
	if o := s.Spec.Ordinals; o != nil && o.Start < 0 {
		r.errorf(at.Child("ordinals").Child("start"), "found %d, want 0 or more", o.Start)
	}
}

func (r *ruler) daemonSet(d *appsv1.DaemonSet) {
	at := field.At("spec")
	r.template(at, d.Spec.Selector, &d.Spec.Template)
	r.choice(at.Child("updateStrategy").Child("type"), string(d.Spec.UpdateStrategy.Type), "RollingUpdate", "OnDelete")
}

func (r *ruler) job(at *field.Path, s *batchv1.JobSpec) {
	for _, n := range []struct {
		name  string
		value *int32
	}{{"parallelism", s.Parallelism}, {"completions", s.Completions}} {
		r.replicas(at.Child(n.name), n.value)
	}
	for _, n := range []struct {
		name  string
		value int64
	}{{"backoffLimit", deref(s.BackoffLimit)}, {"ttlSecondsAfterFinished", deref(s.TTLSecondsAfterFinished)}, {"activeDeadlineSeconds", deref(s.ActiveDeadlineSeconds)}} {
		if n.value < 0 {
			r.errorf(at.Child(n.name), "found %d, want 0 or more", n.value)
		}
	}
	if m := s.CompletionMode; m != nil {
		r.choice(at.Child("completionMode"), string(*m), "NonIndexed", "Indexed")
		if *m == batchv1.IndexedCompletion && s.Completions == nil {
			r.errorf(at.Child("completions"), "missing; completionMode Indexed wants how many indexes there are")
		}
	}
	r.podFailurePolicy(at.Child("podFailurePolicy"), s)
	r.jobIndexes(at, s)
	template := at.Child("template")
	r.labels(template.Child("metadata").Child("labels"), s.Template.Labels)
	r.annotations(template.Child("metadata"), s.Template.Annotations, s.Template.Labels)
	if p := s.Template.Spec.RestartPolicy; p != corev1.RestartPolicyNever && p != corev1.RestartPolicyOnFailure {
		r.errorf(template.Child("spec").Child("restartPolicy"), "found %q, want Never or OnFailure: the pods are meant to end", p)
	}
	r.podSpec(template.Child("spec"), &s.Template.Spec)
}

// jobIndexes checks what is said of the indexes of a Job.
func (r *ruler) jobIndexes(at *field.Path, s *batchv1.JobSpec) {
	indexed := s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
	if n := s.BackoffLimitPerIndex; n != nil {
		p := at.Child("backoffLimitPerIndex")
		switch {
		case *n < 0:
			r.errorf(p, "found %d, want 0 or more", *n)
		case !indexed:
			r.errorf(p, "wants completionMode Indexed")
		case s.Template.Spec.RestartPolicy == corev1.RestartPolicyOnFailure:
			r.errorf(p, "found beside restartPolicy OnFailure: containers that are started again do not fail their pod; want Never")
		}
	}
	if n := s.MaxFailedIndexes; n != nil {
		p := at.Child("maxFailedIndexes")
		switch {
		case s.BackoffLimitPerIndex == nil:
			r.errorf(p, "wants backoffLimitPerIndex")
		case *n < 0 || s.Completions != nil && *n > *s.Completions:
			r.errorf(p, "found %d, want 0 to the number of completions", *n)
		}
	}
	if s.SuccessPolicy == nil {
		return
	}
	p := at.Child("successPolicy")
	if !indexed {
		r.errorf(p, "wants completionMode Indexed")
	}
	if n := len(s.SuccessPolicy.Rules); n == 0 || n > 20 {
		r.errorf(p.Child("rules"), "found %d rules, want 1 to 20", n)
	}
	for i, rule := range s.SuccessPolicy.Rules {
		p := p.Child("rules").Index(i)
		if rule.SucceededCount == nil && rule.SucceededIndexes == nil {
			r.errorf(p, "says nothing; want succeededIndexes, succeededCount or both")
		}
		most := deref(s.Completions)
		if text := rule.SucceededIndexes; text != nil {
			set, err := schedule.Indexes(*text, most)
			if err != nil {
				r.errorf(p.Child("succeededIndexes"), "%v", err)
			}
			most = int64(len(set))
		}
		if n := rule.SucceededCount; n != nil && (*n < 1 || int64(*n) > most) {
			r.errorf(p.Child("succeededCount"), "found %d, want 1 to %d", *n, most)
		}
	}
}

func (r *ruler) podFailurePolicy(at *field.Path, s *batchv1.JobSpec) {
	p := s.PodFailurePolicy
	if p == nil {
		return
	}
	if s.Template.Spec.RestartPolicy == corev1.RestartPolicyOnFailure {
		r.errorf(at, "found beside restartPolicy %s: containers that are started again do not fail their pod; want Never", s.Template.Spec.RestartPolicy)
	}
	for i, rule := range p.Rules {
		at := at.Child("rules").Index(i)
		r.choice(at.Child("action"), string(rule.Action), "FailJob", "Ignore", "Count", "FailIndex")
		if rule.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil {
			r.errorf(at.Child("action"), "found FailIndex, which wants backoffLimitPerIndex")
		}
		e := rule.OnExitCodes
		if (e != nil) == (len(rule.OnPodConditions) > 0) {
			r.errorf(at, "wants one of onExitCodes and onPodConditions")
		}
		if e == nil {
			continue
		}
		r.choice(at.Child("onExitCodes").Child("operator"), string(e.Operator), "In", "NotIn")
		if len(e.Values) == 0 || e.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && slices.Contains(e.Values, 0) {
			r.errorf(at.Child("onExitCodes").Child("values"), "found %v, want exit codes, of which In takes none that is 0", e.Values)
		}
	}
}

func deref[T int32 | int64](p *T) int64 {
	if p == nil {
		return 0
	}
	return int64(*p)
}

func (r *ruler) cronJob(c *batchv1.CronJob) {
	at := field.At("spec")
	if z := c.Spec.TimeZone; z != nil {
		if _, err := schedule.Parse("* * * * *", *z); err != nil {
			r.errorf(at.Child("timeZone"), "found %q, want a name such as Europe/Madrid", *z)
		}
	}
	switch _, err := schedule.Parse(c.Spec.Schedule, ""); {
	case c.Spec.Schedule == "":
		r.errorf(at.Child("schedule"), "missing; want minute, hour, day, month and weekday, for example \"*/5 * * * *\"")
	case errors.Is(err, schedule.ErrZone), errors.Is(err, schedule.ErrNever):
		r.errorf(at.Child("schedule"), "found %q; %v", c.Spec.Schedule, err)
	case err != nil:
		r.errorf(at.Child("schedule"), "found %q, want minute, hour, day, month and weekday, for example \"*/5 * * * *\": %v", c.Spec.Schedule, err)
	}
	r.choice(at.Child("concurrencyPolicy"), string(c.Spec.ConcurrencyPolicy), "Allow", "Forbid", "Replace")
	r.job(at.Child("jobTemplate").Child("spec"), &c.Spec.JobTemplate.Spec)
}
