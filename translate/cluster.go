//lint:file-ignore SA1019 DNS settings are where Envoy 1.40 and its users know them, until the typed cluster is everywhere

package translate

import (
	"slices"
	"sort"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/model"
)

// cluster returns the cluster called name as v's proxy may see it, and whether
// there is one.
func cluster(v *model.View, name string) (*clusterv3.Cluster, bool) {
	switch name {
	case blackHoleCluster:
		return &clusterv3.Cluster{
			Name: name, ClusterDiscoveryType: typeOf(clusterv3.Cluster_STATIC),
			ConnectTimeout: span(v.Mesh.Config.ConnectTimeout),
		}, true
	case dynamicDNSCluster:
		if !needsAnyHost(v) {
			return nil, false
		}
		return anyHost(v), true
	case passthroughCluster:
		return originalDst(v, name), v.Proxy.Type == model.Sidecar
	case inboundPassthroughCluster:
		return fromLoopback(v, originalDst(v, name)), v.Proxy.Type == model.Sidecar
	}
	if c, ok := passedThrough(v)[name]; ok {
		return passCluster(v, c)
	}
	c, ok := parseClusterName(name)
	if !ok {
		return nil, false
	}
	if c.inbound {
		return inbound(v, c)
	}
	s, p, subset, ok := resolve(v, c)
	if !ok {
		return nil, false
	}
	return outbound(v, c, s, p, subset), true
}

// resolve finds what a cluster's name stands for.
func resolve(v *model.View, c clusterName) (*model.Service, model.Port, model.Subset, bool) {
	s, ok := v.Service(c.host)
	if !ok || s.Resolution == model.Alias {
		return nil, model.Port{}, model.Subset{}, false
	}
	p, ok := s.Port(c.port)
	if !ok || p.Protocol == model.UDP {
		return nil, model.Port{}, model.Subset{}, false
	}
	if c.subset == "" {
		return s, p, model.Subset{}, true
	}
	subset, ok := v.PolicyFor(s).Subset(c.subset)
	return s, p, subset, ok
}

// clusterNames lists, sorted, the clusters of all services that the proxy sees
// and of its own ports.
func clusterNames(v *model.View) []string {
	names := []string{blackHoleCluster}
	if v.Proxy.Type == model.Sidecar {
		names = append(names, passthroughCluster, inboundPassthroughCluster)
		for _, p := range inboundPorts(v) {
			names = append(names, clusterName{inbound: true, port: p.target}.String())
		}
	}
	if needsAnyHost(v) {
		names = append(names, dynamicDNSCluster)
	}
	for _, s := range v.Services() {
		if s.Resolution == model.Alias {
			continue
		}
		d := v.PolicyFor(s)
		for _, p := range s.Ports {
			if p.Protocol == model.UDP {
				continue
			}
			names = append(names, clusterName{port: p.Number, host: s.Host}.String())
			if d == nil {
				continue
			}
			for _, subset := range d.Subsets {
				names = append(names, clusterName{port: p.Number, subset: subset.Name, host: s.Host}.String())
			}
		}
	}
	for name := range passedThrough(v) {
		names = append(names, name)
	}
	sort.Strings(names)
	return slices.Compact(names)
}

func typeOf(t clusterv3.Cluster_DiscoveryType) *clusterv3.Cluster_Type {
	return &clusterv3.Cluster_Type{Type: t}
}

// discovery says how the proxy finds the endpoints of a service.
func discovery(v *model.View, s *model.Service, p model.TrafficPolicy) clusterv3.Cluster_DiscoveryType {
	switch {
	case s.Resolution == model.DynamicDNS:
		return clusterv3.Cluster_ORIGINAL_DST // for a moment: setDynamic makes of it what has no name here
	case s.Resolution == model.DNSStrict:
		return clusterv3.Cluster_STRICT_DNS
	case s.Resolution == model.DNSRoundRobin:
		return clusterv3.Cluster_LOGICAL_DNS // outbound takes STRICT_DNS where Envoy would refuse this
	case s.Resolution == model.Passthrough && (v.Proxy.Type == model.Sidecar || !s.Headless):
		return clusterv3.Cluster_ORIGINAL_DST // a gateway has no original destination in the mesh
	case p.LB != nil && p.LB.Balance == model.Direct && v.Proxy.Type == model.Sidecar:
		return clusterv3.Cluster_ORIGINAL_DST
	}
	return clusterv3.Cluster_EDS
}

func outbound(v *model.View, name clusterName, s *model.Service, port model.Port, subset model.Subset) *clusterv3.Cluster {
	d := v.PolicyFor(s)
	policy := policyFor(v, d, subset, port.Number)
	kind := discovery(v, s, policy)
	c := &clusterv3.Cluster{
		Name: name.String(), AltStatName: name.String() + ";", ClusterDiscoveryType: typeOf(kind),
		Metadata: serviceMetadata(d, name, s),
	}
	setStatName(c, v.Mesh.Config.OutboundStats, name, s, port)
	setPool(v, c, policy.Pool)
	setBalance(c, policy.LB)
	setOutlier(c, policy.Outlier)
	setLocality(v, c, s, policy.LB)
	setBudget(c, policy.Budget)
	switch kind {
	case clusterv3.Cluster_EDS:
		c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: c.Name}
	case clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
		setNames(c, dnsAssignment(v, name, s, port, subset, policy))
		c.DnsLookupFamily = clusterv3.Cluster_V4_ONLY
		if v.Has6() {
			c.DnsLookupFamily = clusterv3.Cluster_ALL
		}
		c.DnsRefreshRate = span(v.Mesh.Config.DNSRefresh)
		c.RespectDnsTtl = true
	case clusterv3.Cluster_ORIGINAL_DST:
		c.CleanupInterval = span(time.Minute)
	}
	autoNames := setTLS(v, c, name, s, port, policy.TLS, policy.Pool)
	setProxyHeader(c, policy.Proxy)
	if s.Resolution == model.DynamicDNS {
		setDynamic(v, c)
		setHTTP(v, c, outboundVersion(v, port.Protocol, policy.Pool), policy.Pool, true)
		return c
	}
	if k := carried(port.Protocol); k == model.HTTP || k == model.Sniffed {
		as := outboundVersion(v, port.Protocol, policy.Pool)
		setHTTP(v, c, as, policy.Pool, autoNames)
		setErrors(v, c, as, policy.Outlier)
		offerAsClient(v, c, as, policy.TLS)
	}
	return c
}

// setNames gives a cluster the names that it resolves.
func setNames(c *clusterv3.Cluster, names *endpointv3.ClusterLoadAssignment) {
	c.LoadAssignment = names
	if e := names.Endpoints; len(e) != 1 || len(e[0].LbEndpoints) != 1 {
		c.ClusterDiscoveryType = typeOf(clusterv3.Cluster_STRICT_DNS) // LOGICAL_DNS has exactly one name
	}
}

// setTLS decides how connections to the cluster are secured. It reports whether
// the server's name is to be taken from each request.
//
// Without a word from a DestinationRule it is per endpoint: mutual TLS where a
// sidecar is known to answer it, else plain. A cluster that goes wherever the
// client dialled has no endpoints to ask; it speaks mutual TLS if everything
// known behind the service does.
func setTLS(v *model.View, c *clusterv3.Cluster, name clusterName, s *model.Service, port model.Port, t *model.ClientTLS, pool *model.ConnectionPool) (autoNames bool) {
	alpn := tcpALPN(v, alpnTCPClient)
	if carried(port.Protocol) == model.HTTP {
		alpn = alpnHTTPClient
		if outboundVersion(v, port.Protocol, pool) == http2 {
			alpn = alpnHTTP2Client
		}
	}
	accounts := s.Accounts
	if len(s.SANs) > 0 {
		accounts = s.SANs
	}
	if t != nil && t.Presents && v.Proxy.Type == model.Sidecar && port.Protocol.IsTLS() {
		t = nil // the application speaks TLS itself there, as the port says
	}
	if t != nil {
		switch t.Mode {
		case model.TLSIstioMutual:
			sni := name.sni()
			if t.SNI != "" {
				sni = t.SNI
			}
			if len(t.SANs) > 0 {
				accounts = t.SANs
			}
			c.TransportSocket = meshClient(sni, accounts, alpn)
		case model.TLSSimple, model.TLSMutual:
			tls := *t
			if len(tls.SANs) == 0 {
				tls.SANs = s.SANs
			}
			var alpn []string
			if carried(port.Protocol) == model.HTTP && outboundVersion(v, port.Protocol, pool) == http2 {
				alpn = []string{"h2"}
			}
			c.TransportSocket = originatedTLS(v, &tls, alpn)
			return tls.SNI == "" && carried(port.Protocol) != model.TLS
		}
		return false
	}
	if s.External || !v.Mesh.Config.AutoMTLS {
		return false
	}
	mesh := meshClient(name.sni(), accounts, alpn)
	if s.Resolution == model.DynamicDNS {
		return false // who can be anybody is in no mesh
	}
	if c.GetType() == clusterv3.Cluster_ORIGINAL_DST {
		if allSpeakTLS(v, s, port) {
			c.TransportSocket = mesh
		}
		return false
	}
	c.TransportSocketMatches = []*clusterv3.Cluster_TransportSocketMatch{
		{Name: "tlsMode-istio", Match: object(map[string]*structpb.Value{"tlsMode": str("istio")}), TransportSocket: mesh},
		{Name: "tlsMode-disabled", Match: object(nil), TransportSocket: rawSocket()},
	}
	return false
}

// allSpeakTLS reports whether everything behind the port answers mutual TLS.
func allSpeakTLS(v *model.View, s *model.Service, port model.Port) bool {
	any := false
	for _, e := range v.Mesh.Endpoints(s) {
		if e.PortName != port.Name {
			continue
		}
		if !speaksTLS(v.Mesh, e) {
			return false
		}
		any = true
	}
	return any
}

// serviceMetadata says for whom a cluster stands. Metrics take the names of
// destination services from it.
func serviceMetadata(d *model.DestinationRule, name clusterName, services ...*model.Service) *corev3.Metadata {
	var list []*structpb.Value
	for _, s := range services {
		list = append(list, structpb.NewStructValue(object(map[string]*structpb.Value{
			"host": str(s.Host), "name": str(s.Name), "namespace": str(s.Namespace),
		})))
	}
	fields := map[string]*structpb.Value{"services": structpb.NewListValue(&structpb.ListValue{Values: list})}
	if !name.inbound {
		fields["default_original_port"] = structpb.NewNumberValue(float64(name.port))
	}
	if name.subset != "" {
		fields["subset"] = str(name.subset)
	}
	var from model.Ref
	if d != nil {
		from = d.From
	}
	return metadata(from, fields)
}

// originalDst goes wherever the client dialled.
func originalDst(v *model.View, name string) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: typeOf(clusterv3.Cluster_ORIGINAL_DST), LbPolicy: clusterv3.Cluster_CLUSTER_PROVIDED,
		ConnectTimeout: span(v.Mesh.Config.ConnectTimeout), CircuitBreakers: limits(nil),
	}
	setHTTP(v, c, http1, nil, false)
	return c
}

// fromLoopback makes connections to the application come from 127.0.0.6 or ::6,
// by which interception knows that they have passed the proxy already.
func fromLoopback(v *model.View, c *clusterv3.Cluster) *clusterv3.Cluster {
	source := func(a string) *corev3.SocketAddress {
		return &corev3.SocketAddress{Address: a, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 0}}
	}
	c.UpstreamBindConfig = &corev3.BindConfig{SourceAddress: source("127.0.0.6")}
	if v.Has6() {
		c.UpstreamBindConfig.ExtraSourceAddresses = []*corev3.ExtraSourceAddress{{Address: source("::6")}}
	}
	return c
}

// inbound is the cluster of the application behind one port of the proxy's own
// pod. Limits that a DestinationRule puts on the service hold here too.
func inbound(v *model.View, name clusterName) (*clusterv3.Cluster, bool) {
	if v.Proxy.Type != model.Sidecar {
		return nil, false
	}
	for _, p := range inboundPorts(v) {
		if p.target != name.port {
			continue
		}
		pool := p.pool(v)
		c := &clusterv3.Cluster{Name: name.String(), AltStatName: name.String() + ";", Metadata: serviceMetadata(nil, name, p.services...)}
		setStatName(c, v.Mesh.Config.InboundStats, name, p.services[0], p.port)
		setPool(v, c, pool)
		if at := p.application(v); at != nil {
			if in := p.ingress; in != nil && in.To != 0 && !in.Addr.IsValid() {
				fromLoopback(v, c) // else the pod's own address leads back here
			}
			c.ClusterDiscoveryType = typeOf(clusterv3.Cluster_STATIC)
			c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: c.Name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
				LbEndpoints: []*endpointv3.LbEndpoint{lbEndpoint(at, 0)},
			}}}
		} else {
			c.ClusterDiscoveryType = typeOf(clusterv3.Cluster_ORIGINAL_DST)
			c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
			c.CleanupInterval = span(time.Minute)
			fromLoopback(v, c)
		}
		if k := carried(p.port.Protocol); k == model.HTTP || k == model.Sniffed {
			setHTTP(v, c, inboundVersion(p.port.Protocol, pool), pool, false)
		}
		return c, true
	}
	return nil, false
}
