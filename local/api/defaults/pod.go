package defaults

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func pod(s *corev1.PodSpec) {
	or(&s.DNSPolicy, corev1.DNSClusterFirst)
	or(&s.RestartPolicy, corev1.RestartPolicyAlways)
	or(&s.SchedulerName, corev1.DefaultSchedulerName)
	orNew(&s.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	orNew(&s.EnableServiceLinks, true)
	orNew(&s.SecurityContext, corev1.PodSecurityContext{})
	// serviceAccount is the old name of serviceAccountName; both are shown.
	or(&s.ServiceAccountName, s.DeprecatedServiceAccount)
	or(&s.DeprecatedServiceAccount, s.ServiceAccountName)
	for i := range s.InitContainers {
		container(&s.InitContainers[i])
	}
	for i := range s.Containers {
		container(&s.Containers[i])
	}
	for i := range s.Volumes {
		volume(&s.Volumes[i])
	}
}

// container leaves imagePullPolicy alone: nothing is pulled here, and a default
// would look like something that its author wrote without effect.
func container(c *corev1.Container) {
	or(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	or(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		or(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		if f := c.Env[i].ValueFrom; f != nil && f.FieldRef != nil {
			or(&f.FieldRef.APIVersion, "v1")
		}
	}
	for name, limit := range c.Resources.Limits {
		if _, said := c.Resources.Requests[name]; !said {
			if c.Resources.Requests == nil {
				c.Resources.Requests = map[corev1.ResourceName]resource.Quantity{}
			}
			c.Resources.Requests[name] = limit.DeepCopy()
		}
	}
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		probe(p)
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PreStop, c.Lifecycle.PostStart} {
			if h != nil && h.HTTPGet != nil {
				httpGet(h.HTTPGet)
			}
		}
	}
}

func probe(p *corev1.Probe) {
	if p == nil {
		return
	}
	or(&p.TimeoutSeconds, 1)
	or(&p.PeriodSeconds, 10)
	or(&p.SuccessThreshold, 1)
	or(&p.FailureThreshold, 3)
	if p.HTTPGet != nil {
		httpGet(p.HTTPGet)
	}
	if p.GRPC != nil {
		orNew(&p.GRPC.Service, "")
	}
}

func httpGet(h *corev1.HTTPGetAction) {
	or(&h.Path, "/")
	or(&h.Scheme, corev1.URISchemeHTTP)
	if h.Port == (intstr.IntOrString{}) {
		h.Port = intstr.FromInt32(80)
	}
}

func volume(v *corev1.Volume) {
	const mode int32 = 0o644
	s := &v.VolumeSource
	switch {
	case s.ConfigMap != nil:
		orNew(&s.ConfigMap.DefaultMode, mode)
	case s.Secret != nil:
		orNew(&s.Secret.DefaultMode, mode)
	case s.DownwardAPI != nil:
		orNew(&s.DownwardAPI.DefaultMode, mode)
		fields(s.DownwardAPI.Items)
	case s.Projected != nil:
		orNew(&s.Projected.DefaultMode, mode)
		for i := range s.Projected.Sources {
			p := &s.Projected.Sources[i]
			if p.ServiceAccountToken != nil {
				orNew(&p.ServiceAccountToken.ExpirationSeconds, 3600)
			}
			if p.DownwardAPI != nil {
				fields(p.DownwardAPI.Items)
			}
		}
	case s.HostPath != nil:
		orNew(&s.HostPath.Type, corev1.HostPathUnset)
	case *s == (corev1.VolumeSource{}):
		s.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
}

func fields(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		if items[i].FieldRef != nil {
			or(&items[i].FieldRef.APIVersion, "v1")
		}
	}
}
