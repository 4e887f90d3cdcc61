package story

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
)

// ErrNoEnvoy says how to get the real Envoy that is missing.
var ErrNoEnvoy = errors.New("no real Envoy: set MALLA_ENVOY, or put it into .cache/envoy/bin/envoy (make test does), or on PATH")

// FindEnvoy returns the path of a real Envoy. Root is the directory of the module.
func FindEnvoy(root string) (string, error) {
	candidates := []string{os.Getenv("MALLA_ENVOY"), filepath.Join(root, ".cache/envoy/bin/envoy")}
	if p, err := exec.LookPath("envoy"); err == nil {
		candidates = append(candidates, p)
	}
	for _, c := range candidates {
		if c == "" {
			continue
		}
		if _, err := os.Stat(c); err == nil {
			return c, nil
		}
	}
	return "", ErrNoEnvoy
}

// Validate asks a real Envoy about everything that the proxy of v gets. Dir is
// where the configuration is written.
func Validate(envoy, dir string, v *model.View) error {
	b, err := Bootstrap(v)
	if err != nil {
		return err
	}
	data, err := proto.Marshal(b)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "bootstrap.pb") // not text: Envoy cannot read what it does not know from text
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := exec.Command(envoy, "--mode", "validate", "-c", file, "--log-level", "error", "--concurrency", "1")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("a real Envoy refuses: %w\n%s", err, out.String())
	}
	return nil
}

// Bootstrap puts everything that the proxy gets into one static configuration.
// What comes by name (endpoints, routes) is put in its place, since Envoy does
// not look at what it would have to fetch.
func Bootstrap(v *model.View) (*bootstrapv3.Bootstrap, error) {
	b := &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: "test", Cluster: "test"},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{AdsConfig: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "xds-grpc"}}}},
		}},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{},
	}
	for _, name := range []string{"xds-grpc", "sds-grpc"} {
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, &clusterv3.Cluster{
			Name: name, ConnectTimeout: durationpb.New(1e9), ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		})
	}
	for _, name := range translate.ClusterNames(v) {
		c, ok := translate.Cluster(v, name)
		if !ok {
			return nil, fmt.Errorf("cluster %s is listed, but there is none", name)
		}
		if c.GetType() == clusterv3.Cluster_EDS {
			c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
			c.EdsClusterConfig = nil
			if c.LoadAssignment, ok = translate.Endpoints(v, name); !ok {
				return nil, fmt.Errorf("cluster %s has no endpoints resource", name)
			}
		}
		for _, s := range append([]*corev3.TransportSocket{c.TransportSocket}, matched(c)...) {
			if err := inlineSecrets(v, s); err != nil {
				return nil, fmt.Errorf("cluster %s: %w", name, err)
			}
		}
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, c)
	}
	for _, name := range translate.SecretNames(v) {
		s, ok := translate.Secret(v, name)
		if !ok {
			return nil, fmt.Errorf("secret %s is listed, but there is none", name)
		}
		if _, files := fileSecret(name); !files { // which are on no disk here
			b.StaticResources.Secrets = append(b.StaticResources.Secrets, s)
		}
	}
	for _, name := range translate.ListenerNames(v) {
		l, ok := translate.Listener(v, name)
		if !ok {
			return nil, fmt.Errorf("listener %s is listed, but there is none", name)
		}
		for _, chain := range append(l.FilterChains, l.DefaultFilterChain) {
			if err := inlineRoutes(v, chain); err != nil {
				return nil, fmt.Errorf("listener %s: %w", name, err)
			}
			if err := inlineSecrets(v, chain.GetTransportSocket()); err != nil {
				return nil, fmt.Errorf("listener %s: %w", name, err)
			}
		}
		b.StaticResources.Listeners = append(b.StaticResources.Listeners, l)
	}
	return b, nil
}

func inlineRoutes(v *model.View, chain *listenerv3.FilterChain) error {
	for i, f := range chain.GetFilters() {
		m := new(hcmv3.HttpConnectionManager)
		if !f.GetTypedConfig().MessageIs(m) {
			continue
		}
		if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
			return err
		}
		rds := m.GetRds()
		if rds == nil {
			continue
		}
		table, ok := translate.Routes(v, rds.RouteConfigName)
		if !ok {
			return fmt.Errorf("names the route table %s, but there is none", rds.RouteConfigName)
		}
		m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: table}
		config, err := anypb.New(m)
		if err != nil {
			return err
		}
		chain.Filters[i] = &listenerv3.Filter{Name: f.Name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config}}
	}
	return nil
}

func matched(c *clusterv3.Cluster) []*corev3.TransportSocket {
	var out []*corev3.TransportSocket
	for _, m := range c.TransportSocketMatches {
		out = append(out, m.TransportSocket)
	}
	return out
}

// inlineSecrets makes a context take secrets that there are from the static ones, so
// that Envoy looks at them, and others from a server: asked to validate secrets by
// ADS, Envoy 1.40 falls over.
func inlineSecrets(v *model.View, socket *corev3.TransportSocket) error {
	server, client := new(tlsv3.DownstreamTlsContext), new(tlsv3.UpstreamTlsContext)
	var m proto.Message
	var common *tlsv3.CommonTlsContext
	switch config := socket.GetTypedConfig(); {
	case config.MessageIs(server):
		if err := config.UnmarshalTo(server); err != nil {
			return err
		}
		m, common = server, server.CommonTlsContext
	case config.MessageIs(client):
		if err := config.UnmarshalTo(client); err != nil {
			return err
		}
		m, common = client, client.CommonTlsContext
	default:
		return nil
	}
	for _, s := range append(slices.Clone(common.TlsCertificateSdsSecretConfigs), common.GetCombinedValidationContext().GetValidationContextSdsSecretConfig()) {
		_, files := fileSecret(s.GetName())
		switch _, ok := translate.Secret(v, s.GetName()); {
		case s.GetSdsConfig().GetAds() == nil:
		case ok && !files:
			s.SdsConfig = nil
		default:
			s.SdsConfig.ConfigSourceSpecifier = &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
				ApiType: corev3.ApiConfigSource_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
				GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "sds-grpc"}}}},
			}}
		}
	}
	config, err := anypb.New(m)
	socket.ConfigType = &corev3.TransportSocket_TypedConfig{TypedConfig: config}
	return err
}

func fileSecret(name string) (string, bool) { return strings.CutPrefix(name, "file-") }
