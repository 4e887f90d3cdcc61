package translate

import (
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/model"
)

// What follows is for applications that speak to the control plane themselves, through gRPC's own xDS
// client and server, as Istio's generator "grpc" does it. gRPC asks by name only, and
// refuses much of what it does not know, so resources hold what it reads and no more.

// proxyless reports whether gRPC itself is the proxy.
func proxyless(v *model.View) bool { return v.Proxy.Metadata["GENERATOR"] == "grpc" }

// grpcInbound is how a gRPC server asks for its listener: it is followed by the address that it listens on.
const grpcInbound = "xds.istio.io/grpc/lds/inbound/"

// certificateProvider is the name of certificates and roots in the bootstraps that Istio's agent writes.
const certificateProvider = "default"

// grpcResource returns what gRPC asks for.
func grpcResource(v *model.View, typeURL, name string) (proto.Message, bool) {
	switch typeURL {
	case ListenerType:
		if at, ok := strings.CutPrefix(name, grpcInbound); ok {
			return found(grpcServer(v, name, at))
		}
		return found(grpcTarget(v, name))
	case RouteType:
		return found(grpcRoutes(v, name))
	case ClusterType:
		return found(grpcCluster(v, name))
	case EndpointType:
		return found(grpcEndpoints(v, name))
	}
	return nil, false
}

// grpcTarget is the listener of what comes after xds:/// in a client's target: a host that it may call by
// any of its names, and a port.
func grpcTarget(v *model.View, name string) (*listenerv3.Listener, bool) {
	host, text, err := net.SplitHostPort(name)
	if err != nil {
		return nil, false
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, false
	}
	s, ok := called(v, host)
	if !ok {
		return nil, false
	}
	p, ok := s.Port(uint16(port))
	if k := carried(p.Protocol); !ok || k != model.HTTP && k != model.Sniffed {
		return nil, false
	}
	return &listenerv3.Listener{Name: name, ApiListener: &listenerv3.ApiListener{ApiListener: pack(&hcmv3.HttpConnectionManager{
		HttpFilters:    grpcFilters(httpFilter(faultFilter, &faultv3.HTTPFault{})),
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: clusterName{port: uint16(port), host: s.Host}.String()}},
	})}}, true
}

func grpcFilters(f ...*hcmv3.HttpFilter) []*hcmv3.HttpFilter {
	return append(f, httpFilter("envoy.filters.http.router", &routerv3.Router{}))
}

// called returns the service that a client of the proxy's namespace calls so.
func called(v *model.View, host string) (*model.Service, bool) {
	if s, ok := v.Service(host); ok {
		if s.Resolution == model.Alias {
			return v.Service(s.AliasOf)
		}
		return s, true
	}
	for _, s := range v.Services() {
		if s.Resolution != model.Alias && slices.Contains(domainsOf(s.Host, v.Proxy.Namespace), host) {
			return s, true
		}
	}
	return nil, false
}

// grpcServer is the listener of a server on a port of its pod. Permissive mutual TLS is strict for who says that it
// speaks mutual TLS, since its clients go by that, and plain text for others: gRPC cannot do both.
func grpcServer(v *model.View, name, at string) (*listenerv3.Listener, bool) {
	host, text, err := net.SplitHostPort(at)
	if err != nil {
		return nil, false
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, false
	}
	ports := inboundPorts(v)
	i := slices.IndexFunc(ports, func(p inboundPort) bool { return p.target == uint16(port) })
	if i < 0 {
		return nil, false
	}
	chain := &listenerv3.FilterChain{Name: "plaintext", Filters: list1(networkFilter("envoy.filters.network.http_connection_manager", &hcmv3.HttpConnectionManager{
		HttpFilters: grpcFilters(),
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name: clusterName{inbound: true, port: uint16(port)}.String(), VirtualHosts: []*routev3.VirtualHost{{
				Name: "inbound|http|" + text, Domains: []string{"*"}, Routes: []*routev3.Route{{
					Name: "default", Match: everything(), Action: &routev3.Route_NonForwardingAction{NonForwardingAction: &routev3.NonForwardingAction{}}}}}},
		}},
	}))}
	if mode := ports[i].mode; mode == model.MTLSStrict || mode != model.MTLSDisable && v.Proxy.Labels["security.istio.io/tlsMode"] == "istio" {
		chain.Name = "mtls"
		chain.TransportSocket = &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: pack(&tlsv3.DownstreamTlsContext{
			CommonTlsContext: grpcContext(nil), RequireClientCertificate: boolean(true)})}}
	}
	return &listenerv3.Listener{Name: name, FilterChains: []*listenerv3.FilterChain{chain}, Address: hostAddress(host, uint16(port))}, true
}

// grpcContext names certificate and roots as gRPC's bootstrap does; peers must have one of the identities, if some are given.
func grpcContext(accounts []string) *tlsv3.CommonTlsContext {
	provider := func(secret string) *tlsv3.CertificateProviderPluginInstance {
		return &tlsv3.CertificateProviderPluginInstance{InstanceName: certificateProvider, CertificateName: secret}
	}
	check := &tlsv3.CertificateValidationContext{CaCertificateProviderInstance: provider("ROOTCA")}
	for _, a := range accounts {
		//lint:ignore SA1019 gRPC reads no other field
		check.MatchSubjectAltNames = append(check.MatchSubjectAltNames, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: a}})
	}
	return &tlsv3.CommonTlsContext{
		TlsCertificateProviderInstance: provider("default"),
		ValidationContextType:          &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: check},
	}
}

// grpcRoutes is the table of one service's port, called as its cluster is.
func grpcRoutes(v *model.View, name string) (*routev3.RouteConfiguration, bool) {
	c, ok := parseClusterName(name)
	if !ok || c.inbound || c.subset != "" {
		return nil, false
	}
	s, _, _, ok := resolve(v, c)
	if !ok {
		return nil, false
	}
	host := proto.Clone(serviceHost(v, s, c.port)).(*routev3.VirtualHost)
	for _, d := range slices.Clone(host.Domains) { // the target of a client is host and port
		host.Domains = append(host.Domains, d+":"+strconv.Itoa(int(c.port)))
	}
	for _, r := range host.Routes {
		grpcRoute(r)
	}
	return &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{host}}, true
}

// grpcRoute says in gRPC's way what it would not find, and takes out filters that it does not have.
func grpcRoute(r *routev3.Route) {
	keep := map[string]*anypb.Any{}
	if f := r.TypedPerFilterConfig[faultFilter]; f != nil {
		keep[faultFilter] = f
	}
	r.TypedPerFilterConfig = keep
	if p, ok := r.Match.PathSpecifier.(*routev3.RouteMatch_PathSeparatedPrefix); ok {
		r.Match.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: regexp.QuoteMeta(p.PathSeparatedPrefix) + "(/.*)?"}}
	}
	if a := r.GetRoute(); a != nil {
		a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: a.Timeout}
	}
}

// grpcCluster is a cluster with its endpoints from here, whatever the service's addresses are, since it dials them itself. Mutual
// TLS is spoken where a DestinationRule says so: a gRPC client cannot tell from endpoint to endpoint.
func grpcCluster(v *model.View, name string) (*clusterv3.Cluster, bool) {
	c, ok := parseClusterName(name)
	if !ok || c.inbound {
		return nil, false
	}
	s, port, subset, ok := resolve(v, c)
	if !ok {
		return nil, false
	}
	policy := policyFor(v, v.PolicyFor(s), subset, port.Number)
	out := &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: typeOf(clusterv3.Cluster_EDS), CircuitBreakers: limits(policy.Pool),
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: name},
	}
	if lb := policy.LB; lb != nil && lb.Hash != nil {
		out.LbPolicy = clusterv3.Cluster_RING_HASH
	}
	setOutlier(out, policy.Outlier)
	out.CommonLbConfig = nil
	grpcOutlier(out.OutlierDetection)
	if t := policy.TLS; t != nil && t.Mode == model.TLSIstioMutual {
		accounts := s.Accounts
		if len(s.SANs) > 0 {
			accounts = s.SANs
		}
		if len(t.SANs) > 0 {
			accounts = t.SANs
		}
		out.TransportSocket = clientSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: grpcContext(accounts), Sni: c.sni()})
	}
	return out, true
}

// grpcOutlier makes "N errors in a row" what gRPC can see, which counts over intervals: N calls or more in one, of
// which all have failed.
func grpcOutlier(o *clusterv3.OutlierDetection) {
	n := max(o.GetConsecutive_5Xx().GetValue(), o.GetConsecutiveGatewayFailure().GetValue())
	if n == 0 {
		return
	}
	o.FailurePercentageThreshold, o.EnforcingFailurePercentage = u32(99), u32(100)
	o.FailurePercentageRequestVolume, o.FailurePercentageMinimumHosts = u32(n), u32(1)
}

// grpcEndpoints is what gRPC balances over: addresses, each of a locality with a weight.
func grpcEndpoints(v *model.View, name string) (*endpointv3.ClusterLoadAssignment, bool) {
	c, ok := parseClusterName(name)
	if !ok || c.inbound {
		return nil, false
	}
	s, port, subset, ok := resolve(v, c)
	if !ok {
		return nil, false
	}
	policy := policyFor(v, v.PolicyFor(s), subset, port.Number)
	all := slices.DeleteFunc(reachable(v, s, policy, behind(v, s, port, subset)), func(e *model.Endpoint) bool { return len(e.Addrs) == 0 })
	return assignment(v, name, s, policy, all), true
}
