package gateways

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/compile/gatewayapi"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/control/inject"
)

// Labels of what is made; the first two are the standard's.
const (
	NameLabel    = gatewayapi.NameLabel
	ClassLabel   = "gateway.networking.k8s.io/gateway-class-name"
	ManagedLabel = gatewayapi.ManagedLabel
	managed      = gatewayapi.Managed

	// DefaultsLabel is on a ConfigMap with patches for the Gateways of a class.
	DefaultsLabel = "gateway.istio.io/defaults-for-class"
	// madeOf is the annotation with the form, and the hash of what an object was made of.
	madeOf = "malla.dev/made-of"
	// askedFor is the annotation of a Service with the address that its Gateway wants it to have.
	askedFor = "malla.dev/address"
	// statusPort answers whether a gateway is ready.
	statusPort = 15021
)

// A Wanted is a workload that a Gateway is to have.
type Wanted struct {
	gatewayapi.Deployment
	UID types.UID // of the Gateway
}

// A set is what is made for one Gateway.
type set struct {
	account    *corev1.ServiceAccount
	deployment *appsv1.Deployment
	service    *corev1.Service
}

// notInherited are annotations of a Gateway that say nothing of its workload.
var notInherited = []string{config.SourceAnnotation, corev1.LastAppliedConfigAnnotation, "networking.istio.io/service-type"}

// objects returns what a Gateway is to have, with the patches that its class has.
func objects(w Wanted, patches map[string]string) (set, error) {
	labels := maps.Clone(w.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[NameLabel], labels[ClassLabel], labels[ManagedLabel] = w.Gateway.Name, w.Class, managed
	annotations := maps.Clone(w.Annotations)
	for _, name := range notInherited {
		delete(annotations, name)
	}
	block := true
	meta := func() metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: w.Gateway.Namespace, Name: w.Name, Labels: maps.Clone(labels), Annotations: maps.Clone(annotations),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: kind.GatewayAPI + "/v1", Kind: "Gateway", Name: w.Gateway.Name, UID: w.UID, BlockOwnerDeletion: &block}}}
	}
	selector := map[string]string{NameLabel: w.Gateway.Name}
	pod := maps.Clone(labels)
	delete(pod, ManagedLabel)
	pod[inject.InjectKey], pod[inject.CanonicalName], pod[inject.CanonicalRevision] = "true", w.Name, "latest"
	podAnnotations := maps.Clone(annotations)
	if podAnnotations == nil {
		podAnnotations = map[string]string{}
	}
	podAnnotations[inject.TemplatesAnnotation] = "gateway"
	s := set{
		account: &corev1.ServiceAccount{ObjectMeta: meta()},
		deployment: &appsv1.Deployment{ObjectMeta: meta(), Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: pod, Annotations: podAnnotations},
				Spec: corev1.PodSpec{
					ServiceAccountName: w.Name,
					Containers:         []corev1.Container{{Name: inject.Container, Image: "auto", Ports: []corev1.ContainerPort{{Name: "status-port", ContainerPort: statusPort, Protocol: corev1.ProtocolTCP}}}},
				},
			},
		}},
		service: &corev1.Service{ObjectMeta: meta(), Spec: corev1.ServiceSpec{Type: corev1.ServiceType(w.ServiceType), LoadBalancerIP: w.Address, Selector: selector, Ports: ports(w.Ports)}},
	}
	if w.Address != "" {
		s.service.Annotations = merged(s.service.Annotations, map[string]string{askedFor: w.Address})
	}
	for key, target := range map[string]any{"deployment": s.deployment, "service": s.service, "serviceAccount": s.account} {
		for _, patch := range []string{patches[key], w.ClassPatches[key], w.Patches[key]} { // the Gateway's own has the last word
			if err := patched(target, patch); err != nil {
				return set{}, fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	for _, o := range []metav1.Object{s.account, s.deployment, s.service} {
		stamp(o)
	}
	return s, nil
}

func ports(list []gatewayapi.Port) []corev1.ServicePort {
	app := "tcp"
	out := []corev1.ServicePort{{Name: "status-port", Port: statusPort, TargetPort: intstr.FromInt32(statusPort), Protocol: corev1.ProtocolTCP, AppProtocol: &app}}
	for _, p := range list {
		protocol, _, _ := strings.Cut(p.Name, "-")
		out = append(out, corev1.ServicePort{Name: p.Name, Port: int32(p.Number), TargetPort: intstr.FromInt32(int32(p.Number)), Protocol: corev1.ProtocolTCP, AppProtocol: &protocol})
	}
	return out
}

// patched lays a strategic merge patch, in YAML, over an object.
func patched[T any](target T, patch string) error {
	if patch == "" {
		return nil
	}
	change, err := yaml.YAMLToJSON([]byte(patch))
	if err != nil {
		return err
	}
	before, err := json.Marshal(target)
	if err != nil {
		return err
	}
	after, err := strategicpatch.StrategicMergePatch(before, change, target)
	if err != nil {
		return err
	}
	return json.Unmarshal(after, target)
}

// stamp notes of what an object is made.
func stamp(o metav1.Object) {
	data, err := json.Marshal(o)
	if err != nil {
		panic("control/gateways: " + err.Error()) // it is made of plain fields
	}
	h := fnv.New128a()
	h.Write(data)
	a := o.GetAnnotations()
	if a == nil {
		a = map[string]string{}
	}
	a[madeOf] = strconv.Itoa(form) + ":" + hex.EncodeToString(h.Sum(nil))
	o.SetAnnotations(a)
}

// A standing is how an object that is there stands to the one that is wanted.
type standing uint8

const (
	right   standing = iota
	changed          // it was made of something else
	foreign          // somebody else made it, or one of us that makes it otherwise and is newer
)

// form is that of what is made. It grows with every change of this package by which the same Gateway is made into
// something else: of control planes that run at the same time, as in an update, the newest has its way, and the
// others do not write against it.
const form = 1

// formOf reads the form of what is there: 0 of what was made without one, or by istiod.
func formOf(o metav1.Object) int {
	number, _, found := strings.Cut(o.GetAnnotations()[madeOf], ":")
	n, err := strconv.Atoi(number)
	if !found || err != nil {
		return 0
	}
	return n
}

func compare(have, want metav1.Object) standing {
	switch {
	case have.GetLabels()[ManagedLabel] != managed, formOf(have) > formOf(want):
		return foreign
	case have.GetAnnotations()[madeOf] != want.GetAnnotations()[madeOf] || !owned(have, want.GetOwnerReferences()):
		return changed
	}
	return right
}

// owned reports whether an object has all of the owners; patches may want none.
func owned(o metav1.Object, by []metav1.OwnerReference) bool {
	for _, want := range by {
		if !slices.ContainsFunc(o.GetOwnerReferences(), func(have metav1.OwnerReference) bool { return have.UID == want.UID }) {
			return false
		}
	}
	return true
}

// renew is have with the metadata of what is wanted: what others added stays.
func renew(have, want metav1.Object) {
	have.SetLabels(merged(have.GetLabels(), want.GetLabels()))
	have.SetAnnotations(merged(have.GetAnnotations(), want.GetAnnotations()))
	have.SetOwnerReferences(want.GetOwnerReferences())
}

// merged returns a with what is in b.
func merged(a, b map[string]string) map[string]string {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, b)
	return out
}

// renewService keeps what the API server gave a Service, and what is not said of it here.
func renewService(have, want *corev1.Service) *corev1.Service {
	out := have.DeepCopy()
	renew(out, want)
	out.Spec.Selector, out.Spec.Ports = nil, nil // not merged with those of before
	if asked := have.Annotations[askedFor]; asked != "" && asked == out.Spec.LoadBalancerIP {
		out.Spec.LoadBalancerIP = "" // it is asked for no more, or again below
	}
	if want.Annotations[askedFor] == "" {
		delete(out.Annotations, askedFor)
	}
	said, err := json.Marshal(want.Spec)
	if err == nil {
		err = json.Unmarshal(said, &out.Spec)
	}
	if err != nil {
		panic("control/gateways: " + err.Error()) // it is made of plain fields
	}
	ports := want.DeepCopy().Spec.Ports
	for i := range ports {
		for _, p := range have.Spec.Ports {
			if p.Port == ports[i].Port && ports[i].NodePort == 0 && want.Spec.Type != corev1.ServiceTypeClusterIP {
				ports[i].NodePort = p.NodePort
			}
		}
	}
	out.Spec.Ports = ports
	return out
}

// restartedAt is the annotation of pods by which `kubectl rollout restart` begins them anew. Without it they
// would be replaced once more.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

// renewDeployment keeps the number of replicas that somebody chose, and their restart.
func renewDeployment(have, want *appsv1.Deployment) *appsv1.Deployment {
	out := want.DeepCopy()
	out.ObjectMeta = *have.ObjectMeta.DeepCopy()
	renew(out, want)
	if want.Spec.Replicas == nil {
		out.Spec.Replicas = have.Spec.Replicas
	}
	if at := have.Spec.Template.Annotations[restartedAt]; at != "" {
		out.Spec.Template.Annotations = merged(out.Spec.Template.Annotations, map[string]string{restartedAt: at})
	}
	return out
}
