package proxy

import (
	"net"
	"path/filepath"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/api/machine"
)

// Sockets on which the agent answers an Envoy, in a directory of theirs.
const (
	xdsSocket = "xds"
	sdsSocket = "sds"
)

// stockProfile is what MALLA_PROFILE in a node's metadata says of an Envoy without Istio's filters.
const stockProfile = "stock"

// envoyBootstrap is what an Envoy in the place of our proxy starts with: it asks the agent for all else.
func (e *environment) envoyBootstrap(dir string, mark int) ([]byte, error) {
	node, err := e.node()
	if err != nil {
		return nil, err
	}
	delete(node.Metadata.Fields, machine.Metadata) // the agent asks as its settings say, and hears nothing of the control plane
	node.Metadata.Fields["MALLA_PROFILE"] = structpb.NewStringValue(stockProfile)
	node.UserAgentName, node.UserAgentVersionType = "", nil // that is the Envoy's to say
	b := e.bootstrap(node)
	b.StaticResources.Clusters = []*clusterv3.Cluster{onSocket(xdsCluster, filepath.Join(dir, xdsSocket)), onSocket(sdsCluster, filepath.Join(dir, sdsSocket))}
	if e.findsItself() {
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, localCluster(b.DynamicResources.CdsConfig))
	}
	b.StatsConfig = e.statsConfig()
	if b.LayeredRuntime == nil {
		b.LayeredRuntime = &bootstrapv3.LayeredRuntime{}
	}
	b.LayeredRuntime.Layers = append(b.LayeredRuntime.Layers, &bootstrapv3.RuntimeLayer{Name: "malla", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{
		Fields: map[string]*structpb.Value{"re2.max_program_size.error_level": structpb.NewNumberValue(32768)}, // Istio's
	}}})
	if mark != 0 { // so that capture lets through what the Envoy dials: here it may have the application's user id
		if b.ClusterManager == nil {
			b.ClusterManager = &bootstrapv3.ClusterManager{}
		}
		b.ClusterManager.UpstreamBindConfig = &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{{
			Description: "SO_MARK", Level: solSocket, Name: soMark, State: corev3.SocketOption_STATE_PREBIND, Value: &corev3.SocketOption_IntValue{IntValue: int64(mark)},
		}}}
	}
	return protojson.Marshal(b)
}

// onSocket is a cluster of the agent's.
func onSocket(name, path string) *clusterv3.Cluster {
	options, _ := anypb.New(&httpv3.HttpProtocolOptions{UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}}}}}) // constants: they always pack
	return &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}, ConnectTimeout: durationpb.New(time.Second),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}}}}}}}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
	}
}

// istioStatistics are how many patterns of it are those of Istio's bootstrap.
const istioStatistics = 3

// statsConfig lets through what Istio's bootstrap does, and what the workload asks for.
func (e *environment) statsConfig() *metricsv3.StatsConfig {
	regex := func(text string) *matcherv3.StringMatcher {
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: text}}}
	}
	list := &matcherv3.ListStringMatcher{Patterns: []*matcherv3.StringMatcher{
		regex("(" + shownPrefixes + ").*"), regex(".*(" + shownSuffixes + ")"), regex(shownRegexps),
	}}
	for _, p := range e.Matcher.InclusionPrefixes {
		list.Patterns = append(list.Patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: p}})
	}
	for _, s := range e.Matcher.InclusionSuffixes {
		list.Patterns = append(list.Patterns, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: s}})
	}
	for _, r := range e.Matcher.InclusionRegexps {
		list.Patterns = append(list.Patterns, regex(r))
	}
	return &metricsv3.StatsConfig{StatsMatcher: &metricsv3.StatsMatcher{StatsMatcher: &metricsv3.StatsMatcher_InclusionList{InclusionList: list}}}
}

// unixListener opens one of the agent's sockets.
func unixListener(dir, name string) (net.Listener, error) {
	return net.Listen("unix", filepath.Join(dir, name))
}
