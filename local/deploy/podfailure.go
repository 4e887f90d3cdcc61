package deploy

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// failure says what a Job's policy makes of a pod that has failed, by the first rule that fits, and why; without one
// the pod counts.
func failure(policy *batchv1.PodFailurePolicy, p *corev1.Pod) (action batchv1.PodFailurePolicyAction, why string) {
	if policy == nil {
		return batchv1.PodFailurePolicyActionCount, ""
	}
	for i, rule := range policy.Rules {
		if what := fits(rule, p); what != "" {
			return rule.Action, fmt.Sprintf("%s of pod %s/%s matches rule %d of the policy: %s", what, p.Namespace, p.Name, i, rule.Action)
		}
	}
	return batchv1.PodFailurePolicyActionCount, ""
}

// fits returns what of the pod the rule is about, "" if it is not about it.
func fits(rule batchv1.PodFailurePolicyRule, p *corev1.Pod) string {
	if e := rule.OnExitCodes; e != nil {
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			end := s.State.Terminated
			if end == nil || e.ContainerName != nil && *e.ContainerName != s.Name {
				continue
			}
			in := slices.Contains(e.Values, end.ExitCode)
			if e.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && in || e.Operator == batchv1.PodFailurePolicyOnExitCodesOpNotIn && !in && end.ExitCode != 0 {
				return fmt.Sprintf("exit code %d of container %s", end.ExitCode, s.Name)
			}
		}
		return ""
	}
	for _, want := range rule.OnPodConditions {
		for _, c := range p.Status.Conditions {
			if c.Type == want.Type && c.Status == want.Status {
				return fmt.Sprintf("condition %s", c.Type)
			}
		}
	}
	return ""
}
