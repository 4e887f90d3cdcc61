package gatewayapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/model"
)

// The same objects mean the same, to the last place in a list: who compares what two control planes say, or what one
// says twice, finds nothing.
func TestTheOrderOfMeshRules(t *testing.T) {
	httpRoute, _ := kind.Named("HTTPRoute")
	services := map[string][]*model.Service{}
	var routes []*config.Object
	group, of := gatewayv1.Group(""), gatewayv1.Kind("Service")
	port := gatewayv1.PortNumber(80)
	for i := range 20 {
		name := fmt.Sprint("s", i%10)
		host := name + ".prod.svc.cluster.local"
		if services[host] == nil {
			services[host] = []*model.Service{{Host: host, Name: name, Namespace: "prod", Kubernetes: true, Ports: []model.Port{{Number: 80, Protocol: model.HTTP}}}}
		}
		namespace := gatewayv1.Namespace("prod")
		routes = append(routes, &config.Object{Kind: httpRoute, Namespace: []string{"prod", "web"}[i/10], Name: fmt.Sprint("r", i), Created: time.Unix(int64(i%3), 0),
			Value: &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("r", i)}, Spec: gatewayv1.HTTPRouteSpec{
				CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Group: &group, Kind: &of, Namespace: &namespace, Name: gatewayv1.ObjectName(name)}}},
				Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
					BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(name), Namespace: &namespace, Port: &port}}}}}},
			}}})
	}
	env := Env{ClusterDomain: "cluster.local", Services: func(host string) []*model.Service { return services[host] }}
	first := Compile(Objects{HTTPRoutes: routes}, env).Rules
	if len(first) != 20 {
		t.Fatalf("%d rules, want 20", len(first))
	}
	for range 20 {
		if diff := cmp.Diff(first, Compile(Objects{HTTPRoutes: routes}, env).Rules); diff != "" {
			t.Fatal(diff)
		}
	}
}
