package kind

// Annotations classifies Istio's annotations and the labels that stand for a
// feature. Those of Istio that are not listed here have no effect yet; others
// belong to other programs and are nobody's business here.
var Annotations = []Annotation{
	{Name: "sidecar.istio.io/inject", On: "Pod"},
	{Name: "sidecar.istio.io/status", On: "Pod"},
	{Name: "inject.istio.io/templates", On: "Pod"},
	{Name: "proxy.istio.io/config", On: "Pod", Form: ProxyConfig},
	{Name: "traffic.sidecar.istio.io/includeInboundPorts", On: "Pod", Form: Ports},
	{Name: "traffic.sidecar.istio.io/excludeInboundPorts", On: "Pod", Form: Ports},
	{Name: "traffic.sidecar.istio.io/includeOutboundPorts", On: "Pod", Form: Ports},
	{Name: "traffic.sidecar.istio.io/excludeOutboundPorts", On: "Pod", Form: Ports},
	{Name: "traffic.sidecar.istio.io/includeOutboundIPRanges", On: "Pod", Form: Ranges},
	{Name: "traffic.sidecar.istio.io/excludeOutboundIPRanges", On: "Pod", Form: Ranges},
	{Name: "sidecar.istio.io/interceptionMode", On: "Pod", Form: Interception},
	{Name: "sidecar.malla.dev/proxy", On: "Pod", Form: Proxy},
	{Name: "networking.istio.io/exportTo", On: "Service"},
	{Name: "networking.istio.io/traffic-distribution", On: "Service"},
	{Name: "networking.istio.io/service-type", On: "Gateway", Form: ServiceType},
	{Name: "kubernetes.io/ingress.class", On: "Ingress"},
	{Name: "nginx.ingress.kubernetes.io/rewrite-target", On: "Ingress"},
	{Name: "istio.io/rev", On: "Pod"},
	{Name: "prometheus.io/scrape", On: "Pod"},
	{Name: "prometheus.io/port", On: "Pod"},
	{Name: "prometheus.io/path", On: "Pod"},
	{Name: "prometheus.io/scheme", On: "Pod"},
	{Name: "prometheus.istio.io/merge-metrics", On: "Pod"},
}

// UnusedLabels are labels that ask for a feature that is not built yet.
var UnusedLabels = []Annotation{
	{Name: "istio.io/dataplane-mode", Why: "ambient mode is " + whyNotYet + "; label the namespace istio-injection: enabled"},
	{Name: "istio.io/use-waypoint", Why: "waypoints are " + whyNotYet},
	{Name: "istio.io/use-waypoint-namespace", Why: "waypoints are " + whyNotYet},
	{Name: "istio.io/ingress-use-waypoint", Why: "waypoints are " + whyNotYet},
	{Name: "istio.io/waypoint-for", Why: "waypoints are " + whyNotYet},
}

// An Annotation is one row of the two tables.
type Annotation struct {
	Name string
	On   string // the kind that it is read on; Pod means templates too
	Form Form
	Why  string // why it has no effect
}

// A Form says what the value of an annotation looks like.
type Form uint8

const (
	AnyText      Form = iota
	Ports             // numbers, separated by commas, or *
	Ranges            // of addresses, separated by commas, or *
	ProxyConfig       // YAML, as under MeshConfig's defaultConfig
	Proxy             // malla or envoy
	Interception      // REDIRECT, TPROXY or NONE
	ServiceType       // ClusterIP, LoadBalancer or NodePort
)
