package model

import "time"

// OutboundMode says what happens to traffic for hosts that nobody declared.
type OutboundMode uint8

const (
	AllowAny           OutboundMode = iota // it passes
	RegistryOnly                           // it is refused
	AllowAnyDynamicDNS                     // HTTP goes to the host that it names, the rest passes
)

// InboundMode says where the proxy sends what it received for its application.
type InboundMode uint8

const (
	InboundPassthrough InboundMode = iota // to the pod's own address
	InboundLocalhost                      // to 127.0.0.1
)

// An AccessLogEncoding is the form of access log lines.
type AccessLogEncoding uint8

const (
	LogText AccessLogEncoding = iota
	LogJSON
)

// MeshConfig is what holds for the whole mesh. [DefaultMeshConfig] has the
// defaults; values here are final.
type MeshConfig struct {
	RootNamespace               string
	TrustDomain                 string
	TrustDomainAliases          []string
	TrustAnchors                []string // certificates (PEM) that workloads may be vouched for by, besides the mesh's own roots
	ClusterDomain               string
	ConnectTimeout              time.Duration
	DetectionTimeout            time.Duration // of protocols; 0: wait forever
	DNSRefresh                  time.Duration
	Keepalive                   *Keepalive
	OutboundPort                uint16
	InboundPort                 uint16
	Outbound                    OutboundMode
	OutboundTLS                 *ClientTLS // of AllowAnyDynamicDNS; nil: plain
	Inbound                     InboundMode
	AutoMTLS                    bool
	AccessLogFile               string // empty: no access log
	BesideIstio                 bool   // Gateways of istio.io/gateway-controller are istiod's
	AccessLogFormat             string // empty: Istio's; the names istio and istio-1.8 stand for formats
	AccessLogEncoding           AccessLogEncoding
	ServiceExportTo             ExportTo
	RulesExportTo               ExportTo // VirtualServices
	DestinationExportTo         ExportTo
	Retry                       *Retry            // nil: the built-in default
	H2Upgrade                   bool              // h2UpgradePolicy: UPGRADE
	Pool                        *ConnectionPool   // of defaultTrafficPolicy
	Outlier                     *OutlierDetection // of defaultTrafficPolicy
	Locality                    *LocalityLB       // localityLbSetting
	Zone                        *ZoneAware        // zoneAwareLbSetting
	Paths                       PathNormalization // pathNormalization
	MeshTLS                     TLSRange          // meshMTLS
	OtherTLS                    TLSRange          // tlsDefaults
	TrustUnnamed                bool              // verifyCertificateAtClient: false
	InboundStats, OutboundStats string            // patterns of clusters' names in statistics; empty: their own
	ClusterLocal                []ClusterLocal    // serviceSettings
	Discovery                   []LabelSelector   // of namespaces; none: all
	Entries                     *EntryVisibility  // serviceEntryVisibility, if sidecars heed it
	HTTPProxyPort               uint16            // proxyHttpPort; 0: none
	Ingress                     IngressSettings
	Proxies                     ProxySettings // of defaultConfig
	EnablePrometheusMerge       bool
	ProxyMetadata               map[string]string // of defaultConfig
	Networks                    Networks          // MeshNetworks
}

// IngressSettings say which Ingresses are served, and by which pods.
type IngressSettings struct {
	Class    string      // of those that are ours, besides malla
	Mode     IngressMode // which of the others are
	Selector string      // value of the label istio of the pods that serve them
	Service  string      // of the root namespace, by whose address they are reached
}

// IngressMode says what becomes of Ingresses without a class.
type IngressMode uint8

const (
	IngressStrict  IngressMode = iota // they are left alone
	IngressDefault                    // they are ours too
	IngressOff                        // none is ours
)

// DefaultMeshConfig returns the defaults. They are Istio's, but for two: the access
// log, which `malla up` turns on by its own ConfigMap, and DetectionTimeout. Istio waits forever for
// the first word of a client, so that a server that speaks first is never heard on a port that does not
// declare its protocol, and by clients outside of the mesh on none. A client of the mesh speaks at once.
func DefaultMeshConfig() MeshConfig {
	return MeshConfig{
		RootNamespace:         "istio-system",
		TrustDomain:           "cluster.local",
		ClusterDomain:         "cluster.local",
		ConnectTimeout:        10 * time.Second,
		DetectionTimeout:      time.Second,
		DNSRefresh:            60 * time.Second,
		OutboundPort:          15001,
		InboundPort:           15006,
		AutoMTLS:              true,
		Ingress:               IngressSettings{Class: "istio", Selector: "ingressgateway", Service: "istio-ingressgateway"},
		EnablePrometheusMerge: true,
	}
}
