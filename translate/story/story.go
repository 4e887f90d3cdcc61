// Package story reads the cases of translate's tests: small meshes, written
// down line by line, and questions about what a proxy is told of them.
//
// Sections of a story:
//
//	config.yaml   objects of Istio's kinds; apiVersion may be left out
//	services      reviews.prod 9080/http vip=10.96.0.9 select=app=reviews
//	endpoints     reviews.prod 10.244.0.7:9080 pod=reviews-v1 labels=version=v1 tls
//	workloads     prod/reviews-v1 10.244.0.7 labels=app=reviews ports=web:9080
//	proxy         sidecar prod/reviews-v1 10.244.0.7 labels=app=reviews
//	secrets       istio-system/shop cert=shop.example.com ca=partners crl
//	mesh          outbound=registry-only
//	meshconfig.yaml   Istio's MeshConfig, over it
//	meshnetworks.yaml Istio's MeshNetworks
//	resolved      ew.example.com 203.0.113.9
//
// Words of a line may come in any order. Lists are separated by commas. A
// service's host is completed to NAME.NAMESPACE.svc.cluster.local, unless it is
// given as host=.
//
// Sections request, answer, certificates, servers and files are traffic that test/foreign plays through both proxies; a story that
// traffic cannot show says why in "no requests".
//
// Questions are names of sections: want/clusters, want/cluster NAME PATH, and so
// on; see [Story.Answer].
package story

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/config"
	meshconfig "github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/config/source/memory"
	"github.com/mallamesh/malla/model"
)

// A Story is a mesh and a proxy in it.
type Story struct {
	View     *model.View
	Problems []compile.Problem
	snapshot *config.Snapshot
}

// Read builds the mesh of a story.
func Read(a *txtar.Archive) (*Story, error) {
	cfg := model.DefaultMeshConfig()
	reg := &model.Registry{Endpoints: make(map[model.ServiceKey]*model.EndpointSet)}
	proxy := &model.Proxy{Type: model.Sidecar, Namespace: "default", Name: "client", IPs: addrs("10.244.0.99")}
	var objects []*config.Object
	text, networks := "", "" // of MeshConfig, and of MeshNetworks
	resolved := map[string][]netip.Addr{}
	for _, f := range a.Files {
		for line := range strings.Lines(string(f.Data)) {
			words := strings.Fields(line)
			if len(words) == 0 || strings.HasPrefix(words[0], "#") {
				continue
			}
			var err error
			switch f.Name {
			case "services":
				err = addService(reg, words)
			case "endpoints":
				err = addEndpoint(reg, words)
			case "workloads":
				err = addWorkload(reg, words)
			case "proxy":
				proxy, err = readProxy(words)
			case "secrets":
				err = addSecret(&objects, words)
			case "resolved":
				resolved[words[0]] = addrs(words[1])
			case "mesh":
				err = setMesh(&cfg, words)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", f.Name, strings.TrimSpace(line), err)
			}
		}
		if f.Name == "meshconfig.yaml" {
			text = string(f.Data)
		}
		if f.Name == "meshnetworks.yaml" {
			networks = string(f.Data)
		}
		if f.Name == "config.yaml" {
			more, err := Objects(string(f.Data))
			if err != nil {
				return nil, err
			}
			objects = append(objects, more...)
		}
	}
	if text != "" {
		var errs field.List
		if cfg, errs, _ = meshconfig.Parse(text, cfg, field.At("mesh")); len(errs) > 0 {
			return nil, errs.Err()
		}
	}
	var errs field.List
	if cfg.Networks, errs, _ = meshconfig.ParseNetworks(networks, field.At("networks")); len(errs) > 0 {
		return nil, errs.Err()
	}
	if len(resolved) > 0 {
		cfg.Networks.Resolved = resolved
	}
	snapshot := config.Objects(objects...)
	if len(cfg.Discovery) > 0 {
		snapshot = snapshot.Only(cfg.Discovers)
	}
	mesh, problems := compile.Mesh(snapshot, &cfg, reg, nil)
	proxy.TrustDomain = cfg.TrustDomain
	return &Story{View: model.NewView(proxy, mesh), Problems: problems, snapshot: snapshot}, nil
}

var groups = map[string]string{
	"VirtualService": "networking.istio.io/v1", "DestinationRule": "networking.istio.io/v1", "Gateway": "networking.istio.io/v1",
	"ServiceEntry": "networking.istio.io/v1", "Sidecar": "networking.istio.io/v1", "EnvoyFilter": "networking.istio.io/v1alpha3", "PeerAuthentication": "security.istio.io/v1",
	"DNSPolicy": "malla.dev/v1",
	// A Gateway of Gateway API names its version itself: Istio's has the word.
	"GatewayClass": "gateway.networking.k8s.io/v1", "HTTPRoute": "gateway.networking.k8s.io/v1", "GRPCRoute": "gateway.networking.k8s.io/v1",
	"TLSRoute": "gateway.networking.k8s.io/v1", "TCPRoute": "gateway.networking.k8s.io/v1", "UDPRoute": "gateway.networking.k8s.io/v1",
	"ReferenceGrant": "gateway.networking.k8s.io/v1", "BackendTLSPolicy": "gateway.networking.k8s.io/v1", "ListenerSet": "gateway.networking.k8s.io/v1",
}

// WithVersions completes documents that leave apiVersion out.
func WithVersions(text string) string {
	var docs []string
	for _, doc := range strings.Split(text, "\n---") {
		kind := ""
		for line := range strings.Lines(doc) {
			if k, ok := strings.CutPrefix(line, "kind:"); ok {
				kind = strings.TrimSpace(k)
			}
		}
		if !strings.Contains(doc, "apiVersion:") {
			doc = "apiVersion: " + groups[kind] + "\n" + strings.TrimPrefix(doc, "\n")
		}
		docs = append(docs, doc)
	}
	return strings.Join(docs, "\n---\n")
}

// Objects reads documents. Their order is their age: the first is the oldest.
func Objects(text string) ([]*config.Object, error) {
	objects, err := memory.Parse(WithVersions(text))
	for i, o := range objects {
		if o.Created.IsZero() {
			o.Created = time.Unix(int64(1000+i), 0)
		}
	}
	return objects, err
}

// word splits key=value; a bare word has no value.
func word(w string) (key, value string) {
	key, value, _ = strings.Cut(w, "=")
	return key, value
}

func labels(s string) map[string]string {
	out := make(map[string]string)
	for _, pair := range strings.Split(s, ",") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			out[k] = v
		}
	}
	return out
}

func addrs(s string) []netip.Addr {
	var out []netip.Addr
	for _, a := range strings.Split(s, ",") {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

var protocols = map[string]model.Protocol{
	"": model.Sniffed, "http": model.HTTP, "http2": model.HTTP2, "grpc": model.GRPC, "https": model.HTTPS, "tls": model.TLS,
	"tcp": model.TCP, "udp": model.UDP, "redis": model.Redis,
}

// addService reads: name.ns [port[/protocol[/target]]]... [key=value]...
func addService(r *model.Registry, words []string) error {
	name, ns, ok := strings.Cut(words[0], ".")
	if !ok {
		return fmt.Errorf("want name.namespace")
	}
	s := &model.Service{
		Name: name, Namespace: ns, Host: name + "." + ns + ".svc.cluster.local", Kubernetes: true,
		Created: time.Unix(int64(len(r.Services)), 0), From: model.Ref{Kind: "Service", Namespace: ns, Name: name},
	}
	for _, w := range words[1:] {
		switch key, value := word(w); key {
		case "vip":
			s.VIPs = addrs(value)
		case "cidr":
			for _, c := range strings.Split(value, ",") {
				s.CIDRs = append(s.CIDRs, netip.MustParsePrefix(c))
			}
		case "select":
			s.Selector = labels(value)
		case "exportTo":
			s.ExportTo = strings.Split(value, ",")
		case "accounts":
			s.Accounts = strings.Split(value, ",")
		case "host":
			s.Host, s.Name, s.Kubernetes, s.From.Kind = value, value, false, "ServiceEntry"
		case "auto":
			s.Auto = addrs(value)
		case "external":
			s.External = true
		case "headless":
			s.Headless, s.Resolution = true, model.Passthrough
		case "none":
			s.Resolution = model.Passthrough
		case "dns":
			s.Resolution = model.DNSStrict
		case "dynamic":
			s.Resolution = model.DynamicDNS
		case "dns-round-robin":
			s.Resolution = model.DNSRoundRobin
		case "labels":
			s.Labels = labels(value)
		case "outside":
			for _, at := range strings.Split(value, ",") {
				if a, err := netip.ParseAddr(at); err == nil {
					s.Outside = append(s.Outside, a)
				} else {
					s.OutsideNames = append(s.OutsideNames, at)
				}
			}
		case "near":
			s.Near = map[string]model.Nearness{"zone": model.NearZone, "node": model.NearNode}[value]
		case "node-local":
			s.NodeLocal = true
		case "alias":
			s.Resolution, s.AliasOf = model.Alias, value
		default:
			p, err := port(key)
			if err != nil {
				return err
			}
			s.Ports = append(s.Ports, p)
		}
	}
	r.Services = append(r.Services, s)
	sortServices(r.Services)
	return nil
}

// port reads number[/protocol[/target]].
func port(s string) (model.Port, error) {
	parts := append(strings.Split(s, "/"), "", "")
	n, err := strconv.ParseUint(parts[0], 10, 16)
	if err != nil {
		return model.Port{}, fmt.Errorf("%q is neither a known word nor a port", s)
	}
	protocol, ok := protocols[parts[1]]
	if !ok {
		return model.Port{}, fmt.Errorf("protocol %q is not known", parts[1])
	}
	p := model.Port{Name: parts[1] + "-" + parts[0], Number: uint16(n), Protocol: protocol}
	if t, err := strconv.ParseUint(parts[2], 10, 16); err == nil {
		p.Target.Number = uint16(t)
	} else {
		p.Target.Name = parts[2]
	}
	return p, nil
}

// addEndpoint reads: service.ns address:port [key=value]...
func addEndpoint(r *model.Registry, words []string) error {
	var s *model.Service
	for _, x := range r.Services {
		if x.Name+"."+x.Namespace == words[0] || x.Host == words[0] {
			s = x
		}
	}
	if s == nil || len(words) < 2 {
		return fmt.Errorf("want a service of the section before, and an address")
	}
	host, number, _ := strings.Cut(words[1], ":")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil && host != "unix" {
		return err
	}
	e := &model.Endpoint{Port: uint16(n), PortName: s.Ports[0].Name, Namespace: s.Namespace, Cluster: "Kubernetes"}
	if host == "unix" {
		e.Path = number
	} else if host == "-" {
		// none: of another network, which knows it
	} else if a, err := netip.ParseAddr(host); err == nil {
		e.Addrs = []netip.Addr{a}
	} else {
		e.Hostname = host
	}
	for _, w := range words[2:] {
		switch key, value := word(w); key {
		case "labels":
			e.Labels = labels(value)
		case "pod":
			e.Pod, e.Workload, e.Canonical, e.Revision = value, value, value, "latest"
		case "tls":
			e.TLS = true
		case "cluster":
			e.Cluster = value
		case "unready":
			e.Health = model.Unhealthy
		case "locality":
			e.Locality = value
		case "node":
			e.Node = value
		case "network":
			e.Network = value
		case "port":
			e.PortName = value
		case "weight":
			w, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return err
			}
			e.Weight = uint32(w)
		default:
			return fmt.Errorf("%q is not known", w)
		}
	}
	set := r.Endpoints[s.Key()]
	if set == nil {
		set = &model.EndpointSet{}
		r.Endpoints[s.Key()] = set
	}
	set.Endpoints = append(set.Endpoints, e)
	return nil
}

// addWorkload reads: ns/name address [labels=] [account=] [ports=name:number,...] [owner=] [injected]
func addWorkload(r *model.Registry, words []string) error {
	w := &model.Workload{Addrs: addrs(words[1])}
	w.Namespace, w.Name, _ = strings.Cut(words[0], "/")
	for _, x := range words[2:] {
		switch key, value := word(x); key {
		case "labels":
			w.Labels = labels(value)
			w.Locality = model.LocalityOf(w.Labels)
		case "account":
			w.ServiceAccount = value
		case "ports":
			for _, p := range strings.Split(value, ",") {
				name, number, _ := strings.Cut(p, ":")
				n, err := strconv.ParseUint(number, 10, 16)
				if err != nil {
					return err
				}
				w.Ports = append(w.Ports, model.ContainerPort{Name: name, Number: uint16(n), Protocol: "TCP"})
			}
		case "injected":
			w.Injected = true
		case "owner":
			w.Owner, w.OwnerKind, w.Ready = value, "Deployment", true
		default:
			return fmt.Errorf("%q is not known", x)
		}
	}
	r.Workloads = append(r.Workloads, w)
	return nil
}

// readProxy reads: sidecar|router ns/name address[,address] [labels=] [account=] [stock].
// An account is one that the proxy has proved to be.
func readProxy(words []string) (*model.Proxy, error) {
	if len(words) < 3 {
		return nil, fmt.Errorf("want a type, ns/name and an address")
	}
	p := &model.Proxy{Type: model.ProxyType(words[0]), IPs: addrs(words[2])}
	p.Namespace, p.Name, _ = strings.Cut(words[1], "/")
	for _, w := range words[3:] {
		switch key, value := word(w); key {
		case "labels":
			p.Labels = labels(value)
			p.Locality = model.LocalityOf(p.Labels)
		case "dns":
			p.Metadata = map[string]string{"DNS_CAPTURE": "true", "DNS_AUTO_ALLOCATE": strconv.FormatBool(value == "auto")}
		case "stock":
			p.Stock = true
		case "metadata":
			p.Metadata = labels(value)
		case "account":
			p.ServiceAccount, p.Proven = value, true
		case "config": // of its pod, as YAML without spaces
			p.Settings = meshconfig.Settings(value)
		default:
			return nil, fmt.Errorf("%q is not known", w)
		}
	}
	return p, nil
}

func setMesh(c *model.MeshConfig, words []string) error {
	for _, w := range words {
		switch key, value := word(w); key {
		case "outbound":
			c.Outbound = model.RegistryOnly
			if value == "dynamic-dns" {
				c.Outbound = model.AllowAnyDynamicDNS
			}
		case "inbound":
			c.Inbound = model.InboundLocalhost
		case "autoMTLS":
			c.AutoMTLS = value == "true"
		case "accessLog":
			c.AccessLogFile = value
		case "format":
			c.AccessLogFormat = value
		case "json":
			c.AccessLogEncoding = model.LogJSON
		case "aliases":
			c.TrustDomainAliases = strings.Split(value, ",")
		case "serviceExportTo":
			c.ServiceExportTo = strings.Split(value, ",")
		case "h2Upgrade":
			c.H2Upgrade = true
		case "retries":
			c.Retry = &model.Retry{}
		default:
			return fmt.Errorf("%q is not known", w)
		}
	}
	return nil
}
