package accept

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/load"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/registry"
	"github.com/mallamesh/malla/translate"
	"github.com/mallamesh/malla/translate/story"
)

// meshes are the samples, each with every task that can be applied to it.
func meshes(t *testing.T) map[string][]string {
	out := map[string][]string{
		"bookinfo":                       {"samples/bookinfo"},
		"bookinfo by Gateway API":        {"samples/bookinfo/gateway-api"},
		"bookinfo by Gateway API, jason": {"samples/bookinfo/gateway-api", "samples/bookinfo/gateway-api/tasks/reviews-jason-v2.yaml"},
		"hello":                          {"samples/hello"},
		"httpbin":                        {"samples/httpbin", "samples/sleep"},
		"helloworld":                     {"samples/helloworld"},
		"tcp-echo":                       {"samples/tcp-echo"},
		"soap":                           {"samples/soap"},
	}
	tasks, err := os.ReadDir("../../samples/bookinfo/tasks")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tasks {
		if strings.HasSuffix(f.Name(), ".yaml") {
			out["bookinfo, "+strings.TrimSuffix(f.Name(), ".yaml")] = []string{"samples/bookinfo", "samples/bookinfo/tasks/" + f.Name()}
		}
	}
	return out
}

// TestSamplesAreAccepted makes what every proxy of the samples gets. Our own
// proxy must know every field of it, and a real Envoy must accept it all.
func TestSamplesAreAccepted(t *testing.T) {
	envoy, missing := story.FindEnvoy("../..")
	if missing != nil && os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	for name, paths := range meshes(t) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, paths)
			mesh, problems := w.compile()
			for _, p := range problems {
				if !p.Notice {
					t.Errorf("the sample has a problem: %v", p)
				}
			}
			for _, p := range w.proxies() {
				v := model.NewView(p, mesh)
				known(t, v)
				if missing == nil && !testing.Short() {
					stock := *p
					stock.Stock = true
					if err := story.Validate(envoy, t.TempDir(), model.NewView(&stock, mesh)); err != nil {
						t.Errorf("%s: %v", p.Name, err)
					}
				}
			}
		})
	}
	if missing != nil {
		t.Skip(missing) // our own proxy has been asked
	}
}

// TestStoriesAreKnown asks our own proxy about every field of every story of
// translate, but for those of real Envoys, which get what only they know.
func TestStoriesAreKnown(t *testing.T) {
	for name, s := range stories(t) {
		if s.View.Proxy.Stock {
			continue
		}
		t.Run(name, func(t *testing.T) { known(t, s.View) })
	}
}

// known fails for every field that our own proxy refuses.
func known(t *testing.T, v *model.View) {
	t.Helper()
	for _, url := range []string{translate.ClusterType, translate.EndpointType, translate.ListenerType, translate.RouteType} {
		for _, name := range translate.Names(v, url) {
			m, ok := translate.Resource(v, url, name)
			if !ok {
				t.Errorf("%s %s is listed, but there is none", url, name)
				continue
			}
			if err := build.Check(m).Err(); err != nil {
				t.Errorf("our proxy refuses %s for %s: %v", name, v.Proxy.Name, err)
			}
		}
	}
}

// A world is the objects of some manifests, and what a cluster adds to them:
// addresses of services, pods of deployments, endpoints.
type world struct {
	t        *testing.T
	objects  []*config.Object
	services []*corev1.Service
	pods     []*corev1.Pod
}

func newWorld(t *testing.T, paths []string) *world {
	w := &world{t: t}
	for _, path := range paths {
		r, err := load.Path("../../"+path, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Errors.Err(); err != nil {
			t.Fatal(err)
		}
		for _, d := range r.Docs {
			k, ok := kind.ByGVK(d.Object.GroupVersionKind())
			if !ok {
				t.Fatalf("%s: kind %s is not known", d.Source(), d.Object.GetKind())
			}
			if k.Namespaced && d.Object.GetNamespace() == "" {
				d.Object.SetNamespace("default")
			}
			value, err := config.Typed(k, d.Object)
			if err != nil {
				t.Fatal(err)
			}
			w.take(k, value)
		}
	}
	w.gateway()
	for _, s := range w.services {
		w.endpoints(s)
	}
	return w
}

func (w *world) put(k *kind.Kind, value runtime.Object) {
	o, err := config.FromTyped(k, value)
	if err != nil {
		w.t.Fatal(err)
	}
	w.objects = append(w.objects, o)
}

func (w *world) kind(group, version, name string) *kind.Kind {
	k, ok := kind.ByGVK(schema.GroupVersionKind{Group: group, Version: version, Kind: name})
	if !ok {
		w.t.Fatalf("kind %s is not known", name)
	}
	return k
}

func (w *world) take(k *kind.Kind, value runtime.Object) {
	switch o := value.(type) {
	case *corev1.Service:
		w.service(o)
		return
	case *appsv1.Deployment:
		w.pod(o.Namespace, o.Name, o.Spec.Template)
	}
	w.put(k, value)
}

// service gives the service addresses, as the API server does.
func (w *world) service(s *corev1.Service) {
	if s.Spec.ClusterIP == "" && s.Spec.Type != corev1.ServiceTypeExternalName {
		n := len(w.services) + 1
		s.Spec.ClusterIP = fmt.Sprintf("10.96.1.%d", n)
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP, fmt.Sprintf("fd00:6d61:6c6c:2::%d", n)}
	}
	w.services = append(w.services, s)
	w.put(w.kind("", "v1", "Service"), s)
}

// pod makes one injected pod of a deployment.
func (w *world) pod(ns, name string, template corev1.PodTemplateSpec) {
	n := len(w.pods) + 1
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name + "-abc-1", Labels: map[string]string{"security.istio.io/tlsMode": "istio"}}, Spec: template.Spec}
	for k, v := range template.Labels {
		p.Labels[k] = v
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.PodIP = fmt.Sprintf("10.244.1.%d", n)
	p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}, {IP: fmt.Sprintf("fd00:6d61:6c6c:1::%d", n)}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	w.pods = append(w.pods, p)
	w.put(w.kind("", "v1", "Pod"), p)
}

// gateway is the ingress gateway that every mesh has.
func (w *world) gateway() {
	labels := map[string]string{"istio": "ingressgateway", "app": "istio-ingressgateway"}
	w.pod("istio-system", "istio-ingressgateway", corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}})
	w.service(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-ingressgateway"},
		Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{
			{Name: "http2", Port: 80, TargetPort: intstr.FromInt32(8080)}, {Name: "https", Port: 443, TargetPort: intstr.FromInt32(8443)},
		}},
	})
}

func (w *world) endpoints(s *corev1.Service) {
	if len(s.Spec.Selector) == 0 {
		return
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, p := range s.Spec.Ports {
		target := p.TargetPort.IntVal
		if target == 0 {
			target = p.Port
		}
		protocol := corev1.ProtocolTCP
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &target, Protocol: &protocol})
	}
	ready := true
	for _, p := range w.pods {
		if p.Namespace == s.Namespace && model.Labels(p.Labels).Matches(s.Spec.Selector) {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{p.Status.PodIP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name},
			})
		}
	}
	w.put(w.kind("discovery.k8s.io", "v1", "EndpointSlice"), slice)
}

func (w *world) compile() (*model.Mesh, []compile.Problem) {
	cfg := model.DefaultMeshConfig()
	cfg.AccessLogFile = "/dev/stdout"
	s := config.Objects(w.objects...)
	return compile.Mesh(s, &cfg, registry.Build(s, &cfg), nil)
}

// proxies are those of all pods.
func (w *world) proxies() []*model.Proxy {
	var out []*model.Proxy
	for _, p := range w.pods {
		x := &model.Proxy{Type: model.Sidecar, Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, ServiceAccount: "default", TrustDomain: "cluster.local"}
		if p.Labels["istio"] == "ingressgateway" {
			x.Type = model.Router
		}
		for _, ip := range p.Status.PodIPs {
			x.IPs = append(x.IPs, netip.MustParseAddr(ip.IP))
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b *model.Proxy) int { return strings.Compare(a.Name, b.Name) })
	return out
}
