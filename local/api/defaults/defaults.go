// Package defaults sets Kubernetes' defaults in Kubernetes' own kinds: what a
// field means when a document does not say, as the API reference documents it.
//
// Only the kinds that malla uses have any. Addresses and node ports of Services
// are not defaults: whoever stores them knows which are free.
package defaults

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"math"
)

// Set fills in o's defaults. Setting them twice changes nothing.
func Set(o runtime.Object) {
	switch o := o.(type) {
	case *corev1.Pod:
		pod(&o.Spec)
	case *corev1.Service:
		service(&o.Spec)
	case *corev1.Secret:
		secret(o)
	case *appsv1.Deployment:
		deployment(o)
	case *appsv1.ReplicaSet:
		replicaSet(o)
	case *appsv1.StatefulSet:
		statefulSet(&o.Spec)
	case *appsv1.DaemonSet:
		or(&o.Spec.UpdateStrategy.Type, appsv1.RollingUpdateDaemonSetStrategyType)
		pod(&o.Spec.Template.Spec)
	case *batchv1.Job:
		job(&o.Spec)
	case *batchv1.CronJob:
		cronJob(&o.Spec)
	case *discoveryv1.EndpointSlice:
		endpointSlice(o)
	case *corev1.Endpoints: //lint:ignore SA1019 people write it
		for i := range o.Subsets {
			for j := range o.Subsets[i].Ports {
				or(&o.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
			}
		}
	}
}

// or gives *p the value v if it has none.
func or[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// orNew points *p at v if it is nil.
func orNew[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

func deployment(d *appsv1.Deployment) {
	s := &d.Spec
	orNew(&s.Replicas, 1)
	orNew(&s.RevisionHistoryLimit, 10)
	orNew(&s.ProgressDeadlineSeconds, 600)
	or(&s.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if s.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		orNew(&s.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		orNew(&s.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		orNew(&s.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	pod(&s.Template.Spec)
}

func statefulSet(s *appsv1.StatefulSetSpec) {
	orNew(&s.Replicas, 1)
	or(&s.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	or(&s.UpdateStrategy.Type, appsv1.RollingUpdateStatefulSetStrategyType)
	pod(&s.Template.Spec)
}

func job(s *batchv1.JobSpec) {
	if s.Completions == nil && s.Parallelism == nil {
		orNew(&s.Completions, 1)
	}
	orNew(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		orNew(&s.BackoffLimit, math.MaxInt32)
	}
	orNew(&s.BackoffLimit, 6)
	orNew(&s.CompletionMode, batchv1.NonIndexedCompletion)
	orNew(&s.Suspend, false)
	pod(&s.Template.Spec)
}

func cronJob(s *batchv1.CronJobSpec) {
	or(&s.ConcurrencyPolicy, batchv1.AllowConcurrent)
	orNew(&s.Suspend, false)
	orNew(&s.SuccessfulJobsHistoryLimit, 3)
	orNew(&s.FailedJobsHistoryLimit, 1)
}

func replicaSet(r *appsv1.ReplicaSet) {
	orNew(&r.Spec.Replicas, 1)
	if len(r.Labels) == 0 {
		r.Labels = r.Spec.Template.Labels
	}
	pod(&r.Spec.Template.Spec)
}

func secret(s *corev1.Secret) {
	or(&s.Type, corev1.SecretTypeOpaque)
	// stringData is a way of writing, never of reading.
	for k, v := range s.StringData {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
}

func service(s *corev1.ServiceSpec) {
	or(&s.Type, corev1.ServiceTypeClusterIP)
	or(&s.SessionAffinity, corev1.ServiceAffinityNone)
	if s.SessionAffinity == corev1.ServiceAffinityClientIP {
		orNew(&s.SessionAffinityConfig, corev1.SessionAffinityConfig{})
		orNew(&s.SessionAffinityConfig.ClientIP, corev1.ClientIPConfig{})
		orNew(&s.SessionAffinityConfig.ClientIP.TimeoutSeconds, 10800)
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		or(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == (intstr.IntOrString{}) {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if s.Type == corev1.ServiceTypeExternalName {
		return
	}
	orNew(&s.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	if s.Type == corev1.ServiceTypeNodePort || s.Type == corev1.ServiceTypeLoadBalancer {
		or(&s.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if s.Type == corev1.ServiceTypeLoadBalancer {
		orNew(&s.AllocateLoadBalancerNodePorts, true)
	}
}

func endpointSlice(e *discoveryv1.EndpointSlice) {
	for i := range e.Ports {
		orNew(&e.Ports[i].Name, "")
		orNew(&e.Ports[i].Protocol, corev1.ProtocolTCP)
	}
}
