package mesh

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1beta1"
	typev1beta1 "istio.io/api/type/v1beta1"
	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An object beats the annotation and the mesh's default, the nearer object the farther one, and
// the older one of two; variables are laid over each other one by one.
func TestProxies(t *testing.T) {
	object := func(name, namespace string, age int, selector, variables map[string]string, concurrency int32) *networkingv1beta1.ProxyConfig {
		o := &networkingv1beta1.ProxyConfig{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, CreationTimestamp: metav1.Unix(int64(1000-age), 0)},
			Spec: networking.ProxyConfig{EnvironmentVariables: variables}}
		if selector != nil {
			o.Spec.Selector = &typev1beta1.WorkloadSelector{MatchLabels: selector}
		}
		if concurrency > 0 {
			o.Spec.Concurrency = wrapperspb.Int32(concurrency)
		}
		return o
	}
	web := map[string]string{"app": "web"}
	p := Proxies{Root: "istio-system", Default: map[string]any{"concurrency": int64(1), "drainDuration": "9s", "proxyMetadata": map[string]any{"A": "mesh", "B": "mesh"}}, Objects: []*networkingv1beta1.ProxyConfig{
		object("root", "istio-system", 1, nil, map[string]string{"B": "root", "C": "root"}, 2),
		object("ns", "prod", 1, nil, map[string]string{"C": "ns", "D": "ns"}, 0),
		object("young", "prod", 1, web, map[string]string{"E": "young"}, 6),
		object("old", "prod", 5, web, map[string]string{"E": "old"}, 5),
	}}
	for _, test := range []struct {
		why, namespace string
		labels         map[string]string
		own            map[string]any
		want           map[string]any
	}{
		{"elsewhere, the mesh's", "test", web, nil,
			map[string]any{"concurrency": int64(2), "drainDuration": "9s", "proxyMetadata": map[string]any{"A": "mesh", "B": "root", "C": "root"}}},
		{"the annotation beats objects without selector", "prod", map[string]string{"app": "db"}, map[string]any{"concurrency": int64(3), "proxyMetadata": map[string]any{"D": "own"}},
			map[string]any{"concurrency": int64(3), "drainDuration": "9s", "proxyMetadata": map[string]any{"A": "mesh", "B": "root", "C": "ns", "D": "own"}}},
		{"so it does for a workload without labels", "prod", nil, map[string]any{"proxyMetadata": map[string]any{"D": "own"}},
			map[string]any{"concurrency": int64(2), "drainDuration": "9s", "proxyMetadata": map[string]any{"A": "mesh", "B": "root", "C": "ns", "D": "own"}}},
		{"an object that selects the workload beats the annotation", "prod", web, map[string]any{"concurrency": int64(3), "drainDuration": "1s"},
			map[string]any{"concurrency": int64(5), "drainDuration": "1s", "proxyMetadata": map[string]any{"A": "mesh", "B": "root", "C": "ns", "D": "ns", "E": "old"}}},
	} {
		if diff := cmp.Diff(test.want, p.For(test.namespace, test.labels, test.own)); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.why, diff)
		}
	}
}
