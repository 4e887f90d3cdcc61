package model

import (
	"net/netip"
	"time"
)

// A Protocol is what a port speaks, as far as its declaration says.
type Protocol uint8

const (
	// Sniffed ports declare nothing; the proxy looks at the first bytes.
	Sniffed Protocol = iota
	HTTP
	HTTP2
	GRPC
	GRPCWeb
	HTTPS // TLS of the applications' own, carried unopened
	TLS   // as HTTPS
	TCP
	Mongo // carried as TCP
	MySQL // carried as TCP
	Redis // carried as TCP
	UDP   // not for the proxy
)

var protocolNames = [...]string{"Auto", "HTTP", "HTTP2", "GRPC", "GRPC-Web", "HTTPS", "TLS", "TCP", "Mongo", "MySQL", "Redis", "UDP"}

// String returns the name people write, "Auto" for a sniffed port.
func (p Protocol) String() string { return protocolNames[p] }

// IsHTTP reports whether the port carries HTTP that the proxy reads.
func (p Protocol) IsHTTP() bool { return p == HTTP || p == HTTP2 || p == GRPC || p == GRPCWeb }

// IsHTTP2 reports whether requests on the port are HTTP/2.
func (p Protocol) IsHTTP2() bool { return p == HTTP2 || p == GRPC || p == GRPCWeb }

// IsTLS reports whether the port carries TLS of the applications' own.
func (p Protocol) IsTLS() bool { return p == HTTPS || p == TLS }

// A Resolution says how a client finds the endpoints of a service.
type Resolution uint8

const (
	ByEndpoints   Resolution = iota // the control plane lists them (EDS)
	Passthrough                     // wherever the client dialled (ORIGINAL_DST): headless services, ServiceEntry NONE
	DNSStrict                       // every address that DNS gives is an endpoint
	DNSRoundRobin                   // the first address that DNS gives (LOGICAL_DNS)
	Alias                           // another name for AliasOf (ExternalName)
	DynamicDNS                      // the proxy resolves the host that each request, or TLS client, names
)

// A Service is a name with ports that clients call.
type Service struct {
	Host         string // reviews.prod.svc.cluster.local, or a ServiceEntry's host, maybe *.example.com
	Namespace    string
	Name         string // without namespace; a ServiceEntry's host again
	Created      time.Time
	From         Ref
	Kubernetes   bool         // made from a Service, not from a ServiceEntry
	VIPs         []netip.Addr // ClusterIPs or a ServiceEntry's addresses, v4 before v6; none if headless
	CIDRs        []netip.Prefix
	Auto         []netip.Addr // allocated, of a ServiceEntry without addresses, v4 before v6; see [View.Addresses]
	Ports        []Port
	Resolution   Resolution
	Headless     bool   // clusterIP: None
	External     bool   // outside of the mesh: no mutual TLS by itself
	AliasOf      string // the host behind an Alias
	ExportTo     ExportTo
	Labels       map[string]string
	Selector     map[string]string // of the pods and WorkloadEntries behind it, nil if none
	Accounts     []string          // SPIFFE ids that its endpoints may have, sorted
	SANs         []string          // a ServiceEntry's subjectAltNames
	NodeLocal    bool              // internalTrafficPolicy: Local
	Near         Nearness          // trafficDistribution
	Outside      []netip.Addr      // of Kubernetes' load balancer, and externalIPs; v4 before v6
	OutsideNames []string          // of the load balancer
}

// Nearness says which endpoints clients prefer, whatever is known of their health.
type Nearness uint8

const (
	NearAny  Nearness = iota
	NearZone          // PreferSameZone, PreferClose
	NearNode          // PreferSameNode
)

// A Port is one port of a service.
type Port struct {
	Name     string
	Number   uint16
	Protocol Protocol
	Target   TargetPort
}

// A TargetPort is the port of the workload behind a service's port: a number,
// or the name of a container's port. Neither means the service's own number.
type TargetPort struct {
	Number uint16
	Name   string
}

// Port returns the service's port with the number n. Of two, as a name server has
// them, it is the one that the proxy carries.
func (s *Service) Port(n uint16) (found Port, ok bool) {
	for _, p := range s.Ports {
		if p.Number == n && (!ok || found.Protocol == UDP) {
			found, ok = p, true
		}
	}
	return found, ok
}

// Health is what is known of an endpoint.
type Health uint8

const (
	Healthy Health = iota
	Unhealthy
	Draining
)

// An Endpoint is one address behind one port of a service.
type Endpoint struct {
	Addrs          []netip.Addr // of one workload, v4 first; none if Hostname or Path is set
	Hostname       string       // for DNS to resolve (ServiceEntry)
	Path           string       // of a Unix socket (ServiceEntry)
	Port           uint16
	PortName       string // the service's port name
	Health         Health
	Weight         uint32 // 0 means 1
	Labels         map[string]string
	Namespace      string // of the workload
	Pod            string // name of the pod, empty if there is none
	Workload       string // name of its Deployment or the like
	ServiceAccount string // SPIFFE id, empty if unknown
	Canonical      string // service.istio.io/canonical-name and what stands in for it
	Revision       string
	Cluster        string // "Kubernetes"
	Locality       string // region/zone/subzone
	Network        string
	Node           string
	TLS            bool // its proxy speaks mutual TLS: label security.istio.io/tlsMode=istio
	Gateway        bool // of another network: what is behind it speaks mutual TLS, whatever policies say of it
}

// A Workload is a pod, or a machine, that runs something of the mesh.
type Workload struct {
	Name, Namespace string // of the pod
	From            Ref
	UID             string
	Labels          map[string]string
	Annotations     map[string]string
	Addrs           []netip.Addr
	ServiceAccount  string // name, not SPIFFE id
	Node            string
	Locality        string
	Ports           []ContainerPort
	Ready           bool
	Injected        bool   // has an istio-proxy container
	Owner           string // name of its Deployment or the like
	OwnerKind       string
	HostNetwork     bool
}

// A ContainerPort is a port that a container declares.
type ContainerPort struct {
	Name     string
	Number   uint16
	Protocol string // TCP or UDP
}

// A ServiceKey names a service. Two namespaces may give one host name.
type ServiceKey struct{ Host, Namespace string }

// Key returns the service's name.
func (s *Service) Key() ServiceKey { return ServiceKey{s.Host, s.Namespace} }

// A Registry is what exists in the mesh. Unchanged values are shared from one
// registry to the next: a *Service or *EndpointSet that did not change is the
// same pointer.
type Registry struct {
	Services  []*Service // sorted by host, then namespace
	Endpoints map[ServiceKey]*EndpointSet
	Workloads []*Workload // sorted by namespace, then name
}

// An EndpointSet is everything behind one service, sorted by port name, then address.
type EndpointSet struct {
	Endpoints []*Endpoint
}
