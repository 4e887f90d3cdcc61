// Package inject adds the proxy to pods.
//
// [Pod] is a pure function of a pod, its namespace and the options; the pod's own
// settings for its proxy (annotation proxy.istio.io/config) are laid over the mesh's.
// It follows
// Istio's rules for who gets a sidecar, and Istio's names for what is added: the
// container istio-proxy, its environment and volumes, the labels and annotations
// that other people's tools read. How traffic is captured is the business of the
// runtime that starts the pod, which knows an injected one by its annotation.
package inject

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/model"
)

// Names that people and tools know.
const (
	Container = "istio-proxy"

	StatusAnnotation    = "sidecar.istio.io/status"
	TemplatesAnnotation = "inject.istio.io/templates"
	InjectKey           = "sidecar.istio.io/inject"           // a label; as an annotation too, for old manifests
	ProxyKey            = "sidecar.malla.dev/proxy"           // an annotation: malla (the default) or envoy
	InterceptionKey     = "sidecar.istio.io/interceptionMode" // an annotation: REDIRECT, TPROXY or NONE
	NamespaceLabel      = "istio-injection"
	RevisionLabel       = "istio.io/rev"
	TLSModeLabel        = "security.istio.io/tlsMode"
	CanonicalName       = "service.istio.io/canonical-name"
	CanonicalRevision   = "service.istio.io/canonical-revision"
	defaultContainer    = "kubectl.kubernetes.io/default-container"

	autoImage = "auto"
)

// EnvoyRole is what the proxy's container runs where an Envoy is asked for in its place.
var EnvoyRole = []string{"proxy", "envoy"}

// Options are the mesh's part of an injected pod.
type Options struct {
	Image        string // of the proxy
	TrustDomain  string
	Domain       string // cluster.local
	Discovery    string // istiod.istio-system.svc:15012
	ClusterID    string
	Proxies      mesh.Proxies
	Everywhere   bool   // also where no label asks for it
	RootConfig   string // ConfigMap with the root certificate
	ControlPlane string // namespace that Everywhere leaves out

	OutboundPort, InboundPort uint16 // to which the pod's connections are redirected

	OwnMetricsOnly bool // scrapers are left to find the application's metrics themselves
}

// Wanted reports whether the pod gets a sidecar, and in a few words why (not).
func Wanted(p *corev1.Pod, ns *corev1.Namespace, everywhere bool) (bool, string) {
	if p.Spec.HostNetwork {
		return false, "the pod uses the host's network"
	}
	if ns.Name == metav1.NamespaceSystem || ns.Name == metav1.NamespacePublic {
		return false, "namespace " + ns.Name + " is never injected"
	}
	pod, ok := p.Labels[InjectKey]
	if !ok {
		pod = p.Annotations[InjectKey]
	}
	switch {
	case pod == "false":
		return false, "the pod says " + InjectKey + ": \"false\""
	case pod == "true":
		return true, "the pod says " + InjectKey + ": \"true\""
	case ns.Labels[NamespaceLabel] == "disabled":
		return false, "namespace label " + NamespaceLabel + "=disabled"
	case ns.Labels[NamespaceLabel] == "enabled":
		return true, "namespace label " + NamespaceLabel + "=enabled"
	case ns.Labels[RevisionLabel] != "" || p.Labels[RevisionLabel] != "":
		return true, "label " + RevisionLabel
	case everywhere:
		return true, "injection is on for all namespaces"
	}
	return false, "no label asks for it"
}

// Pod returns p with the proxy added, and whether it was; p itself is not
// changed. A pod that carries a proxy already is left alone.
func Pod(p *corev1.Pod, ns *corev1.Namespace, o Options) (*corev1.Pod, bool, error) {
	if p.Annotations[StatusAnnotation] != "" {
		return p, false, nil
	}
	gateway := slices.Contains(strings.Split(p.Annotations[TemplatesAnnotation], ","), "gateway")
	everywhere := o.Everywhere && ns.Name != o.ControlPlane
	if wanted, _ := Wanted(p, ns, everywhere); !wanted {
		if at := autoContainer(p); at >= 0 {
			return nil, false, fmt.Errorf("spec.containers[%d].image: \"auto\" stands for the proxy's image, but this pod is not injected: label it %s: \"true\"", at, InjectKey)
		}
		return p, false, nil
	}
	for _, name := range strings.Split(p.Annotations[TemplatesAnnotation], ",") {
		if name != "" && name != "gateway" && name != "sidecar" {
			return nil, false, fmt.Errorf("metadata.annotations[%q]: template %q is not known, want sidecar or gateway", TemplatesAnnotation, name)
		}
	}
	role, err := roleOf(p, gateway)
	if err != nil {
		return nil, false, err
	}
	own, errs, _ := mesh.ParseProxy(p.Annotations[mesh.ProxyAnnotation], field.At("metadata", "annotations", mesh.ProxyAnnotation))
	if err := errs.Err(); err != nil {
		return nil, false, err
	}
	if mode, ok := p.Annotations[InterceptionKey]; ok {
		if _, known := model.Interceptions[mode]; !known {
			return nil, false, fmt.Errorf("metadata.annotations[%q]: found %q, want REDIRECT, TPROXY or NONE", InterceptionKey, mode)
		}
	}
	out := p.DeepCopy()
	b := builder{pod: out, namespace: ns.Name, options: o, kind: "sidecar", role: role, proxy: o.Proxies.For(ns.Name, p.Labels, own)}
	if gateway {
		b.kind = "router"
	}
	b.labels()
	b.container()
	b.metrics()
	b.volumes()
	return out, true, b.status()
}

// roleOf returns which proxy a pod asks for, as the first words of its command line.
func roleOf(p *corev1.Pod, gateway bool) ([]string, error) {
	switch of := p.Annotations[ProxyKey]; {
	case of == "" || of == "malla":
		return []string{"proxy", "run"}, nil
	case of != "envoy":
		return nil, fmt.Errorf("metadata.annotations[%q]: found %q, want malla or envoy", ProxyKey, of)
	case gateway:
		return nil, fmt.Errorf("metadata.annotations[%q]: found envoy on a gateway, want it on pods with a sidecar only", ProxyKey)
	}
	return EnvoyRole, nil
}

// autoContainer returns the index of a container whose image is "auto", or -1.
func autoContainer(p *corev1.Pod) int {
	return slices.IndexFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Image == autoImage })
}

// builder fills one pod.
type builder struct {
	pod       *corev1.Pod
	namespace string
	options   Options
	kind      string // of proxy: sidecar or router
	role      []string
	proxy     map[string]any // its settings, in the form of defaultConfig
}

// labels adds those by which endpoints, metrics and policies know the workload.
func (b *builder) labels() {
	labels := b.pod.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	set := func(key, value string) {
		if labels[key] == "" && value != "" {
			labels[key] = value
		}
	}
	if b.kind == "sidecar" {
		set(TLSModeLabel, "istio")
	}
	workload, _ := Workload(b.pod)
	set(CanonicalName, first(labels["app.kubernetes.io/name"], labels["app"], workload))
	set(CanonicalRevision, first(labels["app.kubernetes.io/version"], labels["version"], "latest"))
	b.pod.Labels = labels
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// container adds istio-proxy, or completes the one that the pod has: what its
// author wrote wins.
func (b *builder) container() {
	c := corev1.Container{
		Name:  Container,
		Image: b.options.Image,
		Args:  append(slices.Clone(b.role), "--type", b.kind),
		Ports: []corev1.ContainerPort{{Name: "http-envoy-prom", ContainerPort: 15090, Protocol: corev1.ProtocolTCP}},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz/ready", Port: fromInt(15021)}},
			PeriodSeconds: 15, FailureThreshold: 4, TimeoutSeconds: 3, // Istio's
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "istio-token", MountPath: "/var/run/secrets/tokens"},
			{Name: "istiod-ca-cert", MountPath: "/var/run/secrets/istio"},
			{Name: "istio-podinfo", MountPath: "/etc/istio/pod"},
		},
	}
	c.Env = b.env()
	i := slices.IndexFunc(b.pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == Container })
	if i < 0 {
		i = autoContainer(b.pod)
	}
	if i < 0 {
		b.pod.Spec.Containers = append(b.pod.Spec.Containers, c)
	} else {
		merge(&b.pod.Spec.Containers[i], c)
	}
	if b.pod.Annotations == nil {
		b.pod.Annotations = map[string]string{}
	}
	if b.pod.Annotations[defaultContainer] == "" {
		b.pod.Annotations[defaultContainer] = b.pod.Spec.Containers[0].Name
	}
}

// Names of what says where a pod's metrics are.
const (
	scrapeAnnotation = "prometheus.io/scrape"
	portAnnotation   = "prometheus.io/port"
	pathAnnotation   = "prometheus.io/path"
	schemeAnnotation = "prometheus.io/scheme"

	// ScrapeEnv tells the proxy where the application's metrics were said to be.
	ScrapeEnv = "ISTIO_PROMETHEUS_ANNOTATIONS"
)

// metrics sends scrapers to the proxy, which serves its metrics and the
// application's on one page, unless the mesh or the pod says that it wants none of that; of the two the pod counts.
func (b *builder) metrics() {
	a := b.pod.Annotations
	if b.options.OwnMetricsOnly && a["prometheus.istio.io/merge-metrics"] != "true" {
		return
	}
	if scrape, err := strconv.ParseBool(a[scrapeAnnotation]); err == nil && !scrape || a["prometheus.istio.io/merge-metrics"] == "false" {
		return
	}
	if a[scrapeAnnotation] != "" {
		at := slices.IndexFunc(b.pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == Container || c.Image == b.options.Image })
		said := map[string]string{"scrape": a[scrapeAnnotation], "path": a[pathAnnotation], "port": a[portAnnotation], "scheme": a[schemeAnnotation]}
		b.pod.Spec.Containers[at].Env = append(b.pod.Spec.Containers[at].Env, corev1.EnvVar{Name: ScrapeEnv, Value: b.json(said)})
	}
	delete(a, schemeAnnotation)
	a[scrapeAnnotation], a[portAnnotation], a[pathAnnotation] = "true", strconv.Itoa(b.port("statusPort", defaultStatusPort)), "/stats/prometheus"
}

// merge adds to the author's container what is missing there.
func merge(into *corev1.Container, c corev1.Container) {
	if into.Image == autoImage || into.Image == "" {
		into.Image = c.Image
	}
	if len(into.Args) == 0 && len(into.Command) == 0 {
		into.Args = c.Args
	}
	if into.ReadinessProbe == nil {
		into.ReadinessProbe = c.ReadinessProbe
	}
	for _, e := range c.Env {
		if !slices.ContainsFunc(into.Env, func(have corev1.EnvVar) bool { return have.Name == e.Name }) {
			into.Env = append(into.Env, e)
		}
	}
	for _, p := range c.Ports {
		if !slices.ContainsFunc(into.Ports, func(have corev1.ContainerPort) bool { return have.ContainerPort == p.ContainerPort }) {
			into.Ports = append(into.Ports, p)
		}
	}
	for _, m := range c.VolumeMounts {
		if !slices.ContainsFunc(into.VolumeMounts, func(have corev1.VolumeMount) bool { return have.MountPath == m.MountPath }) {
			into.VolumeMounts = append(into.VolumeMounts, m)
		}
	}
}

// status records what was added, as Istio's injector does.
func (b *builder) status() error {
	text, err := json.Marshal(map[string]any{
		"containers": []string{Container},
		"volumes":    []string{"istio-token", "istiod-ca-cert", "istio-podinfo"},
		"revision":   "default",
	})
	if err != nil {
		return fmt.Errorf("record injection: %w", err)
	}
	b.pod.Annotations[StatusAnnotation] = string(text)
	return nil
}

// Injected reports whether the pod carries a proxy of ours.
func Injected(p *corev1.Pod) bool { return p.Annotations[StatusAnnotation] != "" }

// Gateway reports whether the pod is a gateway: a proxy on its own, whose
// traffic is not captured.
func Gateway(p *corev1.Pod) bool {
	return slices.Contains(strings.Split(p.Annotations[TemplatesAnnotation], ","), "gateway")
}

// Workload returns the name and kind of what runs the pod: the Deployment
// behind a ReplicaSet, else the pod's controller, else the pod.
func Workload(p *corev1.Pod) (name, kind string) {
	for _, o := range p.OwnerReferences {
		if o.Controller == nil || !*o.Controller {
			continue
		}
		if hash := p.Labels["pod-template-hash"]; o.Kind == "ReplicaSet" && hash != "" {
			if deployment, ok := strings.CutSuffix(o.Name, "-"+hash); ok {
				return deployment, "Deployment"
			}
		}
		return o.Name, o.Kind
	}
	if p.Name != "" {
		return p.Name, "Pod"
	}
	return strings.TrimSuffix(p.GenerateName, "-"), "Pod"
}
