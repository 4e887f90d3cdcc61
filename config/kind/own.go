package kind

import (
	"k8s.io/apimachinery/pkg/runtime"

	mallav1 "github.com/mallamesh/malla/api/v1"
)

// own are malla's own kinds that people write.
var own = []*Kind{
	{Group: mallav1.Group, Versions: []string{"v1"}, Kind: "DNSPolicy", Plural: "dnspolicies", Short: []string{"dnsp"}, Namespaced: true,
		Columns: []Column{{Name: "Hosts", Type: "string", JSONPath: ".spec.rules[*].hosts"}},
		New:     func() runtime.Object { return new(mallav1.DNSPolicy) }},
}
