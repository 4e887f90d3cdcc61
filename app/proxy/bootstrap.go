package proxy

import (
	"net"
	"net/netip"
	"strconv"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// The control plane's cluster in Istio's bootstrap, and the agent's.
const (
	xdsCluster = "xds-grpc"
	sdsCluster = "sds-grpc"
)

// bootstrap is what Istio's agent would write for an Envoy. The proxy starts by it as
// it would by a file.
func (e *environment) bootstrap(node *corev3.Node) *bootstrapv3.Bootstrap {
	ads := &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}, ResourceApiVersion: corev3.ApiVersion_V3}
	// It is not ready before it has its configuration, however long that takes.
	all := proto.CloneOf(ads)
	all.InitialFetchTimeout = durationpb.New(0)
	b := &bootstrapv3.Bootstrap{
		Node:            node,
		Admin:           &bootstrapv3.Admin{Address: address("127.0.0.1", uint32(e.AdminPort))},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{e.controlPlane()}},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{LdsConfig: all, CdsConfig: all, AdsConfig: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3, GrpcServices: []*corev3.GrpcService{grpcService(xdsCluster)}}},
	}
	limits := map[string]*structpb.Value{}
	if e.ListenerLimit > 0 {
		for _, name := range e.listeners() {
			limits["envoy.resource_limits.listener."+name+".connection_limit"] = structpb.NewNumberValue(float64(e.ListenerLimit))
		}
	}
	if e.GlobalLimit > 0 {
		limits["overload.global_downstream_max_connections"] = structpb.NewNumberValue(float64(e.GlobalLimit))
	}
	addLayer(b, "connections", limits)
	addLayer(b, "global config", e.runtime())
	if e.findsItself() {
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, localCluster(ads))
		b.ClusterManager = &bootstrapv3.ClusterManager{LocalClusterName: localClusterName}
	}
	return b
}

// runtime is what runtimeValues say, as in Istio: they are texts, of which true and false are meant as such, and an empty one
// leaves the key out.
func (e *environment) runtime() map[string]*structpb.Value {
	out := map[string]*structpb.Value{}
	for key, text := range e.Runtime {
		switch text {
		case "":
		case "true", "false":
			out[key] = structpb.NewBoolValue(text == "true")
		default:
			out[key] = structpb.NewStringValue(text)
		}
	}
	return out
}

// addLayer adds values to the runtime, over those that are there.
func addLayer(b *bootstrapv3.Bootstrap, name string, values map[string]*structpb.Value) {
	if len(values) == 0 {
		return
	}
	if b.LayeredRuntime == nil {
		b.LayeredRuntime = &bootstrapv3.LayeredRuntime{}
	}
	b.LayeredRuntime.Layers = append(b.LayeredRuntime.Layers, &bootstrapv3.RuntimeLayer{
		Name: name, LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: values}},
	})
}

// listeners are those whose connections of clients can be bounded by name: those of a sidecar that accept any. A
// gateway's are not known before they come.
func (e *environment) listeners() []string {
	if e.Type == "sidecar" {
		return []string{"virtualInbound", "virtualOutbound"}
	}
	return nil
}

// localClusterName is the cluster of the proxy's like, by which it balances between zones.
const localClusterName = "local_cluster"

// findsItself reports whether the workload asks for that (ISTIO_META_ENABLE_SELF_DISCOVERY).
func (e *environment) findsItself() bool { return e.Metadata["ENABLE_SELF_DISCOVERY"] == "true" }

func localCluster(from *corev3.ConfigSource) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: localClusterName, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}, ConnectTimeout: durationpb.New(dialTimeout),
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: from, ServiceName: localClusterName}}
}

func address(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}
}

func grpcService(name string) *corev3.GrpcService {
	return &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: name}}}
}

// controlPlane is the cluster of the control plane: by name, with the workload's
// certificate, and a look at the name in the other's.
func (e *environment) controlPlane() *clusterv3.Cluster {
	host, text, err := net.SplitHostPort(e.Discovery)
	if err != nil {
		host, text = e.Discovery, "15012"
	}
	port, _ := strconv.ParseUint(text, 10, 16)
	kind := clusterv3.Cluster_STRICT_DNS
	if _, err := netip.ParseAddr(host); err == nil {
		kind = clusterv3.Cluster_STATIC
	}
	return &clusterv3.Cluster{
		Name: xdsCluster, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: kind}, ConnectTimeout: durationpb.New(dialTimeout),
		// A service's address stays; the name may not be known yet when a mesh starts.
		//lint:ignore SA1019 the extension that replaces it is not read yet
		DnsRefreshRate: durationpb.New(time.Minute),
		//lint:ignore SA1019 the extension that replaces it is not read yet
		DnsFailureRefreshRate: &clusterv3.Cluster_RefreshRate{BaseInterval: durationpb.New(100 * time.Millisecond), MaxInterval: durationpb.New(time.Second)},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: xdsCluster, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(host, uint32(port))}}}}}}},
		TransportSocket: e.controlPlaneTLS(),
	}
}

func (e *environment) controlPlaneTLS() *corev3.TransportSocket {
	name := serverName(e.Discovery)
	secret := func(of string) *tlsv3.SdsSecretConfig {
		return &tlsv3.SdsSecretConfig{Name: of, SdsConfig: &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{
			ApiConfigSource: &corev3.ApiConfigSource{ApiType: corev3.ApiConfigSource_GRPC, TransportApiVersion: corev3.ApiVersion_V3, GrpcServices: []*corev3.GrpcService{grpcService(sdsCluster)}}}}}
	}
	san := &tlsv3.SubjectAltNameMatcher{SanType: tlsv3.SubjectAltNameMatcher_DNS, Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}}}
	config, _ := anypb.New(&tlsv3.UpstreamTlsContext{Sni: name, CommonTlsContext: &tlsv3.CommonTlsContext{
		AlpnProtocols:                  []string{"h2"},
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{secret(identitySecret)},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{san}},
			ValidationContextSdsSecretConfig: secret(rootSecret),
		}},
	}}) // plain strings: it always packs
	return &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config}}
}
