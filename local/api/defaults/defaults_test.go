package defaults

import (
	"reflect"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func full() []runtime.Object {
	spec := corev1.PodSpec{
		Containers: []corev1.Container{{Name: "a", Image: "x:1", Ports: []corev1.ContainerPort{{ContainerPort: 1}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{}}},
			LivenessProbe:  &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 1}}}}},
		Volumes: []corev1.Volume{{Name: "e"}, {Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}}},
	}
	return []runtime.Object{
		&corev1.Pod{Spec: spec},
		&corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}},
		&corev1.Secret{StringData: map[string]string{"a": "b"}},
		&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: spec}}},
		&appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{Template: corev1.PodTemplateSpec{Spec: spec}}},
		&discoveryv1.EndpointSlice{Ports: []discoveryv1.EndpointPort{{}}},
	}
}

func TestSetTwiceChangesNothing(t *testing.T) {
	for _, o := range full() {
		Set(o)
		once := o.DeepCopyObject()
		Set(o)
		if !reflect.DeepEqual(once, o) {
			t.Errorf("%T: the second time makes %+v of %+v", o, o, once)
		}
	}
}

func TestDefaults(t *testing.T) {
	o := full()
	for _, x := range o {
		Set(x)
	}
	p, svc, sec, d := o[0].(*corev1.Pod), o[1].(*corev1.Service), o[2].(*corev1.Secret), o[3].(*appsv1.Deployment)
	for _, test := range []struct {
		what      string
		got, want any
	}{
		{"a pod restarts", p.Spec.RestartPolicy, corev1.RestartPolicyAlways},
		{"a pod has 30 s to end", *p.Spec.TerminationGracePeriodSeconds, int64(30)},
		{"a container port is TCP", p.Spec.Containers[0].Ports[0].Protocol, corev1.ProtocolTCP},
		{"a probe asks every 10 s", p.Spec.Containers[0].ReadinessProbe.PeriodSeconds, int32(10)},
		{"a probe asks for /", p.Spec.Containers[0].ReadinessProbe.HTTPGet.Path, "/"},
		{"a volume without a source is an emptyDir", p.Spec.Volumes[0].EmptyDir != nil, true},
		{"a service is a ClusterIP", svc.Spec.Type, corev1.ServiceTypeClusterIP},
		{"a target port is the port", svc.Spec.Ports[0].TargetPort, intstr.FromInt32(80)},
		{"stringData is written as data", string(sec.Data["a"]), "b"},
		{"stringData is never read", sec.StringData == nil, true},
		{"a deployment has one replica", *d.Spec.Replicas, int32(1)},
		{"a deployment rolls a quarter at a time", d.Spec.Strategy.RollingUpdate.MaxSurge.String(), "25%"},
		{"a template's pods have defaults too", d.Spec.Template.Spec.DNSPolicy, corev1.DNSClusterFirst},
	} {
		if !reflect.DeepEqual(test.got, test.want) {
			t.Errorf("%s: got %v, want %v", test.what, test.got, test.want)
		}
	}
}
