package mesh

import (
	"cmp"
	"slices"

	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"

	"github.com/mallamesh/malla/model"
)

// Proxies says what proxies are set to: the mesh's defaultConfig, and the objects of Istio's
// kind ProxyConfig.
type Proxies struct {
	Root    string         // namespace whose objects are for the mesh
	Default map[string]any // defaultConfig, as JSON
	Objects []*networkingv1beta1.ProxyConfig
}

// For returns the settings of the proxy of a workload, own being those of its annotation. They
// are laid over each other: the mesh's default, objects for the mesh, those for the namespace,
// the workload's own, and objects that select it, of which the oldest is on top.
func (p Proxies) For(namespace string, labels map[string]string, own map[string]any) map[string]any {
	out := p.Default
	for _, o := range p.level(p.Root, false, nil) {
		out = MergeProxy(out, o)
	}
	if namespace != p.Root {
		for _, o := range p.level(namespace, false, nil) {
			out = MergeProxy(out, o)
		}
	}
	out = MergeProxy(out, own)
	for _, o := range p.level(namespace, true, labels) {
		out = MergeProxy(out, o)
	}
	return out
}

// level returns what the objects of a namespace say that have a selector, which selects these labels,
// or that have none; the oldest last.
func (p Proxies) level(namespace string, selects bool, labels map[string]string) []map[string]any {
	var list []*networkingv1beta1.ProxyConfig
	for _, o := range p.Objects {
		selector := o.Spec.GetSelector().GetMatchLabels()
		if o.Namespace == namespace && (len(selector) > 0) == selects && model.Labels(labels).Matches(selector) {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b *networkingv1beta1.ProxyConfig) int {
		return cmp.Or(b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(b.Name, a.Name))
	})
	out := make([]map[string]any, len(list))
	for i, o := range list {
		out[i] = settings(o)
	}
	return out
}

// settings are those of an object in the form of defaultConfig.
func settings(o *networkingv1beta1.ProxyConfig) map[string]any {
	out := map[string]any{}
	if c := o.Spec.GetConcurrency(); c != nil {
		out["concurrency"] = int64(c.GetValue())
	}
	if v := o.Spec.GetEnvironmentVariables(); len(v) > 0 {
		metadata := make(map[string]any, len(v))
		for name, value := range v {
			metadata[name] = value
		}
		out["proxyMetadata"] = metadata
	}
	return out
}
