package validate

import (
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	networkingv1alpha3 "istio.io/client-go/pkg/apis/networking/v1alpha3"
	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	kubenetworkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	mallav1 "github.com/mallamesh/malla/api/v1"
	"github.com/mallamesh/malla/base/field"
)

// rules holds, for kinds of which more must hold than their type says, what
// checks it. The object has what is left after what was wrong in its form.
var rules = map[string]func(*ruler, runtime.Object){
	"/ConfigMap": func(r *ruler, o runtime.Object) { r.configMap(o.(*corev1.ConfigMap)) },
	"/Secret":    func(r *ruler, o runtime.Object) { r.secret(o.(*corev1.Secret)) },
	"/Service":   func(r *ruler, o runtime.Object) { r.service(o.(*corev1.Service)) },
	"/Pod":       func(r *ruler, o runtime.Object) { r.pod(o.(*corev1.Pod)) },
	"discovery.k8s.io/EndpointSlice": func(r *ruler, o runtime.Object) {
		r.endpointSlice(o.(*discoveryv1.EndpointSlice))
	},
	"/Endpoints":                          func(r *ruler, o runtime.Object) { r.endpoints(o.(*corev1.Endpoints)) }, //lint:ignore SA1019 old manifests have it
	"apps/Deployment":                     func(r *ruler, o runtime.Object) { r.deployment(o.(*appsv1.Deployment)) },
	"apps/ReplicaSet":                     func(r *ruler, o runtime.Object) { r.replicaSet(o.(*appsv1.ReplicaSet)) },
	"networking.k8s.io/Ingress":           func(r *ruler, o runtime.Object) { r.ingress(o.(*kubenetworkingv1.Ingress)) },
	"apps/StatefulSet":                    func(r *ruler, o runtime.Object) { r.statefulSet(o.(*appsv1.StatefulSet)) },
	"apps/DaemonSet":                      func(r *ruler, o runtime.Object) { r.daemonSet(o.(*appsv1.DaemonSet)) },
	"batch/Job":                           func(r *ruler, o runtime.Object) { r.job(field.At("spec"), &o.(*batchv1.Job).Spec) },
	"batch/CronJob":                       func(r *ruler, o runtime.Object) { r.cronJob(o.(*batchv1.CronJob)) },
	"networking.istio.io/VirtualService":  func(r *ruler, o runtime.Object) { r.virtualService(o.(*networkingv1.VirtualService)) },
	"networking.istio.io/DestinationRule": func(r *ruler, o runtime.Object) { r.destinationRule(o.(*networkingv1.DestinationRule)) },
	"networking.istio.io/Gateway":         func(r *ruler, o runtime.Object) { r.gateway(o.(*networkingv1.Gateway)) },
	"networking.istio.io/Sidecar":         func(r *ruler, o runtime.Object) { r.sidecar(o.(*networkingv1.Sidecar)) },
	"networking.istio.io/ServiceEntry":    func(r *ruler, o runtime.Object) { r.serviceEntry(o.(*networkingv1.ServiceEntry)) },
	"networking.istio.io/WorkloadEntry":   func(r *ruler, o runtime.Object) { r.workloadEntry(o.(*networkingv1.WorkloadEntry)) },
	"networking.istio.io/WorkloadGroup":   func(r *ruler, o runtime.Object) { r.workloadGroup(o.(*networkingv1.WorkloadGroup)) },
	"networking.istio.io/EnvoyFilter":     func(r *ruler, o runtime.Object) { r.envoyFilter(o.(*networkingv1alpha3.EnvoyFilter)) },
	"networking.istio.io/ProxyConfig":     func(r *ruler, o runtime.Object) { r.proxyConfig(o.(*networkingv1beta1.ProxyConfig)) },
	"malla.dev/DNSPolicy":                 func(r *ruler, o runtime.Object) { r.dnsPolicy(o.(*mallav1.DNSPolicy)) },
	"security.istio.io/PeerAuthentication": func(r *ruler, o runtime.Object) {
		r.peerAuthentication(o.(*securityv1.PeerAuthentication))
	},
}
