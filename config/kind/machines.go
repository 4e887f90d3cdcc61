package kind

import (
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// machines are the kinds for workloads that are no pods.
var machines = []*Kind{
	{Group: "networking.istio.io", Versions: []string{"v1", "v1beta1", "v1alpha3"}, Kind: "WorkloadEntry", Plural: "workloadentries", Short: []string{"we"}, Categories: []string{"istio-io", "networking-istio-io"}, Namespaced: true, Subresources: []string{"status"},
		Columns: []Column{{Name: "Address", Type: "string", JSONPath: ".spec.address"}},
		New:     func() runtime.Object { return new(networkingv1.WorkloadEntry) }},
	{Group: "networking.istio.io", Versions: []string{"v1", "v1beta1", "v1alpha3"}, Kind: "WorkloadGroup", Plural: "workloadgroups", Short: []string{"wg"}, Categories: []string{"istio-io", "networking-istio-io"}, Namespaced: true, Subresources: []string{"status"},
		Fields:  ign("an entry has the address of its proxy", "spec.template.address"),
		Columns: []Column{{Name: "Account", Type: "string", JSONPath: ".spec.template.serviceAccount"}},
		New:     func() runtime.Object { return new(networkingv1.WorkloadGroup) }},
}
