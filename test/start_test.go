package test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/api/machine"
	"github.com/mallamesh/malla/app/proxy"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/source/memory"
	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/control/machines"
	"github.com/mallamesh/malla/model"
)

// TestStart reads stories of how proxies start. Sections are objects (config.yaml), MeshConfig as text (meshconfig.yaml), and one of
//
//	pod        a pod, as YAML: what its proxy goes by once it is injected, and how its connections come to it
//	machine    variables of a machine's proxy: what it is registered as, and what it goes by
//
// and the answer is want.
func TestStart(t *testing.T) {
	files, err := filepath.Glob("testdata/start/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("stories: %v, %d files", err, len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(strings.TrimSpace(string(a.Comment))) == 0 {
				t.Error("a story opens with the sentence that it proves")
			}
			got, err := start(a)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
			if *update {
				if want < 0 {
					a.Files, want = append(a.Files, txtar.File{Name: "want"}), len(a.Files)
				}
				a.Files[want].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 || string(a.Files[want].Data) != got {
				t.Errorf("found\n%s", got)
			}
		})
	}
}

// start is the answer of a story.
func start(a *txtar.Archive) (string, error) {
	sections := map[string]string{}
	for _, f := range a.Files {
		sections[f.Name] = string(f.Data)
	}
	objects, err := memory.Parse(sections["config.yaml"])
	if err != nil {
		return "", err
	}
	if text, ok := sections["machine"]; ok {
		return startMachine(config.Objects(objects...), text)
	}
	p := &corev1.Pod{}
	if err := yaml.Unmarshal([]byte(sections["pod"]), p); err != nil {
		return "", err
	}
	return startPod(p, sections["meshconfig.yaml"], objects)
}

// startPod is what an injected pod's proxy goes by, and the runtime that starts the pod.
func startPod(p *corev1.Pod, meshConfig string, objects []*config.Object) (string, error) {
	var settings []*networkingv1beta1.ProxyConfig
	for _, o := range objects {
		if c, ok := o.Value.(*networkingv1beta1.ProxyConfig); ok {
			settings = append(settings, c)
		}
	}
	o, err := inject.Options{Image: "proxy", Discovery: "istiod.istio-system.svc:15012", ClusterID: "Kubernetes"}.By(meshConfig, settings)
	if err != nil {
		return "", err
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.Namespace, Labels: map[string]string{inject.NamespaceLabel: "enabled"}}}
	p, _, err = inject.Pod(p, ns, o)
	if err != nil {
		return "", err
	}
	variables := map[string]string{}
	for _, c := range p.Spec.Containers {
		for _, e := range c.Env {
			if c.Name == inject.Container {
				variables[e.Name] = e.Value
			}
		}
	}
	variables["POD_NAME"], variables["POD_NAMESPACE"], variables["INSTANCE_IPS"], variables["SERVICE_ACCOUNT"] = p.Name, p.Namespace, "10.244.0.7", "default"
	kindOf := "sidecar"
	if inject.Gateway(p) {
		kindOf = "router"
	}
	out, err := proxy.GoesBy(proxyOptions(variables, kindOf), "")
	if err != nil {
		return "", err
	}
	c := inject.CaptureOf(p)
	how := map[model.Interception]string{model.Redirected: "redirected", model.Transparent: "taken with their addresses", model.Uncaptured: "not captured"}
	out += fmt.Sprintf("its connections are %s, to ports %d and %d, but for port %d; questions for names: %t\n", how[c.Mode], c.OutboundPort, c.InboundPort, c.StatusPort, c.DNS)
	out += fmt.Sprintf("it is told to drain at port %d\n", inject.AdminPort(p))
	for _, name := range []string{"scrape", "port", "path"} {
		out += fmt.Sprintf("prometheus.io/%s %s\n", name, p.Annotations["prometheus.io/"+name])
	}
	return out, nil
}

func proxyOptions(variables map[string]string, kindOf string) proxy.Options {
	var list []string
	for k, v := range variables {
		list = append(list, k+"="+v)
	}
	return proxy.Options{Type: kindOf, Getenv: func(name string) string { return variables[name] }, Environ: func() []string { return list }}
}

// startMachine is what the workload of a machine is registered as, and what its proxy goes by.
func startMachine(snapshot *config.Snapshot, text string) (string, error) {
	variables := map[string]string{"POD_NAMESPACE": "prod", "INSTANCE_IPS": "192.0.2.7"}
	p := &model.Proxy{Type: model.Sidecar, Namespace: "prod", IPs: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, Proven: true, Metadata: map[string]string{machine.Metadata: "true"}}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		variables[name] = value
		if metadata, ok := strings.CutPrefix(name, "ISTIO_META_"); ok {
			p.Metadata[metadata] = value
		}
	}
	p.ServiceAccount = variables["SERVICE_ACCOUNT"]
	entries, _ := kind.Named("WorkloadEntry")
	api := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{entries.GVR(): "WorkloadEntryList"})
	registry := machines.New(machines.Options{Client: api, Snapshot: func() *config.Snapshot { return snapshot }, Name: "istiod", Log: slog.New(slog.DiscardHandler)})
	if _, err := registry.Join(p); err != nil {
		return err.Error() + "\n", nil
	}
	list := api.Actions()
	for _, a := range list {
		if c, ok := a.(interface{ GetObject() runtime.Object }); ok {
			e := &networkingv1.WorkloadEntry{}
			tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c.GetObject())
			if err != nil {
				return "", err
			}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree, e); err != nil {
				return "", err
			}
			delete(e.Annotations, "istio.io/connectedAt")
			e.OwnerReferences = nil
			data, err := yaml.Marshal(map[string]any{"metadata": e.ObjectMeta, "spec": tree["spec"]})
			if err != nil {
				return "", err
			}
			text = string(data)
		}
	}
	goes, err := proxy.GoesBy(proxyOptions(variables, "sidecar"), p.Probe)
	return text + goes, err
}
