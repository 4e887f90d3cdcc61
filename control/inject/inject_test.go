package inject

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/model"
)

var options = Options{Image: "malla/proxyv2:test", TrustDomain: "cluster.local", Domain: "cluster.local", Discovery: "istiod.istio-system.svc:15012",
	ClusterID: "Kubernetes", RootConfig: "istio-ca-root-cert", ControlPlane: "istio-system"}

func namespace(name string, labels ...string) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for i := 0; i < len(labels); i += 2 {
		ns.Labels[labels[i]] = labels[i+1]
	}
	return ns
}

func pod(change func(*corev1.Pod)) *corev1.Pod {
	yes := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "reviews-v2-5d8f-abcde", Namespace: "default",
			Labels:          map[string]string{"app": "reviews", "version": "v2", "pod-template-hash": "5d8f"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "reviews-v2-5d8f", Controller: &yes}}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "reviews", Image: "reviews:v2", Ports: []corev1.ContainerPort{{ContainerPort: 9080}}}}},
	}
	if change != nil {
		change(p)
	}
	return p
}

func TestWhoIsInjected(t *testing.T) {
	enabled := namespace("default", NamespaceLabel, "enabled")
	for _, test := range []struct {
		name       string
		pod        *corev1.Pod
		ns         *corev1.Namespace
		everywhere bool
		want       bool
	}{
		{"a namespace without a label is left alone", pod(nil), namespace("default"), false, false},
		{"the namespace asks", pod(nil), enabled, false, true},
		{"the pod's label wins over the namespace", pod(func(p *corev1.Pod) { p.Labels[InjectKey] = "false" }), enabled, false, false},
		{"the old annotation counts", pod(func(p *corev1.Pod) { p.Annotations = map[string]string{InjectKey: "true"} }), namespace("default"), false, true},
		{"the label wins over the annotation", pod(func(p *corev1.Pod) {
			p.Labels[InjectKey] = "false"
			p.Annotations = map[string]string{InjectKey: "true"}
		}), enabled, false, false},
		{"a revision asks too", pod(nil), namespace("default", RevisionLabel, "canary"), false, true},
		{"istio-injection wins over a revision", pod(nil), namespace("default", NamespaceLabel, "disabled", RevisionLabel, "canary"), false, false},
		{"never on the host's network", pod(func(p *corev1.Pod) { p.Spec.HostNetwork = true }), enabled, false, false},
		{"never in kube-system", pod(nil), namespace("kube-system", NamespaceLabel, "enabled"), false, false},
		{"everywhere", pod(nil), namespace("default"), true, true},
		{"everywhere still obeys the pod", pod(func(p *corev1.Pod) { p.Labels[InjectKey] = "false" }), namespace("default"), true, false},
	} {
		if got, why := Wanted(test.pod, test.ns, test.everywhere); got != test.want || why == "" {
			t.Errorf("%s: got %v (%s)", test.name, got, why)
		}
	}
}

func TestSidecar(t *testing.T) {
	before := pod(nil)
	got, injected, err := Pod(before, namespace("default", NamespaceLabel, "enabled"), options)
	if err != nil || !injected {
		t.Fatal(injected, err)
	}
	if len(before.Spec.Containers) != 1 {
		t.Error("the argument was changed")
	}
	names := []string{}
	env := map[string]string{}
	for _, c := range got.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, e := range got.Spec.Containers[1].Env {
		env[e.Name] = e.Value
	}
	if strings.Join(names, " ") != "reviews istio-proxy" {
		t.Errorf("containers %v: the application stays first, so that kubectl logs shows it", names)
	}
	for name, want := range map[string]string{
		"ISTIO_META_WORKLOAD_NAME":  "reviews-v2",
		"ISTIO_META_OWNER":          "kubernetes://apis/apps/v1/namespaces/default/deployments/reviews-v2",
		"ISTIO_META_APP_CONTAINERS": "reviews",
		"ISTIO_META_POD_PORTS":      `[{"containerPort":9080}]`,
		"CA_ADDR":                   "istiod.istio-system.svc:15012",
	} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	for label, want := range map[string]string{TLSModeLabel: "istio", CanonicalName: "reviews", CanonicalRevision: "v2"} {
		if got.Labels[label] != want {
			t.Errorf("label %s is %q, want %q", label, got.Labels[label], want)
		}
	}
	if !Injected(got) || Injected(before) {
		t.Error("the status annotation does not tell")
	}
	again, injected, err := Pod(got, namespace("default", NamespaceLabel, "enabled"), options)
	if err != nil || injected || len(again.Spec.Containers) != 2 {
		t.Error("a second pass added a second proxy")
	}
}

// Scrapers are sent to the proxy, which keeps where the application's metrics are,
// as Istio does it.
func TestMetrics(t *testing.T) {
	const scrape, port, path, scheme = "prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path", "prometheus.io/scheme"
	for _, test := range []struct {
		name, kept         string
		said               map[string]string
		scrape, port, path string
	}{
		{"nothing said", "", nil, "true", "15020", "/stats/prometheus"},
		{"all said", `{"path":"/m","port":"8080","scheme":"http","scrape":"true"}`, map[string]string{scrape: "true", port: "8080", path: "/m", scheme: "http"}, "true", "15020", "/stats/prometheus"},
		{"a port, and no word of scraping", "", map[string]string{port: "8080"}, "true", "15020", "/stats/prometheus"},
		{"no scraping", "", map[string]string{scrape: "false", port: "8080"}, "false", "8080", ""},
		{"no merging", "", map[string]string{scrape: "true", port: "8080", "prometheus.istio.io/merge-metrics": "false"}, "true", "8080", ""},
	} {
		got, _, err := Pod(pod(func(p *corev1.Pod) { p.Annotations = test.said }), namespace("default", NamespaceLabel, "enabled"), options)
		if err != nil {
			t.Fatal(err)
		}
		var kept string
		for _, e := range got.Spec.Containers[1].Env {
			if e.Name == ScrapeEnv {
				kept = e.Value
			}
		}
		a := got.Annotations
		if kept != test.kept || a[scrape] != test.scrape || a[port] != test.port || a[path] != test.path || a[scheme] != "" {
			t.Errorf("%s: kept %s, annotations %v", test.name, kept, a)
		}
	}
}

func TestGateway(t *testing.T) {
	p := pod(func(p *corev1.Pod) {
		p.Labels[InjectKey] = "true"
		p.Annotations = map[string]string{TemplatesAnnotation: "gateway"}
		p.Spec.Containers = []corev1.Container{{Name: Container, Image: "auto", Env: []corev1.EnvVar{{Name: "TRUST_DOMAIN", Value: "mine"}}}}
	})
	got, injected, err := Pod(p, namespace("istio-system"), options)
	if err != nil || !injected {
		t.Fatal(injected, err)
	}
	c := got.Spec.Containers[0]
	if len(got.Spec.Containers) != 1 || c.Image != options.Image || c.Args[3] != "router" {
		t.Errorf("got %d containers, image %q, args %q", len(got.Spec.Containers), c.Image, c.Args)
	}
	for _, e := range c.Env {
		if e.Name == "TRUST_DOMAIN" && e.Value != "mine" {
			t.Error("what the author wrote was replaced")
		}
	}
	if got.Labels[TLSModeLabel] != "" {
		t.Error("a gateway takes plain text from the sidecars' point of view: it has no inbound capture")
	}
}

func TestMistakesAreNamed(t *testing.T) {
	auto := pod(func(p *corev1.Pod) { p.Spec.Containers[0].Image = "auto" })
	if _, _, err := Pod(auto, namespace("default"), options); err == nil || !strings.Contains(err.Error(), "spec.containers[0].image") {
		t.Errorf("image auto without injection: %v", err)
	}
	unknown := pod(func(p *corev1.Pod) { p.Annotations = map[string]string{TemplatesAnnotation: "waypoint"} })
	if _, _, err := Pod(unknown, namespace("default", NamespaceLabel, "enabled"), options); err == nil || !strings.Contains(err.Error(), "waypoint") {
		t.Errorf("unknown template: %v", err)
	}
}

// What a pod says of its proxy is laid over the mesh's settings, and what is wrong
// in it is named by its path.
func TestOwnProxyConfig(t *testing.T) {
	enabled := namespace("default", NamespaceLabel, "enabled")
	o := options
	o.Proxies.Default = map[string]any{"concurrency": 1, "drainDuration": "30s"}
	with := func(text string) *corev1.Pod {
		return pod(func(p *corev1.Pod) { p.Annotations = map[string]string{"proxy.istio.io/config": text} })
	}
	out, _, err := Pod(with("concurrency: 2\nterminationDrainDuration: 1s\nmeshId: shop\n"), enabled, o)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"concurrency":2,"discoveryAddress":"istiod.istio-system.svc:15012","drainDuration":"30s","meshId":"shop","terminationDrainDuration":"1s"}`
	for _, e := range out.Spec.Containers[1].Env {
		if e.Name == "PROXY_CONFIG" && e.Value != want {
			t.Errorf("PROXY_CONFIG is\n%s, want\n%s", e.Value, want)
		}
		if e.Name == "ISTIO_META_MESH_ID" && e.Value != "shop" {
			t.Errorf("the mesh is called %q, want what meshId says", e.Value)
		}
	}
	if _, _, err := Pod(with("concurency: 2"), enabled, o); err == nil || !strings.Contains(err.Error(), `annotations["proxy.istio.io/config"].concurency: unknown field`) {
		t.Errorf("a misspelt field: %v", err)
	}
}

// How a pod's connections come to its proxy say its annotation, its proxy's settings, and the mesh's; to which ports
// the mesh says. Who starts the pod finds it there.
func TestInterception(t *testing.T) {
	enabled := namespace("default", NamespaceLabel, "enabled")
	for _, test := range []struct {
		annotation, config, mesh string
		want                     model.Interception
	}{
		{"", "", "", model.Redirected},
		{"", "", "TPROXY", model.Transparent},
		{"", "interceptionMode: NONE", "TPROXY", model.Uncaptured},
		{"REDIRECT", "interceptionMode: NONE", "TPROXY", model.Redirected},
	} {
		o := options
		o.OutboundPort, o.InboundPort = 16001, 16006
		if test.mesh != "" {
			o.Proxies.Default = map[string]any{"interceptionMode": test.mesh}
		}
		out, _, err := Pod(pod(func(p *corev1.Pod) {
			p.Annotations = map[string]string{"proxy.istio.io/config": test.config}
			if test.annotation != "" {
				p.Annotations[InterceptionKey] = test.annotation
			}
		}), enabled, o)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := CaptureOf(out), (Capture{Mode: test.want, OutboundPort: 16001, InboundPort: 16006, StatusPort: 15020}); got != want {
			t.Errorf("annotation %q, settings %q, the mesh's %q: %+v, want %+v", test.annotation, test.config, test.mesh, got, want)
		}
	}
	wrong := pod(func(p *corev1.Pod) { p.Annotations = map[string]string{InterceptionKey: "none"} })
	if _, _, err := Pod(wrong, enabled, options); err == nil || !strings.Contains(err.Error(), `found "none", want REDIRECT, TPROXY or NONE`) {
		t.Errorf("a mode that there is not: %v", err)
	}
	names := pod(func(p *corev1.Pod) {
		p.Annotations = map[string]string{"proxy.istio.io/config": "proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}"}
	})
	if out, _, err := Pod(names, enabled, options); err != nil || !CaptureOf(out).DNS {
		t.Errorf("a proxy that answers names: %+v, %v", CaptureOf(out), err)
	}
}

// Settings by which a proxy starts hold for pods that start from then on; those that the control plane heeds change at
// once, and what a pod says for itself is not changed by others.
func TestWhatNeedsANewPod(t *testing.T) {
	own := pod(func(p *corev1.Pod) { p.Annotations = map[string]string{"proxy.istio.io/config": "concurrency: 3"} })
	for _, test := range []struct {
		name   string
		change func(*Options)
		pod    *corev1.Pod
		want   bool
	}{
		{"nothing", func(*Options) {}, pod(nil), false},
		{"threads", func(o *Options) { o.Proxies.Default = map[string]any{"concurrency": 2} }, pod(nil), true},
		{"threads of a pod that says how many", func(o *Options) { o.Proxies.Default = map[string]any{"concurrency": 2} }, own, false},
		{"headers", func(o *Options) {
			o.Proxies.Default = map[string]any{"proxyHeaders": map[string]any{"server": map[string]any{"value": "x"}}}
		}, pod(nil), false},
		{"times of connections", func(o *Options) {
			o.Proxies.Default = map[string]any{"connectionSettings": map[string]any{"httpIdleTimeout": "5s"}}
		}, pod(nil), false},
		{"limits of connections", func(o *Options) {
			o.Proxies.Default = map[string]any{"connectionSettings": map[string]any{"globalDownstreamConnectionLimit": 5}}
		}, pod(nil), true},
		{"interception", func(o *Options) { o.Proxies.Default = map[string]any{"interceptionMode": "NONE"} }, pod(nil), true},
		{"ports", func(o *Options) { o.InboundPort = 7 }, pod(nil), true},
	} {
		after := options
		test.change(&after)
		if got := AtStart(test.pod, options) != AtStart(test.pod, after); got != test.want {
			t.Errorf("%s: a pod goes on as before until it is restarted: %v, want %v", test.name, got, test.want)
		}
	}
}

// A pod may ask for a real Envoy in the place of our proxy; nothing else of it is different.
func TestEnvoyInPlace(t *testing.T) {
	ns := namespace("default", NamespaceLabel, "enabled")
	annotated := func(as string, more ...string) *corev1.Pod {
		return pod(func(p *corev1.Pod) {
			p.Annotations = map[string]string{ProxyKey: as}
			for i := 0; i < len(more); i += 2 {
				p.Annotations[more[i]] = more[i+1]
			}
		})
	}
	args := func(p *corev1.Pod) string {
		out, _, err := Pod(p, ns, options)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(out.Spec.Containers[len(out.Spec.Containers)-1].Args, " ")
	}
	if got := args(annotated("envoy")); got != "proxy envoy --type sidecar" {
		t.Errorf("envoy runs %q", got)
	}
	if got := args(annotated("malla")); got != "proxy run --type sidecar" {
		t.Errorf("malla runs %q", got)
	}
	for want, p := range map[string]*corev1.Pod{
		`found "nginx", want malla or envoy`: annotated("nginx"),
		"found envoy on a gateway":           annotated("envoy", TemplatesAnnotation, "gateway"),
	} {
		if _, _, err := Pod(p, ns, options); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ProxyKey) {
			t.Errorf("error %v, want %q and the annotation's name", err, want)
		}
	}
}
