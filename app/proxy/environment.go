package proxy

import (
	"bufio"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/api/machine"
	"github.com/mallamesh/malla/base/version"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/node/agent"
	"github.com/mallamesh/malla/pki"
	"github.com/mallamesh/malla/proxy/stats"
)

// Places where Istio's injector puts things.
const (
	tokenPath       = "/var/run/secrets/tokens/istio-token"
	rootPath        = "/var/run/secrets/istio/root-cert.pem"
	labelsPath      = "/etc/istio/pod/labels"
	annotationsPath = "/etc/istio/pod/annotations"
)

// An environment is what a proxy of a mesh is told about itself.
type environment struct {
	Type        string // sidecar or router
	Pod         string
	Namespace   string
	IPs         []string
	Account     string
	TrustDomain string
	Domain      string // cluster.local
	ClusterID   string
	Discovery   string // host:port
	CA          string // host:port
	TokenPath   string
	RootPath    string
	Anchors     []*x509.Certificate // that others may be vouched for by, besides the roots
	TTL         time.Duration       // of certificates, 0: the default

	Concurrency int
	AdminPort   int
	StatusPort  int
	DrainTime   time.Duration // drainDuration: connections of a listener that has gone
	Termination time.Duration // terminationDrainDuration
	ExitIdle    bool          // EXIT_ON_ZERO_ACTIVE_CONNECTIONS
	MinDrain    time.Duration

	ListenerLimit, GlobalLimit int // connections of clients; 0: nothing said

	Runtime map[string]string // runtimeValues

	Labels      map[string]string
	Annotations map[string]string
	Metrics     map[string]string // the annotations prometheus.io/ of the pod, as its author wrote them
	Metadata    map[string]string // ISTIO_META_*
	Structured  map[string]any    // ISTIO_METAJSON_*

	Probe *readinessProbe // how the application says whether it is well; nil: somebody else asks

	Matcher statsMatcher   // of the workload
	Shown   *regexp.Regexp // statistics of Envoy's that Prometheus gets to see
}

// A statsMatcher asks for more of Envoy's statistics than Istio's bootstrap lets through.
type statsMatcher struct {
	InclusionPrefixes []string `json:"inclusionPrefixes"`
	InclusionSuffixes []string `json:"inclusionSuffixes"`
	InclusionRegexps  []string `json:"inclusionRegexps"`
}

// proxyConfig is the part of Istio's ProxyConfig that the proxy itself goes by; the
// rest of it is the control plane's.
type proxyConfig struct {
	DiscoveryAddress         string            `json:"discoveryAddress"`
	Concurrency              *int              `json:"concurrency"`
	ProxyAdminPort           int               `json:"proxyAdminPort"`
	StatusPort               int               `json:"statusPort"`
	DrainDuration            string            `json:"drainDuration"`
	TerminationDrainDuration string            `json:"terminationDrainDuration"`
	ProxyMetadata            map[string]string `json:"proxyMetadata"`
	ProxyStatsMatcher        statsMatcher      `json:"proxyStatsMatcher"`
	RuntimeValues            map[string]string `json:"runtimeValues"`
	ReadinessProbe           *readinessProbe   `json:"readinessProbe"`
	CACertificatesPEM        []string          `json:"caCertificatesPem"`
	ConnectionSettings       struct {
		Listener int `json:"listenerConnectionLimit"`
		Global   int `json:"globalDownstreamConnectionLimit"`
	} `json:"connectionSettings"`
}

// readEnvironment reads Istio's variables and files.
func readEnvironment(o Options) (*environment, error) {
	c, err := readProxyConfig(o.Getenv("PROXY_CONFIG"))
	if err != nil {
		return nil, err
	}
	// Istio's injector makes variables of proxyMetadata; where it did not, they count all the same.
	get := func(name string) string { return first(o.Getenv(name), c.ProxyMetadata[name]) }
	e := &environment{
		Type: first(o.Type, "sidecar"), Pod: get("POD_NAME"), Namespace: get("POD_NAMESPACE"), Account: first(get("SERVICE_ACCOUNT"), "default"),
		TrustDomain: first(get("TRUST_DOMAIN"), "cluster.local"), Domain: first(get("CLUSTER_DOMAIN"), "cluster.local"),
		TokenPath: first(get("TOKEN_PATH"), tokenPath), RootPath: first(get("CA_ROOT_CA"), rootPath),
		AdminPort: 15000, StatusPort: 15020, DrainTime: 45 * time.Second, Termination: 5 * time.Second, MinDrain: 5 * time.Second,
		Labels: podFile(first(get("ISTIO_POD_LABELS_FILE"), labelsPath)), Annotations: podFile(first(get("ISTIO_POD_ANNOTATIONS_FILE"), annotationsPath)),
		Metadata: map[string]string{}, Structured: map[string]any{},
	}
	if e.Type != "sidecar" && e.Type != "router" {
		return nil, fmt.Errorf("--type: found %q, want sidecar or router", e.Type)
	}
	if err := e.said(c.ProxyMetadata, o.Environ()); err != nil {
		return nil, err
	}
	if e.Pod == "" && e.registers() {
		if e.Pod, err = hostname(); err != nil {
			return nil, err
		}
	}
	for _, must := range []struct{ name, value string }{{"POD_NAME", e.Pod}, {"POD_NAMESPACE", e.Namespace}} {
		if must.value == "" {
			return nil, fmt.Errorf("environment variable %s is not set; outside of a mesh, start with -c FILE", must.name)
		}
	}
	addresses := first(get("INSTANCE_IPS"), get("INSTANCE_IP"))
	if addresses == "" && e.registers() {
		if addresses, err = ownAddresses(); err != nil {
			return nil, err
		}
	}
	if err := e.addresses(addresses); err != nil {
		return nil, err
	}
	if err := e.config(c); err != nil {
		return nil, err
	}
	if err := e.metrics(get("ISTIO_PROMETHEUS_ANNOTATIONS")); err != nil {
		return nil, err
	}
	e.CA = first(get("CA_ADDR"), e.Discovery)
	e.ClusterID = first(e.Metadata["CLUSTER_ID"], "Kubernetes")
	e.ExitIdle = get("EXIT_ON_ZERO_ACTIVE_CONNECTIONS") == "true"
	for _, d := range []struct {
		name string
		to   *time.Duration
	}{{"SECRET_TTL", &e.TTL}, {"MINIMUM_DRAIN_DURATION", &e.MinDrain}, {"TERMINATION_DRAIN_DURATION", &e.Termination}} {
		if err := span(d.name, get(d.name), d.to); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (e *environment) addresses(list string) error {
	for _, text := range strings.Split(list, ",") {
		text = strings.TrimSpace(text)
		if text == "" {
			continue
		}
		if _, err := netip.ParseAddr(text); err != nil {
			return fmt.Errorf("INSTANCE_IPS: %w", err)
		}
		e.IPs = append(e.IPs, text)
	}
	if len(e.IPs) == 0 {
		return fmt.Errorf("environment variable INSTANCE_IP is not set")
	}
	return nil
}

func readProxyConfig(text string) (*proxyConfig, error) {
	c := &proxyConfig{}
	if text != "" {
		if err := yaml.Unmarshal([]byte(text), c); err != nil {
			return nil, fmt.Errorf("PROXY_CONFIG: %w", err)
		}
	}
	return c, nil
}

// anchorsPath is where further authorities stand, beside the roots.
func (e *environment) anchorsPath() string {
	return filepath.Join(filepath.Dir(e.RootPath), pki.AnchorsFile)
}

func (e *environment) config(c *proxyConfig) error {
	e.Discovery = first(c.DiscoveryAddress, "istiod.istio-system.svc:15012")
	if c.Concurrency != nil {
		if e.Concurrency = *c.Concurrency; e.Concurrency == 0 { // Istio's word for all
			e.Concurrency = runtime.NumCPU()
		}
	}
	if c.ProxyAdminPort > 0 {
		e.AdminPort = c.ProxyAdminPort
	}
	if c.StatusPort > 0 {
		e.StatusPort = c.StatusPort
	}
	for i, text := range c.CACertificatesPEM {
		certs, err := pki.DecodeCertificates([]byte(text))
		if err != nil {
			return fmt.Errorf("PROXY_CONFIG caCertificatesPem[%d]: %w", i, err)
		}
		e.Anchors = append(e.Anchors, certs...)
	}
	e.Probe = c.ReadinessProbe
	e.Runtime = c.RuntimeValues
	e.ListenerLimit, e.GlobalLimit = c.ConnectionSettings.Listener, c.ConnectionSettings.Global
	if err := e.statistics(c); err != nil {
		return err
	}
	if err := span("PROXY_CONFIG drainDuration", c.DrainDuration, &e.DrainTime); err != nil {
		return err
	}
	return span("PROXY_CONFIG terminationDrainDuration", c.TerminationDrainDuration, &e.Termination)
}

// What Istio's bootstrap lets through of Envoy's statistics. All of them, for every
// cluster of a mesh, would be most of what a Prometheus stores.
const (
	shownPrefixes = `cluster_manager|listener_manager|server|cluster\.xds-grpc|wasm|component|istio`
	shownSuffixes = `rbac\.allowed|rbac\.denied|shadow_allowed|shadow_denied|downstream_cx_active`
	shownRegexps  = `vhost\..*\.route\..*`
)

// statistics adds to them what the workload asks for.
func (e *environment) statistics(c *proxyConfig) error {
	quoted := func(list []string) string {
		out := ""
		for _, s := range list {
			out += "|" + regexp.QuoteMeta(s)
		}
		return out
	}
	e.Matcher = c.ProxyStatsMatcher
	m := e.Matcher
	text := "^(?:" + shownPrefixes + quoted(m.InclusionPrefixes) + ")|(?:" + shownSuffixes + quoted(m.InclusionSuffixes) + ")$|^(?:" + shownRegexps + ")$"
	for i, r := range m.InclusionRegexps {
		if _, err := regexp.Compile(r); err != nil {
			return fmt.Errorf("PROXY_CONFIG proxyStatsMatcher.inclusionRegexps[%d]: %w", i, err)
		}
		text += "|^(?:" + r + ")$"
	}
	shown, err := regexp.Compile(text)
	e.Shown = shown
	return err
}

func span(name, text string, to *time.Duration) error {
	if text == "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%s: found %q, want a time such as 30s", name, text)
	}
	*to = d
	return nil
}

// podFile reads a file of the downward API: key="value" on each line.
func podFile(path string) map[string]string {
	out := map[string]string{}
	f, err := os.Open(path)
	if err != nil {
		return out // pods without it work: they have no labels to tell
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, quoted, ok := strings.Cut(lines.Text(), "=")
		if value, err := strconv.Unquote(quoted); ok && err == nil {
			out[key] = value
		}
	}
	return out
}

// id is who we are for the CA.
func (e *environment) id() pki.ID {
	return pki.ID{TrustDomain: e.TrustDomain, Namespace: e.Namespace, Account: e.Account}
}

// node is who we are for the control plane, in Istio's form.
func (e *environment) node() (*corev3.Node, error) {
	fields := map[string]any{
		"NAME": e.Pod, "NAMESPACE": e.Namespace, "SERVICE_ACCOUNT": e.Account, "INSTANCE_IPS": strings.Join(e.IPs, ","),
		"CLUSTER_ID": e.ClusterID, "ISTIO_VERSION": version.String(), "MALLA_VERSION": version.String(),
		"LABELS": anyMap(e.Labels), "ANNOTATIONS": anyMap(e.Annotations),
	}
	if e.Probe != nil {
		fields["PROXY_CONFIG"] = map[string]any{"readinessProbe": map[string]any{}} // that there is one is all that is asked for
	}
	if e.Type == "sidecar" && e.registers() && e.Probe == nil {
		fields[machine.Metadata] = "true"
	}
	maps.Copy(fields, e.Structured)
	for k, v := range e.Metadata {
		fields[k] = v
	}
	metadata, err := structpb.NewStruct(fields)
	if err != nil {
		return nil, fmt.Errorf("node metadata: %w", err)
	}
	return &corev3.Node{
		Id:      strings.Join([]string{e.Type, e.IPs[0], e.Pod + "." + e.Namespace, e.Namespace + ".svc." + e.Domain}, "~"),
		Cluster: first(e.Labels["app"], e.Metadata["WORKLOAD_NAME"], e.Pod) + "." + e.Namespace, Metadata: metadata,
		Locality: place(e.Labels), UserAgentName: "malla", UserAgentVersionType: &corev3.Node_UserAgentVersion{UserAgentVersion: version.String()},
	}, nil
}

// place is where the labels of a pod say that it runs; nil: nowhere in particular.
func place(labels map[string]string) *corev3.Locality {
	parts := append(strings.SplitN(model.LocalityOf(labels), "/", 3), "", "")
	if parts[0] == "" {
		return nil
	}
	return &corev3.Locality{Region: parts[0], Zone: parts[1], SubZone: parts[2]}
}

func anyMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// peer is who we are in metrics.
func (e *environment) peer() stats.Peer {
	workload := first(e.Metadata["WORKLOAD_NAME"], e.Pod)
	return stats.Peer{
		Workload: workload, Namespace: e.Namespace, Cluster: e.ClusterID, App: e.Labels["app"], Version: e.Labels["version"], Principal: e.id().String(),
		CanonicalService:  first(e.Labels["service.istio.io/canonical-name"], e.Labels["app.kubernetes.io/name"], e.Labels["app"], workload),
		CanonicalRevision: first(e.Labels["service.istio.io/canonical-revision"], e.Labels["app.kubernetes.io/version"], e.Labels["version"], "latest"),
	}
}

// serverName is what the control plane at an address must prove to be.
func serverName(address string) string { return agent.Host(address) }

// metrics takes where the application's metrics are from what the injector keeps of
// the pod's annotations, or from these where no injector has changed them.
func (e *environment) metrics(kept string) error {
	e.Metrics = e.Annotations
	if kept == "" {
		return nil
	}
	var said map[string]string
	if err := json.Unmarshal([]byte(kept), &said); err != nil {
		return fmt.Errorf("environment variable ISTIO_PROMETHEUS_ANNOTATIONS: found %q, want a JSON object of strings: %w", kept, err)
	}
	e.Metrics = make(map[string]string, len(said))
	for k, v := range said {
		e.Metrics["prometheus.io/"+k] = v
	}
	return nil
}
