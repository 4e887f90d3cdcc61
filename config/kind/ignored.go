package kind

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// ignored are the kinds that people's manifests bring along and that have no
// effect here. Their contents are kept but not looked at.
var ignored = []*Kind{
	without("rbac.authorization.k8s.io", "Role", "roles", true, whyRBAC, func() runtime.Object { return new(rbacv1.Role) }, "v1"),
	without("rbac.authorization.k8s.io", "RoleBinding", "rolebindings", true, whyRBAC, func() runtime.Object { return new(rbacv1.RoleBinding) }, "v1"),
	without("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", false, whyRBAC, func() runtime.Object { return new(rbacv1.ClusterRole) }, "v1"),
	without("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings", false, whyRBAC, func() runtime.Object { return new(rbacv1.ClusterRoleBinding) }, "v1"),
	without("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true, "replicas are what the Deployment says; nothing scales them", func() runtime.Object { return new(autoscalingv2.HorizontalPodAutoscaler) }, "v2", "v1").short("hpa"),
	without("autoscaling.k8s.io", "VerticalPodAutoscaler", "verticalpodautoscalers", true, "requests and limits have no effect here", nil, "v1").short("vpa"),
	without("policy", "PodDisruptionBudget", "poddisruptionbudgets", true, "nothing evicts pods here", func() runtime.Object { return new(policyv1.PodDisruptionBudget) }, "v1").short("pdb"),
	without("networking.k8s.io", "NetworkPolicy", "networkpolicies", true, "the network between pods is open here", func() runtime.Object { return new(networkingv1.NetworkPolicy) }, "v1").short("netpol"),
	without("scheduling.k8s.io", "PriorityClass", "priorityclasses", false, "there is one machine; nothing is scheduled", func() runtime.Object { return new(schedulingv1.PriorityClass) }, "v1").short("pc"),
	without("", "ResourceQuota", "resourcequotas", true, "resources are not counted here", func() runtime.Object { return new(corev1.ResourceQuota) }, "v1").short("quota"),
	without("", "LimitRange", "limitranges", true, "resources are not counted here", func() runtime.Object { return new(corev1.LimitRange) }, "v1").short("limits"),
	without("", "PodTemplate", "podtemplates", true, "nothing makes pods of it", func() runtime.Object { return new(corev1.PodTemplate) }, "v1"),
	without("coordination.k8s.io", "Lease", "leases", true, "there is one of each process, so nothing is elected", func() runtime.Object { return new(coordinationv1.Lease) }, "v1"),
	without("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", false, "the kinds that malla knows are built in; others cannot be added", nil, "v1").short("crd", "crds"),
	without("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false, whyWebhook, func() runtime.Object { return new(admissionv1.ValidatingWebhookConfiguration) }, "v1"),
	without("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", false, whyWebhook, func() runtime.Object { return new(admissionv1.MutatingWebhookConfiguration) }, "v1"),
	without("monitoring.coreos.com", "ServiceMonitor", "servicemonitors", true, whyMonitor, nil, "v1").short("smon"),
	without("monitoring.coreos.com", "PodMonitor", "podmonitors", true, whyMonitor, nil, "v1").short("pmon"),
	refusal(),
	without("monitoring.coreos.com", "PrometheusRule", "prometheusrules", true, whyMonitor, nil, "v1").short("promrule"),
}

const (
	whyRBAC    = "nobody's rights are checked by role here"
	whyWebhook = "webhooks are not called here"
	whyMonitor = "there is no Prometheus operator here"
)

// without returns the row of a kind without effect. A nil empty means that there
// is no Go type for it here.
func without(group, kind, plural string, namespaced bool, why string, empty func() runtime.Object, versions ...string) *Kind {
	k := &Kind{Group: group, Versions: versions, Kind: kind, Plural: plural, Namespaced: namespaced, Class: Ignored, Why: why, New: empty}
	if empty == nil {
		k.New = func() runtime.Object {
			u := new(unstructured.Unstructured)
			u.SetGroupVersionKind(k.GVK())
			return u
		}
	}
	return k
}

func (k *Kind) short(names ...string) *Kind {
	k.Short = names
	return k
}

// refusal is the kind of which `malla up` makes one for each document that it refused,
// so that `get all` shows also what never became an object.
func refusal() *Kind {
	k := without("malla.dev", "Refusal", "refusals", false, "malla up makes one for each document of its files that it refused", nil, "v1")
	k.Categories = []string{"all"}
	k.Columns = []Column{
		{Name: "Kind", Type: "string", JSONPath: ".spec.kind"},
		{Name: "Object", Type: "string", JSONPath: ".spec.name"},
		{Name: "Status", Type: "string", JSONPath: ".status.message"},
	}
	return k
}
