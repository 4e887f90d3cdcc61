package validate

import (
	"maps"
	"regexp"
	"slices"

	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"

	"github.com/mallamesh/malla/base/field"
)

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

func (r *ruler) proxyConfig(p *networkingv1beta1.ProxyConfig) {
	spec, at := &p.Spec, field.At("spec")
	labels := spec.GetSelector().GetMatchLabels()
	r.labels(at.Child("selector").Child("matchLabels"), labels)
	if len(labels) > 0 && p.Namespace == "istio-system" {
		r.notice(at.Child("selector"), "a ProxyConfig with a selector counts only in the namespace of the workloads, not in all")
	}
	if c := spec.GetConcurrency(); c != nil && (c.GetValue() < 0 || c.GetValue() > 256) {
		r.errorf(at.Child("concurrency"), "found %d, want 0 (as many as the machine has processors) to 256", c.GetValue())
	}
	for _, name := range slices.Sorted(maps.Keys(spec.GetEnvironmentVariables())) {
		if !variable.MatchString(name) {
			r.errorf(at.Child("environmentVariables").Child(name), "found the name %q, want letters, digits and underscores", name)
		}
	}
}
