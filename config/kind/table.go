package kind

import (
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	networkingv1alpha3 "istio.io/client-go/pkg/apis/networking/v1alpha3"
	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	kubenetworkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// All is the table, in the order in which documentation lists the kinds.
var All = append([]*Kind{
	{Versions: []string{"v1"}, Kind: "Namespace", Plural: "namespaces", Short: []string{"ns"}, Subresources: []string{"status"},
		Fields: namespaceFields,
		New:    func() runtime.Object { return new(corev1.Namespace) }},
	{Versions: []string{"v1"}, Kind: "ServiceAccount", Plural: "serviceaccounts", Short: []string{"sa"}, Namespaced: true, Subresources: []string{"token"},
		Fields: serviceAccountFields,
		New:    func() runtime.Object { return new(corev1.ServiceAccount) }},
	{Versions: []string{"v1"}, Kind: "ConfigMap", Plural: "configmaps", Short: []string{"cm"}, Namespaced: true,
		New: func() runtime.Object { return new(corev1.ConfigMap) }},
	{Versions: []string{"v1"}, Kind: "Secret", Plural: "secrets", Namespaced: true,
		New: func() runtime.Object { return new(corev1.Secret) }},
	{Versions: []string{"v1"}, Kind: "Service", Plural: "services", Short: []string{"svc"}, Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status"},
		Fields: serviceFields,
		New:    func() runtime.Object { return new(corev1.Service) }},
	{Group: "discovery.k8s.io", Versions: []string{"v1"}, Kind: "EndpointSlice", Plural: "endpointslices", Namespaced: true,
		Fields: endpointSliceFields,
		New:    func() runtime.Object { return new(discoveryv1.EndpointSlice) }},
	{Versions: []string{"v1"}, Kind: "Endpoints", Plural: "endpoints", Singular: "endpoints", Short: []string{"ep"}, Namespaced: true,
		New: func() runtime.Object { return new(corev1.Endpoints) }},
	{Versions: []string{"v1"}, Kind: "Pod", Plural: "pods", Short: []string{"po"}, Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status", "log", "exec"},
		Fields: podFields("spec"),
		New:    func() runtime.Object { return new(corev1.Pod) }},
	{Group: "apps", Versions: []string{"v1"}, Kind: "Deployment", Plural: "deployments", Short: []string{"deploy"}, Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status", "scale"},
		Fields: podFields("spec.template.spec"),
		New:    func() runtime.Object { return new(appsv1.Deployment) }},
	{Group: "apps", Versions: []string{"v1"}, Kind: "ReplicaSet", Plural: "replicasets", Short: []string{"rs"}, Categories: []string{"all"}, Namespaced: true, Subresources: []string{"status", "scale"},
		Fields: podFields("spec.template.spec"),
		New:    func() runtime.Object { return new(appsv1.ReplicaSet) }},
	{Group: "networking.k8s.io", Versions: []string{"v1"}, Kind: "Ingress", Plural: "ingresses", Short: []string{"ing"}, Namespaced: true, Subresources: []string{"status"},
		Fields: ref("a backend is a Service, in Istio too", "spec.defaultBackend.resource", "spec.rules[].http.paths[].backend.resource"),
		New:    func() runtime.Object { return new(kubenetworkingv1.Ingress) }},
	{Group: "networking.k8s.io", Versions: []string{"v1"}, Kind: "IngressClass", Plural: "ingressclasses",
		Fields:  ign("there are no parameters", "spec.parameters"),
		Columns: []Column{{Name: "Controller", Type: "string", JSONPath: ".spec.controller"}},
		New:     func() runtime.Object { return new(kubenetworkingv1.IngressClass) }},
	{Versions: []string{"v1"}, Kind: "Event", Plural: "events", Short: []string{"ev"}, Namespaced: true,
		New: func() runtime.Object { return new(corev1.Event) }},
	{Group: "networking.istio.io", Versions: []string{"v1", "v1beta1", "v1alpha3"}, Kind: "VirtualService", Plural: "virtualservices", Short: []string{"vs"}, Categories: []string{"istio-io", "networking-istio-io"}, Namespaced: true, Subresources: []string{"status"},
		Fields: virtualServiceFields,
		Columns: []Column{
			{Name: "Gateways", Type: "string", JSONPath: ".spec.gateways"},
			{Name: "Hosts", Type: "string", JSONPath: ".spec.hosts"},
		},
		New: func() runtime.Object { return new(networkingv1.VirtualService) }},
	{Group: "networking.istio.io", Versions: []string{"v1", "v1beta1", "v1alpha3"}, Kind: "DestinationRule", Plural: "destinationrules", Short: []string{"dr"}, Categories: []string{"istio-io", "networking-istio-io"}, Namespaced: true, Subresources: []string{"status"},
		Fields:  destinationRuleFields(),
		Columns: []Column{{Name: "Host", Type: "string", JSONPath: ".spec.host"}},
		New:     func() runtime.Object { return new(networkingv1.DestinationRule) }},
	{Group: "networking.istio.io", Versions: []string{"v1", "v1beta1", "v1alpha3"}, Kind: "Gateway", Plural: "gateways", Short: []string{"gw"}, Categories: []string{"istio-io", "networking-istio-io"}, Namespaced: true, Subresources: []string{"status"},
		Fields: gatewayFields,
		New:    func() runtime.Object { return new(networkingv1.Gateway) }},
	{Group: "networking.istio.io", Versions: []string{"v1", "v1beta1", "v1alpha3"}, Kind: "ServiceEntry", Plural: "serviceentries", Short: []string{"se"}, Categories: []string{"istio-io", "networking-istio-io"}, Namespaced: true, Subresources: []string{"status"},
		Columns: []Column{
			{Name: "Hosts", Type: "string", JSONPath: ".spec.hosts"},
			{Name: "Location", Type: "string", JSONPath: ".spec.location"},
			{Name: "Resolution", Type: "string", JSONPath: ".spec.resolution"},
		},
		New: func() runtime.Object { return new(networkingv1.ServiceEntry) }},
	{Group: "networking.istio.io", Versions: []string{"v1", "v1beta1", "v1alpha3"}, Kind: "Sidecar", Plural: "sidecars", Categories: []string{"istio-io", "networking-istio-io"}, Namespaced: true, Subresources: []string{"status"},
		Fields: sidecarFields,
		New:    func() runtime.Object { return new(networkingv1.Sidecar) }},
	{Group: "networking.istio.io", Versions: []string{"v1alpha3"}, Kind: "EnvoyFilter", Plural: "envoyfilters", Categories: []string{"istio-io", "networking-istio-io"}, Namespaced: true, Subresources: []string{"status"},
		Fields: envoyFilterFields,
		New:    func() runtime.Object { return new(networkingv1alpha3.EnvoyFilter) }},
	{Group: "networking.istio.io", Versions: []string{"v1beta1"}, Kind: "ProxyConfig", Plural: "proxyconfigs", Categories: []string{"istio-io", "networking-istio-io"}, Namespaced: true, Subresources: []string{"status"},
		Fields: ign("images are programs of this machine", "spec.image"),
		New:    func() runtime.Object { return new(networkingv1beta1.ProxyConfig) }},
	{Group: "security.istio.io", Versions: []string{"v1", "v1beta1"}, Kind: "PeerAuthentication", Plural: "peerauthentications", Short: []string{"pa"}, Categories: []string{"istio-io", "security-istio-io"}, Namespaced: true, Subresources: []string{"status"},
		Columns: []Column{{Name: "Mode", Type: "string", JSONPath: ".spec.mtls.mode"}},
		New:     func() runtime.Object { return new(securityv1.PeerAuthentication) }},
}, slices.Concat(gatewayAPI, workloads, machines, own, ignored)...)
