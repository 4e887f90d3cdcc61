package inject

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/model"
)

func fromInt(n int) intstr.IntOrString { return intstr.FromInt32(int32(n)) }

// env is what the proxy learns from its pod, in Istio's variables.
func (b *builder) env() []corev1.EnvVar {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
	}
	workload, kind := Workload(b.pod)
	return []corev1.EnvVar{
		field("POD_NAME", "metadata.name"),
		field("POD_NAMESPACE", "metadata.namespace"),
		field("INSTANCE_IP", "status.podIP"),
		field("INSTANCE_IPS", "status.podIPs"),
		field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
		field("HOST_IP", "status.hostIP"),
		field("ISTIO_META_NODE_NAME", "spec.nodeName"),
		{Name: "CA_ADDR", Value: b.options.Discovery},
		{Name: "TRUST_DOMAIN", Value: b.options.TrustDomain},
		{Name: "PROXY_CONFIG", Value: b.json(b.proxyConfig())},
		{Name: "ISTIO_META_POD_PORTS", Value: b.json(b.ports())},
		{Name: "ISTIO_META_APP_CONTAINERS", Value: strings.Join(b.applications(), ",")},
		{Name: "ISTIO_META_CLUSTER_ID", Value: b.options.ClusterID},
		{Name: metadataEnv + interceptionMetadata, Value: b.interception()},
		{Name: metadataEnv + model.OutboundPortMetadata, Value: strconv.Itoa(int(b.options.OutboundPort))},
		{Name: metadataEnv + model.InboundPortMetadata, Value: strconv.Itoa(int(b.options.InboundPort))},
		{Name: "ISTIO_META_WORKLOAD_NAME", Value: workload},
		{Name: "ISTIO_META_OWNER", Value: b.owner(workload, kind)},
		{Name: "ISTIO_META_MESH_ID", Value: b.meshID()},
	}
}

// metadataEnv is in front of the names of variables that a proxy tells the control plane.
const metadataEnv = "ISTIO_META_"

const interceptionMetadata = "INTERCEPTION_MODE"

// interception is how the pod's connections come to its proxy: as its annotation says, else as its proxy's settings.
func (b *builder) interception() string {
	if mode := b.pod.Annotations[InterceptionKey]; mode != "" {
		return mode
	}
	if mode, ok := b.proxy["interceptionMode"].(string); ok && mode != "" {
		return mode
	}
	return "REDIRECT"
}

// Ports of a proxy where nobody says otherwise.
const (
	defaultAdminPort  = 15000
	defaultStatusPort = 15020
)

// port is one that the proxy's settings name.
func (b *builder) port(setting string, unset int) int {
	switch n := b.proxy[setting].(type) {
	case int64:
		return int(n)
	case float64:
		return int(n)
	}
	return unset
}

// A Capture is what an injected pod says of how its connections come to its proxy.
type Capture struct {
	Mode                      model.Interception
	OutboundPort, InboundPort uint16 // 0: Istio's
	DNS                       bool   // what it asks name servers, too
	StatusPort                uint16 // of the proxy, which is not captured
}

// settingsOf are the variables of the pod's proxy, and of the settings that were injected those that others than it go by.
func settingsOf(p *corev1.Pod) (variables map[string]string, settings startSettings) {
	i := slices.IndexFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == Container })
	if i < 0 {
		return nil, settings
	}
	variables = map[string]string{}
	for _, e := range p.Spec.Containers[i].Env {
		variables[e.Name] = e.Value
	}
	_ = json.Unmarshal([]byte(variables["PROXY_CONFIG"]), &settings) // the proxy itself says what is wrong with it
	return variables, settings
}

type startSettings struct {
	ProxyMetadata  map[string]string `json:"proxyMetadata"`
	ProxyAdminPort uint16            `json:"proxyAdminPort"`
	StatusPort     uint16            `json:"statusPort"`
}

// AdminPort is where the proxy of an injected pod is administered, on its loopback address.
func AdminPort(p *corev1.Pod) uint16 {
	_, settings := settingsOf(p)
	return cmp.Or(settings.ProxyAdminPort, defaultAdminPort)
}

// CaptureOf reads it from the variables of the pod's proxy, which its author may have written, and from the settings that
// were injected.
func CaptureOf(p *corev1.Pod) Capture {
	said, settings := settingsOf(p)
	if said == nil {
		return Capture{}
	}
	value := func(metadata string) string {
		if v, ok := said[metadataEnv+metadata]; ok {
			return v
		}
		return settings.ProxyMetadata[metadataEnv+metadata]
	}
	port := func(metadata string) uint16 {
		n, _ := strconv.ParseUint(value(metadata), 10, 16) // 0 is Istio's
		return uint16(n)
	}
	return Capture{
		Mode: model.Interceptions[value(interceptionMetadata)], DNS: value("DNS_CAPTURE") == "true",
		OutboundPort: port(model.OutboundPortMetadata), InboundPort: port(model.InboundPortMetadata),
		StatusPort: cmp.Or(settings.StatusPort, defaultStatusPort),
	}
}

// live are settings of proxies that the control plane heeds as they are now. All others hold from a proxy's start to its end.
var live = []string{"proxyHeaders", "gatewayTopology", "connectionSettings"}

// AtStart is what a proxy of the pod that started now would start by, in a form of its own: pods for which it changes go on
// by what it was.
func AtStart(p *corev1.Pod, o Options) string {
	own, _, _ := mesh.ParseProxy(p.Annotations[mesh.ProxyAnnotation], nil) // it was judged when the pod was made
	b := builder{pod: p, namespace: p.Namespace, options: o, proxy: o.Proxies.For(p.Namespace, p.Labels, own)}
	settings := b.proxyConfig()
	connections, _ := settings["connectionSettings"].(map[string]any) // of which the proxy itself keeps to the limits
	for _, name := range live {
		delete(settings, name)
	}
	return b.json([]any{settings, connections["listenerConnectionLimit"], connections["globalDownstreamConnectionLimit"], b.interception(), o.OutboundPort, o.InboundPort, o.TrustDomain, o.OwnMetricsOnly})
}

// meshID is what the mesh is called: after its trust domain, if nobody says otherwise.
func (b *builder) meshID() string {
	if id, ok := b.proxy["meshId"].(string); ok && id != "" {
		return id
	}
	return b.options.TrustDomain
}

func (b *builder) proxyConfig() map[string]any {
	c := map[string]any{"discoveryAddress": b.options.Discovery}
	for k, v := range b.proxy {
		c[k] = v
	}
	return c
}

func (b *builder) owner(name, kind string) string {
	group := "apps/v1"
	if kind == "Pod" {
		group = "v1"
	}
	return "kubernetes://apis/" + group + "/namespaces/" + b.namespace + "/" + strings.ToLower(kind) + "s/" + name
}

// ports lists the ports of the applications, as the control plane reads them.
func (b *builder) ports() []corev1.ContainerPort {
	ports := []corev1.ContainerPort{}
	for _, c := range b.pod.Spec.Containers {
		if c.Name != Container {
			ports = append(ports, c.Ports...)
		}
	}
	return ports
}

func (b *builder) applications() []string {
	var names []string
	for _, c := range b.pod.Spec.Containers {
		if c.Name != Container {
			names = append(names, c.Name)
		}
	}
	return names
}

func (b *builder) json(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("inject: plain data that does not marshal: " + err.Error()) // strings, numbers, maps and slices only
	}
	return string(text)
}

// tokenLife is how long a projected token is good for, in seconds; the kubelet
// renews it at 80 %.
const tokenLife = 43200

// volumes adds the token that proves who the pod is, the root that it trusts
// first, and its own labels.
func (b *builder) volumes() {
	life := int64(tokenLife)
	b.pod.Spec.Volumes = append(b.pod.Spec.Volumes, []corev1.Volume{
		{Name: "istio-token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "istio-ca", ExpirationSeconds: &life, Path: "istio-token"}}}}}},
		{Name: "istiod-ca-cert", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: b.options.RootConfig}}}},
		{Name: "istio-podinfo", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.labels"}},
			{Path: "annotations", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.annotations"}}}}}},
	}...)
}
